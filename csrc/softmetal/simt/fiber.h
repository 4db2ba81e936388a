// Stacks for GPU threads, and the switch from one to another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "softmetal/runtime/kernel_abi.h"

#if defined(__has_feature)
#define SOFTMETAL_HAS_FEATURE(name) __has_feature(name)
#else
#define SOFTMETAL_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || SOFTMETAL_HAS_FEATURE(address_sanitizer)
#define SOFTMETAL_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || SOFTMETAL_HAS_FEATURE(thread_sanitizer)
#define SOFTMETAL_TSAN 1
#endif

namespace softmetal::simt {

// A flow of control that stands still.
struct Context {
  void* stack_pointer = nullptr;
#if defined(SOFTMETAL_ASAN)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
#endif
#if defined(SOFTMETAL_TSAN)
  void* fiber = nullptr;
#endif
};

// Stops in `from` and goes on in `to`; returns when somebody switches back.
void switch_context(Context& from, Context& to);
// Goes on in `to`; nobody may switch back to `from`.
[[noreturn]] void leave_context(Context& from, Context& to);
// Where entry() begins. It is the first on its fiber, and has to call arrived() first of all.
void arrived();

// The calling OS thread's own stack, before it switches to a fiber.
void describe_current(Context& context);

// A range of stacks, each aligned to its size.
class StackRange {
 public:
  static constexpr uint32_t kCount = 1024;
  static constexpr size_t kBytes = size_t{kCount} * SOFTMETAL_STACK_BYTES;

  StackRange();
  ~StackRange();
  StackRange(const StackRange&) = delete;
  StackRange& operator=(const StackRange&) = delete;

  char* begin() const { return begin_; }
  char* base(uint32_t index) const { return begin_ + size_t{index} * SOFTMETAL_STACK_BYTES; }

  // Makes stacks [0, count) usable.
  void enable(uint32_t count);
  // Lets `context` begin with entry() on a stack.
  void prepare(uint32_t index, Context& context, void (*entry)());
  static void retire(Context& context);

 private:
  static constexpr size_t kReserved = kBytes + SOFTMETAL_STACK_BYTES;

  char* mapping_;
  char* begin_;
  uint32_t enabled_ = 0;
};

}  // namespace softmetal::simt
