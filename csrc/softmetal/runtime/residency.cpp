#include "softmetal/runtime/residency.h"

#include <algorithm>

#include "softmetal/runtime/queue.h"

namespace softmetal {

Object* ResidencyDescriptor::clone() {
  auto* made = new ResidencyDescriptor;
  made->capacity = capacity;
  made->label = label;
  return made;
}

void ResidencySet::add(Allocation* allocation) {
  if (!allocation) return report_misuse("ResidencySet::addAllocation: allocation is null, needs one");
  std::lock_guard lock(mutex_);
  if (allocations_.emplace(allocation, Ref<Allocation>(allocation)).second) added_.push_back(allocation);
}

void ResidencySet::remove(Allocation* allocation) {
  std::lock_guard lock(mutex_);
  const auto found = allocations_.find(allocation);
  if (found == allocations_.end()) return;
  removed_.push_back(std::move(found->second));
  allocations_.erase(found);
}

void ResidencySet::clear() {
  std::lock_guard lock(mutex_);
  for (auto& [key, allocation] : allocations_) removed_.push_back(std::move(allocation));
  allocations_.clear();
}

void ResidencySet::commit() {
  std::vector<Ref<Allocation>> gone;  // when the lock has
  std::lock_guard lock(mutex_);
  for (const Ref<Allocation>& each : removed_) resident_.erase(each.get());
  // Some may have been removed again, and some of the removed added.
  for (const Allocation* each : added_)
    if (allocations_.count(each)) resident_.insert(each);
  added_.clear();
  gone.swap(removed_);
}

bool ResidencySet::contains(const Allocation* allocation) const {
  std::lock_guard lock(mutex_);
  return allocations_.count(allocation) != 0;
}

bool ResidencySet::is_resident(const Allocation* allocation) const {
  std::lock_guard lock(mutex_);
  return resident_.count(allocation) != 0;
}

std::vector<Ref<Allocation>> ResidencySet::all() const {
  std::lock_guard lock(mutex_);
  std::vector<Ref<Allocation>> all;
  for (const auto& [key, allocation] : allocations_) all.push_back(allocation);
  return all;
}

void Queue::add_residency(ResidencySet* set) {
  if (!set) return report_misuse("CommandQueue::addResidencySet: residencySet is null, needs one");
  std::lock_guard lock(residency_mutex_);
  const auto same = [set](const Ref<ResidencySet>& each) { return each.get() == set; };
  if (std::none_of(residency_.begin(), residency_.end(), same)) residency_.emplace_back(set);
}

void Queue::remove_residency(ResidencySet* set) {
  std::lock_guard lock(residency_mutex_);
  residency_.erase(std::remove_if(residency_.begin(), residency_.end(),
                                  [set](const Ref<ResidencySet>& each) { return each.get() == set; }),
                   residency_.end());
}

bool Queue::is_resident(const Allocation* allocation) const {
  std::lock_guard lock(residency_mutex_);
  return std::any_of(residency_.begin(), residency_.end(),
                     [&](const Ref<ResidencySet>& each) { return each->is_resident(allocation); });
}

}  // namespace softmetal

namespace MTL {

using softmetal::face;
using softmetal::impl;

ResidencySetDescriptor* ResidencySetDescriptor::alloc() { return face(new softmetal::ResidencyDescriptor); }
ResidencySetDescriptor* ResidencySetDescriptor::init() { return this; }
NS::UInteger ResidencySetDescriptor::initialCapacity() const { return impl(this)->capacity; }
NS::String* ResidencySetDescriptor::label() const { return softmetal::label_string(impl(this)->label); }
void ResidencySetDescriptor::setInitialCapacity(NS::UInteger initialCapacity) {
  impl(this)->capacity = initialCapacity;
}
void ResidencySetDescriptor::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }

ResidencySet* Device::newResidencySet(const MTL::ResidencySetDescriptor* desc, NS::Error** error) {
  if (desc) return face(new softmetal::ResidencySet(*impl(this), impl(desc)->label));
  return softmetal::fail(error, "MTLResidencySetErrorDomain", 1, "newResidencySet: desc is null, needs one");
}

void ResidencySet::addAllocation(const MTL::Allocation* allocation) {
  softmetal::needs_pool("addAllocation");
  impl(this)->add(impl(allocation));
}
void ResidencySet::addAllocations(const MTL::Allocation* const allocations[], NS::UInteger count) {
  for (NS::UInteger i = 0; i < count; ++i) impl(this)->add(impl(allocations[i]));
}
NS::Array* ResidencySet::allAllocations() const {
  auto* list = new softmetal::Array;
  for (const auto& each : impl(this)->all()) list->add(each.get());
  return face(softmetal::autoreleased(list));
}
uint64_t ResidencySet::allocatedSize() const {
  uint64_t bytes = 0;
  for (const auto& each : impl(this)->all()) bytes += each->allocated_size();
  return bytes;
}
NS::UInteger ResidencySet::allocationCount() const { return impl(this)->all().size(); }
void ResidencySet::commit() {
  softmetal::needs_pool("ResidencySet::commit");
  impl(this)->commit();
}
bool ResidencySet::containsAllocation(const MTL::Allocation* anAllocation) {
  return impl(this)->contains(impl(anAllocation));
}
Device* ResidencySet::device() const { return face(&impl(this)->device); }
void ResidencySet::endResidency() {}
NS::String* ResidencySet::label() const { return softmetal::label_string(impl(this)->label); }
void ResidencySet::removeAllAllocations() { impl(this)->clear(); }
void ResidencySet::removeAllocation(const MTL::Allocation* allocation) {
  impl(this)->remove(impl(allocation));
}
void ResidencySet::removeAllocations(const MTL::Allocation* const allocations[], NS::UInteger count) {
  softmetal::needs_pool("removeAllocations");
  for (NS::UInteger i = 0; i < count; ++i) impl(this)->remove(impl(allocations[i]));
}
void ResidencySet::requestResidency() {}

void CommandQueue::addResidencySet(const MTL::ResidencySet* residencySet) {
  impl(this)->add_residency(impl(residencySet));
}
void CommandQueue::addResidencySets(const MTL::ResidencySet* const residencySets[], NS::UInteger count) {
  for (NS::UInteger i = 0; i < count; ++i) addResidencySet(residencySets[i]);
}
void CommandQueue::removeResidencySet(const MTL::ResidencySet* residencySet) {
  impl(this)->remove_residency(impl(residencySet));
}
void CommandQueue::removeResidencySets(const MTL::ResidencySet* const residencySets[], NS::UInteger count) {
  for (NS::UInteger i = 0; i < count; ++i) removeResidencySet(residencySets[i]);
}

}  // namespace MTL
