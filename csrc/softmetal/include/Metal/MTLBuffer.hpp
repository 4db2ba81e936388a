#pragma once

#include "MTLResource.hpp"
#include "MTLTypes.hpp"

namespace MTL {

class Buffer : public NS::Referencing<Buffer, Resource> {
 public:
  // A marker tells the checks of a setBuffer that follows on the same thread, with range.location as offset,
  // that the kernel is to touch only the range.
  void addDebugMarker(const NS::String* marker, NS::Range range);
  // Null for private storage.
  void* contents();
  void didModifyRange(NS::Range range);
  GPUAddress gpuAddress() const;
  NS::UInteger length() const;
  void removeAllDebugMarkers();
};

}  // namespace MTL
