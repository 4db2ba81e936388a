// From what the checker found to what a user reads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "softmetal/runtime/foundation.h"
#include "softmetal/runtime/kernel_abi.h"
#include "softmetal/simt/fault.h"

namespace softmetal::simt {

// A loaded shared object with kernels in it.
struct Image {
  struct Range {
    uintptr_t begin, end;
    bool writable;
  };

  // The one that `table` lies in. Its file may have been removed since; `file` then still leads to it.
  explicit Image(const SoftmetalLibrary& table, const std::string& file = {});

  // The line of a kernel's source that the call which returns to `pc` was made for.
  Location locate(uintptr_t pc) const;
  // The calling OS thread's copy of its thread-local variables; empty before they were first used.
  Range thread_local_range() const;

  const SoftmetalLibrary& table;
  std::string path;
  uintptr_t base = 0;
  std::vector<Range> ranges;
};

// Counts equal faults together: of one kind, in one variable, between the same lines of a kernel.
std::vector<Fault> merged(std::vector<Fault> faults);

// The error of a command buffer that had `before`, which may be null, and now has these faults too.
Ref<Error> fault_error(const Error* before, std::vector<Fault> faults);

}  // namespace softmetal::simt
