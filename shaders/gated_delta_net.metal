// Output stage of the chunked gated delta rule (Yang et al. 2024).
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "params/gated_delta_net.h"

using namespace metal;

constant constexpr uint chunk_length = GATED_DELTA_NET_CHUNK;
constant constexpr uint row_tiles = chunk_length / 8;
// Tiles side by side that share one load of their left operand.
constant constexpr uint blocking = 4;

using Tile = simdgroup_matrix<float, 8, 8>;
using InputTile = simdgroup_matrix<bfloat, 8, 8>;

// One threadgroup computes one chunk of one head; a SIMD-group owns eight rows of it at a time and
// talks to no other, through `scores` (64 bfloats a row) and `block` (8 rows of 64 floats of its own).
template <uint K>
[[kernel]] void gated_delta_net_chunk_o(
    constant GatedDeltaNetParams& params [[buffer(0)]], const device bfloat* q [[buffer(1)]],
    const device bfloat* k [[buffer(2)]], const device bfloat* v [[buffer(3)]],
    const device bfloat* state [[buffer(4)]], const device float* g [[buffer(5)]], device bfloat* o [[buffer(6)]],
    threadgroup bfloat* scores [[threadgroup(0)]], threadgroup float* blocks [[threadgroup(1)]],
    uint3 group [[threadgroup_position_in_grid]], uint3 groups [[threadgroups_per_grid]],
    uint lane [[thread_index_in_simdgroup]], uint width [[threads_per_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint heads = params.heads, key_heads = params.key_heads, V = params.value_dim;
  const uint head = group.y, key_head = head / (heads / key_heads);
  const ulong token = ulong(group.z) * params.tokens + ulong(group.x) * chunk_length;
  const ulong key_stride = ulong(key_heads) * K, value_stride = ulong(heads) * V;

  q += token * key_stride + key_head * K;
  k += token * key_stride + key_head * K;
  v += token * value_stride + ulong(head) * V;
  o += token * value_stride + ulong(head) * V;
  g += token * heads + head;
  state += ((ulong(group.z) * groups.x + group.x) * heads + head) * V * K;

  threadgroup float* block = blocks + simdgroup * 8 * chunk_length;
  for (uint tile = simdgroup; tile < row_tiles; tile += simdgroups) {
    const uint first_row = tile * 8, columns = first_row + 8;
    const device bfloat* q_rows = q + first_row * key_stride;
    threadgroup bfloat* score_rows = scores + first_row * chunk_length;

    // q . k for the keys up to the diagonal.
    for (uint column = 0; column < columns; column += 8) {
      Tile sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      for (uint i = 0; i < K; i += 8) {
        InputTile left, right;
        simdgroup_load(left, q_rows + i, key_stride);
        simdgroup_load(right, k + column * key_stride + i, key_stride, 0, true);
        simdgroup_multiply_accumulate(sum, left, right, sum);
      }
      simdgroup_store(sum, block + column, chunk_length);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);

    // Decay and causal mask; an exponent above the diagonal is never used.
    for (uint r = 0; r < 8; r++) {
      const float row_gate = g[(first_row + r) * ulong(heads)];
      for (uint c = lane; c < columns; c += width) {
        const float decayed = block[r * chunk_length + c] * exp(row_gate - g[c * ulong(heads)]);
        score_rows[r * chunk_length + c] = bfloat(c <= first_row + r ? decayed : 0.0f);
      }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);

    for (uint base = 0; base < V; base += chunk_length) {
      const uint span = min(V - base, chunk_length);
      // q . state, then the decay of its row.
      for (uint column = 0; column < span; column += 8 * blocking) {
        Tile sum[blocking];
        for (uint b = 0; b < blocking; b++) sum[b] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        for (uint i = 0; i < K; i += 8) {
          InputTile left;
          simdgroup_load(left, q_rows + i, key_stride);
          for (uint b = 0; b < blocking; b++) {
            InputTile right;
            simdgroup_load(right, state + ulong(base + column + b * 8) * K + i, K, 0, true);
            simdgroup_multiply_accumulate(sum[b], left, right, sum[b]);
          }
        }
        for (uint b = 0; b < blocking; b++) simdgroup_store(sum[b], block + column + b * 8, chunk_length);
      }
      simdgroup_barrier(mem_flags::mem_threadgroup);
      for (uint r = 0; r < 8; r++) {
        const float decay = exp(g[(first_row + r) * ulong(heads)]);
        for (uint c = lane; c < span; c += width) block[r * chunk_length + c] *= decay;
      }
      simdgroup_barrier(mem_flags::mem_threadgroup);

      // Plus scores . v, for the rows of v that the mask lets through.
      for (uint column = 0; column < span; column += 8 * blocking) {
        Tile sum[blocking];
        for (uint b = 0; b < blocking; b++) simdgroup_load(sum[b], block + column + b * 8, chunk_length);
        for (uint i = 0; i < columns; i += 8) {
          InputTile left;
          simdgroup_load(left, score_rows + i, chunk_length);
          for (uint b = 0; b < blocking; b++) {
            InputTile right;
            simdgroup_load(right, v + i * value_stride + base + column + b * 8, value_stride);
            simdgroup_multiply_accumulate(sum[b], left, right, sum[b]);
          }
        }
        for (uint b = 0; b < blocking; b++) simdgroup_store(sum[b], block + column + b * 8, chunk_length);
      }
      simdgroup_barrier(mem_flags::mem_threadgroup);
      for (uint r = 0; r < 8; r++) {
        device bfloat* row = o + (first_row + r) * value_stride + base;
        for (uint c = lane; c < span; c += width) row[c] = bfloat(block[r * chunk_length + c] * params.scale);
      }
      simdgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
}

#define INSTANTIATE(K)                                                   \
  template [[host_name("gated_delta_net_chunk_o_k" #K)]] [[kernel]] \
  decltype(gated_delta_net_chunk_o<K>) gated_delta_net_chunk_o<K>;

INSTANTIATE(64)
INSTANTIATE(128)
INSTANTIATE(256)
