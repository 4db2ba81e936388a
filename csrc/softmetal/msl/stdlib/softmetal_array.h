// <metal_array>, assert, and the bulk stores for shaders that know where they run.
#pragma once

#include "softmetal_math.h"
#include "softmetal_rows.h"

// MSL has assert, and evaluates nothing in it.
#ifndef assert
#define assert(condition) ((void)0)
#endif

namespace metal {

template <class T, size_t N>
struct array {
  T elements[N];

  constexpr SOFTMETAL_INLINE T& operator[](size_t i) { return elements[i]; }
  constexpr SOFTMETAL_INLINE const T& operator[](size_t i) const { return elements[i]; }
  static constexpr SOFTMETAL_INLINE size_t size() { return N; }
  static constexpr SOFTMETAL_INLINE bool empty() { return N == 0; }
  constexpr SOFTMETAL_INLINE T& front() { return elements[0]; }
  constexpr SOFTMETAL_INLINE const T& front() const { return elements[0]; }
  constexpr SOFTMETAL_INLINE T& back() { return elements[N - 1]; }
  constexpr SOFTMETAL_INLINE const T& back() const { return elements[N - 1]; }
  constexpr SOFTMETAL_INLINE T* data() { return elements; }
  constexpr SOFTMETAL_INLINE const T* data() const { return elements; }
  constexpr SOFTMETAL_INLINE T* begin() { return elements; }
  constexpr SOFTMETAL_INLINE const T* begin() const { return elements; }
  constexpr SOFTMETAL_INLINE T* end() { return elements + N; }
  constexpr SOFTMETAL_INLINE const T* end() const { return elements + N; }
  constexpr SOFTMETAL_INLINE void fill(const T& value) {
    for (T& element : elements) element = value;
  }
};
template <class T, size_t N>
constexpr SOFTMETAL_INLINE bool operator==(const array<T, N>& a, const array<T, N>& b) {
  for (size_t i = 0; i < N; i++) {
    if (!all(a[i] == b[i])) return false;
  }
  return true;
}
template <class T, size_t N>
constexpr SOFTMETAL_INLINE bool operator!=(const array<T, N>& a, const array<T, N>& b) {
  return !(a == b);
}

}  // namespace metal
