// Memory that Metal keeps in the reach of a device's queues, so that replays need not name it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>

#include "metalloid/metal.h"

namespace metalloid {

// One set of a device's, where it has such sets; else everything here does nothing. Safe to call from any
// thread.
class Residency {
 public:
  // Of at most `budget` bytes: what is in the set is in memory whenever work runs, be it used or not.
  Residency(MTL::Device* device, uint64_t budget);
  Residency(const Residency&) = delete;
  Residency& operator=(const Residency&) = delete;

  // Has the work of the queue find what is in the set.
  void attach(MTL::CommandQueue* queue);
  // False where there is no set, or no room in it. To be followed by apply() before work that needs it is
  // encoded.
  bool add(const MTL::Allocation* allocation, uint64_t bytes);
  // Those that were added, of so many bytes in all. At once, so that the memory can go.
  void remove(std::span<const MTL::Allocation* const> allocations, uint64_t bytes);
  // Costs one load when nothing was added.
  void apply() {
    if (changed_.load(std::memory_order_acquire)) commit();
  }
  // For forks.
  std::mutex& mutex() { return mutex_; }

 private:
  void commit();

  const uint64_t budget_;
  std::mutex mutex_;
  uint64_t used_ = 0;  // of the budget
  std::atomic<bool> changed_{false};
  NS::SharedPtr<MTL::ResidencySet> set_;
};

}  // namespace metalloid
