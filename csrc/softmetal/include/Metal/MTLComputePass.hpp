#pragma once

#include "MTLCommandBuffer.hpp"

namespace MTL {

class ComputePassDescriptor : public NS::Copying<ComputePassDescriptor> {
 public:
  static ComputePassDescriptor* alloc();
  static ComputePassDescriptor* computePassDescriptor();
  DispatchType dispatchType() const;
  ComputePassDescriptor* init();
  void setDispatchType(MTL::DispatchType dispatchType);
};

}  // namespace MTL
