#pragma once

#include <cstdint>

#include "MTLResource.hpp"

namespace MTL {

class Device;

using CommonCounter = NS::String*;
using CommonCounterSet = NS::String*;

static const NS::UInteger CounterErrorValue = static_cast<NS::UInteger>(~0ULL);
static const NS::UInteger CounterDontSample = static_cast<NS::UInteger>(-1);

_MTL_ENUM(NS::Integer, CounterSampleBufferError){
    CounterSampleBufferErrorOutOfMemory = 0,
    CounterSampleBufferErrorInvalid = 1,
    CounterSampleBufferErrorInternal = 2,
};

extern const CommonCounter CommonCounterTimestamp;
extern const CommonCounterSet CommonCounterSetTimestamp;
extern const NS::ErrorDomain CounterErrorDomain;

// Nanoseconds of the clock that Device::sampleTimestamps reads.
struct CounterResultTimestamp {
  std::uint64_t timestamp;
} _MTL_PACKED;

class Counter : public NS::Referencing<Counter> {
 public:
  NS::String* name() const;
};

class CounterSet : public NS::Referencing<CounterSet> {
 public:
  NS::Array* counters() const;
  NS::String* name() const;
};

class CounterSampleBufferDescriptor : public NS::Copying<CounterSampleBufferDescriptor> {
 public:
  static CounterSampleBufferDescriptor* alloc();
  CounterSet* counterSet() const;
  CounterSampleBufferDescriptor* init();
  NS::String* label() const;
  NS::UInteger sampleCount() const;
  void setCounterSet(const MTL::CounterSet* counterSet);
  void setLabel(const NS::String* label);
  void setSampleCount(NS::UInteger sampleCount);
  void setStorageMode(MTL::StorageMode storageMode);
  StorageMode storageMode() const;
};

class CounterSampleBuffer : public NS::Referencing<CounterSampleBuffer> {
 public:
  Device* device() const;
  NS::String* label() const;
  // A CounterResultTimestamp for each sample of the range; those never taken are CounterErrorValue.
  NS::Data* resolveCounterRange(NS::Range range);
  NS::UInteger sampleCount() const;
};

}  // namespace MTL
