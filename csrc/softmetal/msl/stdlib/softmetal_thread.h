// How compiled code that has a stack of its own for each GPU thread finds that thread, and how it waits for
// others. The functions are defined once in every compiled library and end in the runtime.
#pragma once

#include "softmetal/runtime/kernel_abi.h"
#include "softmetal_config.h"

// The return address of such a call is how the runtime knows which threads are at the same place. A copy made
// by inlining or unrolling is a place of its own for all threads alike; one made along a thread's own path,
// or two places made one, is not.
#if defined(__clang__)
#define SOFTMETAL_MEETING_PLACE __attribute__((convergent, nomerge, visibility("hidden")))
#else
#define SOFTMETAL_MEETING_PLACE __attribute__((visibility("hidden")))
#endif
// After such a call: it is not the last thing that a function does, and returns to where it was made.
#define SOFTMETAL_RETURNS_HERE __asm__ volatile("")

extern "C" {
SOFTMETAL_MEETING_PLACE void softmetal_meet(void* record, SoftmetalFold fold, uint32_t kind);
SOFTMETAL_MEETING_PLACE void softmetal_barrier(uint32_t scope, uint32_t flags);
SOFTMETAL_MEETING_PLACE void softmetal_fence(uint32_t flags, uint32_t order, uint32_t scope);
SOFTMETAL_MEETING_PLACE void softmetal_pause();
}

namespace softmetal {

// Not volatile: a thread never leaves its stack, so the compiler may keep the address.
SOFTMETAL_INLINE const SoftmetalThread& current_thread() {
  uintptr_t stack;
#if defined(__x86_64__)
  __asm__("mov %%rsp, %0" : "=r"(stack));
#elif defined(__aarch64__)
  __asm__("mov %0, sp" : "=r"(stack));
#else
#error "the processor is not known, needs x86-64 or aarch64"
#endif
  return *reinterpret_cast<const SoftmetalThread*>(softmetal_thread_address(stack));
}

// A statement in which lanes may part: a branch, a loop, or one round of a loop. At its end they wait for
// each other, as they would on a GPU; those that are deeper inside go first. Left by whatever way, even by
// return.
struct Region {
  SOFTMETAL_INLINE Region() { ++depth(); }
  SOFTMETAL_INLINE ~Region() {
    softmetal_meet(nullptr, nullptr, SOFTMETAL_MEETING_JOIN | depth() << SOFTMETAL_DEPTH_SHIFT);
    --depth();
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  static SOFTMETAL_INLINE uint32_t& depth() { return const_cast<uint32_t&>(current_thread().depth); }
};

}  // namespace softmetal
