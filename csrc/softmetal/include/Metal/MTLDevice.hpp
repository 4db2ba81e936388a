#pragma once

#include <cstdint>
#include <functional>

#include "MTLComputePipeline.hpp"
#include "MTLResource.hpp"
#include "MTLTypes.hpp"

namespace MTL {

class BinaryArchive;
class BinaryArchiveDescriptor;
class Buffer;
class CommandQueue;
class CommandQueueDescriptor;
class CompileOptions;
class CounterSampleBuffer;
class CounterSampleBufferDescriptor;
class Event;
class Fence;
class IndirectCommandBuffer;
class IndirectCommandBufferDescriptor;
class Library;
class ResidencySet;
class ResidencySetDescriptor;
class SharedEvent;

_MTL_ENUM(NS::Integer, GPUFamily){
    GPUFamilyApple1 = 1001,       GPUFamilyApple2 = 1002,       GPUFamilyApple3 = 1003,
    GPUFamilyApple4 = 1004,       GPUFamilyApple5 = 1005,       GPUFamilyApple6 = 1006,
    GPUFamilyApple7 = 1007,       GPUFamilyApple8 = 1008,       GPUFamilyApple9 = 1009,
    GPUFamilyApple10 = 1010,      GPUFamilyMac1 = 2001,         GPUFamilyMac2 = 2002,
    GPUFamilyCommon1 = 3001,      GPUFamilyCommon2 = 3002,      GPUFamilyCommon3 = 3003,
    GPUFamilyMacCatalyst1 = 4001, GPUFamilyMacCatalyst2 = 4002, GPUFamilyMetal3 = 5001,
    GPUFamilyMetal4 = 5002,
};

_MTL_ENUM(NS::UInteger, DeviceLocation){
    DeviceLocationBuiltIn = 0,
    DeviceLocationSlot = 1,
    DeviceLocationExternal = 2,
    DeviceLocationUnspecified = NS::UIntegerMax,
};

_MTL_OPTIONS(NS::UInteger, PipelineOption){
    PipelineOptionNone = 0,
    PipelineOptionArgumentInfo = 1,
    PipelineOptionBindingInfo = 1,
    PipelineOptionBufferTypeInfo = 1 << 1,
    PipelineOptionFailOnBinaryArchiveMiss = 1 << 2,
};

_MTL_ENUM(NS::UInteger, CounterSamplingPoint){
    CounterSamplingPointAtStageBoundary = 0,    CounterSamplingPointAtDrawBoundary = 1,
    CounterSamplingPointAtDispatchBoundary = 2, CounterSamplingPointAtTileDispatchBoundary = 3,
    CounterSamplingPointAtBlitBoundary = 4,
};

using AutoreleasedComputePipelineReflection = MTL::ComputePipelineReflection*;
using Timestamp = std::uint64_t;
using NewLibraryCompletionHandlerFunction = std::function<void(MTL::Library*, NS::Error*)>;

class Architecture : public NS::Copying<Architecture> {
 public:
  NS::String* name() const;
};

class Device : public NS::Referencing<Device> {
 public:
  // Named after the instruction set that newLibrary picks, e.g. "x86-64-v4".
  Architecture* architecture() const;
  NS::Array* counterSets() const;
  NS::UInteger currentAllocatedSize() const;
  bool hasUnifiedMemory() const;
  bool isHeadless() const;
  bool isLowPower() const;
  bool isRemovable() const;
  DeviceLocation location() const;
  NS::UInteger maxBufferLength() const;
  NS::UInteger maxThreadgroupMemoryLength() const;
  Size maxThreadsPerThreadgroup() const;
  // None: what a pipeline runs was compiled with its library.
  NS::UInteger maximumConcurrentCompilationTaskCount() const;
  NS::String* name() const;

  BinaryArchive* newBinaryArchive(const MTL::BinaryArchiveDescriptor* descriptor, NS::Error** error);
  Buffer* newBuffer(NS::UInteger length, MTL::ResourceOptions options);
  Buffer* newBuffer(const void* pointer, NS::UInteger length, MTL::ResourceOptions options);
  // Shares the caller's memory; null unless address and length are multiples of the page size.
  // Apple's deallocator is a block: code for both platforms passes nullptr and keeps the memory alive itself.
  Buffer* newBuffer(const void* pointer, NS::UInteger length, MTL::ResourceOptions options,
                    const std::function<void(void*, NS::UInteger)>& deallocator);

  CommandQueue* newCommandQueue();
  CommandQueue* newCommandQueue(NS::UInteger maxCommandBufferCount);
  CommandQueue* newCommandQueue(const MTL::CommandQueueDescriptor* descriptor);

  ComputePipelineState* newComputePipelineState(const MTL::Function* computeFunction, NS::Error** error);
  ComputePipelineState* newComputePipelineState(const MTL::Function* computeFunction,
                                                MTL::PipelineOption options,
                                                const MTL::AutoreleasedComputePipelineReflection* reflection,
                                                NS::Error** error);
  ComputePipelineState* newComputePipelineState(const MTL::ComputePipelineDescriptor* descriptor,
                                                MTL::PipelineOption options,
                                                const MTL::AutoreleasedComputePipelineReflection* reflection,
                                                NS::Error** error);

  CounterSampleBuffer* newCounterSampleBuffer(const MTL::CounterSampleBufferDescriptor* descriptor,
                                              NS::Error** error);

  Event* newEvent();
  Fence* newFence();
  // Null on devices that check kernels: these need to be told of every dispatch by itself.
  IndirectCommandBuffer* newIndirectCommandBuffer(const MTL::IndirectCommandBufferDescriptor* descriptor,
                                                  NS::UInteger maxCount, MTL::ResourceOptions options);
  SharedEvent* newSharedEvent();

  // A compiled library: the directory that holds one shared object per instruction set, or one of them.
  Library* newLibrary(const NS::String* filepath, NS::Error** error);
  Library* newLibrary(const NS::URL* url, NS::Error** error);
  // Compiles Metal source, or loads what it was compiled to before. The error's description is the
  // compiler's log.
  Library* newLibrary(const NS::String* source, const MTL::CompileOptions* options, NS::Error** error);
  // The same on a thread of its own. The handler has to retain the library to keep it.
  void newLibrary(const NS::String* pSource, const MTL::CompileOptions* pOptions,
                  const MTL::NewLibraryCompletionHandlerFunction& completionHandler);

  ResidencySet* newResidencySet(const MTL::ResidencySetDescriptor* desc, NS::Error** error);

  uint64_t recommendedMaxWorkingSetSize() const;
  uint64_t registryID() const;
  void sampleTimestamps(MTL::Timestamp* cpuTimestamp, MTL::Timestamp* gpuTimestamp);
  // Only at the begin and the end of encoders: ComputePassDescriptor::sampleBufferAttachments.
  bool supportsCounterSampling(MTL::CounterSamplingPoint samplingPoint);
  bool supportsFamily(MTL::GPUFamily gpuFamily);
};

Device* CreateSystemDefaultDevice();
NS::Array* CopyAllDevices();

}  // namespace MTL
