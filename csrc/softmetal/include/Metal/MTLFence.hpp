#pragma once

#include "MTLDefines.hpp"

namespace MTL {

class Device;

class Fence : public NS::Referencing<Fence> {
 public:
  Device* device() const;
  NS::String* label() const;
  void setLabel(const NS::String* label);
};

}  // namespace MTL
