// <metal_simdgroup>, <metal_quadgroup>, <metal_simdgroup_matrix> and the barriers: the types that do not
// depend on the number of lanes, and the header for the number that this code is compiled for.
#pragma once

#include "softmetal_math.h"

#ifndef SOFTMETAL_WIDTH
#define SOFTMETAL_WIDTH 1
#endif

namespace metal {

enum class mem_flags : uint {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16,
};
constexpr SOFTMETAL_INLINE mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(uint(a) | uint(b));
}
constexpr SOFTMETAL_INLINE mem_flags operator&(mem_flags a, mem_flags b) {
  return mem_flags(uint(a) & uint(b));
}
SOFTMETAL_INLINE mem_flags& operator|=(mem_flags& a, mem_flags b) { return a = a | b; }

enum memory_order {
  memory_order_relaxed = 0,
  memory_order_acquire,
  memory_order_release,
  memory_order_acq_rel,
  memory_order_seq_cst
};
enum thread_scope {
  thread_scope_thread,
  thread_scope_simdgroup,
  thread_scope_threadgroup,
  thread_scope_device,
  thread_scope_system
};

template <class T, int Cols, int Rows = Cols>
struct simdgroup_matrix;
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

}  // namespace metal

namespace softmetal::types {

// One bit for each lane that voted yes. Lanes::mask() has those that there are.
template <class V, class Lanes>
struct vote {
  typedef V vote_t;
  V votes;
  vote() = default;
  explicit constexpr SOFTMETAL_INLINE vote(V v) : votes(v) {}
  explicit constexpr SOFTMETAL_INLINE operator V() const { return votes; }
  SOFTMETAL_INLINE bool all() const { return (~votes & Lanes::mask()) == 0; }
  SOFTMETAL_INLINE bool any() const { return (votes & Lanes::mask()) != 0; }
};

}  // namespace softmetal::types

#if SOFTMETAL_WIDTH == 1
#include "softmetal_simd_width1.h"
#elif SOFTMETAL_WIDTH == 32
#include "softmetal_simd_width32.h"
#else
#error "SOFTMETAL_WIDTH is the number of lanes of a SIMD-group, needs 1 or 32"
#endif

#include "softmetal_async_copy.h"
