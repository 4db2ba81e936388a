#pragma once

#include <type_traits>

#include "NSTypes.hpp"

// What stands behind every pointer of the NS and MTL classes. The classes
// themselves are opaque: they can be neither built, copied nor deleted, only retained and released.
struct softmetal_object {};

namespace softmetal {
void retain(const void* object);
void release(const void* object);
void autorelease(const void* object);
NS::UInteger retain_count(const void* object);
void* copy(const void* object);
}  // namespace softmetal

namespace NS {

template <class _Class, class _Base = class Object>
class Referencing : public _Base {
 public:
  _Class* retain() {
    softmetal::retain(this);
    return static_cast<_Class*>(this);
  }
  void release() { softmetal::release(this); }
  _Class* autorelease() {
    softmetal::autorelease(this);
    return static_cast<_Class*>(this);
  }
  UInteger retainCount() const { return softmetal::retain_count(this); }
};

template <class _Class, class _Base = class Object>
class Copying : public Referencing<_Class, _Base> {
 public:
  _Class* copy() const { return static_cast<_Class*>(softmetal::copy(this)); }
};

class Object : public Referencing<Object, softmetal_object> {
 public:
  UInteger hash() const;
  bool isEqual(const Object* pObject) const;
  class String* description() const;
  class String* debugDescription() const;

 private:
  Object() = delete;
  Object(const Object&) = delete;
  ~Object() = delete;
  Object& operator=(const Object&) = delete;
};

}  // namespace NS
