#pragma once

#include <cstdint>

#include "MTLDefines.hpp"

namespace MTL {

class Allocation;
class Device;

class ResidencySetDescriptor : public NS::Copying<ResidencySetDescriptor> {
 public:
  static ResidencySetDescriptor* alloc();
  ResidencySetDescriptor* init();
  NS::UInteger initialCapacity() const;
  NS::String* label() const;
  void setInitialCapacity(NS::UInteger initialCapacity);
  void setLabel(const NS::String* label);
};

// Memory is always resident here, but what commands need of a set is looked at as on a GPU.
class ResidencySet : public NS::Referencing<ResidencySet> {
 public:
  void addAllocation(const MTL::Allocation* allocation);
  void addAllocations(const MTL::Allocation* const allocations[], NS::UInteger count);
  NS::Array* allAllocations() const;
  uint64_t allocatedSize() const;
  NS::UInteger allocationCount() const;
  // What was added and removed before takes effect.
  void commit();
  bool containsAllocation(const MTL::Allocation* anAllocation);
  Device* device() const;
  void endResidency();
  NS::String* label() const;
  void removeAllAllocations();
  void removeAllocation(const MTL::Allocation* allocation);
  void removeAllocations(const MTL::Allocation* const allocations[], NS::UInteger count);
  void requestResidency();
};

}  // namespace MTL
