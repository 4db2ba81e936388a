#include "metalloid/encoder.h"

#include <algorithm>

namespace metalloid {

void Encoder::check_dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                             const Extent& threadgroup, const Declared& declared) const {
  if (&kernel.device() != &device_) [[unlikely]] {
    throw ValidationError(text("dispatch of ", kernel.name(), ": the kernel is of device ",
                               kernel.device().name(), ", needs one of the encoder's device ",
                               device_.name()));
  }
  for (const auto& list : {declared.reads, declared.writes}) {
    if (!list) continue;
    for (const Buffer* buffer : *list) {
      if (&buffer->device() == &device_) continue;
      throw ValidationError(text("dispatch of ", kernel.name(), ": a buffer of reads or writes is on device ",
                                 buffer->device().name(), ", needs to be on the encoder's device ",
                                 device_.name()));
    }
  }
  kernel.check(values, grid, threadgroup);
}

std::span<const MemoryUse> uses_of(const Kernel& kernel, std::span<const Value> values,
                                   const Declared& declared, std::vector<MemoryUse>& uses) {
  uses.clear();
  const std::vector<KernelArgument>& arguments = kernel.arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const Value& value = values[i];
    const bool is_buffer = value.kind == Value::Kind::buffer || value.kind == Value::Kind::reinterpreted;
    if (!arguments[i].active || !is_buffer) continue;
    const Access access = arguments[i].access;
    const auto& buffer = *static_cast<const Buffer*>(value.object);
    // Memory that is declared to be written only elsewhere is read here at most.
    const bool writes = access != Access::read && !declared.writes;
    // Nothing tells that a kernel writes every byte, so what it may write it reads as well.
    if (writes || (!declared.reads && access != Access::write)) {
      uses.push_back(use_of(buffer, writes ? Access::read_write : Access::read));
    }
  }
  if (declared.reads) {
    for (const Buffer* buffer : *declared.reads) uses.push_back(use_of(*buffer, Access::read));
  }
  if (declared.writes) {
    for (const Buffer* buffer : *declared.writes) uses.push_back(use_of(*buffer, Access::write));
  }
  return uses;
}

uint32_t cooperative_threads(const Pipeline& pipeline, uint64_t work, uint64_t per_thread) {
  uint64_t width = pipeline.execution_width;
  if (width == 1) return 1;
  uint64_t threads = (work / per_thread + (work % per_thread != 0) + width - 1) / width * width;
  uint64_t most = pipeline.max_threads / width * width;
  return static_cast<uint32_t>(std::clamp(threads, width, std::max(most, width)));
}

uint32_t cooperative_simdgroups(const Pipeline& pipeline, uint64_t work, uint32_t at_most,
                                uint64_t memory_each, uint64_t memory_shared) {
  uint64_t limit = pipeline.threadgroup_memory_limit;
  uint64_t fixed = pipeline.static_memory + memory_shared;
  if (fixed > limit) return 0;
  uint64_t groups = std::min<uint64_t>(work, at_most);
  if (memory_each) groups = std::min(groups, (limit - fixed) / memory_each);
  uint64_t width = pipeline.execution_width;
  uint64_t threads_allow = width == 1 ? 1 : std::max<uint64_t>(pipeline.max_threads / width, 1);
  return static_cast<uint32_t>(std::min(groups, threads_allow));
}

}  // namespace metalloid
