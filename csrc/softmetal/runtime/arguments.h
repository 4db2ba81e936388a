// What dispatches are checked for, whether they are encoded one by one or into an indirect command buffer.
#pragma once

#include <string>

#include "softmetal/runtime/command.h"
#include "softmetal/runtime/library.h"

namespace softmetal {

// What is bound at an index.
struct Slot {
  char* address;
  uint64_t bytes;   // from the address to the end of what is bound
  Buffer* buffer;   // null for setBytes
  uint64_t marked;  // bytes, where a debug marker says that the kernel needs no more
};

// How many units the grid has.
inline uint64_t count_units(const Dispatch& dispatch) {
  const SoftmetalLaunch& launch = dispatch.launch;
  const uint32_t* counts = dispatch.pipeline->kernel.mode == SOFTMETAL_MODE_THREADS
                               ? launch.threads_per_grid
                               : launch.threadgroups_per_grid;
  return uint64_t{counts[0]} * counts[1] * counts[2];
}

// Whether the product of sides below 2^32 is at most kMaxGridThreads.
inline bool countable(const uint32_t (&sides)[3]) {
  constexpr uint32_t kSmall = 1 << 20;
  if (sides[0] <= kSmall && sides[1] <= kSmall && sides[2] <= kSmall) return true;
  return static_cast<unsigned __int128>(uint64_t{sides[0]} * sides[1]) * sides[2] <= kMaxGridThreads;
}

// Works out the grid from threadgroups_per_grid; false when the grid is too large.
inline bool set_threadgroups(Dispatch& dispatch, uint64_t x, uint64_t y, uint64_t z) {
  const uint64_t groups[3] = {x, y, z};
  SoftmetalLaunch& launch = dispatch.launch;
  for (int i = 0; i < 3; ++i) {
    if (groups[i] > UINT32_MAX) return false;
    const uint64_t threads = groups[i] * launch.threads_per_threadgroup[i];
    if (threads > UINT32_MAX) return false;
    launch.threadgroups_per_grid[i] = static_cast<uint32_t>(groups[i]);
    launch.threads_per_grid[i] = static_cast<uint32_t>(threads);
  }
  return countable(launch.threads_per_grid);
}

// The same from threads_per_grid.
inline bool set_threads(Dispatch& dispatch, uint64_t x, uint64_t y, uint64_t z) {
  const uint64_t threads[3] = {x, y, z};
  SoftmetalLaunch& launch = dispatch.launch;
  for (int i = 0; i < 3; ++i) {
    if (threads[i] > UINT32_MAX) return false;
    const uint64_t side = launch.threads_per_threadgroup[i];
    launch.threads_per_grid[i] = static_cast<uint32_t>(threads[i]);
    launch.threadgroups_per_grid[i] =
        static_cast<uint32_t>(side == 1 ? threads[i] : (threads[i] + side - 1) / side);
  }
  return countable(launch.threads_per_grid);
}

// The size of a threadgroup if the pipeline takes it, else 0.
inline uint32_t threadgroup_threads(const Pipeline& pipeline, const MTL::Size& size) {
  if (size.width - 1 >= kMaxThreadgroupSide || size.height - 1 >= kMaxThreadgroupSide ||
      size.depth - 1 >= kMaxThreadgroupSide)
    return 0;
  const NS::UInteger threads = size.width * size.height * size.depth;
  if (threads > pipeline.max_threads) return 0;
  if (pipeline.multiple_of_width && threads % pipeline.kernel.execution_width != 0) return 0;
  return static_cast<uint32_t>(threads);
}

// Writes what the kernel's arguments point to. Null, or the first argument that does not fit.
inline const Pipeline::Need* gather(const Pipeline& pipeline, const Slot* slots, uint32_t bound,
                                    void** addresses, uint64_t* bytes, uint64_t* total) {
  uint64_t sum = 0;
  for (const Pipeline::Need& need : pipeline.buffers) {
    if (!(bound >> need.index & 1)) [[unlikely]]
      return &need;
    const Slot& slot = slots[need.index];
    if (slot.bytes < need.bytes || reinterpret_cast<uintptr_t>(slot.address) & (need.alignment - 1))
        [[unlikely]]
      return &need;
    addresses[need.index] = slot.address;
    bytes[need.index] = slot.bytes;
    sum += slot.bytes;
  }
  *total = sum;
  return nullptr;
}

// Lays out the threadgroup arguments of the kernel one after another. Null, or the first that does not fit.
const Pipeline::Need* lay_out(const Pipeline& pipeline, const uint32_t* lengths, uint32_t* offsets,
                              uint32_t* bytes, uint32_t* total);

// What is wrong, for messages. `setters` are the calls that bind buffers.
std::string threadgroup_problem(const Pipeline& pipeline, MTL::Size threadgroup);
std::string buffer_problem(const Pipeline::Need& need, const Slot* slots, uint32_t bound,
                           const char* setters);
std::string threadgroup_memory_problem(const Pipeline& pipeline, const Pipeline::Need* need,
                                       const uint32_t* lengths, uint32_t total);
std::string memory_length_problem(NS::UInteger length, NS::UInteger index);
std::string offset_problem(const Buffer& buffer, NS::UInteger offset, NS::UInteger index);
std::string threads_problem(MTL::Size threads);
std::string threadgroups_problem(MTL::Size groups, MTL::Size threadgroup);

// Fills in all that `threadgroup` and the pipeline say.
inline void set_pipeline(Dispatch& dispatch, const Pipeline& pipeline, const MTL::Size& threadgroup,
                         uint32_t threads) {
  dispatch.pipeline = &pipeline;
  dispatch.threadgroup_threads = static_cast<uint16_t>(threads);
  SoftmetalLaunch& launch = dispatch.launch;
  launch.constants = pipeline.constants;
  launch.constants_defined = pipeline.constants_defined;
  launch.threads_per_threadgroup[0] = static_cast<uint32_t>(threadgroup.width);
  launch.threads_per_threadgroup[1] = static_cast<uint32_t>(threadgroup.height);
  launch.threads_per_threadgroup[2] = static_cast<uint32_t>(threadgroup.depth);
}

}  // namespace softmetal
