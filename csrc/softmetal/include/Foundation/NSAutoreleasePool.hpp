#pragma once

#include "NSObject.hpp"

namespace NS {

// Pools nest per thread. Without any, autoreleased objects live until their thread ends.
class AutoreleasePool : public Object {
 public:
  static AutoreleasePool* alloc();
  AutoreleasePool* init();
  void drain();
  void addObject(Object* pObject);
};

}  // namespace NS
