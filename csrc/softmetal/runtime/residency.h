#pragma once

#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/device.h"

namespace softmetal {

class ResidencyDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::ResidencySetDescriptor"; }
  Object* clone() override;
  NS::UInteger capacity = 0;
  std::string label;
};
SOFTMETAL_BRIDGE(MTL::ResidencySetDescriptor, ResidencyDescriptor)

class ResidencySet final : public Object {
 public:
  ResidencySet(Device& owner, std::string name) : device(owner), label(std::move(name)) {}
  const char* class_name() const override { return "MTL::ResidencySet"; }

  void add(Allocation* allocation);
  void remove(Allocation* allocation);
  void clear();
  void commit();
  bool contains(const Allocation* allocation) const;  // committed or not
  bool is_resident(const Allocation* allocation) const;
  std::vector<Ref<Allocation>> all() const;

  Device& device;
  const std::string label;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<const Allocation*, Ref<Allocation>> allocations_;
  std::unordered_set<const Allocation*> resident_;
  // Since the last commit. What was removed is resident until the next.
  std::vector<const Allocation*> added_;
  std::vector<Ref<Allocation>> removed_;
};
SOFTMETAL_BRIDGE(MTL::ResidencySet, ResidencySet)

}  // namespace softmetal
