#pragma once

#include <cstdint>

#include "MTLResource.hpp"

namespace MTL {

class IndirectComputeCommand;

_MTL_OPTIONS(NS::UInteger, IndirectCommandType){
    IndirectCommandTypeDraw = 1,
    IndirectCommandTypeDrawIndexed = 1 << 1,
    IndirectCommandTypeDrawPatches = 1 << 2,
    IndirectCommandTypeDrawIndexedPatches = 1 << 3,
    IndirectCommandTypeConcurrentDispatch = 1 << 5,
    IndirectCommandTypeConcurrentDispatchThreads = 1 << 6,
    IndirectCommandTypeDrawMeshThreadgroups = 1 << 7,
    IndirectCommandTypeDrawMeshThreads = 1 << 8,
};

struct IndirectCommandBufferExecutionRange {
  uint32_t location;
  uint32_t length;
} _MTL_PACKED;

class IndirectCommandBufferDescriptor : public NS::Copying<IndirectCommandBufferDescriptor> {
 public:
  static IndirectCommandBufferDescriptor* alloc();
  IndirectCommandType commandTypes() const;
  bool inheritBuffers() const;
  bool inheritPipelineState() const;
  IndirectCommandBufferDescriptor* init();
  NS::UInteger maxKernelBufferBindCount() const;
  NS::UInteger maxKernelThreadgroupMemoryBindCount() const;
  void setCommandTypes(MTL::IndirectCommandType commandTypes);
  void setInheritBuffers(bool inheritBuffers);
  void setInheritPipelineState(bool inheritPipelineState);
  void setMaxKernelBufferBindCount(NS::UInteger maxKernelBufferBindCount);
  void setMaxKernelThreadgroupMemoryBindCount(NS::UInteger maxKernelThreadgroupMemoryBindCount);
};

// May be changed while command buffers that execute it run: they keep the commands as they were.
class IndirectCommandBuffer : public NS::Referencing<IndirectCommandBuffer, Resource> {
 public:
  // Null outside the buffer.
  IndirectComputeCommand* indirectComputeCommand(NS::UInteger commandIndex);
  void reset(NS::Range range);
  NS::UInteger size() const;
};

}  // namespace MTL
