// Runs threadgroups of several threads on one OS thread: each GPU thread is a fiber, and those that have to
// wait for others make way for them.
#pragma once

#include <cstdint>

#include "softmetal/runtime/kernel_abi.h"

namespace softmetal::simt {

// One GPU thread. While it runs it lies on its fiber's stack; the fiber runs another one when it has ended.
struct Thread : SoftmetalThread {
  uint64_t threadgroup = 0;  // linear index in the grid
};
static_assert(sizeof(Thread) <= SOFTMETAL_THREAD_BYTES);

// The thread that runs on the calling fiber. Only to be called on one.
inline Thread& current_thread() {
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  return *reinterpret_cast<Thread*>(softmetal_thread_address(here));
}

// The stacks of the calling OS thread's fibers: one range for as long as the OS thread lives.
struct Stacks {
  const char* begin;
  const char* end;
};
Stacks stacks();

// How a thread got stuck while others wait at a barrier.
enum class Stuck : uint8_t { Finished, OtherBarrier };

// What the engine tells about a run, on the OS thread that runs it. All but begin_threadgroup and
// end_threadgroup may be called on a fiber, and may stop().
class Observer {
 public:
  virtual void begin_threadgroup(uint64_t threadgroup) = 0;
  // All threads of the threadgroup (or lanes of one SIMD-group) passed a barrier with these flags.
  virtual void passed_barrier(uint32_t scope, uint32_t simdgroup, uint32_t flags) = 0;
  // `waiting` waits at a barrier that `other` will not come to; `other_pc` is null when it has finished.
  virtual void divergent_barrier(const Thread& waiting, const void* pc, const Thread& other, Stuck how,
                                 const void* other_pc) = 0;
  // `lanes` of `thread`'s SIMD-group got a value that depends on a lane that takes no part, or a matrix
  // operation lacks `lanes`.
  virtual void lane_misuse(const Thread& thread, uint32_t kind, uint32_t lanes, uint32_t active,
                           const void* pc) = 0;
  // Not called where stop() ended the run.
  virtual void end_threadgroup() = 0;

 protected:
  ~Observer() = default;
};

struct Run {
  const SoftmetalKernel* kernel;
  const SoftmetalLaunch* launch;
  char* arguments;  // threadgroup memory of this OS thread
  char* variables;
  Observer* observer = nullptr;  // null: unchecked
  uint64_t seed = 0;             // of the order of SIMD-groups and lanes; 0: as they are numbered
};

// Runs one threadgroup, of at most 1024 threads, to its end. False when stop() ended it. The kernel has to be
// prepared on this OS thread.
bool run_threadgroup(const Run& run, uint64_t threadgroup);

// Ends the run of the threadgroup that the calling fiber belongs to. Its threads are forgotten as they stand.
[[noreturn]] void stop();

// Hooks for libraries that are not checked. The checker's has the same first four.
const SoftmetalHooks& hooks();

}  // namespace softmetal::simt
