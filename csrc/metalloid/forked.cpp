#include "metalloid/forked.h"

#include <pthread.h>

#include <mutex>

#include "metalloid/error.h"
#include "metalloid/system.h"

namespace metalloid {

void watch_forks() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (!survives_forks()) pthread_atfork(nullptr, nullptr, [] { in_forked_child.store(true); });
  });
}

void throw_forked(const char* operation) {
  throw DeviceError(text(operation, ": used in a forked child, which Metal does not survive; ",
                         "start workers with spawn"));
}

}  // namespace metalloid
