// <metal_array>, assert, and the bulk stores for shaders that know where they run.
#pragma once

#include "softmetal_rows.h"
#include "softmetal_vector.h"

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
};

}  // namespace metal

namespace softmetal {

// Writes 16, 32 or 64 bytes past the caches where p's alignment allows, plainly otherwise.
template <class T, unsigned N>
SOFTMETAL_INLINE void stream_store(T* p, const T (&v)[N]) {
  constexpr unsigned bytes = N * sizeof(T);
  static_assert(bytes == 16 || bytes == 32 || bytes == 64, "stream_store writes 16, 32 or 64 bytes");
  char* target = reinterpret_cast<char*>(p);
  const char* source = reinterpret_cast<const char*>(v);
  const uintptr_t skew = reinterpret_cast<uintptr_t>(p) & (bytes - 1);
  if (bytes == 64 && skew == 0) {
    detail::stream64(target, source);
  } else if ((skew & 15) == 0) {
    SOFTMETAL_UNROLL
    for (unsigned i = 0; i < bytes; i += 16) detail::stream16(target + i, source + i);
  } else {
    __builtin_memcpy(target, source, bytes);
  }
}

}  // namespace softmetal
