#pragma once

#include <cstdarg>
#include <string>
#include <vector>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/arguments.h"
#include "softmetal/runtime/queue.h"

namespace softmetal {

class IndirectBuffer;

// Checks every call as Metal's API validation does, and records dispatches.
class ComputeEncoder final : public Object {
 public:
  ComputeEncoder(CommandBuffer& owner, MTL::DispatchType type)
      : buffer(&owner), dispatch_type(type), checks_(owner.queue->device.executor.checks()) {}
  ~ComputeEncoder() override;
  const char* class_name() const override { return "MTL::ComputeCommandEncoder"; }
  std::string describe() const override;

  void set_pipeline(Pipeline* state);
  void set_buffer(const char* call, Buffer* bound, NS::UInteger offset, NS::UInteger index);
  void set_buffer_offset(NS::UInteger offset, NS::UInteger index);
  void set_bytes(const void* bytes, NS::UInteger length, NS::UInteger index);
  void set_threadgroup_memory(NS::UInteger length, NS::UInteger index);
  void use(const char* call, Resource* resource, MTL::ResourceUsage usage);
  void memory_barrier(MTL::BarrierScope scope);
  void memory_barrier(const MTL::Resource* const* resources, NS::UInteger count);
  void fence(const char* call, Fence* fence, bool waits);
  // References, as sizes are passed in memory and copying them there would wait for it.
  void dispatch_threads(const MTL::Size& threads, const MTL::Size& threadgroup);
  void dispatch_threadgroups(const MTL::Size& groups, const MTL::Size& threadgroup);
  void dispatch_indirect(Buffer* arguments, NS::UInteger offset, MTL::Size threadgroup);
  void execute(IndirectBuffer* commands, NS::Range range);
  void set_label(const NS::String* name);
  void push_group(const char* call, const NS::String* name);
  void pop_group();
  void end();

  const Ref<CommandBuffer> buffer;
  const MTL::DispatchType dispatch_type;
  std::string label;
  EncoderInfo* info = nullptr;           // the command buffer's
  SampleCommand* end_samples = nullptr;  // to be taken when all of it has ended, a list

 private:
  bool usable(const char* call) {
    if (!ended_ && buffer->recording &&
        buffer->status.load(std::memory_order_relaxed) < MTL::CommandBufferStatusCommitted)
      return true;
    refuse(call);
    return false;
  }
  void refuse(const char* call);
  __attribute__((format(printf, 3, 4))) void fail(const char* call, const char* format, ...);
  void fail(const char* call, const std::string& problem);
  bool valid_index(const char* call, NS::UInteger index);
  void retain(Resource* resource) {
    if (resource->retained_by.load(std::memory_order_relaxed) != buffer->id) hold(resource);
  }
  void hold(Resource* resource);
  Dispatch* begin_dispatch(const char* call, const MTL::Size& threadgroup);
  bool bind(const char* call);
  bool bind_threadgroup_memory(const char* call);
  void estimate(const Dispatch& dispatch);
  void record(Dispatch& dispatch);
  void note_info(Dispatch& dispatch);
  void note_place(Dispatch& dispatch);
  std::string group() const;

  const bool checks_;  // the executor looks at what dispatches are bound to
  Pipeline* pipeline_ = nullptr;
  uint32_t bound_ = 0;  // bit i: slots_[i] is valid
  bool ended_ = false;
  bool barrier_ = true;  // the next dispatch waits for those before it
  bool arguments_changed_ = true;
  bool threadgroup_changed_ = true;
  // The arguments as the last dispatch got them; shared by the next if nothing was bound in between.
  void** addresses_ = nullptr;
  uint64_t* bytes_ = nullptr;
  BoundBuffer* bindings_ = nullptr;
  uint64_t bound_bytes_ = 0;
  uint32_t* threadgroup_offsets_ = nullptr;
  uint32_t* threadgroup_bytes_ = nullptr;
  uint32_t threadgroup_total_ = 0;
  std::vector<std::string> groups_;
  std::vector<const Resource*> used_;  // where that is validated
  Slot slots_[SOFTMETAL_MAX_BUFFERS];
  uint32_t threadgroup_lengths_[SOFTMETAL_MAX_BUFFERS] = {};
};
SOFTMETAL_BRIDGE(MTL::ComputeCommandEncoder, ComputeEncoder)
SOFTMETAL_IMPL(MTL::CommandEncoder, ComputeEncoder)

}  // namespace softmetal
