#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/arguments.h"
#include "softmetal/runtime/command.h"
#include "softmetal/runtime/device.h"
#include "softmetal/runtime/library.h"

namespace softmetal {

class IndirectDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::IndirectCommandBufferDescriptor"; }
  Object* clone() override;

  MTL::IndirectCommandType types = 0;
  bool inherit_buffers = true;
  bool inherit_pipeline = true;
  NS::UInteger max_buffers = 0;
  NS::UInteger max_threadgroup_memory = 0;
};
SOFTMETAL_BRIDGE(MTL::IndirectCommandBufferDescriptor, IndirectDescriptor)

// Keeps what its commands refer to, and for each a dispatch that encoders need but to copy.
class IndirectBuffer final : public Resource {
 public:
  static IndirectBuffer* create(Device& device, const IndirectDescriptor* descriptor, NS::UInteger count,
                                MTL::ResourceOptions options);
  ~IndirectBuffer() override;
  const char* class_name() const override { return "MTL::IndirectCommandBuffer"; }
  NS::UInteger allocated_size() const override { return size * sizeof(Dispatch); }

  void set_pipeline(size_t index, Pipeline* state);
  void set_buffer(size_t index, Buffer* bound, NS::UInteger offset, NS::UInteger at);
  void set_threadgroup_memory(size_t index, NS::UInteger length, NS::UInteger at);
  void set_dispatch(size_t index, MTL::IndirectCommandType type, MTL::Size grid, MTL::Size threadgroup);
  void set_barrier(size_t index, bool barrier);
  void reset(size_t index);

  // The dispatches of the range, without a pipeline where a command is empty; null and what is wrong with one
  // of them. `recording`, of the command buffer with that id, holds what they point to.
  const Dispatch* prepare(NS::Range range, Recording& recording, uint64_t command_buffer,
                          std::string* problem);
  // The same where encoders give something to the commands.
  bool inherits() const { return inherit_buffers_ || inherit_pipeline_; }
  const Dispatch* inherit(NS::Range range, const Pipeline* pipeline, const Slot* slots, uint32_t bound,
                          Recording& recording, std::string* problem);

  // Says which buffer of the commands in the range is not resident; empty if all are.
  std::string first_not(const std::function<bool(const Buffer*)>& resident, NS::Range range) const;

  const NS::UInteger size;

 private:
  // What was set. Most commands of a large buffer may never be used, so these are made when they are.
  struct Command {
    MTL::IndirectCommandType type = 0;  // 0: empty
    bool barrier = false;
    bool changed = false;  // since it was prepared
    MTL::Size grid{0, 0, 0}, threadgroup{0, 0, 0};
    Ref<Pipeline> pipeline;
    uint32_t bound = 0;
    Slot slots[SOFTMETAL_MAX_BUFFERS];
    Ref<Buffer> buffers[SOFTMETAL_MAX_BUFFERS];
    uint32_t memory[SOFTMETAL_MAX_BUFFERS] = {};
    std::string misuse;  // the first one
    char* lists = nullptr;
    size_t lists_bytes = 0;
  };

  // What prepared dispatches point to. Command buffers that execute them hold it, and while they do nothing
  // in it is written again.
  class Lists final : public Object {
   public:
    const char* class_name() const override { return "MTL::IndirectCommandBuffer"; }
    Arena arena;
    std::vector<Ref<Object>> replaced;     // what commands referred to before they were changed
    size_t live_bytes = 0, old_bytes = 0;  // of the arena; what was replaced counts as old
    uint64_t held_by = 0;                  // the command buffer that has taken a reference last
  };

  IndirectBuffer(Device& owner, const IndirectDescriptor& descriptor, NS::UInteger count,
                 MTL::ResourceOptions resource_options, Dispatch* memory);
  Command& change(size_t index);
  void misuse(Command& command, const char* call, const std::string& problem);
  template <class T>
  void replace(Ref<T>& reference, T* by);
  void place_lists(Command& command, const Pipeline& pipeline);
  bool build(const Command& command, const Pipeline* pipeline, const Slot* slots, uint32_t bound, char* lists,
             Dispatch& dispatch, std::string* problem) const;

  const MTL::IndirectCommandType types_;
  const bool inherit_buffers_, inherit_pipeline_;
  const NS::UInteger max_buffers_, max_threadgroup_memory_;
  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<uint32_t> changed_;
  Dispatch* const dispatches_;
  Ref<Lists> lists_ = Ref<Lists>::adopt(new Lists);
};
SOFTMETAL_BRIDGE(MTL::IndirectCommandBuffer, IndirectBuffer)

// Names a command for as long as somebody wants to change it.
class IndirectCommand final : public Object {
 public:
  IndirectCommand(IndirectBuffer& owner, size_t place) : buffer(&owner), index(place) {}
  const char* class_name() const override { return "MTL::IndirectComputeCommand"; }
  const Ref<IndirectBuffer> buffer;
  const size_t index;
};
SOFTMETAL_BRIDGE(MTL::IndirectComputeCommand, IndirectCommand)

}  // namespace softmetal
