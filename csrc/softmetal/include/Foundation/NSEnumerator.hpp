#pragma once

#include "NSObject.hpp"

namespace softmetal {
void* next_object(void* enumerator);
void* all_objects(void* enumerator);
}  // namespace softmetal

namespace NS {

class FastEnumeration : public Referencing<FastEnumeration> {};

template <class _ObjectType>
class Enumerator : public Referencing<Enumerator<_ObjectType>, FastEnumeration> {
 public:
  _ObjectType* nextObject() { return static_cast<_ObjectType*>(softmetal::next_object(this)); }
  class Array* allObjects() { return static_cast<class Array*>(softmetal::all_objects(this)); }
};

}  // namespace NS
