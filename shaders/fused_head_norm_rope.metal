// RMS norm of every head followed by a rotary embedding, in one pass.
#include "include/head_rope.h"
#include "params/fused_head_norm_rope.h"

// Heads that a SIMD-group has in hand at a time: the sum of one does not wait for that of another.
constant constexpr uint heads_at_once = 4;

// 1 / RMS of one head, for all lanes of a SIMD-group.
template <typename T>
inline float inverse_rms(const device T* in, uint dim, float eps, uint lane, uint width) {
  float sum = 0.0f;
  for (uint i = lane; i < dim; i += width) {
    const float v = float(in[i]);
    sum += v * v;
  }
  return rsqrt(simd_sum(sum) / float(dim) + eps);
}

// The lanes of one SIMD-group normalise and turn one head, which they hold in `row` before they store it.
// Dim 0: sizes are known at run time only. Otherwise head_dim is Dim and all of it turns.
template <typename T, uint Dim>
inline void turn_head(constant FusedHeadNormRopeParams& params, const device T* in, device T* out, Turn turn,
                      float inverse, threadgroup float* row, uint lane, uint width, thread RowWriter<T>& writer) {
  const uint dim = Dim != 0 ? Dim : params.rope.head_dim;
  const uint pairs = Dim != 0 ? Dim / 2 : params.rope.half_rope_dim;
  const uint offset = Dim != 0 ? Dim / 2 : params.rope.pair_offset;
  for (uint i = lane; i < pairs; i += width) {
    const float a = float(in[i]) * inverse, b = float(in[i + offset]) * inverse;
    turn_pair(row, turn, i, pairs, offset, a, b);
  }
  for (uint i = pairs + lane; i < offset; i += width) row[i] = float(in[i]) * inverse * turn.own[i];
  for (uint i = offset + pairs + lane; i < dim; i += width) row[i] = float(in[i]) * inverse * turn.own[i];
  // The row is written over where y is x.
  simdgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  writer.store_row(out, row, dim, lane, width);
  simdgroup_barrier(mem_flags::mem_threadgroup);
}

template <typename T, uint Dim>
inline void turn_heads(constant FusedHeadNormRopeParams& params, const device T* x, device T* y, Turn turn,
                       threadgroup float* rows, uint token, uint tokens, Team team) {
  const uint dim = Dim != 0 ? Dim : params.rope.head_dim, heads = params.rope.heads;
  const ulong start = ulong(token) * heads * dim;
  RowWriter<T> writer(y + start, streams(ulong(tokens) * heads * dim * sizeof(T), team.width));
  threadgroup float* row = rows + team.simdgroup * dim;
  for (uint first = team.simdgroup; first < heads; first += team.simdgroups * heads_at_once) {
    float inverse[heads_at_once];
    for (uint j = 0; j < heads_at_once; j++) {
      // Past the end one of its own: another SIMD-group may write over others where y is x.
      const uint head = first + j * team.simdgroups;
      const device T* in = x + start + ulong(head < heads ? head : first) * dim;
      prefetch(in + 8 * dim, dim);
      inverse[j] = inverse_rms(in, dim, params.eps, team.lane, team.width);
    }
    for (uint j = 0; j < heads_at_once; j++) {
      const uint head = first + j * team.simdgroups;
      if (head >= heads) break;
      const ulong at = start + ulong(head) * dim;
      turn_head<T, Dim>(params, x + at, y + at, turn, inverse[j], row, team.lane, team.width, writer);
    }
  }
  writer.finish();
}

template <typename T>
inline void turn_token(constant FusedHeadNormRopeParams& params, const device T* x, device T* y, Turn turn,
                       threadgroup float* rows, uint token, uint tokens, Team team) {
  const uint dim = params.rope.head_dim;
  if (dim == 128 && params.rope.half_rope_dim == 64) {
    turn_heads<T, 128>(params, x, y, turn, rows, token, tokens, team);
  } else if (dim == 256 && params.rope.half_rope_dim == 128) {
    turn_heads<T, 256>(params, x, y, turn, rows, token, tokens, team);
  } else {
    turn_heads<T, 0>(params, x, y, turn, rows, token, tokens, team);
  }
}

template <typename T>
[[kernel]] void rope_cached(constant FusedHeadNormRopeParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                            device T* y [[buffer(2)]], const device float* cosine [[buffer(4)]],
                            const device float* sine [[buffer(5)]], TOKEN_ARGUMENTS) {
  const Turn turn = cached_turn<false>(params.rope, x, cosine, sine, memory, token, TEAM);
  turn_token(params, x, y, turn, rows, token, tokens, TEAM);
}

template <typename T, typename W>
[[kernel]] void rope_cached_weighted(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                     const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                     const device W* weight [[buffer(3)]], const device float* cosine [[buffer(4)]],
                                     const device float* sine [[buffer(5)]], TOKEN_ARGUMENTS) {
  const Turn turn = cached_turn<true>(params.rope, weight, cosine, sine, memory, token, TEAM);
  turn_token(params, x, y, turn, rows, token, tokens, TEAM);
}

template <typename T>
[[kernel]] void rope_positional(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                const device uint* positions [[buffer(4)]],
                                const device float2* frequencies [[buffer(5)]],
                                const device float* factors [[buffer(6)]], TOKEN_ARGUMENTS) {
  const Turn turn = positional_turn<false>(params.rope, x, positions, frequencies, factors, memory, token, TEAM);
  turn_token(params, x, y, turn, rows, token, tokens, TEAM);
}

template <typename T, typename W>
[[kernel]] void rope_positional_weighted(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                         const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                         const device W* weight [[buffer(3)]],
                                         const device uint* positions [[buffer(4)]],
                                         const device float2* frequencies [[buffer(5)]],
                                         const device float* factors [[buffer(6)]], TOKEN_ARGUMENTS) {
  const Turn turn = positional_turn<true>(params.rope, weight, positions, frequencies, factors, memory, token, TEAM);
  turn_token(params, x, y, turn, rows, token, tokens, TEAM);
}

#define INSTANTIATE_PLAIN(name, T)                                                            \
  template [[host_name("fused_head_norm_rope_cached_" name)]] [[kernel]] decltype(rope_cached<T>) rope_cached<T>; \
  template [[host_name("fused_head_norm_rope_positional_" name)]] [[kernel]]                  \
  decltype(rope_positional<T>) rope_positional<T>;
#define INSTANTIATE(name, T, W)                                                               \
  template [[host_name("fused_head_norm_rope_cached_" name)]] [[kernel]]                      \
  decltype(rope_cached_weighted<T, W>) rope_cached_weighted<T, W>;                            \
  template [[host_name("fused_head_norm_rope_positional_" name)]] [[kernel]]                  \
  decltype(rope_positional_weighted<T, W>) rope_positional_weighted<T, W>;

INSTANTIATE_PLAIN("f32", float)
INSTANTIATE_PLAIN("f16", half)
INSTANTIATE_PLAIN("bf16", bfloat)
INSTANTIATE("f32_f32", float, float)
INSTANTIATE("f16_f32", half, float)
INSTANTIATE("f16_f16", half, half)
INSTANTIATE("bf16_f32", bfloat, float)
INSTANTIATE("bf16_bf16", bfloat, bfloat)
