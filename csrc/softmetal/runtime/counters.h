// Samples of the clock at the begin and the end of encoders.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/device.h"
#include "softmetal/runtime/foundation.h"

namespace softmetal {

class CommandBuffer;
class ComputeEncoder;

// Apple's limit, 32 KiB of timestamps.
constexpr NS::UInteger kMaxSamples = 4096;
constexpr NS::UInteger kMaxSampleAttachments = 4;

class Counter final : public Object {
 public:
  explicit Counter(NS::String* counter_name) : name(impl(counter_name)) { make_immortal(); }
  const char* class_name() const override { return "MTL::Counter"; }
  const Ref<String> name;
};
SOFTMETAL_BRIDGE(MTL::Counter, Counter)

class CounterSet final : public Object {
 public:
  CounterSet(NS::String* set_name, NS::String* counter_name)
      : name(impl(set_name)), counter(Ref<Counter>::adopt(new Counter(counter_name))) {
    make_immortal();
  }
  const char* class_name() const override { return "MTL::CounterSet"; }

  // The only one.
  static CounterSet* timestamp();

  const Ref<String> name;
  const Ref<Counter> counter;
};
SOFTMETAL_BRIDGE(MTL::CounterSet, CounterSet)

class CounterSampleBufferDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::CounterSampleBufferDescriptor"; }
  Object* clone() override;

  Ref<CounterSet> set;
  std::string label;
  NS::UInteger count = 0;
  MTL::StorageMode storage = MTL::StorageModeShared;
};
SOFTMETAL_BRIDGE(MTL::CounterSampleBufferDescriptor, CounterSampleBufferDescriptor)

class CounterSampleBuffer final : public Object {
 public:
  CounterSampleBuffer(Device& owner, const CounterSampleBufferDescriptor& descriptor);
  const char* class_name() const override { return "MTL::CounterSampleBuffer"; }

  Device& device;
  const std::string label;
  const NS::UInteger count;
  const MTL::StorageMode storage;
  const std::unique_ptr<std::atomic<uint64_t>[]> samples;
};
SOFTMETAL_BRIDGE(MTL::CounterSampleBuffer, CounterSampleBuffer)

class SampleAttachment final : public Object {
 public:
  const char* class_name() const override { return "MTL::ComputePassSampleBufferAttachmentDescriptor"; }
  Object* clone() override;

  Ref<CounterSampleBuffer> buffer;
  NS::UInteger start = MTL::CounterDontSample, end = MTL::CounterDontSample;
};
SOFTMETAL_BRIDGE(MTL::ComputePassSampleBufferAttachmentDescriptor, SampleAttachment)

class SampleAttachments final : public Object {
 public:
  const char* class_name() const override { return "MTL::ComputePassSampleBufferAttachmentDescriptorArray"; }
  static bool valid(const char* call, NS::UInteger index);
  Ref<SampleAttachment> items[kMaxSampleAttachments];  // made when asked for
};
SOFTMETAL_BRIDGE(MTL::ComputePassSampleBufferAttachmentDescriptorArray, SampleAttachments)

class PassDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::ComputePassDescriptor"; }
  Object* clone() override;

  // Has `encoder`, just opened, take the samples that are asked for.
  void sample(CommandBuffer& buffer, ComputeEncoder& encoder) const;

  MTL::DispatchType type = MTL::DispatchTypeSerial;
  Ref<SampleAttachments> attachments;  // made when asked for
};
SOFTMETAL_BRIDGE(MTL::ComputePassDescriptor, PassDescriptor)

}  // namespace softmetal
