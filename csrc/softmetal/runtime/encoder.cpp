#include "softmetal/runtime/encoder.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "softmetal/runtime/indirect.h"
#include "softmetal/runtime/scheduler.h"

namespace softmetal {

ComputeEncoder::~ComputeEncoder() {
  if (ended_ || buffer->open_encoder != this) return;
  fail("release", "the encoder is released while open, needs endEncoding first");
  buffer->open_encoder = nullptr;
}

std::string ComputeEncoder::describe() const {
  return text("<MTL::ComputeCommandEncoder: %p> label = %s", static_cast<const void*>(this),
              label.empty() ? "<none>" : label.c_str());
}

void ComputeEncoder::fail(const char* call, const std::string& problem) { fail(call, "%s", problem.c_str()); }

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

void ComputeEncoder::hold(Resource* resource) {
  buffer->hold(resource);
  resource->retained_by.store(buffer->id, std::memory_order_relaxed);
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
  if (offset >= bound->length) return fail(call, offset_problem(*bound, offset, index));
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
  if (length % 4 == 0 && length <= 32) {  // not worth a call
    for (NS::UInteger i = 0; i < length; i += 4)
      std::memcpy(copy + i, static_cast<const char*>(bytes) + i, 4);
  } else {
    std::memcpy(copy, bytes, length);
  }
  slots_[index] = {copy, length, nullptr, length};
  bound_ |= 1u << index;
  arguments_changed_ = true;
}

void ComputeEncoder::set_threadgroup_memory(NS::UInteger length, NS::UInteger index) {
  constexpr const char* call = "setThreadgroupMemoryLength";
  if (!usable(call) || !valid_index(call, index)) return;
  if (length % kThreadgroupMemoryAlignment != 0 || length > kMaxThreadgroupMemory)
    return fail(call, memory_length_problem(length, index));
  threadgroup_lengths_[index] = static_cast<uint32_t>(length);
  threadgroup_changed_ = true;
}

void ComputeEncoder::use(const char* call, Resource* resource, MTL::ResourceUsage usage) {
  if (!usable(call)) return;
  if (!resource) return fail(call, "resource is null, needs a resource");
  if (usage == 0 || usage > (MTL::ResourceUsageRead | MTL::ResourceUsageWrite | MTL::ResourceUsageSample))
    return fail(call, "usage is %zu, needs Read, Write or both", static_cast<size_t>(usage));
  retain(resource);
  if (validates()) used_.push_back(resource);
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
inline bool ComputeEncoder::bind(const char* call) {
  const uint32_t count = pipeline_->buffer_slots;
  Arena& arena = buffer->recording->arena;
  char* memory = static_cast<char*>(arena.allocate(count * (sizeof(void*) + sizeof(uint64_t)), 16));
  addresses_ = reinterpret_cast<void**>(memory);
  bytes_ = reinterpret_cast<uint64_t*>(memory + count * sizeof(void*));
  // Holes between the arguments read as unbound.
  if (pipeline_->buffer_mask != (uint64_t{1} << count) - 1)
    std::memset(memory, 0, count * (sizeof(void*) + sizeof(uint64_t)));
  if (const auto* need = gather(*pipeline_, slots_, bound_, addresses_, bytes_, &bound_bytes_)) [[unlikely]] {
    fail(call, buffer_problem(*need, slots_, bound_, "setBuffer or setBytes"));
    return false;
  }
  if (checks_) {
    bindings_ = static_cast<BoundBuffer*>(arena.allocate(count * sizeof(BoundBuffer), 16));
    std::fill_n(bindings_, count, BoundBuffer{});
    for (const Pipeline::Need& need : pipeline_->buffers) {
      const Slot& slot = slots_[need.index];
      bindings_[need.index] = {slot.buffer,
                               static_cast<uint64_t>(slot.buffer ? slot.address - slot.buffer->address : 0),
                               slot.marked};
    }
  }
  arguments_changed_ = false;
  return true;
}

bool ComputeEncoder::bind_threadgroup_memory(const char* call) {
  const uint32_t count = pipeline_->threadgroup_slots;
  threadgroup_total_ = 0;
  if (count != 0) {
    Arena& arena = buffer->recording->arena;
    threadgroup_offsets_ = static_cast<uint32_t*>(arena.allocate(2 * count * sizeof(uint32_t), 16));
    threadgroup_bytes_ = threadgroup_offsets_ + count;
    const Pipeline::Need* need = lay_out(*pipeline_, threadgroup_lengths_, threadgroup_offsets_,
                                         threadgroup_bytes_, &threadgroup_total_);
    if (need || pipeline_->static_bytes + threadgroup_total_ > kMaxThreadgroupMemory) {
      fail(call, threadgroup_memory_problem(*pipeline_, need, threadgroup_lengths_, threadgroup_total_));
      return false;
    }
  }
  if (validates()) {
    // Metal does not say whether lengths count that the kernel has no argument for.
    uint64_t set = pipeline_->static_bytes;
    for (const uint32_t length : threadgroup_lengths_) set += length;
    if (set > kMaxThreadgroupMemory) {
      fail(call,
           "threadgroup memory is %zu bytes with the lengths that are set for arguments of other kernels, "
           "needs at most %zu (setThreadgroupMemoryLength to 0)",
           static_cast<size_t>(set), static_cast<size_t>(kMaxThreadgroupMemory));
      return false;
    }
  }
  threadgroup_changed_ = false;
  return true;
}

// Everything about a dispatch but its grid; null when something is wrong with it.
inline Dispatch* ComputeEncoder::begin_dispatch(const char* call, const MTL::Size& threadgroup) {
  if (!usable(call)) return nullptr;
  if (!pipeline_) [[unlikely]] {
    fail(call, "no pipeline is set, needs setComputePipelineState first");
    return nullptr;
  }
  const uint32_t threads = threadgroup_threads(*pipeline_, threadgroup);
  if (threads == 0) [[unlikely]] {
    fail(call, threadgroup_problem(*pipeline_, threadgroup));
    return nullptr;
  }
  if (threadgroup_changed_ && !bind_threadgroup_memory(call)) return nullptr;
  if (arguments_changed_ && !bind(call)) return nullptr;
  auto* dispatch = buffer->recording->arena.make<Dispatch>();
  softmetal::set_pipeline(*dispatch, *pipeline_, threadgroup, threads);
  dispatch->bound_bytes = bound_bytes_;
  dispatch->bindings = bindings_;
  dispatch->threadgroup_memory = static_cast<uint16_t>(threadgroup_total_);
  dispatch->launch.buffers = addresses_;
  dispatch->launch.buffer_bytes = bytes_;
  dispatch->launch.threadgroup_offsets = threadgroup_offsets_;
  dispatch->launch.threadgroup_bytes = threadgroup_bytes_;
  return dispatch;
}

void ComputeEncoder::estimate(const Dispatch& dispatch) {
  if (buffer->estimated_ns <= kInlineNanoseconds)
    buffer->estimated_ns += buffer->queue->device.executor.estimate_ns(dispatch);
}

inline void ComputeEncoder::record(Dispatch& dispatch) {
  dispatch.barrier = barrier_;
  barrier_ = dispatch_type == MTL::DispatchTypeSerial;
  buffer->recording->append(&dispatch);
  estimate(dispatch);
  note_info(dispatch);
  if (checks_) note_place(dispatch);
}

// Lets the command buffer's error tell of the encoder.
inline void ComputeEncoder::note_info(Dispatch& dispatch) {
  if (!info) return;
  dispatch.info = info;
  if (!info->first) info->first = &dispatch;
}

// Tells executors that check where the dispatch was encoded.
void ComputeEncoder::note_place(Dispatch& dispatch) {
  dispatch.command_buffer = buffer->id;
  dispatch.place = buffer->dispatches++;
  std::string where = label;
  if (!groups_.empty()) where += (where.empty() ? "" : "/") + group();
  char* copy = static_cast<char*>(buffer->recording->arena.allocate(where.size() + 1, 1));
  dispatch.label = std::strcpy(copy, where.c_str());
}

void ComputeEncoder::dispatch_threads(const MTL::Size& threads, const MTL::Size& threadgroup) {
  constexpr const char* call = "dispatchThreads";
  Dispatch* dispatch = begin_dispatch(call, threadgroup);
  if (!dispatch) return;
  if (!set_threads(*dispatch, threads.width, threads.height, threads.depth)) [[unlikely]]
    return fail(call, threads_problem(threads));
  dispatch->units = count_units(*dispatch);
  if (dispatch->units != 0) record(*dispatch);
}

void ComputeEncoder::dispatch_threadgroups(const MTL::Size& groups, const MTL::Size& threadgroup) {
  constexpr const char* call = "dispatchThreadgroups";
  Dispatch* dispatch = begin_dispatch(call, threadgroup);
  if (!dispatch) return;
  if (!set_threadgroups(*dispatch, groups.width, groups.height, groups.depth)) [[unlikely]]
    return fail(call, threadgroups_problem(groups, threadgroup));
  dispatch->units = count_units(*dispatch);
  if (dispatch->units != 0) record(*dispatch);
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
  dispatch->indirect = arguments->address + offset;
  record(*dispatch);
}

// What has been prepared of the commands is copied, so that they may be changed afterwards.
void ComputeEncoder::execute(IndirectBuffer* commands, NS::Range range) {
  constexpr const char* call = "executeCommandsInBuffer";
  if (!usable(call)) return;
  if (!commands) return fail(call, "indirectCommandBuffer is null, needs one");
  if (&commands->device != &buffer->queue->device)
    return fail(call, "indirectCommandBuffer is of device \"%s\", needs one of the encoder's, \"%s\"",
                commands->device.executor.device_name(), buffer->queue->device.executor.device_name());
  if (range.location > commands->size || range.length > commands->size - range.location)
    return fail(call,
                "executionRange starts at %zu and has %zu commands, needs to lie in the %zu of the buffer",
                static_cast<size_t>(range.location), static_cast<size_t>(range.length),
                static_cast<size_t>(commands->size));
  if (validates()) {
    const auto resident = [&](const Buffer* bound) {
      return std::find(used_.begin(), used_.end(), bound) != used_.end() || buffer->queue->is_resident(bound);
    };
    if (const std::string missing = commands->first_not(resident, range); !missing.empty())
      return fail(call, missing);
  }
  retain(commands);
  Recording& recording = *buffer->recording;
  std::string problem;
  const Dispatch* from = commands->inherits()
                             ? commands->inherit(range, pipeline_, slots_, bound_, recording, &problem)
                             : commands->prepare(range, recording, buffer->id, &problem);
  if (!from) {
    pipeline_ = nullptr;  // not where it happened
    return fail(call, problem);
  }
  const Dispatch* const end = from + range.length;
  const bool serial = dispatch_type == MTL::DispatchTypeSerial;
  while (from != end) {
    const auto count = std::min<size_t>(static_cast<size_t>(end - from), Arena::kBlock / sizeof(Dispatch));
    char* memory = static_cast<char*>(recording.arena.allocate(count * sizeof(Dispatch), alignof(Dispatch)));
    for (const Dispatch* const part = from + count; from != part; ++from) {
      barrier_ |= from->barrier;
      if (!from->pipeline) continue;  // an empty command
      std::memcpy(memory, static_cast<const void*>(from), sizeof(Dispatch));
      auto* dispatch = reinterpret_cast<Dispatch*>(memory);
      memory += sizeof(Dispatch);
      dispatch->barrier = barrier_;
      barrier_ = false;
      recording.append(dispatch);
      estimate(*dispatch);
      note_info(*dispatch);
    }
  }
  barrier_ |= serial;
}

}  // namespace softmetal

namespace MTL {

using softmetal::face;
using softmetal::impl;

Device* CommandEncoder::device() const { return face(&impl(this)->buffer->queue->device); }
void CommandEncoder::endEncoding() {
  softmetal::needs_pool("endEncoding");
  impl(this)->end();
}
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
void ComputeCommandEncoder::executeCommandsInBuffer(const MTL::IndirectCommandBuffer* indirectCommandBuffer,
                                                    NS::Range executionRange) {
  softmetal::needs_pool("executeCommandsInBuffer");
  impl(this)->execute(impl(indirectCommandBuffer), executionRange);
}
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
