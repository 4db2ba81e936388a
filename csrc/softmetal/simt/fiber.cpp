#include "softmetal/simt/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "softmetal/runtime/device.h"

#if defined(SOFTMETAL_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(SOFTMETAL_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

// Saves what a function has to preserve on the stack, the stack pointer in *from, and does the reverse with
// `to`.
extern "C" void softmetal_switch_stack(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl softmetal_switch_stack
.hidden softmetal_switch_stack
.type softmetal_switch_stack, @function
softmetal_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size softmetal_switch_stack, .-softmetal_switch_stack
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl softmetal_switch_stack
.hidden softmetal_switch_stack
.type softmetal_switch_stack, %function
softmetal_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size softmetal_switch_stack, .-softmetal_switch_stack
)");
#else
#error "fibers: the processor is not known, needs x86-64 or aarch64"
#endif

namespace softmetal::simt {

namespace {

// What softmetal_switch_stack finds on a stack that was never run.
#if defined(__x86_64__)
constexpr size_t kFrameWords = 8, kEntryWord = 6;
#else
constexpr size_t kFrameWords = 20, kEntryWord = 11;
#endif

// A guard page splits the mapping in two where the system has no better way, and a process can have only so
// many mappings (65530 unless it is told otherwise).
constexpr int kGuardInstall = 102;  // MADV_GUARD_INSTALL, from Linux 6.13 on
constexpr uint32_t kMostSplits = 8192;

void guard(char* page, size_t bytes) {
  static std::atomic<uint32_t> splits{0};
  if (madvise(page, bytes, kGuardInstall) == 0) return;
  if (splits.fetch_add(1, std::memory_order_relaxed) < kMostSplits) mprotect(page, bytes, PROT_NONE);
}

inline void start_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] Context& to) {
#if defined(SOFTMETAL_ASAN)
  __sanitizer_start_switch_fiber(fake_stack, to.bottom, to.size);
#endif
#if defined(SOFTMETAL_TSAN)
  __tsan_switch_to_fiber(to.fiber, 0);
#endif
}

inline void end_switch([[maybe_unused]] void* fake_stack) {
#if defined(SOFTMETAL_ASAN)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

}  // namespace

void switch_context(Context& from, Context& to) {
#if defined(SOFTMETAL_ASAN)
  start_switch(&from.fake_stack, to);
  softmetal_switch_stack(&from.stack_pointer, to.stack_pointer);
  end_switch(from.fake_stack);
#else
  start_switch(nullptr, to);
  softmetal_switch_stack(&from.stack_pointer, to.stack_pointer);
#endif
}

void leave_context(Context& from, Context& to) {
  start_switch(nullptr, to);
  softmetal_switch_stack(&from.stack_pointer, to.stack_pointer);
  __builtin_unreachable();
}

void arrived() { end_switch(nullptr); }

void describe_current([[maybe_unused]] Context& context) {
#if defined(SOFTMETAL_ASAN)
  pthread_attr_t attributes;
  void* bottom = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &bottom, &context.size);
    pthread_attr_destroy(&attributes);
  }
  context.bottom = bottom;
#endif
#if defined(SOFTMETAL_TSAN)
  context.fiber = __tsan_get_current_fiber();
#endif
}

StackRange::StackRange() {
  void* mapped = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED)
    abort_with(
        text("cannot reserve %zu bytes of address space for stacks: %s", kReserved, std::strerror(errno)));
  mapping_ = static_cast<char*>(mapped);
  constexpr uintptr_t kAlign = SOFTMETAL_STACK_BYTES;
  begin_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(mapped) + kAlign - 1) & ~(kAlign - 1));
  madvise(begin_, kBytes, MADV_NOHUGEPAGE);  // a stack in use is a few pages
}

StackRange::~StackRange() { munmap(mapping_, kReserved); }

void StackRange::enable(uint32_t count) {
  if (count <= enabled_) return;
  constexpr uint32_t kStep = 32;
  const uint32_t wanted = std::min(kCount, std::max({count, 2 * enabled_, kStep}));
  char* begin = base(enabled_);
  if (mprotect(begin, static_cast<size_t>(base(wanted) - begin), PROT_READ | PROT_WRITE) != 0)
    abort_with(text("cannot get memory for %u stacks of %u bytes: %s", wanted, SOFTMETAL_STACK_BYTES,
                    std::strerror(errno)));
  const size_t page = page_size();
  for (uint32_t i = enabled_; i < wanted; ++i) guard(base(i) + page, page);
  enabled_ = wanted;
}

void StackRange::prepare(uint32_t index, Context& context, void (*entry)()) {
  char* bottom = base(index);
#if defined(SOFTMETAL_ASAN)
  // Frames that were left behind.
  ASAN_UNPOISON_MEMORY_REGION(bottom + 2 * page_size(), SOFTMETAL_STACK_BYTES - 2 * page_size());
  context.fake_stack = nullptr;
  context.bottom = bottom;
  context.size = SOFTMETAL_STACK_BYTES;
#endif
#if defined(SOFTMETAL_TSAN)
  retire(context);
  context.fiber = __tsan_create_fiber(0);
#endif
  auto** frame = reinterpret_cast<void**>(softmetal_thread_address(reinterpret_cast<uintptr_t>(bottom))) -
                 kFrameWords - 8;
  std::fill_n(frame, kFrameWords, nullptr);
  frame[kEntryWord] = reinterpret_cast<void*>(entry);
  context.stack_pointer = frame;
}

void StackRange::retire([[maybe_unused]] Context& context) {
#if defined(SOFTMETAL_TSAN)
  if (context.fiber) __tsan_destroy_fiber(context.fiber);
  context.fiber = nullptr;
#endif
}

}  // namespace softmetal::simt
