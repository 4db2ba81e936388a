#include "metalloid/submission.h"

#include "metalloid/device.h"
#include "metalloid/forked.h"
#include "metalloid/queue.h"

namespace metalloid {

std::string_view name_of(Submission::Status status) {
  constexpr std::string_view names[] = {"committed", "completed", "error"};
  return names[static_cast<size_t>(status)];
}

Device& Submission::device() const { return queue_.device(); }

bool Submission::done() const { return queue_.timeline().reached(serial_); }

Submission::Status Submission::status() const {
  if (!done()) return Status::committed;
  if (earlier_ && earlier_->status() == Status::error) return Status::error;
  return queue_.timeline().failure(serial_) ? Status::error : Status::completed;
}

std::optional<double> Submission::gpu_time() const {
  if (status() != Status::completed) return std::nullopt;
  if (!buffer_) return 0.0;
  AutoreleaseScope scope;
  // Metal tells the times to who has waited.
  buffer_->waitUntilCompleted();
  const double before = earlier_ ? earlier_->gpu_time().value_or(0.0) : 0.0;
  return before + (buffer_->GPUEndTime() - buffer_->GPUStartTime());
}

void Submission::wait_until_done(std::optional<double> timeout, const char* operation) const {
  if (!queue_.wait(serial_, deadline_in(operation, timeout))) {
    throw DeviceError(text(operation, ": not completed within ", *timeout, " seconds"));
  }
}

void Submission::check(const char* operation) const {
  if (earlier_) earlier_->check(operation);
  std::shared_ptr<const Failure> failure = queue_.timeline().failure(serial_);
  if (!failure || !failure->raises) return;
  failure->raise(
      text(operation, ": ", label_.empty() ? "the command buffer" : label_, " ended in an error: "));
}

void Submission::when_done(std::function<void()> call) const {
  if (!queue_.timeline().seen(serial_)) refuse_forked("Submission.add_done_callback");
  queue_.watcher().add(serial_, std::move(call));
}

}  // namespace metalloid
