#pragma once

#include "MTLResource.hpp"
#include "MTLTypes.hpp"

namespace MTL {

class Buffer : public NS::Referencing<Buffer, Resource> {
 public:
  // Null for private storage.
  void* contents();
  void didModifyRange(NS::Range range);
  GPUAddress gpuAddress() const;
  NS::UInteger length() const;
};

}  // namespace MTL
