// One stable pass of a radix sort by four bits: count, scan the counts, scatter.
#include <metal_stdlib>

using namespace metal;

constant constexpr uint digits = 16;
constant constexpr uint group_threads = 128;
constant constexpr uint group_simdgroups = group_threads / 32;

struct RadixParams {
  uint count;
  uint shift;
  uint groups;
};

inline uint digit_of(uint key, uint shift) { return (key >> shift) & (digits - 1); }

kernel void radix_count(constant RadixParams& params [[buffer(0)]], device const uint* keys [[buffer(1)]],
                        device uint* counts [[buffer(2)]], uint i [[thread_position_in_grid]],
                        uint t [[thread_position_in_threadgroup]], uint g [[threadgroup_position_in_grid]]) {
  threadgroup atomic_uint bins[digits];
  if (t < digits) atomic_store_explicit(&bins[t], 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (i < params.count) atomic_fetch_add_explicit(&bins[digit_of(keys[i], params.shift)], 1u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < digits) counts[t * params.groups + g] = atomic_load_explicit(&bins[t], memory_order_relaxed);
}

// One SIMD-group: each step takes 32 counts further.
kernel void radix_scan(constant RadixParams& params [[buffer(0)]], device uint* counts [[buffer(1)]],
                       uint lane [[thread_index_in_simdgroup]]) {
  uint carry = 0;
  const uint n = digits * params.groups;
  for (uint first = 0; first < n; first += 32) {
    const uint i = first + lane;
    const uint v = i < n ? counts[i] : 0;
    const uint before = simd_prefix_exclusive_sum(v);
    if (i < n) counts[i] = carry + before;
    carry += simd_broadcast(before + v, ushort(31));
  }
}

kernel void radix_scatter(constant RadixParams& params [[buffer(0)]], device const uint* keys [[buffer(1)]],
                          device const uint* values [[buffer(2)]], device const uint* offsets [[buffer(3)]],
                          device uint* keys_out [[buffer(4)]], device uint* values_out [[buffer(5)]],
                          uint i [[thread_position_in_grid]], uint g [[threadgroup_position_in_grid]],
                          uint lane [[thread_index_in_simdgroup]],
                          uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint in_simdgroup[digits][group_simdgroups];
  const bool live = i < params.count;
  const uint key = live ? keys[i] : 0xFFFFFFFFu;
  const uint digit = digit_of(key, params.shift);
  uint rank = 0;
  for (uint d = 0; d < digits; d++) {
    const simd_vote vote = simd_ballot(live && digit == d);
    const uint same = uint(simd_vote::vote_t(vote));
    if (digit == d) rank = popcount(same & ((1u << lane) - 1u));
    if (lane == d) in_simdgroup[d][simdgroup] = popcount(same);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (live) {
    uint place = offsets[digit * params.groups + g] + rank;
    for (uint s = 0; s < simdgroup; s++) place += in_simdgroup[digit][s];
    keys_out[place] = key;
    values_out[place] = values[i];
  }
}
