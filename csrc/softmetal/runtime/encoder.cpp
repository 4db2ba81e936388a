#include "softmetal/runtime/encoder.h"

#include <cstdio>
#include <cstring>

#include "softmetal/runtime/scheduler.h"

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

ComputeEncoder::~ComputeEncoder() {
  if (ended_ || buffer->open_encoder != this) return;
  fail("release", "the encoder is released while open, needs endEncoding first");
  buffer->open_encoder = nullptr;
}

std::string ComputeEncoder::describe() const {
  return text("<MTL::ComputeCommandEncoder: %p> label = %s", static_cast<const void*>(this),
              label.empty() ? "<none>" : label.c_str());
}

// The message names the call, what is wrong with it, and where in the program's own terms it happened.
void ComputeEncoder::fail(const char* call, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char problem[1024];
  std::vsnprintf(problem, sizeof(problem), format, arguments);
  va_end(arguments);
  std::string where;
  const auto add = [&where](const char* what, const std::string& name) {
    if (!name.empty()) where += (where.empty() ? " (" : ", ") + std::string(what) + " \"" + name + "\"";
  };
  const bool committed = buffer->status.load(std::memory_order_relaxed) >= MTL::CommandBufferStatusCommitted;
  if (info && !committed && !buffer->failed()) info->state = MTL::CommandEncoderErrorStateFaulted;
  // Once committed the command buffer need not hold the pipeline any more.
  if (pipeline_ && !committed) {
    add("kernel", pipeline_->kernel.name);
    add("pipeline", pipeline_->label);
  }
  add("group", group());
  add("encoder", label);
  add("command buffer", buffer->label);
  buffer->fail(std::string("ComputeCommandEncoder::") + call + ": " + problem +
               (where.empty() ? "" : where + ")"));
}

std::string ComputeEncoder::group() const {
  std::string group;
  for (const std::string& name : groups_) group += (group.empty() ? "" : "/") + name;
  return group;
}

void ComputeEncoder::refuse(const char* call) {
  if (ended_)
    fail(call, "called after endEncoding, needs an open encoder");
  else
    fail(call, "called after the command buffer was committed, needs an open encoder");
}

bool ComputeEncoder::valid_index(const char* call, NS::UInteger index) {
  if (index < SOFTMETAL_MAX_BUFFERS) return true;
  fail(call, "index is %zu, needs at most %u", static_cast<size_t>(index), SOFTMETAL_MAX_BUFFERS - 1);
  return false;
}

void ComputeEncoder::retain(Buffer* bound) {
  if (bound->retained_by.load(std::memory_order_relaxed) == buffer->id) return;
  buffer->hold(bound);
  bound->retained_by.store(buffer->id, std::memory_order_relaxed);
}

void ComputeEncoder::set_pipeline(Pipeline* state) {
  constexpr const char* call = "setComputePipelineState";
  if (!usable(call)) return;
  if (!state) return fail(call, "state is null, needs a pipeline");
  if (state == pipeline_) return;
  if (state->retained_by.load(std::memory_order_relaxed) != buffer->id) {
    buffer->hold(state);
    state->retained_by.store(buffer->id, std::memory_order_relaxed);
  }
  pipeline_ = state;
  arguments_changed_ = threadgroup_changed_ = true;
}

void ComputeEncoder::set_buffer(const char* call, Buffer* bound, NS::UInteger offset, NS::UInteger index) {
  if (!usable(call) || !valid_index(call, index)) return;
  arguments_changed_ = true;
  if (!bound) {
    bound_ &= ~(1u << index);
    return;
  }
  if (offset >= bound->length)
    return fail(call, "offset is %zu at index %zu, needs less than the buffer's length, %zu",
                static_cast<size_t>(offset), static_cast<size_t>(index), static_cast<size_t>(bound->length));
  retain(bound);
  const uint64_t bytes = bound->length - offset;
  slots_[index] = {bound->address + offset, bytes, bound, checks_ ? bound->marked_length(offset) : bytes};
  bound_ |= 1u << index;
}

void ComputeEncoder::set_buffer_offset(NS::UInteger offset, NS::UInteger index) {
  constexpr const char* call = "setBufferOffset";
  if (!usable(call) || !valid_index(call, index)) return;
  if (!(bound_ >> index & 1) || !slots_[index].buffer)
    return fail(call, "no buffer is bound at index %zu, needs setBuffer first", static_cast<size_t>(index));
  set_buffer(call, slots_[index].buffer, offset, index);
}

void ComputeEncoder::set_bytes(const void* bytes, NS::UInteger length, NS::UInteger index) {
  constexpr const char* call = "setBytes";
  if (!usable(call) || !valid_index(call, index)) return;
  if (!bytes) return fail(call, "bytes is null at index %zu, needs data", static_cast<size_t>(index));
  if (length == 0 || length > kMaxBytes)
    return fail(call, "length is %zu bytes at index %zu, needs 1 to %zu", static_cast<size_t>(length),
                static_cast<size_t>(index), static_cast<size_t>(kMaxBytes));
  // 32 is the largest alignment of a type in the shading language.
  char* copy = static_cast<char*>(buffer->recording->arena.allocate(length, 32));
  std::memcpy(copy, bytes, length);
  slots_[index] = {copy, length, nullptr, length};
  bound_ |= 1u << index;
  arguments_changed_ = true;
}

void ComputeEncoder::set_threadgroup_memory(NS::UInteger length, NS::UInteger index) {
  constexpr const char* call = "setThreadgroupMemoryLength";
  if (!usable(call) || !valid_index(call, index)) return;
  if (length % 16 != 0)
    return fail(call, "length is %zu bytes at index %zu, needs a multiple of 16", static_cast<size_t>(length),
                static_cast<size_t>(index));
  if (length > kMaxThreadgroupMemory)
    return fail(call, "length is %zu bytes at index %zu, needs at most %zu", static_cast<size_t>(length),
                static_cast<size_t>(index), static_cast<size_t>(kMaxThreadgroupMemory));
  threadgroup_lengths_[index] = static_cast<uint32_t>(length);
  threadgroup_changed_ = true;
}

void ComputeEncoder::use(const char* call, Buffer* resource, MTL::ResourceUsage usage) {
  if (!usable(call)) return;
  if (!resource) return fail(call, "resource is null, needs a resource");
  if (usage == 0 || usage > (MTL::ResourceUsageRead | MTL::ResourceUsageWrite | MTL::ResourceUsageSample))
    return fail(call, "usage is %zu, needs Read, Write or both", static_cast<size_t>(usage));
  retain(resource);
}

void ComputeEncoder::memory_barrier(MTL::BarrierScope scope) {
  if (!usable("memoryBarrier")) return;
  if (scope == 0 || scope > 7)
    return fail("memoryBarrier", "scope is %zu, needs BarrierScopeBuffers", static_cast<size_t>(scope));
  barrier_ = true;
}

void ComputeEncoder::memory_barrier(const MTL::Resource* const* resources, NS::UInteger count) {
  if (!usable("memoryBarrier")) return;
  if (!resources || count == 0) return fail("memoryBarrier", "no resources are given, needs at least one");
  for (NS::UInteger i = 0; i < count; ++i)
    if (!resources[i])
      return fail("memoryBarrier", "resources[%zu] is null, needs a resource", static_cast<size_t>(i));
  barrier_ = true;
}

void ComputeEncoder::fence(const char* call, Fence* given, bool waits) {
  if (!usable(call)) return;
  if (!given) return fail(call, "fence is null, needs a fence");
  buffer->hold(given);
  if (waits) barrier_ = true;
}

void ComputeEncoder::set_label(const NS::String* name) {
  label = str(name);
  if (info && !ended_) info->label = label;
}

void ComputeEncoder::push_group(const char* call, const NS::String* name) {
  if (!usable(call)) return;
  if (!name) return fail(call, "string is null, needs a name");
  groups_.push_back(str(name));
  if (info) info->signposts->add(impl(name));
}

void ComputeEncoder::pop_group() {
  if (!usable("popDebugGroup")) return;
  if (groups_.empty()) return fail("popDebugGroup", "no group is open, needs pushDebugGroup first");
  groups_.pop_back();
}

void ComputeEncoder::end() {
  if (ended_) return refuse("endEncoding");
  if (!groups_.empty())
    fail("endEncoding", "%zu debug groups are open, needs a popDebugGroup for each", groups_.size());
  ended_ = true;
  if (buffer->open_encoder != this) return;
  buffer->open_encoder = nullptr;
  if (buffer->status.load(std::memory_order_relaxed) >= MTL::CommandBufferStatusCommitted) return;
  while (SampleCommand* sample = end_samples) {
    end_samples = static_cast<SampleCommand*>(sample->next);
    sample->next = nullptr;
    buffer->recording->append(sample);
  }
}

// Dispatches ----------------------------------------------------------------------------------------

// Gathers what the kernel's arguments point to; false when one does not fit the kernel.
bool ComputeEncoder::bind(const char* call, Dispatch& dispatch) {
  if (arguments_changed_) {
    const uint32_t count = pipeline_->buffer_slots;
    Arena& arena = buffer->recording->arena;
    char* memory = static_cast<char*>(arena.allocate(count * (sizeof(void*) + sizeof(uint64_t)), 16));
    addresses_ = reinterpret_cast<void**>(memory);
    bytes_ = reinterpret_cast<uint64_t*>(memory + count * sizeof(void*));
    // Holes between the arguments read as unbound.
    if (pipeline_->buffer_mask != (uint64_t{1} << count) - 1)
      std::memset(memory, 0, count * (sizeof(void*) + sizeof(uint64_t)));
    if (checks_) {
      bindings_ = static_cast<BoundBuffer*>(arena.allocate(count * sizeof(BoundBuffer), 16));
      std::fill_n(bindings_, count, BoundBuffer{});
    }
    bound_bytes_ = 0;
    for (const Pipeline::Need& need : pipeline_->buffers) {
      const char* name = need.argument->name;
      if (!(bound_ >> need.index & 1)) {
        fail(call, "buffer argument \"%s\" (index %u) is not bound, needs setBuffer or setBytes", name,
             need.index);
        return false;
      }
      const Slot& slot = slots_[need.index];
      if (slot.bytes < need.bytes) {
        fail(call, "buffer argument \"%s\" (index %u) has %zu bytes, needs %zu (one %s)", name, need.index,
             static_cast<size_t>(slot.bytes), static_cast<size_t>(need.bytes), need.argument->type_name);
        return false;
      }
      if (reinterpret_cast<uintptr_t>(slot.address) & (need.alignment - 1)) {
        fail(call, "buffer argument \"%s\" (index %u) has offset %zu, needs a multiple of %u (%s)", name,
             need.index, static_cast<size_t>(slot.buffer ? slot.address - slot.buffer->address : 0),
             need.alignment, need.argument->type_name);
        return false;
      }
      addresses_[need.index] = slot.address;
      bytes_[need.index] = slot.bytes;
      bound_bytes_ += slot.bytes;
      if (checks_)
        bindings_[need.index] = {slot.buffer,
                                 static_cast<uint64_t>(slot.buffer ? slot.address - slot.buffer->address : 0),
                                 slot.marked};
    }
    arguments_changed_ = false;
  }
  dispatch.launch.buffers = addresses_;
  dispatch.launch.buffer_bytes = bytes_;
  dispatch.bindings = bindings_;
  dispatch.bound_bytes = bound_bytes_;
  return true;
}

// Lays out the threadgroup arguments of the kernel one after another.
bool ComputeEncoder::bind_threadgroup_memory(const char* call) {
  const uint32_t count = pipeline_->threadgroup_slots;
  if (count == 0) {
    threadgroup_total_ = 0;
    threadgroup_changed_ = false;
    return true;
  }
  Arena& arena = buffer->recording->arena;
  threadgroup_offsets_ = static_cast<uint32_t*>(arena.allocate(2 * count * sizeof(uint32_t), 16));
  threadgroup_bytes_ = threadgroup_offsets_ + count;
  std::memset(threadgroup_offsets_, 0, 2 * count * sizeof(uint32_t));
  uint32_t total = 0;
  for (const Pipeline::Need& need : pipeline_->threadgroup) {
    const uint32_t length = threadgroup_lengths_[need.index];
    if (length == 0 || length < need.bytes) {
      fail(call,
           "threadgroup argument \"%s\" (index %u) has %u bytes, needs at least %zu "
           "(setThreadgroupMemoryLength)",
           need.argument->name, need.index, length, static_cast<size_t>(std::max<uint64_t>(need.bytes, 1)));
      return false;
    }
    threadgroup_offsets_[need.index] = total;
    threadgroup_bytes_[need.index] = length;
    total += length;
  }
  const uint32_t in_kernel = static_threadgroup_bytes(pipeline_->kernel);
  if (in_kernel + total > kMaxThreadgroupMemory) {
    fail(call, "threadgroup memory is %u bytes (%u in the kernel, %u in arguments), needs at most %zu",
         in_kernel + total, in_kernel, total, static_cast<size_t>(kMaxThreadgroupMemory));
    return false;
  }
  threadgroup_total_ = total;
  threadgroup_changed_ = false;
  return true;
}

// Everything about a dispatch but its grid; null when something is wrong with it.
Dispatch* ComputeEncoder::begin_dispatch(const char* call, MTL::Size threadgroup) {
  if (!usable(call)) return nullptr;
  if (!pipeline_) {
    fail(call, "no pipeline is set, needs setComputePipelineState first");
    return nullptr;
  }
  const uint64_t threads = volume(threadgroup);
  if (threads == 0) {
    fail(call, "threadsPerThreadgroup is %s, needs at least 1x1x1", text_of(threadgroup).c_str());
    return nullptr;
  }
  if (threads > pipeline_->max_threads) {
    fail(call, "threadsPerThreadgroup is %s = %zu threads, needs at most %zu (the pipeline's limit)",
         text_of(threadgroup).c_str(), static_cast<size_t>(threads),
         static_cast<size_t>(pipeline_->max_threads));
    return nullptr;
  }
  if (threadgroup.width > kMaxThreadgroupSide || threadgroup.height > kMaxThreadgroupSide ||
      threadgroup.depth > kMaxThreadgroupSide) {
    fail(call, "threadsPerThreadgroup is %s, needs at most 1024x1024x1024 (the device's limit)",
         text_of(threadgroup).c_str());
    return nullptr;
  }
  if (pipeline_->multiple_of_width && threads % pipeline_->kernel.execution_width != 0) {
    fail(call,
         "threadsPerThreadgroup is %s = %zu threads, needs a multiple of %u (the pipeline was promised one)",
         text_of(threadgroup).c_str(), static_cast<size_t>(threads), pipeline_->kernel.execution_width);
    return nullptr;
  }
  if (threadgroup_changed_ && !bind_threadgroup_memory(call)) return nullptr;
  auto* dispatch = buffer->recording->arena.make<Dispatch>();
  if (!bind(call, *dispatch)) return nullptr;
  dispatch->pipeline = pipeline_;
  dispatch->threadgroup_threads = static_cast<uint32_t>(threads);
  dispatch->threadgroup_memory = threadgroup_total_;
  SoftmetalLaunch& launch = dispatch->launch;
  launch.threadgroup_offsets = threadgroup_offsets_;
  launch.threadgroup_bytes = threadgroup_bytes_;
  launch.constants = pipeline_->function->constants.data();
  launch.constants_defined = pipeline_->function->constants_defined;
  launch.threads_per_threadgroup[0] = static_cast<uint32_t>(threadgroup.width);
  launch.threads_per_threadgroup[1] = static_cast<uint32_t>(threadgroup.height);
  launch.threads_per_threadgroup[2] = static_cast<uint32_t>(threadgroup.depth);
  return dispatch;
}

void ComputeEncoder::record(Dispatch& dispatch) {
  dispatch.barrier = barrier_;
  barrier_ = dispatch_type == MTL::DispatchTypeSerial;
  buffer->recording->append(&dispatch);
  buffer->estimated_ns += buffer->queue->device.executor.estimate_ns(dispatch);
  if (info) {
    dispatch.info = info;
    if (!info->first) info->first = &dispatch;
  }
  if (!checks_) return;
  dispatch.command_buffer = buffer->id;
  dispatch.place = buffer->dispatches++;
  std::string where = label;
  if (!groups_.empty()) where += (where.empty() ? "" : "/") + group();
  char* copy = static_cast<char*>(buffer->recording->arena.allocate(where.size() + 1, 1));
  dispatch.label = std::strcpy(copy, where.c_str());
}

void ComputeEncoder::dispatch_threads(MTL::Size threads, MTL::Size threadgroup) {
  constexpr const char* call = "dispatchThreads";
  Dispatch* dispatch = begin_dispatch(call, threadgroup);
  if (!dispatch) return;
  if (threads.width > UINT32_MAX || threads.height > UINT32_MAX || threads.depth > UINT32_MAX)
    return fail(call, "threadsPerGrid is %s, needs at most %u in each dimension", text_of(threads).c_str(),
                UINT32_MAX);
  if (volume(threads) > kMaxGridThreads)
    return fail(call, "threadsPerGrid is %s, needs at most 2^62 threads in all", text_of(threads).c_str());
  if (volume(threads) == 0) return;
  SoftmetalLaunch& launch = dispatch->launch;
  const NS::UInteger sides[3] = {threads.width, threads.height, threads.depth};
  for (int i = 0; i < 3; ++i) {
    launch.threads_per_grid[i] = static_cast<uint32_t>(sides[i]);
    const uint64_t side = launch.threads_per_threadgroup[i];
    launch.threadgroups_per_grid[i] =
        side == 1 ? static_cast<uint32_t>(sides[i]) : static_cast<uint32_t>((sides[i] + side - 1) / side);
  }
  record(*dispatch);
}

void ComputeEncoder::dispatch_threadgroups(MTL::Size groups, MTL::Size threadgroup) {
  constexpr const char* call = "dispatchThreadgroups";
  Dispatch* dispatch = begin_dispatch(call, threadgroup);
  if (!dispatch) return;
  if (!set_threadgroups(*dispatch, groups.width, groups.height, groups.depth))
    return fail(
        call,
        "threadgroupsPerGrid is %s of %s threads, needs at most %u threads in each dimension and 2^62 in all",
        text_of(groups).c_str(), text_of(threadgroup).c_str(), UINT32_MAX);
  if (volume(groups) != 0) record(*dispatch);
}

void ComputeEncoder::dispatch_indirect(Buffer* arguments, NS::UInteger offset, MTL::Size threadgroup) {
  constexpr const char* call = "dispatchThreadgroups";
  constexpr size_t size = sizeof(MTL::DispatchThreadgroupsIndirectArguments);
  if (!usable(call)) return;
  if (!arguments) return fail(call, "indirectBuffer is null, needs a buffer");
  if (offset % 4 != 0)
    return fail(call, "indirectBufferOffset is %zu, needs a multiple of 4", static_cast<size_t>(offset));
  if (offset > arguments->length || arguments->length - offset < size)
    return fail(call, "indirectBufferOffset is %zu in a buffer of %zu bytes, needs %zu bytes from there",
                static_cast<size_t>(offset), static_cast<size_t>(arguments->length), size);
  Dispatch* dispatch = begin_dispatch(call, threadgroup);
  if (!dispatch) return;
  retain(arguments);
  dispatch->indirect = arguments;
  dispatch->indirect_offset = offset;
  record(*dispatch);
}

}  // namespace softmetal

namespace MTL {

using softmetal::face;
using softmetal::impl;

Device* CommandEncoder::device() const { return face(&impl(this)->buffer->queue->device); }
void CommandEncoder::endEncoding() { impl(this)->end(); }
void CommandEncoder::insertDebugSignpost(const NS::String* string) {
  impl(this)->push_group("insertDebugSignpost", string);
  impl(this)->pop_group();
}
NS::String* CommandEncoder::label() const { return softmetal::label_string(impl(this)->label); }
void CommandEncoder::popDebugGroup() { impl(this)->pop_group(); }
void CommandEncoder::pushDebugGroup(const NS::String* string) {
  impl(this)->push_group("pushDebugGroup", string);
}
void CommandEncoder::setLabel(const NS::String* label) { impl(this)->set_label(label); }

DispatchType ComputeCommandEncoder::dispatchType() const { return impl(this)->dispatch_type; }
void ComputeCommandEncoder::dispatchThreadgroups(MTL::Size threadgroupsPerGrid,
                                                 MTL::Size threadsPerThreadgroup) {
  impl(this)->dispatch_threadgroups(threadgroupsPerGrid, threadsPerThreadgroup);
}
void ComputeCommandEncoder::dispatchThreadgroups(const MTL::Buffer* indirectBuffer,
                                                 NS::UInteger indirectBufferOffset,
                                                 MTL::Size threadsPerThreadgroup) {
  impl(this)->dispatch_indirect(impl(indirectBuffer), indirectBufferOffset, threadsPerThreadgroup);
}
void ComputeCommandEncoder::dispatchThreads(MTL::Size threadsPerGrid, MTL::Size threadsPerThreadgroup) {
  impl(this)->dispatch_threads(threadsPerGrid, threadsPerThreadgroup);
}
void ComputeCommandEncoder::memoryBarrier(MTL::BarrierScope scope) { impl(this)->memory_barrier(scope); }
void ComputeCommandEncoder::memoryBarrier(const MTL::Resource* const resources[], NS::UInteger count) {
  impl(this)->memory_barrier(resources, count);
}
void ComputeCommandEncoder::setBuffer(const MTL::Buffer* buffer, NS::UInteger offset, NS::UInteger index) {
  impl(this)->set_buffer("setBuffer", impl(buffer), offset, index);
}
void ComputeCommandEncoder::setBufferOffset(NS::UInteger offset, NS::UInteger index) {
  impl(this)->set_buffer_offset(offset, index);
}
void ComputeCommandEncoder::setBuffers(const MTL::Buffer* const buffers[], const NS::UInteger offsets[],
                                       NS::Range range) {
  for (NS::UInteger i = 0; i < range.length; ++i)
    impl(this)->set_buffer("setBuffers", impl(buffers[i]), offsets[i], range.location + i);
}
void ComputeCommandEncoder::setBytes(const void* bytes, NS::UInteger length, NS::UInteger index) {
  impl(this)->set_bytes(bytes, length, index);
}
void ComputeCommandEncoder::setComputePipelineState(const MTL::ComputePipelineState* state) {
  impl(this)->set_pipeline(impl(state));
}
void ComputeCommandEncoder::setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index) {
  impl(this)->set_threadgroup_memory(length, index);
}
void ComputeCommandEncoder::updateFence(const MTL::Fence* fence) {
  impl(this)->fence("updateFence", impl(fence), false);
}
void ComputeCommandEncoder::useResource(const MTL::Resource* resource, MTL::ResourceUsage usage) {
  impl(this)->use("useResource", impl(resource), usage);
}
void ComputeCommandEncoder::useResources(const MTL::Resource* const resources[], NS::UInteger count,
                                         MTL::ResourceUsage usage) {
  for (NS::UInteger i = 0; i < count; ++i) impl(this)->use("useResources", impl(resources[i]), usage);
}
void ComputeCommandEncoder::waitForFence(const MTL::Fence* fence) {
  impl(this)->fence("waitForFence", impl(fence), true);
}

}  // namespace MTL
