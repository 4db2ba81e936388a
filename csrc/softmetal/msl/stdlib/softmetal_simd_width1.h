// What depends on how many lanes run together, for a SIMD-group of one lane: SIMD-group and quad-group
// functions, barriers, simdgroup_matrix. Other widths replace this one header.
#pragma once

#include "softmetal_math.h"

namespace metal {

enum class mem_flags : uint {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16,
};
constexpr SOFTMETAL_INLINE mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
constexpr SOFTMETAL_INLINE mem_flags operator&(mem_flags a, mem_flags b) { return mem_flags(uint(a) & uint(b)); }

// The only thread of its threadgroup has nothing to wait for.
SOFTMETAL_INLINE void threadgroup_barrier(mem_flags) {}
SOFTMETAL_INLINE void simdgroup_barrier(mem_flags) {}

// One lane: a reduction or a broadcast gives the lane's own value, an exclusive prefix the neutral element.
#define SOFTMETAL_LANE_REDUCTIONS(group)                 \
  SOFTMETAL_LANE_IDENTITY(group##_sum)                   \
  SOFTMETAL_LANE_IDENTITY(group##_product)               \
  SOFTMETAL_LANE_IDENTITY(group##_min)                   \
  SOFTMETAL_LANE_IDENTITY(group##_max)                   \
  SOFTMETAL_LANE_IDENTITY(group##_and)                   \
  SOFTMETAL_LANE_IDENTITY(group##_or)                    \
  SOFTMETAL_LANE_IDENTITY(group##_xor)                   \
  SOFTMETAL_LANE_IDENTITY(group##_prefix_inclusive_sum)  \
  SOFTMETAL_LANE_IDENTITY(group##_prefix_inclusive_product) \
  SOFTMETAL_LANE_IDENTITY(group##_broadcast_first)
#define SOFTMETAL_LANE_IDENTITY(name)                                                \
  template <class A>                                                                 \
  constexpr SOFTMETAL_INLINE softmetal::vector_of<A> name(const A& a) {              \
    return a;                                                                        \
  }
SOFTMETAL_LANE_REDUCTIONS(simd)
SOFTMETAL_LANE_REDUCTIONS(quad)
#undef SOFTMETAL_LANE_IDENTITY
#undef SOFTMETAL_LANE_REDUCTIONS


template <class T, int Cols, int Rows>
struct simdgroup_matrix;

}  // namespace metal

namespace softmetal {

typedef float row8 __attribute__((vector_size(32)));

// One element of a tile of half or bfloat, whose rows hold floats.
template <class T>
struct tile_element {
  float& value;
  SOFTMETAL_INLINE operator T() const { return T(value); }
  SOFTMETAL_INLINE const tile_element& operator=(T v) const {
    value = float(v);
    return *this;
  }
  SOFTMETAL_INLINE const tile_element& operator=(const tile_element& v) const { return *this = T(v); }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator+=(const S& s) const { return *this = T(T(*this) + s); }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator-=(const S& s) const { return *this = T(T(*this) - s); }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator*=(const S& s) const { return *this = T(T(*this) * s); }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator/=(const S& s) const { return *this = T(T(*this) / s); }
};
template <class T>
struct tile_elements {
  row8* rows;
  SOFTMETAL_INLINE tile_element<T> operator[](size_t i) const { return {reinterpret_cast<float*>(rows)[i]}; }
  static constexpr size_t size() { return 64; }
};
template <>
struct tile_elements<float> {
  row8* rows;
  SOFTMETAL_INLINE float& operator[](size_t i) const { return reinterpret_cast<float*>(rows)[i]; }
  static constexpr size_t size() { return 64; }
};

template <class T>
SOFTMETAL_INLINE row8 load_row(const T* source, size_t step) {
  row8 row;
  SOFTMETAL_UNROLL
  for (int c = 0; c < 8; c++) row[c] = float(source[c * step]);
  return row;
}
template <class T>
SOFTMETAL_INLINE row8 load_row(const T* source) {
  typedef uint16_t bits8 __attribute__((vector_size(16)));
  typedef uint32_t wide8 __attribute__((vector_size(32)));
  if constexpr (sizeof(T) == 4) {
    row8 row;
    __builtin_memcpy(&row, source, sizeof(row));
    return row;
  } else if constexpr (metal::is_same<T, bfloat>::value) {
    bits8 bits;
    __builtin_memcpy(&bits, source, sizeof(bits));
    return (row8)(__builtin_convertvector(bits, wide8) << 16);
  } else {
    return load_row(source, 1);
  }
}
template <class T>
SOFTMETAL_INLINE void store_row(row8 row, T* target, size_t step) {
  SOFTMETAL_UNROLL
  for (int c = 0; c < 8; c++) target[c * step] = T(row[c]);
}

}  // namespace softmetal

namespace metal {

// A tile that the one lane owns whole, one vector register per row. Tiles of half and bfloat hold floats, which
// represent all of their values; they round when stored.
template <class T>
struct simdgroup_matrix<T, 8, 8> {
  softmetal::row8 rows[8];

  simdgroup_matrix() = default;
  // dval on the diagonal, zero elsewhere.
  SOFTMETAL_INLINE explicit simdgroup_matrix(T dval) {
    SOFTMETAL_UNROLL
    for (int r = 0; r < 8; r++) {
      rows[r] = softmetal::row8{};
      rows[r][r] = float(dval);
    }
  }
  SOFTMETAL_INLINE softmetal::tile_elements<T> thread_elements() { return {rows}; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int Cols, int Rows>
SOFTMETAL_INLINE simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Cols, Rows> m;
  SOFTMETAL_UNROLL
  for (int r = 0; r < 8; r++) m.rows[r] = softmetal::row8{} + float(value);
  return m;
}
template <class T, int Cols, int Rows>
SOFTMETAL_INLINE simdgroup_matrix<T, Cols, Rows> make_diagonal_simdgroup_matrix(T value) {
  return simdgroup_matrix<T, Cols, Rows>(value);
}

template <class T>
SOFTMETAL_INLINE void simdgroup_load(simdgroup_matrix<T, 8, 8>& d, const T* source, ulong elements_per_row = 8,
                                     ulong2 matrix_origin = 0, bool transpose_matrix = false) {
  source += matrix_origin.y * elements_per_row + matrix_origin.x;
  SOFTMETAL_UNROLL
  for (int r = 0; r < 8; r++) {
    d.rows[r] = transpose_matrix ? softmetal::load_row(source + r, elements_per_row)
                                 : softmetal::load_row(source + r * elements_per_row);
  }
}
template <class T>
SOFTMETAL_INLINE void simdgroup_store(const simdgroup_matrix<T, 8, 8>& a, T* target, ulong elements_per_row = 8,
                                      ulong2 matrix_origin = 0, bool transpose_matrix = false) {
  target += matrix_origin.y * elements_per_row + matrix_origin.x;
  SOFTMETAL_UNROLL
  for (int r = 0; r < 8; r++) {
    if (transpose_matrix) {
      softmetal::store_row(a.rows[r], target + r, elements_per_row);
    } else {
      softmetal::store_row(a.rows[r], target + r * elements_per_row, 1);
    }
  }
}

// d = a * b + c. Each element of a is broadcast from memory, which costs less than from a register.
template <class D, class A, class B, class C>
SOFTMETAL_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                                    const simdgroup_matrix<B, 8, 8>& b,
                                                    const simdgroup_matrix<C, 8, 8>& c) {
  simdgroup_matrix<C, 8, 8> sum = c;
  SOFTMETAL_UNROLL
  for (int k = 0; k < 8; k++) {
    SOFTMETAL_UNROLL
    for (int r = 0; r < 8; r++) sum.rows[r] += a.rows[r][k] * b.rows[k];
  }
  SOFTMETAL_UNROLL
  for (int r = 0; r < 8; r++) d.rows[r] = sum.rows[r];
}
template <class D, class A, class B>
SOFTMETAL_INLINE void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                         const simdgroup_matrix<B, 8, 8>& b) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0.0f)));
}
template <class T>
SOFTMETAL_INLINE simdgroup_matrix<T, 8, 8> operator*(const simdgroup_matrix<T, 8, 8>& a,
                                                     const simdgroup_matrix<T, 8, 8>& b) {
  simdgroup_matrix<T, 8, 8> d;
  simdgroup_multiply(d, a, b);
  return d;
}

}  // namespace metal

using metal::simdgroup_bfloat8x8;
using metal::simdgroup_float8x8;
using metal::simdgroup_half8x8;
using metal::simdgroup_matrix;
