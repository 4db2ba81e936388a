#pragma once

#include "MTLDefines.hpp"

namespace MTL {

class CommandBuffer;
class CommandBufferDescriptor;
class Device;
class ResidencySet;

class CommandQueue : public NS::Referencing<CommandQueue> {
 public:
  // What the sets hold when a command is encoded is resident for it.
  void addResidencySet(const MTL::ResidencySet* residencySet);
  void addResidencySets(const MTL::ResidencySet* const residencySets[], NS::UInteger count);
  // At the queue's limit of unfinished command buffers these block until one finishes. When none has
  // been committed (so that nothing could finish) and that stays so for two seconds, they return null.
  CommandBuffer* commandBuffer();
  CommandBuffer* commandBuffer(const MTL::CommandBufferDescriptor* descriptor);
  CommandBuffer* commandBufferWithUnretainedReferences();
  Device* device() const;
  NS::String* label() const;
  void removeResidencySet(const MTL::ResidencySet* residencySet);
  void removeResidencySets(const MTL::ResidencySet* const residencySets[], NS::UInteger count);
  void setLabel(const NS::String* label);
};

class CommandQueueDescriptor : public NS::Copying<CommandQueueDescriptor> {
 public:
  static CommandQueueDescriptor* alloc();
  CommandQueueDescriptor* init();
  NS::UInteger maxCommandBufferCount() const;
  void setMaxCommandBufferCount(NS::UInteger maxCommandBufferCount);
};

}  // namespace MTL
