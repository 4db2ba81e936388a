#pragma once

#include "MTLCommandBuffer.hpp"
#include "MTLCounters.hpp"

namespace MTL {

// Where an encoder leaves the times of its begin and its end. Neither is taken unless an index is set.
class ComputePassSampleBufferAttachmentDescriptor
    : public NS::Copying<ComputePassSampleBufferAttachmentDescriptor> {
 public:
  static ComputePassSampleBufferAttachmentDescriptor* alloc();
  NS::UInteger endOfEncoderSampleIndex() const;
  ComputePassSampleBufferAttachmentDescriptor* init();
  CounterSampleBuffer* sampleBuffer() const;
  void setEndOfEncoderSampleIndex(NS::UInteger endOfEncoderSampleIndex);
  void setSampleBuffer(const MTL::CounterSampleBuffer* sampleBuffer);
  void setStartOfEncoderSampleIndex(NS::UInteger startOfEncoderSampleIndex);
  NS::UInteger startOfEncoderSampleIndex() const;
};

class ComputePassSampleBufferAttachmentDescriptorArray
    : public NS::Referencing<ComputePassSampleBufferAttachmentDescriptorArray> {
 public:
  static ComputePassSampleBufferAttachmentDescriptorArray* alloc();
  ComputePassSampleBufferAttachmentDescriptorArray* init();
  // There are four.
  ComputePassSampleBufferAttachmentDescriptor* object(NS::UInteger attachmentIndex);
  void setObject(const MTL::ComputePassSampleBufferAttachmentDescriptor* attachment,
                 NS::UInteger attachmentIndex);
};

class ComputePassDescriptor : public NS::Copying<ComputePassDescriptor> {
 public:
  static ComputePassDescriptor* alloc();
  static ComputePassDescriptor* computePassDescriptor();
  DispatchType dispatchType() const;
  ComputePassDescriptor* init();
  ComputePassSampleBufferAttachmentDescriptorArray* sampleBufferAttachments() const;
  void setDispatchType(MTL::DispatchType dispatchType);
};

}  // namespace MTL
