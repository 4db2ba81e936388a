#pragma once

#include <cstdint>

#include "MTLCommandBuffer.hpp"
#include "MTLCommandEncoder.hpp"
#include "MTLTypes.hpp"

namespace MTL {

class Buffer;
class ComputePipelineState;
class Fence;
class IndirectCommandBuffer;
class Resource;

struct DispatchThreadgroupsIndirectArguments {
  uint32_t threadgroupsPerGrid[3];
} _MTL_PACKED;

class ComputeCommandEncoder : public NS::Referencing<ComputeCommandEncoder, CommandEncoder> {
 public:
  // A grid with no threads is allowed and runs nothing.
  void dispatchThreadgroups(MTL::Size threadgroupsPerGrid, MTL::Size threadsPerThreadgroup);
  void dispatchThreadgroups(const MTL::Buffer* indirectBuffer, NS::UInteger indirectBufferOffset,
                            MTL::Size threadsPerThreadgroup);
  void dispatchThreads(MTL::Size threadsPerGrid, MTL::Size threadsPerThreadgroup);
  DispatchType dispatchType() const;
  // The commands are taken as they are at this moment. They overlap but for their barriers; what is before
  // the range and what is after it are ordered as dispatches are.
  void executeCommandsInBuffer(const MTL::IndirectCommandBuffer* indirectCommandBuffer,
                               NS::Range executionRange);
  void memoryBarrier(MTL::BarrierScope scope);
  void memoryBarrier(const MTL::Resource* const resources[], NS::UInteger count);
  void setBuffer(const MTL::Buffer* buffer, NS::UInteger offset, NS::UInteger index);
  void setBufferOffset(NS::UInteger offset, NS::UInteger index);
  void setBuffers(const MTL::Buffer* const buffers[], const NS::UInteger offsets[], NS::Range range);
  void setBytes(const void* bytes, NS::UInteger length, NS::UInteger index);
  void setComputePipelineState(const MTL::ComputePipelineState* state);
  void setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index);
  void updateFence(const MTL::Fence* fence);
  void useResource(const MTL::Resource* resource, MTL::ResourceUsage usage);
  void useResources(const MTL::Resource* const resources[], NS::UInteger count, MTL::ResourceUsage usage);
  void waitForFence(const MTL::Fence* fence);
};

}  // namespace MTL
