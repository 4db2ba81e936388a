#pragma once

#include "NSEnumerator.hpp"
#include "NSObject.hpp"

namespace NS {

class Array : public Copying<Array> {
 public:
  static Array* array();
  static Array* array(const Object* pObject);
  static Array* array(const Object* const* pObjects, UInteger count);
  static Array* alloc();

  Array* init();
  Array* init(const Object* const* pObjects, UInteger count);

  template <class _Object = Object>
  _Object* object(UInteger index) const {
    return static_cast<_Object*>(objectAt(index));
  }
  UInteger count() const;
  Enumerator<Object>* objectEnumerator() const;

 private:
  void* objectAt(UInteger index) const;
};

}  // namespace NS
