#include "metalloid/residency.h"

#include "metalloid/availability.h"

namespace metalloid {

Residency::Residency(MTL::Device* device, uint64_t budget) : budget_(budget) {
  // The GPU of a virtual machine answers to the call, and does not have it.
  if (!available(device, Feature::residency_sets) || !device->supportsFamily(MTL::GPUFamilyMetal3)) return;
  AutoreleaseScope scope;
  auto descriptor = NS::TransferPtr(MTL::ResidencySetDescriptor::alloc()->init());
  descriptor->setLabel(MTLSTR("metalloid"));
  NS::Error* error = nullptr;
  set_ = NS::TransferPtr(device->newResidencySet(descriptor.get(), &error));
}

void Residency::attach(MTL::CommandQueue* queue) {
  if (!set_) return;
  queue->addResidencySet(set_.get());
}

bool Residency::add(const MTL::Allocation* allocation, uint64_t bytes) {
  if (!set_) return false;
  std::lock_guard lock(mutex_);
  if (bytes > budget_ - used_) return false;
  used_ += bytes;
  set_->addAllocation(allocation);
  changed_.store(true, std::memory_order_release);
  return true;
}

void Residency::remove(std::span<const MTL::Allocation* const> allocations, uint64_t bytes) {
  if (!set_ || allocations.empty()) return;
  std::lock_guard lock(mutex_);
  used_ -= bytes;
  set_->removeAllocations(allocations.data(), allocations.size());
  set_->commit();
  changed_.store(false, std::memory_order_release);
}

void Residency::commit() {
  AutoreleaseScope scope;
  std::lock_guard lock(mutex_);
  // Not before it is done: who finds nothing to do relies on it.
  set_->commit();
  changed_.store(false, std::memory_order_release);
}

}  // namespace metalloid
