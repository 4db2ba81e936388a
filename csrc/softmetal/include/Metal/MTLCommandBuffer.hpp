#pragma once

#include <cstdint>
#include <functional>

#include "MTLDefines.hpp"

namespace MTL {

class CommandBuffer;
class CommandQueue;
class ComputeCommandEncoder;
class ComputePassDescriptor;
class Device;
class Event;

_MTL_ENUM(NS::UInteger, CommandBufferStatus){
    CommandBufferStatusNotEnqueued = 0, CommandBufferStatusEnqueued = 1,  CommandBufferStatusCommitted = 2,
    CommandBufferStatusScheduled = 3,   CommandBufferStatusCompleted = 4, CommandBufferStatusError = 5,
};

_MTL_ENUM(NS::UInteger, CommandBufferError){
    CommandBufferErrorNone = 0,
    CommandBufferErrorInternal = 1,
    CommandBufferErrorTimeout = 2,
    CommandBufferErrorPageFault = 3,
    CommandBufferErrorBlacklisted = 4,
    CommandBufferErrorAccessRevoked = 4,
    CommandBufferErrorNotPermitted = 7,
    CommandBufferErrorOutOfMemory = 8,
    CommandBufferErrorInvalidResource = 9,
    CommandBufferErrorMemoryless = 10,
    CommandBufferErrorDeviceRemoved = 11,
    CommandBufferErrorStackOverflow = 12,
};

_MTL_ENUM(NS::UInteger, DispatchType){
    DispatchTypeSerial = 0,
    DispatchTypeConcurrent = 1,
};

_MTL_OPTIONS(NS::UInteger, CommandBufferErrorOption){
    CommandBufferErrorOptionNone = 0,
    CommandBufferErrorOptionEncoderExecutionStatus = 1,
};

_MTL_ENUM(NS::Integer, CommandEncoderErrorState){
    CommandEncoderErrorStateUnknown = 0,  CommandEncoderErrorStateCompleted = 1,
    CommandEncoderErrorStateAffected = 2, CommandEncoderErrorStatePending = 3,
    CommandEncoderErrorStateFaulted = 4,
};

// In the userInfo of a command buffer's error, where the error options asked for it: an array of
// CommandBufferEncoderInfo, one for each encoder in their order.
extern const NS::ErrorUserInfoKey CommandBufferEncoderInfoErrorKey;

using HandlerFunction = std::function<void(CommandBuffer*)>;

class CommandBufferDescriptor : public NS::Copying<CommandBufferDescriptor> {
 public:
  static CommandBufferDescriptor* alloc();
  CommandBufferErrorOption errorOptions() const;
  CommandBufferDescriptor* init();
  bool retainedReferences() const;
  void setErrorOptions(MTL::CommandBufferErrorOption errorOptions);
  void setRetainedReferences(bool retainedReferences);
};

class CommandBufferEncoderInfo : public NS::Referencing<CommandBufferEncoderInfo> {
 public:
  // Names of debug groups and signposts, as they were encoded.
  NS::Array* debugSignposts() const;
  CommandEncoderErrorState errorState() const;
  NS::String* label() const;
};

class CommandBuffer : public NS::Referencing<CommandBuffer> {
 public:
  // Seconds on one steady clock; zero until known.
  CFTimeInterval GPUEndTime() const;
  CFTimeInterval GPUStartTime() const;
  CFTimeInterval kernelEndTime() const;
  CFTimeInterval kernelStartTime() const;

  // Handlers run one after another on a thread of their own. waitUntilCompleted returns after them.
  void addCompletedHandler(const MTL::HandlerFunction& function);
  void addScheduledHandler(const MTL::HandlerFunction& function);

  CommandQueue* commandQueue() const;
  Device* device() const;

  ComputeCommandEncoder* computeCommandEncoder(const MTL::ComputePassDescriptor* computePassDescriptor);
  ComputeCommandEncoder* computeCommandEncoder();
  ComputeCommandEncoder* computeCommandEncoder(MTL::DispatchType dispatchType);

  void encodeSignalEvent(const MTL::Event* event, uint64_t value);
  void encodeWait(const MTL::Event* event, uint64_t value);

  void enqueue();
  void commit();
  void waitUntilCompleted();
  void waitUntilScheduled();

  // A command buffer that was misused or failed ends in CommandBufferStatusError; it runs no dispatch.
  NS::Error* error() const;
  CommandBufferErrorOption errorOptions() const;
  CommandBufferStatus status() const;
  bool retainedReferences() const;

  NS::String* label() const;
  void setLabel(const NS::String* label);
  void popDebugGroup();
  void pushDebugGroup(const NS::String* string);
};

}  // namespace MTL
