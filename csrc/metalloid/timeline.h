// The order in which a device's command buffers run, and waiting for a place in it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "metalloid/fault.h"
#include "metalloid/metal.h"

namespace metalloid {

class Kernel;
class StorageRef;
using KernelRef = std::shared_ptr<const Kernel>;
// What has to live until a command buffer is complete.
using Kept = std::vector<std::shared_ptr<const void>>;
// Some of the memory that it uses.
using Used = std::span<const StorageRef>;

// Called between the slices of a wait, with no lock held. What it throws ends the wait; the work goes on.
using WaitHook = void (*)();
void set_wait_hook(WaitHook hook);

// Called around a wait in the midst of a call that does not wait as a rule: `enter` lets go of what other
// threads may need to end it, `leave` takes that back, given what `enter` returned.
struct BlockHooks {
  void* (*enter)();
  void (*leave)(void*);
};
// `hooks` must live as long as the process.
void set_block_hooks(const BlockHooks* hooks);

class BlockScope {
 public:
  BlockScope();
  ~BlockScope();
  BlockScope(const BlockScope&) = delete;
  BlockScope& operator=(const BlockScope&) = delete;

 private:
  const BlockHooks* const hooks_;
  void* const entered_;
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;
// `timeout` seconds from now. Throws ValidationError, which names `operation`, unless it is 0 or more.
Deadline deadline_in(const char* operation, const std::optional<double>& timeout);

// Waits, in slices, until the event has the value; false if the deadline passed first.
bool wait_for_value(MTL::SharedEvent* event, uint64_t value, const Deadline& deadline);

// Why a command buffer failed.
struct Failure {
  std::string reason;
  std::string code;   // of the DeviceError
  bool lost = false;  // and the device with it
  Faults faults;
  bool raises = true;                     // false: the faults have been dealt with
  mutable std::atomic<bool> told{false};  // raised once

  // Throws KernelFault, or DeviceError with `what` before the reason.
  [[noreturn]] void raise(const std::string& what) const;
};

class Timeline {
 public:
  // `index` is the queue's. `log` takes the faults of what failed. Work is complete when Metal says how it
  // ended: its signal may arrive before that, when Metal still uses what it was given.
  Timeline(MTL::Device* device, uint32_t index, FaultLog* log);

  // One of `most` command buffers that may exist at a time; false if there is none left. It comes back when
  // the command buffer has been seen to be complete, or with return_slot() if it was not committed.
  bool take_slot(uint32_t most);
  void return_slot() { slots_.fetch_sub(1, std::memory_order_relaxed); }

  // Commits and returns the command buffer's serial: 1, 2, ... in the order of execution. It is also
  // noted in the storages that the command buffer uses; what is kept is kept until it is complete. The caller
  // has an AutoreleaseScope.
  uint64_t commit(const NS::SharedPtr<MTL::CommandBuffer>& buffer, std::span<const Used> used, Kept kept);

  // Whether `serial` was already seen to be complete; costs one load.
  bool seen(uint64_t serial) const { return serial <= completed_.load(std::memory_order_acquire); }
  // The same, asking the device.
  bool reached(uint64_t serial);

  // Waits until everything up to `serial` is complete; false if the deadline passed first.
  bool wait(uint64_t serial, const Deadline& deadline = std::nullopt);

  // The last that was seen to be complete.
  uint64_t completed() const { return completed_.load(std::memory_order_acquire); }
  uint64_t last_committed() const { return last_.load(std::memory_order_acquire); }

  // For who must hold everything still; to be locked in this order.
  std::mutex& commit_mutex() { return commit_mutex_; }
  std::mutex& mutex() { return mutex_; }

  // Why the command buffer failed; null if it did not (or if very many others did since).
  std::shared_ptr<const Failure> failure(uint64_t serial) const;
  // The first that found faults which nobody has been told of; null if there is none.
  std::shared_ptr<const Failure> untold() const;

 private:
  struct InFlight {
    uint64_t serial;
    NS::SharedPtr<MTL::CommandBuffer> buffer;
    Kept kept;
  };
  void retire();

  // Waits for the verdict on work up to `serial`, which has sent its signal.
  void settle(uint64_t serial);

  const uint32_t index_;
  FaultLog* const log_;
  NS::SharedPtr<MTL::SharedEvent> event_;
  std::atomic<uint64_t> completed_{0};
  std::atomic<uint64_t> last_{0};
  std::atomic<uint32_t> slots_{0};
  std::atomic<bool> any_failure_{false};
  std::mutex commit_mutex_;
  mutable std::mutex mutex_;
  std::deque<InFlight> in_flight_;
  std::deque<std::pair<uint64_t, std::shared_ptr<const Failure>>> failures_;
};

// The localised description of a Metal error, or `otherwise` where there is none.
std::string describe(const NS::Error* error, const char* otherwise);

}  // namespace metalloid
