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

// Called between the slices of a wait, with no lock held. What it throws ends the wait; the work goes on.
using WaitHook = void (*)();
void set_wait_hook(WaitHook hook);

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

// Why a command buffer failed.
struct Failure {
  std::string reason;
  Faults faults;
  bool raises = true;                     // false: the faults have been dealt with
  mutable std::atomic<bool> told{false};  // raised once

  // Throws KernelFault, or DeviceError with `what` before the reason.
  void raise(const std::string& what) const;
};

class Timeline {
 public:
  // `log` takes the faults of what failed. Checked work may fail after its end: when that is known, not when
  // its signal arrives, it is complete.
  Timeline(MTL::Device* device, FaultLog* log, const std::atomic<bool>* checked);

  // Commits and returns the command buffer's serial: 1, 2, ... in the order of execution. It is also
  // noted in the storages that the command buffer uses; what is kept is kept until it is complete.
  uint64_t commit(const NS::SharedPtr<MTL::CommandBuffer>& buffer, std::span<const StorageRef> used,
                  Kept kept);

  // Whether `serial` was already seen to be complete; costs one load.
  bool seen(uint64_t serial) const { return serial <= completed_.load(std::memory_order_acquire); }
  // The same, asking the device.
  bool reached(uint64_t serial);

  // Waits until everything up to `serial` is complete; false if the deadline passed first.
  bool wait(uint64_t serial, const Deadline& deadline = std::nullopt);

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
  size_t in_flight_count() const;
  void retire();

  // Waits for the verdict on work up to `serial` that has sent its signal.
  void settle(uint64_t serial);

  FaultLog* const log_;
  const std::atomic<bool>* const checked_;
  NS::SharedPtr<MTL::SharedEvent> event_;
  std::atomic<uint64_t> completed_{0};
  std::atomic<uint64_t> last_{0};
  std::atomic<bool> any_failure_{false};
  std::mutex commit_mutex_;
  mutable std::mutex mutex_;
  std::deque<InFlight> in_flight_;
  std::deque<std::pair<uint64_t, std::shared_ptr<const Failure>>> failures_;
};

// The localised description of a Metal error, or `otherwise` where there is none.
std::string describe(const NS::Error* error, const char* otherwise);

}  // namespace metalloid
