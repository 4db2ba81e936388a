#include "softmetal/runtime/indirect.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "softmetal/runtime/executor.h"

namespace softmetal {

namespace {

constexpr MTL::IndirectCommandType kThreadgroups = MTL::IndirectCommandTypeConcurrentDispatch;
constexpr MTL::IndirectCommandType kThreads = MTL::IndirectCommandTypeConcurrentDispatchThreads;

size_t lists_size(const Pipeline& pipeline) {
  return pipeline.buffer_slots * (sizeof(void*) + sizeof(uint64_t)) +
         pipeline.threadgroup_slots * 2 * sizeof(uint32_t);
}

}  // namespace

Object* IndirectDescriptor::clone() {
  auto* made = new IndirectDescriptor;
  made->types = types;
  made->inherit_buffers = inherit_buffers;
  made->inherit_pipeline = inherit_pipeline;
  made->max_buffers = max_buffers;
  made->max_threadgroup_memory = max_threadgroup_memory;
  return made;
}

IndirectBuffer::IndirectBuffer(Device& owner, const IndirectDescriptor& descriptor, NS::UInteger count,
                               MTL::ResourceOptions resource_options, Dispatch* memory)
    : Resource(owner, resource_options),
      size(count),
      types_(descriptor.types),
      inherit_buffers_(descriptor.inherit_buffers),
      inherit_pipeline_(descriptor.inherit_pipeline),
      max_buffers_(descriptor.max_buffers),
      max_threadgroup_memory_(descriptor.max_threadgroup_memory),
      commands_(count),
      dispatches_(memory) {
  for (NS::UInteger i = 0; i < count; ++i) (new (&dispatches_[i]) Dispatch)->barrier = false;
  device.allocated.fetch_add(allocated_size(), std::memory_order_relaxed);
}

IndirectBuffer::~IndirectBuffer() {
  device.allocated.fetch_sub(allocated_size(), std::memory_order_relaxed);
  std::free(dispatches_);
}

IndirectBuffer* IndirectBuffer::create(Device& device, const IndirectDescriptor* descriptor,
                                       NS::UInteger count, MTL::ResourceOptions options) {
  if (device.executor.checks()) return nullptr;
  std::string problem;
  if (!descriptor)
    problem = "descriptor is null, needs one";
  else if (descriptor->types == 0 || descriptor->types & ~(kThreadgroups | kThreads))
    problem = text("commandTypes is %zu, needs ConcurrentDispatch, ConcurrentDispatchThreads or both",
                   static_cast<size_t>(descriptor->types));
  else if (descriptor->max_buffers > SOFTMETAL_MAX_BUFFERS)
    problem = text("maxKernelBufferBindCount is %zu, needs at most %u",
                   static_cast<size_t>(descriptor->max_buffers), SOFTMETAL_MAX_BUFFERS);
  else if (descriptor->max_threadgroup_memory > SOFTMETAL_MAX_BUFFERS)
    problem = text("maxKernelThreadgroupMemoryBindCount is %zu, needs at most %u",
                   static_cast<size_t>(descriptor->max_threadgroup_memory), SOFTMETAL_MAX_BUFFERS);
  else if (count == 0 || count > kMaxIndirectCommands)
    problem = text("maxCount is %zu, needs 1 to %zu", static_cast<size_t>(count),
                   static_cast<size_t>(kMaxIndirectCommands));
  else if ((options >> 4 & 15) > MTL::StorageModePrivate)
    problem = "storage mode is memoryless, needs shared, managed or private";
  if (!problem.empty()) {
    report_misuse("Device::newIndirectCommandBuffer: " + problem);
    return nullptr;
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, alignof(Dispatch), count * sizeof(Dispatch)) != 0) return nullptr;
  return new IndirectBuffer(device, *descriptor, count, options, static_cast<Dispatch*>(memory));
}

// Setting commands ----------------------------------------------------------------------------------

IndirectBuffer::Command& IndirectBuffer::change(size_t index) {
  std::unique_ptr<Command>& command = commands_[index];
  if (!command) command = std::make_unique<Command>();
  if (!command->changed) {
    changed_.push_back(static_cast<uint32_t>(index));
    command->changed = true;
  }
  return *command;
}

// There may be no command buffer yet that could carry it, so the command does.
void IndirectBuffer::misuse(Command& command, const char* call, const std::string& problem) {
  std::string message = text("IndirectComputeCommand::%s: %s", call, problem.c_str());
  if (debug_layer()) abort_with(message);
  if (command.misuse.empty()) command.misuse = std::move(message);
}

template <class T>
void IndirectBuffer::replace(Ref<T>& reference, T* by) {
  if (reference.get() == by) return;
  if (reference && lists_->shared()) {
    lists_->replaced.push_back(Ref<Object>(reference.get()));
    lists_->old_bytes += sizeof(Dispatch);
  }
  reference = by;
}

void IndirectBuffer::set_pipeline(size_t index, Pipeline* state) {
  constexpr const char* call = "setComputePipelineState";
  Command& command = change(index);
  if (!state) return misuse(command, call, "pipelineState is null, needs a pipeline");
  if (inherit_pipeline_)
    return misuse(command, call, "the pipeline is the encoder's, needs inheritPipelineState to be false");
  if (!state->indirect)
    return misuse(
        command, call,
        text("pipelineState (kernel \"%s\") was made without supportIndirectCommandBuffers, needs it",
             state->kernel.name));
  replace(command.pipeline, state);
}

void IndirectBuffer::set_buffer(size_t index, Buffer* bound, NS::UInteger offset, NS::UInteger at) {
  constexpr const char* call = "setKernelBuffer";
  Command& command = change(index);
  if (inherit_buffers_)
    return misuse(command, call, "the buffers are the encoder's, needs inheritBuffers to be false");
  if (at >= max_buffers_)
    return misuse(command, call,
                  text("index is %zu, needs less than maxKernelBufferBindCount, %zu", static_cast<size_t>(at),
                       static_cast<size_t>(max_buffers_)));
  if (bound && offset >= bound->length) return misuse(command, call, offset_problem(*bound, offset, at));
  replace(command.buffers[at], bound);
  command.bound &= ~(1u << at);
  if (!bound) return;
  const uint64_t bytes = bound->length - offset;
  command.slots[at] = {bound->address + offset, bytes, bound, bytes};
  command.bound |= 1u << at;
}

void IndirectBuffer::set_threadgroup_memory(size_t index, NS::UInteger length, NS::UInteger at) {
  constexpr const char* call = "setThreadgroupMemoryLength";
  Command& command = change(index);
  if (at >= max_threadgroup_memory_)
    return misuse(command, call,
                  text("index is %zu, needs less than maxKernelThreadgroupMemoryBindCount, %zu",
                       static_cast<size_t>(at), static_cast<size_t>(max_threadgroup_memory_)));
  if (std::string problem = memory_length_problem(length, at); !problem.empty())
    return misuse(command, call, problem);
  command.memory[at] = static_cast<uint32_t>(length);
}

void IndirectBuffer::set_dispatch(size_t index, MTL::IndirectCommandType type, MTL::Size grid,
                                  MTL::Size threadgroup) {
  Command& command = change(index);
  if (!(types_ & type))
    return misuse(command, type == kThreads ? "concurrentDispatchThreads" : "concurrentDispatchThreadgroups",
                  text("commandTypes is %zu, needs %s", static_cast<size_t>(types_),
                       type == kThreads ? "ConcurrentDispatchThreads" : "ConcurrentDispatch"));
  command.type = type;
  command.grid = grid;
  command.threadgroup = threadgroup;
}

void IndirectBuffer::set_barrier(size_t index, bool barrier) { change(index).barrier = barrier; }

void IndirectBuffer::reset(size_t index) {
  if (!commands_[index]) return;
  Command& command = change(index);
  replace(command.pipeline, static_cast<Pipeline*>(nullptr));
  for (Ref<Buffer>& buffer : command.buffers) replace(buffer, static_cast<Buffer*>(nullptr));
  command.type = 0;
  command.barrier = false;
  command.bound = 0;
  std::fill_n(command.memory, SOFTMETAL_MAX_BUFFERS, 0);
  command.misuse.clear();
}

std::string IndirectBuffer::first_not(const std::function<bool(const Buffer*)>& resident,
                                      NS::Range range) const {
  for (NS::UInteger i = range.location; i < range.Max(); ++i) {
    const Command* command = commands_[i].get();
    if (!command || command->type == 0) continue;
    for (uint32_t at = 0; at < SOFTMETAL_MAX_BUFFERS; ++at) {
      const Buffer* bound = command->buffers[at].get();
      if (bound && !resident(bound))
        return text(
            "command %zu: the buffer at index %u is neither used nor resident, needs useResource or a "
            "residency set of the queue that has it and was committed",
            static_cast<size_t>(i), at);
    }
  }
  return {};
}

// Executing them ------------------------------------------------------------------------------------

// Finds memory for the lists of a command that nothing else reads.
void IndirectBuffer::place_lists(Command& command, const Pipeline& pipeline) {
  const size_t needed = lists_size(pipeline);
  if (command.lists && needed <= command.lists_bytes && !lists_->shared()) return;
  lists_->old_bytes += command.lists_bytes;
  lists_->live_bytes += needed - command.lists_bytes;
  command.lists = static_cast<char*>(lists_->arena.allocate(needed, 16));
  command.lists_bytes = needed;
}

// Fills in the dispatch of a command that is not empty.
bool IndirectBuffer::build(const Command& command, const Pipeline* pipeline, const Slot* slots,
                           uint32_t bound, char* lists, Dispatch& dispatch, std::string* problem) const {
  const uint32_t threads = threadgroup_threads(*pipeline, command.threadgroup);
  if (threads == 0) {
    *problem = threadgroup_problem(*pipeline, command.threadgroup);
    return false;
  }
  auto** addresses = reinterpret_cast<void**>(lists);
  auto* bytes = reinterpret_cast<uint64_t*>(lists + pipeline->buffer_slots * sizeof(void*));
  auto* memory_offsets = reinterpret_cast<uint32_t*>(bytes + pipeline->buffer_slots);
  uint32_t* memory_bytes = memory_offsets + pipeline->threadgroup_slots;
  uint32_t memory = 0;
  const Pipeline::Need* need = lay_out(*pipeline, command.memory, memory_offsets, memory_bytes, &memory);
  if (need || pipeline->static_bytes + memory > kMaxThreadgroupMemory) {
    *problem = threadgroup_memory_problem(*pipeline, need, command.memory, memory);
    return false;
  }
  std::memset(lists, 0, pipeline->buffer_slots * (sizeof(void*) + sizeof(uint64_t)));
  new (&dispatch) Dispatch;
  if ((need = gather(*pipeline, slots, bound, addresses, bytes, &dispatch.bound_bytes))) {
    *problem = buffer_problem(*need, slots, bound,
                              inherit_buffers_ ? "the encoder to setBuffer or setBytes" : "setKernelBuffer");
    return false;
  }
  softmetal::set_pipeline(dispatch, *pipeline, command.threadgroup, threads);
  dispatch.barrier = command.barrier;
  dispatch.threadgroup_memory = static_cast<uint16_t>(memory);
  dispatch.launch.buffers = addresses;
  dispatch.launch.buffer_bytes = bytes;
  dispatch.launch.threadgroup_offsets = memory_offsets;
  dispatch.launch.threadgroup_bytes = memory_bytes;
  const MTL::Size& grid = command.grid;
  if (command.type == kThreads) {
    if (!set_threads(dispatch, grid.width, grid.height, grid.depth)) {
      *problem = threads_problem(grid);
      return false;
    }
  } else if (!set_threadgroups(dispatch, grid.width, grid.height, grid.depth)) {
    *problem = threadgroups_problem(grid, command.threadgroup);
    return false;
  }
  dispatch.units = count_units(dispatch);
  if (dispatch.units == 0) dispatch.pipeline = nullptr;  // nothing to run
  return true;
}

const Dispatch* IndirectBuffer::prepare(NS::Range range, Recording& recording, uint64_t command_buffer,
                                        std::string* problem) {
  constexpr size_t kOldBytes = 64 * 1024;
  if (!lists_->shared()) {
    lists_->replaced.clear();
  } else if (lists_->old_bytes > lists_->live_bytes + kOldBytes) {
    // Whoever holds the old ones frees them.
    lists_ = Ref<Lists>::adopt(new Lists);
    for (size_t i = 0; i < commands_.size(); ++i) {
      if (!commands_[i]) continue;
      Command& command = change(i);
      command.lists = nullptr;
      command.lists_bytes = 0;
    }
  }
  size_t kept = 0;
  for (size_t i = 0; i < changed_.size(); ++i) {
    const uint32_t index = changed_[i];
    Command& command = *commands_[index];
    if (!range.LocationInRange(index) || !problem->empty()) {
      changed_[kept++] = index;
      continue;
    }
    const Pipeline* pipeline = command.pipeline.get();
    Dispatch& dispatch = dispatches_[index];
    std::string found = command.misuse;
    if (!found.empty()) {
    } else if (command.type == 0) {
      (new (&dispatch) Dispatch)->barrier = command.barrier;
    } else if (!pipeline) {
      found = "no pipeline is set, needs setComputePipelineState";
    } else {
      place_lists(command, *pipeline);
      build(command, pipeline, command.slots, command.bound, command.lists, dispatch, &found);
    }
    if (found.empty()) {
      command.changed = false;
    } else {
      changed_[kept++] = index;
      *problem = text("command %u%s: %s", index,
                      pipeline ? text(" (kernel \"%s\")", pipeline->kernel.name).c_str() : "", found.c_str());
    }
  }
  changed_.resize(kept);
  if (!problem->empty()) return nullptr;
  if (lists_->held_by != command_buffer || !lists_->shared()) {
    recording.hold(lists_.get());
    lists_->held_by = command_buffer;
  }
  return dispatches_ + range.location;
}

const Dispatch* IndirectBuffer::inherit(NS::Range range, const Pipeline* pipeline, const Slot* slots,
                                        uint32_t bound, Recording& recording, std::string* problem) {
  auto* dispatches =
      static_cast<Dispatch*>(recording.arena.allocate(range.length * sizeof(Dispatch), alignof(Dispatch)));
  for (NS::UInteger i = 0; i < range.length; ++i) {
    Dispatch& dispatch = *new (&dispatches[i]) Dispatch;
    const Command* command = commands_[range.location + i].get();
    dispatch.barrier = command && command->barrier;
    if (!command) continue;
    const Pipeline* chosen = inherit_pipeline_ ? pipeline : command->pipeline.get();
    std::string found = command->misuse;
    if (found.empty() && command->type == 0) continue;
    if (!found.empty()) {
    } else if (!chosen) {
      found = inherit_pipeline_ ? "no pipeline is set, needs the encoder to setComputePipelineState"
                                : "no pipeline is set, needs setComputePipelineState";
    } else if (!chosen->indirect) {
      found = "the encoder's pipeline was made without supportIndirectCommandBuffers, needs it";
    } else {
      char* lists = static_cast<char*>(recording.arena.allocate(lists_size(*chosen), 16));
      build(*command, chosen, inherit_buffers_ ? slots : command->slots,
            inherit_buffers_ ? bound : command->bound, lists, dispatch, &found);
    }
    if (found.empty()) continue;
    *problem = text("command %zu%s: %s", static_cast<size_t>(range.location + i),
                    chosen ? text(" (kernel \"%s\")", chosen->kernel.name).c_str() : "", found.c_str());
    return nullptr;
  }
  return dispatches;
}

}  // namespace softmetal

namespace MTL {

using softmetal::autoreleased;
using softmetal::face;
using softmetal::impl;

IndirectCommandBuffer* Device::newIndirectCommandBuffer(
    const MTL::IndirectCommandBufferDescriptor* descriptor, NS::UInteger maxCount,
    MTL::ResourceOptions options) {
  return face(softmetal::IndirectBuffer::create(*impl(this), impl(descriptor), maxCount, options));
}

IndirectCommandBufferDescriptor* IndirectCommandBufferDescriptor::alloc() {
  return face(new softmetal::IndirectDescriptor);
}
IndirectCommandType IndirectCommandBufferDescriptor::commandTypes() const { return impl(this)->types; }
bool IndirectCommandBufferDescriptor::inheritBuffers() const { return impl(this)->inherit_buffers; }
bool IndirectCommandBufferDescriptor::inheritPipelineState() const { return impl(this)->inherit_pipeline; }
IndirectCommandBufferDescriptor* IndirectCommandBufferDescriptor::init() { return this; }
NS::UInteger IndirectCommandBufferDescriptor::maxKernelBufferBindCount() const {
  return impl(this)->max_buffers;
}
NS::UInteger IndirectCommandBufferDescriptor::maxKernelThreadgroupMemoryBindCount() const {
  return impl(this)->max_threadgroup_memory;
}
void IndirectCommandBufferDescriptor::setCommandTypes(MTL::IndirectCommandType commandTypes) {
  impl(this)->types = commandTypes;
}
void IndirectCommandBufferDescriptor::setInheritBuffers(bool inheritBuffers) {
  impl(this)->inherit_buffers = inheritBuffers;
}
void IndirectCommandBufferDescriptor::setInheritPipelineState(bool inheritPipelineState) {
  impl(this)->inherit_pipeline = inheritPipelineState;
}
void IndirectCommandBufferDescriptor::setMaxKernelBufferBindCount(NS::UInteger maxKernelBufferBindCount) {
  impl(this)->max_buffers = maxKernelBufferBindCount;
}
void IndirectCommandBufferDescriptor::setMaxKernelThreadgroupMemoryBindCount(
    NS::UInteger maxKernelThreadgroupMemoryBindCount) {
  impl(this)->max_threadgroup_memory = maxKernelThreadgroupMemoryBindCount;
}

IndirectComputeCommand* IndirectCommandBuffer::indirectComputeCommand(NS::UInteger commandIndex) {
  auto* buffer = impl(this);
  if (commandIndex < buffer->size)
    return face(autoreleased(new softmetal::IndirectCommand(*buffer, commandIndex)));
  softmetal::report_misuse(softmetal::text(
      "IndirectCommandBuffer::indirectComputeCommand: commandIndex is %zu, needs less than %zu",
      static_cast<size_t>(commandIndex), static_cast<size_t>(buffer->size)));
  return nullptr;
}
void IndirectCommandBuffer::reset(NS::Range range) {
  auto* buffer = impl(this);
  if (range.location > buffer->size || range.length > buffer->size - range.location)
    return softmetal::report_misuse(softmetal::text(
        "IndirectCommandBuffer::reset: range starts at %zu and has %zu commands, needs to lie "
        "in the %zu of the buffer",
        static_cast<size_t>(range.location), static_cast<size_t>(range.length),
        static_cast<size_t>(buffer->size)));
  for (NS::UInteger i = 0; i < range.length; ++i) buffer->reset(range.location + i);
}
NS::UInteger IndirectCommandBuffer::size() const { return impl(this)->size; }

void IndirectComputeCommand::clearBarrier() { impl(this)->buffer->set_barrier(impl(this)->index, false); }
void IndirectComputeCommand::concurrentDispatchThreadgroups(MTL::Size threadgroupsPerGrid,
                                                            MTL::Size threadsPerThreadgroup) {
  impl(this)->buffer->set_dispatch(impl(this)->index, IndirectCommandTypeConcurrentDispatch,
                                   threadgroupsPerGrid, threadsPerThreadgroup);
}
void IndirectComputeCommand::concurrentDispatchThreads(MTL::Size threadsPerGrid,
                                                       MTL::Size threadsPerThreadgroup) {
  impl(this)->buffer->set_dispatch(impl(this)->index, IndirectCommandTypeConcurrentDispatchThreads,
                                   threadsPerGrid, threadsPerThreadgroup);
}
void IndirectComputeCommand::reset() { impl(this)->buffer->reset(impl(this)->index); }
void IndirectComputeCommand::setBarrier() { impl(this)->buffer->set_barrier(impl(this)->index, true); }
void IndirectComputeCommand::setComputePipelineState(const MTL::ComputePipelineState* pipelineState) {
  impl(this)->buffer->set_pipeline(impl(this)->index, impl(pipelineState));
}
void IndirectComputeCommand::setKernelBuffer(const MTL::Buffer* buffer, NS::UInteger offset,
                                             NS::UInteger index) {
  impl(this)->buffer->set_buffer(impl(this)->index, impl(buffer), offset, index);
}
void IndirectComputeCommand::setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index) {
  impl(this)->buffer->set_threadgroup_memory(impl(this)->index, length, index);
}

}  // namespace MTL
