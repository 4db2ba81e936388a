#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
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
  std::map<const Allocation*, Ref<Allocation>> allocations_;
  std::set<const Allocation*> resident_;
  std::vector<Ref<Allocation>> removed_;  // and resident until the next commit
};
SOFTMETAL_BRIDGE(MTL::ResidencySet, ResidencySet)

}  // namespace softmetal
