// What depends on how many lanes run together, for a SIMD-group of one lane: SIMD-group and quad-group
// functions, barriers, simdgroup_matrix.
#pragma once

#include "softmetal_simd.h"

namespace softmetal {

// Bit 0 is the only lane's.
struct only_lane {
  static constexpr SOFTMETAL_INLINE uint mask() { return 1; }
};
struct copying_lanes {
  ulong first, count;
};
constexpr SOFTMETAL_INLINE copying_lanes share_copy() { return {0, 1}; }

}  // namespace softmetal

namespace metal {

typedef softmetal::types::vote<ulong, softmetal::only_lane> simd_vote;
typedef softmetal::types::vote<uint, softmetal::only_lane> quad_vote;

// The only thread of its threadgroup has nothing to wait for.
SOFTMETAL_INLINE void threadgroup_barrier(mem_flags, thread_scope = thread_scope_threadgroup) {}
SOFTMETAL_INLINE void simdgroup_barrier(mem_flags, thread_scope = thread_scope_simdgroup) {}

// One lane: a reduction, a broadcast or a shuffle gives the lane's own value, an exclusive prefix the neutral
// element, and a shuffle that fills takes the filling value for every lane but this one.
#define SOFTMETAL_LANE_OWN(name)                                        \
  template <class A>                                                    \
  constexpr SOFTMETAL_INLINE softmetal::vector_of<A> name(const A& a) { \
    return a;                                                           \
  }
#define SOFTMETAL_LANE_FROM(name)                                               \
  template <class A>                                                            \
  constexpr SOFTMETAL_INLINE softmetal::vector_of<A> name(const A& a, ushort) { \
    return a;                                                                   \
  }
#define SOFTMETAL_LANE_NEUTRAL(name, value)                           \
  template <class A>                                                  \
  constexpr SOFTMETAL_INLINE softmetal::vector_of<A> name(const A&) { \
    return softmetal::vector_of<A>(value);                            \
  }
#define SOFTMETAL_LANE_FILL(name)                                                                     \
  template <class A>                                                                                  \
  constexpr SOFTMETAL_INLINE softmetal::vector_of<A> name(                                            \
      const A& data, const type_identity_t<softmetal::vector_of<A>>& filling, ushort delta) {         \
    return delta == 0 ? softmetal::vector_of<A>(data) : filling;                                      \
  }                                                                                                   \
  template <class A>                                                                                  \
  constexpr SOFTMETAL_INLINE softmetal::vector_of<A> name(                                            \
      const A& data, const type_identity_t<softmetal::vector_of<A>>& filling, ushort delta, ushort) { \
    return delta == 0 ? softmetal::vector_of<A>(data) : filling;                                      \
  }
#define SOFTMETAL_LANE_GROUP(group)                                                 \
  SOFTMETAL_LANE_OWN(group##_sum)                                                   \
  SOFTMETAL_LANE_OWN(group##_product)                                               \
  SOFTMETAL_LANE_OWN(group##_min)                                                   \
  SOFTMETAL_LANE_OWN(group##_max)                                                   \
  SOFTMETAL_LANE_OWN(group##_and)                                                   \
  SOFTMETAL_LANE_OWN(group##_or)                                                    \
  SOFTMETAL_LANE_OWN(group##_xor)                                                   \
  SOFTMETAL_LANE_OWN(group##_prefix_inclusive_sum)                                  \
  SOFTMETAL_LANE_OWN(group##_prefix_inclusive_product)                              \
  SOFTMETAL_LANE_OWN(group##_broadcast_first)                                       \
  SOFTMETAL_LANE_NEUTRAL(group##_prefix_exclusive_sum, 0)                           \
  SOFTMETAL_LANE_NEUTRAL(group##_prefix_exclusive_product, 1)                       \
  SOFTMETAL_LANE_FROM(group##_broadcast)                                            \
  SOFTMETAL_LANE_FROM(group##_shuffle)                                              \
  SOFTMETAL_LANE_FROM(group##_shuffle_up)                                           \
  SOFTMETAL_LANE_FROM(group##_shuffle_down)                                         \
  SOFTMETAL_LANE_FROM(group##_shuffle_xor)                                          \
  SOFTMETAL_LANE_FROM(group##_shuffle_rotate_up)                                    \
  SOFTMETAL_LANE_FROM(group##_shuffle_rotate_down)                                  \
  SOFTMETAL_LANE_FILL(group##_shuffle_and_fill_up)                                  \
  SOFTMETAL_LANE_FILL(group##_shuffle_and_fill_down)                                \
  constexpr SOFTMETAL_INLINE bool group##_all(bool condition) { return condition; } \
  constexpr SOFTMETAL_INLINE bool group##_any(bool condition) { return condition; } \
  constexpr SOFTMETAL_INLINE bool group##_is_first() { return true; }               \
  constexpr SOFTMETAL_INLINE bool group##_is_helper_thread() { return false; }      \
  constexpr SOFTMETAL_INLINE group##_vote group##_ballot(bool condition) {          \
    return group##_vote(group##_vote::vote_t(condition));                           \
  }                                                                                 \
  constexpr SOFTMETAL_INLINE group##_vote group##_active_threads_mask() {           \
    return group##_vote(group##_vote::vote_t(1));                                   \
  }
SOFTMETAL_LANE_GROUP(simd)
SOFTMETAL_LANE_GROUP(quad)
#undef SOFTMETAL_LANE_GROUP
#undef SOFTMETAL_LANE_OWN
#undef SOFTMETAL_LANE_FROM
#undef SOFTMETAL_LANE_NEUTRAL
#undef SOFTMETAL_LANE_FILL

}  // namespace metal

namespace softmetal {

typedef float row8 __attribute__((vector_size(32)));

// One element of a tile of half or bfloat, whose rows hold floats.
template <class T>
struct tile_element {
  float& value;
  SOFTMETAL_INLINE explicit tile_element(float& v) : value(v) {}
  tile_element(const tile_element&) = default;
  SOFTMETAL_INLINE operator T() const { return T(value); }
  SOFTMETAL_INLINE const tile_element& operator=(T v) const {
    value = float(v);
    return *this;
  }
  SOFTMETAL_INLINE const tile_element& operator=(const tile_element& v) const { return *this = T(v); }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator+=(const S& s) const {
    return *this = T(T(*this) + s);
  }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator-=(const S& s) const {
    return *this = T(T(*this) - s);
  }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator*=(const S& s) const {
    return *this = T(T(*this) * s);
  }
  template <class S>
  SOFTMETAL_INLINE const tile_element& operator/=(const S& s) const {
    return *this = T(T(*this) / s);
  }
};
template <class T>
struct tile_elements {
  row8* rows;
  SOFTMETAL_INLINE tile_element<T> operator[](size_t i) const {
    return tile_element<T>(reinterpret_cast<float*>(rows)[i]);
  }
  static constexpr size_t size() { return 64; }
};
template <>
struct tile_elements<float> {
  row8* rows;
  SOFTMETAL_INLINE float& operator[](size_t i) const { return reinterpret_cast<float*>(rows)[i]; }
  static constexpr size_t size() { return 64; }
};

// Eight consecutive elements as floats, and back with one rounding. Spelt as vector operations, because
// compilers do not always find them.
template <class T>
SOFTMETAL_INLINE void load_row(row8& row, const T* source) {
  typedef uint32_t wide8 __attribute__((vector_size(32)));
  typedef uint16_t bits8 __attribute__((vector_size(16)));
  if constexpr (metal::is_same<T, float>::value) {
    __builtin_memcpy(&row, source, sizeof(row));
  } else if constexpr (metal::is_same<T, bfloat>::value) {
    bits8 bits;
    __builtin_memcpy(&bits, source, sizeof(bits));
    row = (row8)(__builtin_convertvector(bits, wide8) << 16);
  } else {
#if defined(__clang__)
    typedef _Float16 half8 __attribute__((vector_size(16)));
    half8 halves;
    __builtin_memcpy(&halves, source, sizeof(halves));
    row = __builtin_convertvector(halves, row8);
#elif defined(__F16C__)
    typedef short short8 __attribute__((vector_size(16)));
    short8 bits;
    __builtin_memcpy(&bits, source, sizeof(bits));
    row = __builtin_ia32_vcvtph2ps256(bits);
#else
    for (int c = 0; c < 8; c++) row[c] = float(source[c]);
#endif
  }
}
template <class T>
SOFTMETAL_INLINE void store_row(const row8& row, T* target) {
  typedef uint32_t wide8 __attribute__((vector_size(32)));
  typedef uint16_t bits8 __attribute__((vector_size(16)));
  if constexpr (metal::is_same<T, float>::value) {
    __builtin_memcpy(target, &row, sizeof(row));
  } else if constexpr (metal::is_same<T, bfloat>::value) {
    const wide8 bits = (wide8)row;
    const wide8 is_nan = (wide8)((bits & 0x7FFFFFFFu) > 0x7F800000u);
    const wide8 rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
    const bits8 result = __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), bits8);
    __builtin_memcpy(target, &result, sizeof(result));
  } else {
#if defined(__clang__)
    typedef _Float16 half8 __attribute__((vector_size(16)));
    const half8 result = __builtin_convertvector(row, half8);
    __builtin_memcpy(target, &result, sizeof(result));
#elif defined(__F16C__)
    const auto result = __builtin_ia32_vcvtps2ph256(row, 0);
    __builtin_memcpy(target, &result, sizeof(result));
#else
    for (int c = 0; c < 8; c++) target[c] = T(row[c]);
#endif
  }
}

// Swaps the off-diagonal blocks of 4, 2 and 1: three rounds of eight shuffles.
SOFTMETAL_INLINE void transpose(row8 (&m)[8]) {
  row8 t[8];
  SOFTMETAL_UNROLL
  for (int i = 0; i < 4; i++) {
    t[i] = __builtin_shufflevector(m[i], m[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    t[i + 4] = __builtin_shufflevector(m[i], m[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  SOFTMETAL_UNROLL
  for (int i = 0; i < 8; i += 4) {
    SOFTMETAL_UNROLL
    for (int j = i; j < i + 2; j++) {
      m[j] = __builtin_shufflevector(t[j], t[j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      m[j + 2] = __builtin_shufflevector(t[j], t[j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  SOFTMETAL_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(m[i], m[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    t[i + 1] = __builtin_shufflevector(m[i], m[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  SOFTMETAL_UNROLL
  for (int i = 0; i < 8; i++) m[i] = t[i];
}

}  // namespace softmetal

namespace metal {

// A tile that the one lane owns whole, one vector register per row. Tiles of half and bfloat hold floats,
// which represent all of their values; they round when stored.
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

template <class T, int Cols, int Rows = Cols>
SOFTMETAL_INLINE simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Cols, Rows> m;
  SOFTMETAL_UNROLL
  for (int r = 0; r < 8; r++) m.rows[r] = softmetal::row8{} + float(value);
  return m;
}
template <class T, int Cols, int Rows = Cols>
SOFTMETAL_INLINE simdgroup_matrix<T, Cols, Rows> make_diagonal_simdgroup_matrix(T value) {
  return simdgroup_matrix<T, Cols, Rows>(value);
}

template <class T>
SOFTMETAL_INLINE void simdgroup_load(simdgroup_matrix<T, 8, 8>& d, const T* source,
                                     ulong elements_per_row = 8, ulong2 matrix_origin = 0,
                                     bool transpose_matrix = false) {
  source += matrix_origin.y * elements_per_row + matrix_origin.x;
  SOFTMETAL_UNROLL
  for (int r = 0; r < 8; r++) softmetal::load_row(d.rows[r], source + r * elements_per_row);
  if (transpose_matrix) softmetal::transpose(d.rows);
}
template <class T>
SOFTMETAL_INLINE void simdgroup_store(const simdgroup_matrix<T, 8, 8>& a, T* target,
                                      ulong elements_per_row = 8, ulong2 matrix_origin = 0,
                                      bool transpose_matrix = false) {
  target += matrix_origin.y * elements_per_row + matrix_origin.x;
  simdgroup_matrix<T, 8, 8> m = a;
  if (transpose_matrix) softmetal::transpose(m.rows);
  SOFTMETAL_UNROLL
  for (int r = 0; r < 8; r++) softmetal::store_row(m.rows[r], target + r * elements_per_row);
}

// d = a * b + c: eight independent chains of fused multiply-adds, one per row of c.
template <class D, class A, class B, class C>
SOFTMETAL_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d,
                                                    const simdgroup_matrix<A, 8, 8>& a,
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
