#include "metalloid/timeline.h"

#include <algorithm>

#include "metalloid/command_buffer_error.h"
#include "metalloid/error.h"
#include "metalloid/forked.h"
#include "metalloid/storage.h"

namespace metalloid {

namespace {

constexpr std::chrono::milliseconds kSlice{50};
constexpr size_t kFailuresKept = 1024;
constexpr uint64_t kRetireAt = 16;

std::atomic<WaitHook> wait_hook{nullptr};
std::atomic<const BlockHooks*> block_hooks{nullptr};

std::chrono::milliseconds slice_before(const Deadline& deadline) {
  using namespace std::chrono;
  if (!deadline) return kSlice;
  return std::clamp(ceil<milliseconds>(*deadline - steady_clock::now()), milliseconds{0}, kSlice);
}

// Whether the time is up; else the hook is called.
bool between_slices(const Deadline& deadline) {
  if (deadline && std::chrono::steady_clock::now() >= *deadline) return true;
  if (WaitHook hook = wait_hook.load(std::memory_order_relaxed)) hook();
  return false;
}

bool wait_slice(MTL::SharedEvent* event, uint64_t value, const Deadline& deadline) {
  AutoreleaseScope scope;
  return event->waitUntilSignaledValue(value, static_cast<uint64_t>(slice_before(deadline).count()));
}

}  // namespace

void set_wait_hook(WaitHook hook) { wait_hook.store(hook); }

void set_block_hooks(const BlockHooks* hooks) { block_hooks.store(hooks); }

BlockScope::BlockScope() : hooks_(block_hooks.load()), entered_(hooks_ ? hooks_->enter() : nullptr) {}

BlockScope::~BlockScope() {
  if (hooks_) hooks_->leave(entered_);
}

Deadline deadline_in(const char* operation, const std::optional<double>& timeout) {
  if (!timeout) return std::nullopt;
  if (!(*timeout >= 0)) {
    throw ValidationError(text(operation, ": timeout is ", *timeout, " seconds, needs 0 or more"));
  }
  // Longer than a year is for ever, and would overflow the clock.
  if (*timeout >= 3e7) return std::nullopt;
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(*timeout));
}

bool wait_for_value(MTL::SharedEvent* event, uint64_t value, const Deadline& deadline) {
  while (!wait_slice(event, value, deadline)) {
    if (between_slices(deadline)) return false;
  }
  return true;
}

std::string describe(const NS::Error* error, const char* otherwise) {
  std::string reason = to_string(error ? error->localizedDescription() : nullptr);
  return reason.empty() ? otherwise : reason;
}

void Failure::raise(const std::string& what) const {
  told.store(true, std::memory_order_relaxed);
  if (!faults.empty()) throw KernelFault(reason, faults);
  throw DeviceError(what + reason, code);
}

Timeline::Timeline(MTL::Device* device, uint32_t index, FaultLog* log)
    : index_(index), log_(log), event_(NS::TransferPtr(device->newSharedEvent())) {
  if (!event_) throw DeviceError("Device: Metal gave no shared event");
}

bool Timeline::take_slot(uint32_t most) {
  for (int turn = 0; turn < 2; ++turn) {
    uint32_t taken = slots_.load(std::memory_order_relaxed);
    while (taken < most) {
      if (slots_.compare_exchange_weak(taken, taken + 1, std::memory_order_relaxed)) return true;
    }
    if (turn == 0) retire();
  }
  return false;
}

uint64_t Timeline::commit(const NS::SharedPtr<MTL::CommandBuffer>& buffer, std::span<const Used> used,
                          Kept kept) {
  // For those who commit and never wait.
  if (last_.load(std::memory_order_relaxed) - completed_.load(std::memory_order_relaxed) >= kRetireAt)
    retire();
  // Serials must be handed out in the order of the commits.
  std::lock_guard commit_lock(commit_mutex_);
  uint64_t serial = last_.load(std::memory_order_relaxed) + 1;
  {
    std::lock_guard lock(mutex_);
    in_flight_.push_back({serial, buffer, std::move(kept)});
  }
  last_.store(serial, std::memory_order_release);
  for (const Used& some : used) {
    for (const StorageRef& storage : some) storage->last_use[index_].store(serial, std::memory_order_release);
  }
  buffer->encodeSignalEvent(event_.get(), serial);
  buffer->commit();
  return serial;
}

void Timeline::retire() {
  if (forked()) return;
  AutoreleaseScope scope;
  std::vector<InFlight> done;  // goes when the lock has
  std::lock_guard lock(mutex_);
  while (!in_flight_.empty()) {
    InFlight& front = in_flight_.front();
    const MTL::CommandBufferStatus status = front.buffer->status();
    // One that failed need not have reached its signal.
    if (status != MTL::CommandBufferStatusError && status != MTL::CommandBufferStatusCompleted) break;
    if (status == MTL::CommandBufferStatusError) {
      const NS::Error* error = front.buffer->error();
      auto failure = std::make_shared<Failure>();
      failure->reason = describe(error, "no reason given");
      failure->faults = faults_of(error);
      if (failure->faults.empty()) {
        if (std::string where = encoders_of(error); !where.empty()) failure->reason += "; in " + where;
        const CommandBufferError& known = describe_command_buffer_error(error);
        failure->code = known.name;
        failure->lost = known.lost;
        if (!known.advice.empty()) failure->reason += text(" (", known.name, ": ", known.advice, ')');
      }
      failure->raises = failure->faults.empty() || !log_->take(failure->faults);
      if (failure->lost) log_->lose(failure);
      if (failures_.size() == kFailuresKept) failures_.pop_front();
      failures_.emplace_back(front.serial, std::move(failure));
      any_failure_.store(true, std::memory_order_release);
    }
    completed_.store(front.serial, std::memory_order_release);
    done.push_back(std::move(front));
    in_flight_.pop_front();
  }
  slots_.fetch_sub(static_cast<uint32_t>(done.size()), std::memory_order_relaxed);
}

void Timeline::settle(uint64_t serial) {
  AutoreleaseScope scope;
  std::vector<NS::SharedPtr<MTL::CommandBuffer>> unsettled;
  {
    std::lock_guard lock(mutex_);
    for (const InFlight& each : in_flight_) {
      if (each.serial <= serial) unsettled.push_back(each.buffer);
    }
  }
  // The last ends last, as a rule.
  while (!unsettled.empty()) {
    unsettled.back()->waitUntilCompleted();
    unsettled.pop_back();
  }
}

bool Timeline::reached(uint64_t serial) {
  if (seen(serial)) return true;
  retire();
  return seen(serial);
}

bool Timeline::wait(uint64_t serial, const Deadline& deadline) {
  while (!seen(serial)) {
    refuse_forked("wait for work that the parent committed");
    const bool signaled = wait_slice(event_.get(), serial, deadline);
    retire();
    if (signaled && !seen(serial)) {
      // Takes a moment, so nobody has to be able to interrupt it.
      settle(serial);
      retire();
    }
    if (seen(serial)) break;
    if (between_slices(deadline)) return false;
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
