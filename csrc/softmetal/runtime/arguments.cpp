#include "softmetal/runtime/arguments.h"

namespace softmetal {

namespace {

std::string text_of(MTL::Size size) {
  return text("%zux%zux%zu", static_cast<size_t>(size.width), static_cast<size_t>(size.height),
              static_cast<size_t>(size.depth));
}

// width * height * depth, or the largest number if that does not fit.
uint64_t volume(MTL::Size size) {
  uint64_t result;
  const uint64_t width = size.width, height = size.height, depth = size.depth;
  if (__builtin_mul_overflow(width, height, &result) || __builtin_mul_overflow(result, depth, &result))
    return UINT64_MAX;
  return result;
}

}  // namespace

const Pipeline::Need* lay_out(const Pipeline& pipeline, const uint32_t* lengths, uint32_t* offsets,
                              uint32_t* bytes, uint32_t* total) {
  std::fill_n(offsets, pipeline.threadgroup_slots, 0);
  std::fill_n(bytes, pipeline.threadgroup_slots, 0);
  *total = 0;
  for (const Pipeline::Need& need : pipeline.threadgroup) {
    const uint32_t length = lengths[need.index];
    if (length == 0 || length < need.bytes) return &need;
    offsets[need.index] = *total;
    bytes[need.index] = length;
    *total += length;
  }
  return nullptr;
}

std::string threadgroup_problem(const Pipeline& pipeline, MTL::Size threadgroup) {
  const uint64_t threads = volume(threadgroup);
  const std::string size = text_of(threadgroup);
  if (threads == 0) return text("threadsPerThreadgroup is %s, needs at least 1x1x1", size.c_str());
  if (threads > pipeline.max_threads)
    return text("threadsPerThreadgroup is %s = %zu threads, needs at most %zu (the pipeline's limit)",
                size.c_str(), static_cast<size_t>(threads), static_cast<size_t>(pipeline.max_threads));
  if (threadgroup.width > kMaxThreadgroupSide || threadgroup.height > kMaxThreadgroupSide ||
      threadgroup.depth > kMaxThreadgroupSide)
    return text("threadsPerThreadgroup is %s, needs at most 1024x1024x1024 (the device's limit)",
                size.c_str());
  return text(
      "threadsPerThreadgroup is %s = %zu threads, needs a multiple of %u (the pipeline was promised one)",
      size.c_str(), static_cast<size_t>(threads), pipeline.kernel.execution_width);
}

std::string buffer_problem(const Pipeline::Need& need, const Slot* slots, uint32_t bound,
                           const char* setters) {
  const char* name = need.argument->name;
  if (!(bound >> need.index & 1))
    return text("buffer argument \"%s\" (index %u) is not bound, needs %s", name, need.index, setters);
  const Slot& slot = slots[need.index];
  if (slot.bytes < need.bytes)
    return text("buffer argument \"%s\" (index %u) has %zu bytes, needs %zu (one %s)", name, need.index,
                static_cast<size_t>(slot.bytes), static_cast<size_t>(need.bytes), need.argument->type_name);
  return text("buffer argument \"%s\" (index %u) has offset %zu, needs a multiple of %u (%s)", name,
              need.index, static_cast<size_t>(slot.buffer ? slot.address - slot.buffer->address : 0),
              need.alignment, need.argument->type_name);
}

std::string threadgroup_memory_problem(const Pipeline& pipeline, const Pipeline::Need* need,
                                       const uint32_t* lengths, uint32_t total) {
  if (need)
    return text(
        "threadgroup argument \"%s\" (index %u) has %u bytes, needs at least %zu "
        "(setThreadgroupMemoryLength)",
        need->argument->name, need->index, lengths[need->index],
        static_cast<size_t>(std::max<uint64_t>(need->bytes, 1)));
  return text("threadgroup memory is %u bytes (%u in the kernel, %u in arguments), needs at most %zu",
              pipeline.static_bytes + total, pipeline.static_bytes, total,
              static_cast<size_t>(kMaxThreadgroupMemory));
}

std::string memory_length_problem(NS::UInteger length, NS::UInteger index) {
  if (length % kThreadgroupMemoryAlignment != 0)
    return text("length is %zu bytes at index %zu, needs a multiple of 16", static_cast<size_t>(length),
                static_cast<size_t>(index));
  if (length > kMaxThreadgroupMemory)
    return text("length is %zu bytes at index %zu, needs at most %zu", static_cast<size_t>(length),
                static_cast<size_t>(index), static_cast<size_t>(kMaxThreadgroupMemory));
  return {};
}

std::string offset_problem(const Buffer& buffer, NS::UInteger offset, NS::UInteger index) {
  return text("offset is %zu at index %zu, needs less than the buffer's length, %zu",
              static_cast<size_t>(offset), static_cast<size_t>(index), static_cast<size_t>(buffer.length));
}

std::string threads_problem(MTL::Size threads) {
  if (threads.width > UINT32_MAX || threads.height > UINT32_MAX || threads.depth > UINT32_MAX)
    return text("threadsPerGrid is %s, needs at most %u in each dimension", text_of(threads).c_str(),
                UINT32_MAX);
  return text("threadsPerGrid is %s, needs at most 2^62 threads in all", text_of(threads).c_str());
}

std::string threadgroups_problem(MTL::Size groups, MTL::Size threadgroup) {
  return text(
      "threadgroupsPerGrid is %s of %s threads, needs at most %u threads in each dimension and 2^62 in all",
      text_of(groups).c_str(), text_of(threadgroup).c_str(), UINT32_MAX);
}

}  // namespace softmetal
