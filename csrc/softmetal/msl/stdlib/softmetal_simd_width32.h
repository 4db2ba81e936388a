// What depends on how many lanes run together, for SIMD-groups of 32 lanes that each have a stack of their
// own. A lane puts its value into a record and waits; the last one to come works out the results of all.
#pragma once

#include "softmetal_integer.h"
#include "softmetal_simd.h"
#include "softmetal_thread.h"

// The records lie on the stacks of other threads, which is no business of the checker.
#if defined(__clang__)
#define SOFTMETAL_FOLD __attribute__((no_sanitize("thread", "coverage")))
#else
#define SOFTMETAL_FOLD __attribute__((no_sanitize_thread, no_sanitize_coverage))
#endif

namespace softmetal {

SOFTMETAL_INLINE uint32_t lane() { return current_thread().thread_index_in_simdgroup; }

template <class Record>
SOFTMETAL_INLINE void meet(Record& record, SoftmetalFold fold, SoftmetalMeetingKind kind) {
  softmetal_meet(&record, fold, kind | Region::depth() << SOFTMETAL_DEPTH_SHIFT);
}
template <class Record>
SOFTMETAL_INLINE Record& record_of(const SoftmetalMeeting* meeting, uint32_t lane) {
  return *static_cast<Record*>(meeting->records[lane]);
}
// Of a set of lanes, which is not empty.
SOFTMETAL_INLINE uint32_t first_of(uint32_t lanes) { return uint32_t(__builtin_ctz(lanes)); }

// The lanes that there are. The last SIMD-group of a threadgroup may have fewer than 32.
struct simd_lanes {
  static SOFTMETAL_INLINE uint32_t mask() {
    const SoftmetalThread& thread = current_thread();
    const uint32_t threads = thread.threads_per_threadgroup[0] * thread.threads_per_threadgroup[1] *
                             thread.threads_per_threadgroup[2];
    const uint32_t count = threads - thread.simdgroup_index_in_threadgroup * SOFTMETAL_LANES;
    return count >= SOFTMETAL_LANES ? ~0u : (1u << count) - 1;
  }
};
struct quad_lanes {
  static SOFTMETAL_INLINE uint32_t mask() { return (simd_lanes::mask() >> (lane() & ~3u)) & 15; }
};

// ---- reductions and prefix sums

template <class T>
struct reduction_record {
  T value[4];      // in: the lane's, out: the result
  uint32_t count;  // of elements
};

template <class T>
using wrapping = metal::conditional_t<sizeof(T) == 8, unsigned long, unsigned int>;
// An operation: the type that integers have in it (floats of all kinds are float, and rounded once), a value
// for lanes that take no part, given that of one that does, and the operation.
#define SOFTMETAL_REDUCTION(name, integer, neutral_value, operation)                        \
  struct name##_of {                                                                        \
    template <class T>                                                                      \
    using value = metal::conditional_t<metal::is_floating_point<T>::value, float, integer>; \
    template <class W>                                                                      \
    static SOFTMETAL_INLINE W neutral(W a) {                                                \
      return (void)a, W(neutral_value);                                                     \
    }                                                                                       \
    template <class W>                                                                      \
    static SOFTMETAL_INLINE W of(W a, W b) {                                                \
      return W(operation);                                                                  \
    }                                                                                       \
  };
SOFTMETAL_REDUCTION(sum, wrapping<T>, 0, a + b)
SOFTMETAL_REDUCTION(product, wrapping<T>, 1, a* b)
SOFTMETAL_REDUCTION(min, T, a, min_op::call(a, b))
SOFTMETAL_REDUCTION(max, T, a, max_op::call(a, b))
SOFTMETAL_REDUCTION(and, T, a, a& b)
SOFTMETAL_REDUCTION(or, T, a, a | b)
SOFTMETAL_REDUCTION(xor, T, 0, a ^ b)
#undef SOFTMETAL_REDUCTION

// In each group of `Group` lanes, pairwise. `All`: every lane takes part, so none has to be asked.
template <class Op, class T, uint32_t Group, bool All>
SOFTMETAL_FOLD inline void reduce(SoftmetalMeeting* meeting) {
  using Record = reduction_record<T>;
  using W = typename Op::template value<T>;
  const uint32_t count = record_of<Record>(meeting, first_of(meeting->active)).count;
  for (uint32_t begin = 0; begin < SOFTMETAL_LANES; begin += Group) {
    const uint32_t active = (meeting->active >> begin) & (~0u >> (SOFTMETAL_LANES - Group));
    if (!All && active == 0) continue;
    for (uint32_t k = 0; k < count; k++) {
      W values[Group];
      const W neutral = Op::neutral(W(record_of<Record>(meeting, begin + first_of(active)).value[k]));
      for (uint32_t i = 0; i < Group; i++)
        values[i] =
            All || ((active >> i) & 1) != 0 ? W(record_of<Record>(meeting, begin + i).value[k]) : neutral;
      for (uint32_t half = Group / 2; half != 0; half /= 2)
        for (uint32_t i = 0; i < half; i++) values[i] = Op::of(values[i], values[i + half]);
      const T result = T(values[0]);
      for (uint32_t i = 0; i < Group; i++)
        if (All || ((active >> i) & 1) != 0) record_of<Record>(meeting, begin + i).value[k] = result;
    }
  }
}
template <class Op, class T, uint32_t Group>
SOFTMETAL_FOLD void fold_reduction(SoftmetalMeeting* meeting) {
  if (meeting->active == ~0u)
    reduce<Op, T, Group, true>(meeting);
  else
    reduce<Op, T, Group, false>(meeting);
}
// Each lane gets the result of the lanes before it, and its own if `Inclusive`.
template <class Op, class T, uint32_t Group, bool Inclusive>
SOFTMETAL_FOLD void fold_prefix(SoftmetalMeeting* meeting) {
  using Record = reduction_record<T>;
  using W = typename Op::template value<T>;
  const uint32_t count = record_of<Record>(meeting, first_of(meeting->active)).count;
  for (uint32_t k = 0; k < count; k++) {
    W sum = Op::neutral(W());
    for (uint32_t i = 0; i < SOFTMETAL_LANES; i++) {
      if (i % Group == 0) sum = Op::neutral(W());
      if (((meeting->active >> i) & 1) == 0) continue;
      T& value = record_of<Record>(meeting, i).value[k];
      const W next = Op::of(sum, W(value));
      value = T(Inclusive ? next : sum);
      sum = next;
    }
  }
}

template <class A>
inline constexpr bool is_number = metal::is_arithmetic<element_of<vector_of<A>>>::value;
template <class A>
inline constexpr bool is_bool = metal::is_same<element_of<vector_of<A>>, bool>::value;

template <class A>
SOFTMETAL_INLINE vector_of<A> meet_in_order(const A& a, SoftmetalFold fold, SoftmetalMeetingKind kind) {
  using V = vector_of<A>;
  V v = a;
  reduction_record<element_of<V>> record;
  static_assert(sizeof(V) <= sizeof(record.value), "the elements of a vector lie side by side");
  record.count = uint32_t(width_of<V>);
  __builtin_memcpy(record.value, &v, sizeof(V));
  meet(record, fold, kind);
  __builtin_memcpy(&v, record.value, sizeof(V));
  return v;
}

// ---- shuffles

// Where a lane's value comes from: a lane number, alone or with one of these.
enum shuffle_source : uint32_t { from_filling = 32, from_first = 64, from_nowhere = 128 };

template <size_t Bytes>
struct shuffle_record {
  uint64_t value[(Bytes + 7) / 8];  // in: the lane's, out: the result
  uint64_t filling[(Bytes + 7) / 8];
  uint32_t source;
  uint32_t agreed;  // an argument that has to be the same for all lanes
};

// All shuffles and broadcasts, since each lane knows where its value is to come from.
template <size_t Bytes, uint32_t Group>
SOFTMETAL_FOLD void fold_shuffle(SoftmetalMeeting* meeting) {
  using Record = shuffle_record<Bytes>;
  constexpr uint32_t words = (Bytes + 7) / 8;
  const uint32_t active = meeting->active;
  uint64_t results[SOFTMETAL_LANES][words];
  for (uint32_t i = 0; i < SOFTMETAL_LANES; i++) {
    if (((active >> i) & 1) == 0) continue;
    const Record& record = record_of<Record>(meeting, i);
    const uint32_t group = active & (~0u >> (SOFTMETAL_LANES - Group)) << (i - i % Group);
    const uint32_t from = record.source == from_first ? first_of(group) : record.source % SOFTMETAL_LANES;
    const bool defined = record.source < from_nowhere && ((active >> from) & 1) != 0 &&
                         record.agreed == record_of<Record>(meeting, first_of(group)).agreed;
    if (!defined) meeting->undefined |= 1u << i;
    for (uint32_t k = 0; k < words; k++) {
      const Record& source = record_of<Record>(meeting, defined ? from : i);
      const bool filled = record.source >= from_filling && record.source < from_first;
      results[i][k] = !defined ? ~uint64_t(0) : filled ? source.filling[k] : source.value[k];
    }
  }
  for (uint32_t i = 0; i < SOFTMETAL_LANES; i++) {
    if (((active >> i) & 1) == 0) continue;
    for (uint32_t k = 0; k < words; k++) record_of<Record>(meeting, i).value[k] = results[i][k];
  }
}

template <uint32_t Group>
inline constexpr SoftmetalMeetingKind meeting_kind =
    Group == 4 ? SOFTMETAL_MEETING_QUAD : SOFTMETAL_MEETING_SIMD;

template <uint32_t Group, class A>
SOFTMETAL_INLINE vector_of<A> shuffle(const A& a, uint32_t source, uint32_t agreed = 0,
                                      const vector_of<A>* filling = nullptr) {
  using V = vector_of<A>;
  static_assert(is_number<A>, "shuffles and broadcasts take numbers and vectors of numbers");
  V v = a;
  shuffle_record<sizeof(V)> record;
  record.source = source;
  record.agreed = agreed;
  __builtin_memcpy(record.value, &v, sizeof(V));
  if (filling) __builtin_memcpy(record.filling, filling, sizeof(V));
  meet(record, &fold_shuffle<sizeof(V), Group>, meeting_kind<Group>);
  // A bool has no room for an undefined value.
  if constexpr (is_bool<A>) record.value[0] &= 0x0101010101010101u;
  __builtin_memcpy(&v, record.value, sizeof(V));
  return v;
}

// The sources, as numbers of lanes in the SIMD-group. `up` is from a lower lane; lanes that have none there
// keep their own value.
template <uint32_t Group>
SOFTMETAL_INLINE uint32_t lane_in_group(uint32_t index) {
  return index < Group ? lane() / Group * Group + index : uint32_t(from_nowhere);
}
template <uint32_t Group>
SOFTMETAL_INLINE uint32_t lane_up(uint32_t delta) {
  return delta > lane() % Group ? lane() : lane() - delta;
}
template <uint32_t Group>
SOFTMETAL_INLINE uint32_t lane_down(uint32_t delta) {
  return delta >= Group - lane() % Group ? lane() : lane() + delta;
}
template <uint32_t Group>
SOFTMETAL_INLINE uint32_t lane_rotated(uint32_t delta) {
  return lane() / Group * Group + (lane() + delta) % Group;
}
// With filling: lanes that have none in their part of `modulo` lanes take one from the other end of that
// part's filling values.
template <uint32_t Group>
SOFTMETAL_INLINE uint32_t lane_filled_up(uint32_t delta, uint32_t modulo) {
  const bool valid = modulo >= 2 && modulo <= Group && (modulo & (modulo - 1)) == 0 && delta <= modulo;
  if (!valid) return from_nowhere;
  const uint32_t place = lane() % modulo, begin = lane() - place;
  return delta > place ? from_filling + begin + (place + modulo - delta) : lane() - delta;
}
template <uint32_t Group>
SOFTMETAL_INLINE uint32_t lane_filled_down(uint32_t delta, uint32_t modulo) {
  const bool valid = modulo >= 2 && modulo <= Group && (modulo & (modulo - 1)) == 0 && delta <= modulo;
  if (!valid) return from_nowhere;
  const uint32_t place = lane() % modulo, begin = lane() - place;
  return place + delta >= modulo ? from_filling + begin + (place + delta - modulo) : lane() + delta;
}

// ---- votes

struct vote_record {
  uint32_t vote;  // in: 0 or 1, out: the votes of all lanes
  uint32_t active;
};
SOFTMETAL_FOLD inline void fold_votes(SoftmetalMeeting* meeting) {
  uint32_t votes = 0;
  for (uint32_t i = 0; i < SOFTMETAL_LANES; i++)
    if (((meeting->active >> i) & 1) != 0) votes |= record_of<vote_record>(meeting, i).vote << i;
  for (uint32_t i = 0; i < SOFTMETAL_LANES; i++)
    if (((meeting->active >> i) & 1) != 0)
      record_of<vote_record>(meeting, i) = vote_record{votes, meeting->active};
}
template <uint32_t Group>
SOFTMETAL_INLINE vote_record votes(bool vote) {
  vote_record record = {vote, 0};
  meet(record, &fold_votes, meeting_kind<Group>);
  const uint32_t begin = Group == SOFTMETAL_LANES ? 0 : lane() / Group * Group;
  const uint32_t mask = ~0u >> (SOFTMETAL_LANES - Group);
  return {(record.vote >> begin) & mask, (record.active >> begin) & mask};
}

// ---- what the lanes do together

struct copying_lanes {
  ulong first, count;
};
SOFTMETAL_INLINE copying_lanes share_copy() {
  const uint32_t active = votes<SOFTMETAL_LANES>(true).active;
  return {ulong(__builtin_popcount(active & ((1u << lane()) - 1))), ulong(__builtin_popcount(active))};
}

}  // namespace softmetal

namespace metal {

typedef softmetal::types::vote<ulong, softmetal::simd_lanes> simd_vote;
typedef softmetal::types::vote<uint, softmetal::quad_lanes> quad_vote;

SOFTMETAL_INLINE void threadgroup_barrier(mem_flags flags, thread_scope = thread_scope_threadgroup) {
  softmetal_barrier(SOFTMETAL_SCOPE_THREADGROUP, uint(flags));
  SOFTMETAL_RETURNS_HERE;
}
SOFTMETAL_INLINE void simdgroup_barrier(mem_flags flags, thread_scope = thread_scope_simdgroup) {
  softmetal_barrier(SOFTMETAL_SCOPE_SIMDGROUP | softmetal::Region::depth() << SOFTMETAL_DEPTH_SHIFT,
                    uint(flags));
  SOFTMETAL_RETURNS_HERE;
}

#define SOFTMETAL_LANES_REDUCE(group, lanes, name)                                                    \
  template <class A>                                                                                  \
  SOFTMETAL_INLINE softmetal::vector_of<A> group##_##name(const A& data) {                            \
    static_assert(softmetal::is_number<A> && !softmetal::is_bool<A>,                                  \
                  #group "_" #name " takes numbers and vectors of numbers");                          \
    using T = softmetal::element_of<softmetal::vector_of<A>>;                                         \
    return softmetal::meet_in_order(data, &softmetal::fold_reduction<softmetal::name##_of, T, lanes>, \
                                    softmetal::meeting_kind<lanes>);                                  \
  }
#define SOFTMETAL_LANES_COMBINE(group, lanes, name)                                                   \
  template <class A>                                                                                  \
  SOFTMETAL_INLINE softmetal::vector_of<A> group##_##name(const A& data) {                            \
    using T = softmetal::element_of<softmetal::vector_of<A>>;                                         \
    static_assert(is_integral<T>::value, #group "_" #name " takes integers and vectors of integers"); \
    return softmetal::meet_in_order(data, &softmetal::fold_reduction<softmetal::name##_of, T, lanes>, \
                                    softmetal::meeting_kind<lanes>);                                  \
  }
#define SOFTMETAL_LANES_PREFIX(group, lanes, name, op, inclusive)                                           \
  template <class A>                                                                                        \
  SOFTMETAL_INLINE softmetal::vector_of<A> group##_prefix_##name(const A& data) {                           \
    static_assert(softmetal::is_number<A> && !softmetal::is_bool<A>,                                        \
                  #group "_prefix_" #name " takes numbers and vectors of numbers");                         \
    using T = softmetal::element_of<softmetal::vector_of<A>>;                                               \
    return softmetal::meet_in_order(data, &softmetal::fold_prefix<softmetal::op##_of, T, lanes, inclusive>, \
                                    softmetal::meeting_kind<lanes>);                                        \
  }
#define SOFTMETAL_LANES_SHUFFLE(group, lanes, name, source, agreed)                  \
  template <class A>                                                                 \
  SOFTMETAL_INLINE softmetal::vector_of<A> group##_##name(const A& data, ushort n) { \
    return softmetal::shuffle<lanes>(data, softmetal::source, agreed);               \
  }
#define SOFTMETAL_LANES_FILL(group, lanes, name, source)                                                  \
  template <class A>                                                                                      \
  SOFTMETAL_INLINE softmetal::vector_of<A> group##_##name(                                                \
      const A& data, const type_identity_t<softmetal::vector_of<A>>& filling_data, ushort delta,          \
      ushort modulo = lanes) {                                                                            \
    return softmetal::shuffle<lanes>(data, softmetal::source<lanes>(delta, modulo), delta | modulo << 16, \
                                     &filling_data);                                                      \
  }
#define SOFTMETAL_LANES_GROUP(group, lanes)                                                                  \
  SOFTMETAL_LANES_REDUCE(group, lanes, sum)                                                                  \
  SOFTMETAL_LANES_REDUCE(group, lanes, product)                                                              \
  SOFTMETAL_LANES_REDUCE(group, lanes, min)                                                                  \
  SOFTMETAL_LANES_REDUCE(group, lanes, max)                                                                  \
  SOFTMETAL_LANES_COMBINE(group, lanes, and)                                                                 \
  SOFTMETAL_LANES_COMBINE(group, lanes, or)                                                                  \
  SOFTMETAL_LANES_COMBINE(group, lanes, xor)                                                                 \
  SOFTMETAL_LANES_PREFIX(group, lanes, inclusive_sum, sum, true)                                             \
  SOFTMETAL_LANES_PREFIX(group, lanes, inclusive_product, product, true)                                     \
  SOFTMETAL_LANES_PREFIX(group, lanes, exclusive_sum, sum, false)                                            \
  SOFTMETAL_LANES_PREFIX(group, lanes, exclusive_product, product, false)                                    \
  SOFTMETAL_LANES_SHUFFLE(group, lanes, broadcast, lane_in_group<lanes>(n), n)                               \
  SOFTMETAL_LANES_SHUFFLE(group, lanes, shuffle, lane_in_group<lanes>(n), 0)                                 \
  SOFTMETAL_LANES_SHUFFLE(group, lanes, shuffle_up, lane_up<lanes>(n), n)                                    \
  SOFTMETAL_LANES_SHUFFLE(group, lanes, shuffle_down, lane_down<lanes>(n), n)                                \
  SOFTMETAL_LANES_SHUFFLE(group, lanes, shuffle_xor, lane_in_group<lanes>(softmetal::lane() % lanes ^ n), n) \
  SOFTMETAL_LANES_SHUFFLE(group, lanes, shuffle_rotate_up, lane_rotated<lanes>(0u - n), n)                   \
  SOFTMETAL_LANES_SHUFFLE(group, lanes, shuffle_rotate_down, lane_rotated<lanes>(n), n)                      \
  SOFTMETAL_LANES_FILL(group, lanes, shuffle_and_fill_up, lane_filled_up)                                    \
  SOFTMETAL_LANES_FILL(group, lanes, shuffle_and_fill_down, lane_filled_down)                                \
  template <class A>                                                                                         \
  SOFTMETAL_INLINE softmetal::vector_of<A> group##_broadcast_first(const A& data) {                          \
    return softmetal::shuffle<lanes>(data, softmetal::from_first);                                           \
  }                                                                                                          \
  SOFTMETAL_INLINE bool group##_all(bool expr) {                                                             \
    const softmetal::vote_record votes = softmetal::votes<lanes>(expr);                                      \
    return votes.vote == votes.active;                                                                       \
  }                                                                                                          \
  SOFTMETAL_INLINE bool group##_any(bool expr) { return softmetal::votes<lanes>(expr).vote != 0; }           \
  SOFTMETAL_INLINE bool group##_is_first() {                                                                 \
    return softmetal::first_of(softmetal::votes<lanes>(true).active) == softmetal::lane() % lanes;           \
  }                                                                                                          \
  constexpr SOFTMETAL_INLINE bool group##_is_helper_thread() { return false; }                               \
  SOFTMETAL_INLINE group##_vote group##_ballot(bool expr) {                                                  \
    return group##_vote(softmetal::votes<lanes>(expr).vote);                                                 \
  }                                                                                                          \
  SOFTMETAL_INLINE group##_vote group##_active_threads_mask() {                                              \
    return group##_vote(softmetal::votes<lanes>(true).active);                                               \
  }
SOFTMETAL_LANES_GROUP(simd, 32)
SOFTMETAL_LANES_GROUP(quad, 4)
#undef SOFTMETAL_LANES_GROUP
#undef SOFTMETAL_LANES_REDUCE
#undef SOFTMETAL_LANES_COMBINE
#undef SOFTMETAL_LANES_PREFIX
#undef SOFTMETAL_LANES_SHUFFLE
#undef SOFTMETAL_LANES_FILL

}  // namespace metal

namespace softmetal {

// ---- matrices

// The first of the two elements that a lane holds of a tile; the other is in the next column. As on Apple
// GPUs.
struct tile_place {
  uint32_t row, column;
};
constexpr SOFTMETAL_INLINE tile_place place_of(uint32_t lane) {
  const uint32_t quad = lane / 4;
  return {(quad & 4) + (lane / 2) % 4, (quad & 2) * 2 + (lane % 2) * 2};
}

struct product_record {
  float a[2], b[2];
  float c[2];  // in: what to add to, out: the result
};
// Needs every lane, since each holds a part of the tiles.
SOFTMETAL_INLINE bool all_lanes(SoftmetalMeeting* meeting) {
  if (meeting->active == ~0u) return true;
  meeting->undefined = meeting->active;
  return false;
}
SOFTMETAL_FOLD inline void fold_product(SoftmetalMeeting* meeting) {
  if (!all_lanes(meeting)) {
    for (uint32_t i = 0; i < SOFTMETAL_LANES; i++)
      if (((meeting->active >> i) & 1) != 0)
        __builtin_memset(record_of<product_record>(meeting, i).c, 0xFF, sizeof(product_record::c));
    return;
  }
  float a[8][8], b[8][8], c[8][8];
  for (uint32_t i = 0; i < SOFTMETAL_LANES; i++) {
    const product_record& record = record_of<product_record>(meeting, i);
    const tile_place at = place_of(i);
    for (uint32_t k = 0; k < 2; k++) {
      a[at.row][at.column + k] = record.a[k];
      b[at.row][at.column + k] = record.b[k];
      c[at.row][at.column + k] = record.c[k];
    }
  }
  for (uint32_t r = 0; r < 8; r++)
    for (uint32_t k = 0; k < 8; k++)
      for (uint32_t j = 0; j < 8; j++) c[r][j] += a[r][k] * b[k][j];
  for (uint32_t i = 0; i < SOFTMETAL_LANES; i++) {
    const tile_place at = place_of(i);
    for (uint32_t k = 0; k < 2; k++) record_of<product_record>(meeting, i).c[k] = c[at.row][at.column + k];
  }
}

// Loads and stores need no other lane to be right here, but they do in MSL.
SOFTMETAL_FOLD inline void fold_presence(SoftmetalMeeting* meeting) { all_lanes(meeting); }
SOFTMETAL_INLINE void need_all_lanes() {
#if SOFTMETAL_CHECKED
  char record;
  meet(record, &fold_presence, SOFTMETAL_MEETING_MATRIX);
#endif
}

}  // namespace softmetal

namespace metal {

template <class T>
struct simdgroup_matrix<T, 8, 8> {
  vec<T, 2> elements;

  simdgroup_matrix() = default;
  // dval on the diagonal, zero elsewhere.
  SOFTMETAL_INLINE explicit simdgroup_matrix(T dval) {
    const softmetal::tile_place at = softmetal::place_of(softmetal::lane());
    elements = vec<T, 2>(at.row == at.column ? dval : T(0.0f), at.row == at.column + 1 ? dval : T(0.0f));
  }
  SOFTMETAL_INLINE vec<T, 2>& thread_elements() { return elements; }
  SOFTMETAL_INLINE const vec<T, 2>& thread_elements() const { return elements; }
};

template <class T, int Cols, int Rows = Cols>
SOFTMETAL_INLINE simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Cols, Rows> m;
  m.elements = vec<T, 2>(value);
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
  softmetal::need_all_lanes();
  const softmetal::tile_place at = softmetal::place_of(softmetal::lane());
  const ulong along = transpose_matrix ? elements_per_row : 1,
              across = transpose_matrix ? 1 : elements_per_row;
  source += matrix_origin.y * elements_per_row + matrix_origin.x + at.row * across + at.column * along;
  d.elements = vec<T, 2>(source[0], source[along]);
}
template <class T>
SOFTMETAL_INLINE void simdgroup_store(const simdgroup_matrix<T, 8, 8>& a, T* target,
                                      ulong elements_per_row = 8, ulong2 matrix_origin = 0,
                                      bool transpose_matrix = false) {
  softmetal::need_all_lanes();
  const softmetal::tile_place at = softmetal::place_of(softmetal::lane());
  const ulong along = transpose_matrix ? elements_per_row : 1,
              across = transpose_matrix ? 1 : elements_per_row;
  target += matrix_origin.y * elements_per_row + matrix_origin.x + at.row * across + at.column * along;
  target[0] = a.elements.x;
  target[along] = a.elements.y;
}

// d = a * b + c, in float and rounded once.
template <class D, class A, class B, class C>
SOFTMETAL_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d,
                                                    const simdgroup_matrix<A, 8, 8>& a,
                                                    const simdgroup_matrix<B, 8, 8>& b,
                                                    const simdgroup_matrix<C, 8, 8>& c) {
  softmetal::product_record record = {{float(a.elements.x), float(a.elements.y)},
                                      {float(b.elements.x), float(b.elements.y)},
                                      {float(c.elements.x), float(c.elements.y)}};
  softmetal::meet(record, &softmetal::fold_product, SOFTMETAL_MEETING_MATRIX);
  d.elements = vec<D, 2>(D(record.c[0]), D(record.c[1]));
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
