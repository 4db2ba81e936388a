#include "metalloid/timeline.h"

#include <algorithm>

#include "metalloid/error.h"
#include "metalloid/kernel.h"
#include "metalloid/storage.h"

namespace metalloid {

namespace {

constexpr std::chrono::milliseconds kSlice{50};
constexpr size_t kFailuresKept = 1024;
constexpr size_t kRetireAt = 16;

std::atomic<WaitHook> wait_hook{nullptr};

}  // namespace

void set_wait_hook(WaitHook hook) { wait_hook.store(hook); }

std::string describe(const NS::Error* error, const char* otherwise) {
  std::string reason = to_string(error ? error->localizedDescription() : nullptr);
  return reason.empty() ? otherwise : reason;
}

void Failure::raise(const std::string& what) const {
  told.store(true, std::memory_order_relaxed);
  if (!faults.empty()) throw KernelFault(reason, faults);
  throw DeviceError(what + reason);
}

Timeline::Timeline(MTL::Device* device, FaultLog* log, const std::atomic<bool>* checked)
    : log_(log), checked_(checked), event_(NS::TransferPtr(device->newSharedEvent())) {
  if (!event_) throw DeviceError("Device: Metal gave no shared event");
}

uint64_t Timeline::commit(const NS::SharedPtr<MTL::CommandBuffer>& buffer, std::span<const StorageRef> used,
                          Kept kept) {
  AutoreleaseScope scope;
  if (in_flight_count() >= kRetireAt) retire();  // for those who commit and never wait
  // Serials must be handed out in the order of the commits.
  std::lock_guard commit_lock(commit_mutex_);
  uint64_t serial = last_.load(std::memory_order_relaxed) + 1;
  {
    std::lock_guard lock(mutex_);
    in_flight_.push_back({serial, buffer, std::move(kept)});
  }
  last_.store(serial, std::memory_order_release);
  for (const StorageRef& storage : used) storage->last_use.store(serial, std::memory_order_release);
  buffer->encodeSignalEvent(event_.get(), serial);
  buffer->commit();
  return serial;
}

size_t Timeline::in_flight_count() const {
  std::lock_guard lock(mutex_);
  return in_flight_.size();
}

void Timeline::retire() {
  AutoreleaseScope scope;
  std::vector<InFlight> done;  // goes when the lock has
  std::lock_guard lock(mutex_);
  uint64_t signaled = event_->signaledValue();
  while (!in_flight_.empty()) {
    InFlight& front = in_flight_.front();
    MTL::CommandBufferStatus status = front.buffer->status();
    // A command buffer that failed need not have reached its signal.
    const bool ended = status == MTL::CommandBufferStatusError || status == MTL::CommandBufferStatusCompleted;
    if (!ended && (front.serial > signaled || checked_->load(std::memory_order_relaxed))) break;
    if (status == MTL::CommandBufferStatusError) {
      const NS::Error* error = front.buffer->error();
      auto failure = std::make_shared<Failure>();
      failure->reason = describe(error, "no reason given");
      failure->faults = faults_of(error);
      failure->raises = failure->faults.empty() || !log_->take(failure->faults);
      if (failures_.size() == kFailuresKept) failures_.pop_front();
      failures_.emplace_back(front.serial, std::move(failure));
      any_failure_.store(true, std::memory_order_release);
    }
    completed_.store(front.serial, std::memory_order_release);
    done.push_back(std::move(front));
    in_flight_.pop_front();
  }
}

void Timeline::settle(uint64_t serial) {
  NS::SharedPtr<MTL::CommandBuffer> last;
  {
    std::lock_guard lock(mutex_);
    const uint64_t signaled = event_->signaledValue();
    for (const InFlight& each : in_flight_) {
      if (each.serial <= std::min(serial, signaled)) last = each.buffer;
    }
  }
  if (last) last->waitUntilCompleted();
}

bool Timeline::reached(uint64_t serial) {
  if (seen(serial)) return true;
  retire();
  return seen(serial);
}

bool Timeline::wait(uint64_t serial, const Deadline& deadline) {
  using namespace std::chrono;
  while (!seen(serial)) {
    milliseconds slice = kSlice;
    if (deadline) {
      auto left = ceil<milliseconds>(*deadline - steady_clock::now());
      slice = std::clamp(left, milliseconds{0}, kSlice);
    }
    event_->waitUntilSignaledValue(serial, static_cast<uint64_t>(slice.count()));
    if (checked_->load(std::memory_order_relaxed)) settle(serial);
    retire();
    if (seen(serial)) break;
    if (deadline && steady_clock::now() >= *deadline) return false;
    if (WaitHook hook = wait_hook.load(std::memory_order_relaxed)) hook();
  }
  return true;
}

std::shared_ptr<const Failure> Timeline::failure(uint64_t serial) const {
  if (!any_failure_.load(std::memory_order_acquire)) return {};
  std::lock_guard lock(mutex_);
  for (const auto& [failed, failure] : failures_) {
    if (failed == serial) return failure;
  }
  return {};
}

std::shared_ptr<const Failure> Timeline::untold() const {
  if (!any_failure_.load(std::memory_order_acquire)) return {};
  std::lock_guard lock(mutex_);
  for (const auto& [failed, failure] : failures_) {
    if (failure->raises && !failure->faults.empty() && !failure->told.load(std::memory_order_relaxed))
      return failure;
  }
  return {};
}

}  // namespace metalloid
