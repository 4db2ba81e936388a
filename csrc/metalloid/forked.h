// Where Metal does not survive a fork, the child has neither the mappings nor the ports that Metal's objects
// stand for: nothing may be asked of them, and nothing of them let go.
#pragma once

#include <atomic>

#include "metalloid/metal.h"

namespace metalloid {

// To be called before Metal is asked for devices.
void watch_forks();
// Whether this is such a child, of a process that had asked for devices.
inline std::atomic<bool> in_forked_child{false};
inline bool forked() { return in_forked_child.load(std::memory_order_relaxed); }
[[noreturn]] void throw_forked(const char* operation);
// Throws DeviceError, which names `operation`, if it is.
inline void refuse_forked(const char* operation) {
  if (forked()) [[unlikely]]
    throw_forked(operation);
}

// For destructors: in such a child the object stays as it is.
template <class T>
void abandon_if_forked(NS::SharedPtr<T>& object) {
  if (forked()) [[unlikely]]
    object.detach();
}

}  // namespace metalloid
