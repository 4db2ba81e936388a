#pragma once

#include "MTLDefines.hpp"
#include "MTLTypes.hpp"

namespace MTL {

class Buffer;
class ComputePipelineState;

// One command of an indirect command buffer. What is wrong with it fails the command buffer that executes it.
class IndirectComputeCommand : public NS::Referencing<IndirectComputeCommand> {
 public:
  void clearBarrier();
  void concurrentDispatchThreadgroups(MTL::Size threadgroupsPerGrid, MTL::Size threadsPerThreadgroup);
  void concurrentDispatchThreads(MTL::Size threadsPerGrid, MTL::Size threadsPerThreadgroup);
  void reset();
  // The command waits for all those before it.
  void setBarrier();
  void setComputePipelineState(const MTL::ComputePipelineState* pipelineState);
  void setKernelBuffer(const MTL::Buffer* buffer, NS::UInteger offset, NS::UInteger index);
  void setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index);
};

}  // namespace MTL
