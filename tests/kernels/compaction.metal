// Keeps the elements that pass, in order within a SIMD-group.
#include <metal_stdlib>

using namespace metal;

kernel void compact_prefix(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                           device uint* index_out [[buffer(2)]], device atomic_uint* count [[buffer(3)]],
                           constant float& threshold [[buffer(4)]], constant uint& n [[buffer(5)]],
                           uint i [[thread_position_in_grid]]) {
  const bool keep = i < n && in[min(i, n - 1)] > threshold;
  const uint place = simd_prefix_exclusive_sum(uint(keep));
  const uint kept = simd_sum(uint(keep));
  uint base = 0;
  if (simd_is_first() && kept > 0) base = atomic_fetch_add_explicit(count, kept, memory_order_relaxed);
  base = simd_broadcast_first(base);
  if (keep) {
    out[base + place] = in[i];
    index_out[base + place] = i;
  }
}

kernel void compact_ballot(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                           device uint* index_out [[buffer(2)]], device atomic_uint* count [[buffer(3)]],
                           constant float& threshold [[buffer(4)]], constant uint& n [[buffer(5)]],
                           uint i [[thread_position_in_grid]], ushort lane [[thread_index_in_simdgroup]]) {
  if (i >= n) return;
  const bool keep = in[i] > threshold;
  const simd_vote vote = simd_ballot(keep);
  const ulong mask = static_cast<ulong>(static_cast<simd_vote::vote_t>(vote));
  if (vote.any()) {
    uint base = 0;
    const ushort leader = ctz(mask);
    if (lane == leader) base = atomic_fetch_add_explicit(count, uint(popcount(mask)), memory_order_relaxed);
    base = simd_shuffle(base, leader);
    if (keep) {
      const uint place = base + uint(popcount(mask & ((1ul << lane) - 1)));
      out[place] = in[i];
      index_out[place] = i;
    }
  }
}
