#pragma once

#include "MTLResource.hpp"
#include "MTLTypes.hpp"

namespace MTL {

class Device;
class Function;

class ComputePipelineReflection : public NS::Referencing<ComputePipelineReflection> {
 public:
  NS::Array* arguments() const;
  NS::Array* bindings() const;
};

class ComputePipelineDescriptor : public NS::Copying<ComputePipelineDescriptor> {
 public:
  static ComputePipelineDescriptor* alloc();
  NS::Array* binaryArchives() const;
  Function* computeFunction() const;
  ComputePipelineDescriptor* init();
  NS::String* label() const;
  NS::UInteger maxTotalThreadsPerThreadgroup() const;
  void reset();
  void setBinaryArchives(const NS::Array* binaryArchives);
  void setComputeFunction(const MTL::Function* computeFunction);
  void setLabel(const NS::String* label);
  void setMaxTotalThreadsPerThreadgroup(NS::UInteger maxTotalThreadsPerThreadgroup);
  void setSupportIndirectCommandBuffers(bool supportIndirectCommandBuffers);
  void setThreadGroupSizeIsMultipleOfThreadExecutionWidth(
      bool threadGroupSizeIsMultipleOfThreadExecutionWidth);
  bool supportIndirectCommandBuffers() const;
  bool threadGroupSizeIsMultipleOfThreadExecutionWidth() const;
};

class ComputePipelineState : public NS::Referencing<ComputePipelineState, Allocation> {
 public:
  Device* device() const;
  NS::String* label() const;
  NS::UInteger maxTotalThreadsPerThreadgroup() const;
  ComputePipelineReflection* reflection() const;
  NS::UInteger staticThreadgroupMemoryLength() const;
  // False where the device has no indirect command buffers.
  bool supportIndirectCommandBuffers() const;
  NS::UInteger threadExecutionWidth() const;
};

}  // namespace MTL
