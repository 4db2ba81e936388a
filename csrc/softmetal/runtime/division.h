// Integer divisions of kernels that have no result: by zero, and of the least number by -1. Metal leaves the
// value open and goes on, x86 raises an exception that would end the process. arm64 has a result for them.
#pragma once

namespace softmetal {

struct CodeRange;

// While it lives, such divisions in the code of the shared object that `address` lies in go on, with what
// arm64 gives: a quotient of 0 and the dividend as remainder, or the dividend and 0 where it is the least
// number. Takes part in the process's handling of SIGFPE; what is not a kernel's goes to who had it before.
class DivisionGuard {
 public:
  explicit DivisionGuard(const void* address);
  ~DivisionGuard();
  DivisionGuard(const DivisionGuard&) = delete;
  DivisionGuard& operator=(const DivisionGuard&) = delete;

 private:
  [[maybe_unused]] CodeRange* first_ = nullptr;  // of those that belong together
};

// Is called for each of them, in the thread that divides. `next` is the address of the instruction behind the
// division; `least` says that the least number was divided, by -1 or by 0.
using DivisionObserver = void (*)(const void* next, bool least);
void observe_divisions(DivisionObserver observer);

}  // namespace softmetal
