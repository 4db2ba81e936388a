#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "NSObject.hpp"

namespace NS {

// Owns one reference of the object it points to.
template <class _Class>
class SharedPtr {
 public:
  SharedPtr() : m_pObject(nullptr) {}
  SharedPtr(std::nullptr_t) noexcept : m_pObject(nullptr) {}
  ~SharedPtr() { drop(m_pObject); }

  SharedPtr(const SharedPtr& other) noexcept : m_pObject(keep(other.m_pObject)) {}
  SharedPtr(SharedPtr&& other) noexcept : m_pObject(std::exchange(other.m_pObject, nullptr)) {}

  template <class _OtherClass>
  SharedPtr(const SharedPtr<_OtherClass>& other,
            typename std::enable_if_t<std::is_convertible_v<_OtherClass*, _Class*>>* = nullptr) noexcept
      : m_pObject(keep(other.get())) {}
  template <class _OtherClass>
  SharedPtr(SharedPtr<_OtherClass>&& other,
            typename std::enable_if_t<std::is_convertible_v<_OtherClass*, _Class*>>* = nullptr) noexcept
      : m_pObject(other.get()) {
    other.detach();
  }

  SharedPtr& operator=(const SharedPtr& other) {
    drop(std::exchange(m_pObject, keep(other.m_pObject)));
    return *this;
  }
  // Moving a pointer onto itself leaves it null, as with Apple's.
  SharedPtr& operator=(SharedPtr&& other) {
    drop(std::exchange(m_pObject, std::exchange(other.m_pObject, nullptr)));
    return *this;
  }
  template <class _OtherClass>
  typename std::enable_if_t<std::is_convertible_v<_OtherClass*, _Class*>, SharedPtr&> operator=(
      const SharedPtr<_OtherClass>& other) {
    drop(std::exchange(m_pObject, keep(other.get())));
    return *this;
  }
  template <class _OtherClass>
  typename std::enable_if_t<std::is_convertible_v<_OtherClass*, _Class*>, SharedPtr&> operator=(
      SharedPtr<_OtherClass>&& other) {
    _Class* taken = other.get();
    other.detach();
    drop(std::exchange(m_pObject, taken));
    return *this;
  }

  _Class* get() const { return m_pObject; }
  _Class* operator->() const { return m_pObject; }
  explicit operator bool() const { return m_pObject != nullptr; }

  void reset() { drop(std::exchange(m_pObject, nullptr)); }
  // Forgets the object without releasing it.
  void detach() { m_pObject = nullptr; }

  template <class _OtherClass>
  friend SharedPtr<_OtherClass> RetainPtr(_OtherClass* pObject);
  template <class _OtherClass>
  friend SharedPtr<_OtherClass> TransferPtr(_OtherClass* pObject);

 private:
  template <class _OtherClass>
  static _OtherClass* keep(_OtherClass* pObject) {
    return pObject ? pObject->retain() : nullptr;
  }
  static void drop(_Class* pObject) {
    if (pObject) pObject->release();
  }

  _Class* m_pObject;
};

// Adds a reference to an object that somebody else owns.
template <class _Class>
inline SharedPtr<_Class> RetainPtr(_Class* pObject) {
  SharedPtr<_Class> ret;
  ret.m_pObject = SharedPtr<_Class>::keep(pObject);
  return ret;
}

// Takes over the reference that new*, alloc or copy* gave to the caller.
template <class _Class>
inline SharedPtr<_Class> TransferPtr(_Class* pObject) {
  SharedPtr<_Class> ret;
  ret.m_pObject = pObject;
  return ret;
}

}  // namespace NS

// In no namespace, where Apple has them: a namespace with an operator of this name hides them.
template <class _ClassLhs, class _ClassRhs>
inline bool operator==(const NS::SharedPtr<_ClassLhs>& lhs, const NS::SharedPtr<_ClassRhs>& rhs) {
  return lhs.get() == rhs.get();
}

template <class _ClassLhs, class _ClassRhs>
inline bool operator!=(const NS::SharedPtr<_ClassLhs>& lhs, const NS::SharedPtr<_ClassRhs>& rhs) {
  return lhs.get() != rhs.get();
}
