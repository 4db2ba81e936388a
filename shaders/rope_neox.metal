// Rotary embedding of every head, in pairs that lie half a rotated head apart.
#include "include/head_rope.h"
#include "params/rope_neox.h"

// The lanes of one SIMD-group turn every `simdgroups`-th head, which they hold in `row` in between.
// Dim 0: sizes are known at run time only. Otherwise head_dim is Dim and all of it turns.
template <typename T, uint Dim>
inline void turn_heads(constant HeadRopeParams& params, const device T* x, device T* y, Turn turn,
                       threadgroup float* rows, uint token, uint tokens, Team team) {
  const uint dim = Dim != 0 ? Dim : params.head_dim, heads = params.heads;
  const uint pairs = Dim != 0 ? Dim / 2 : params.half_rope_dim;
  const uint offset = Dim != 0 ? Dim / 2 : params.pair_offset;
  const ulong start = ulong(token) * heads * dim;
  RowWriter<T> writer(y + start, streams(ulong(tokens) * heads * dim * sizeof(T), team.width));
  threadgroup float* row = rows + team.simdgroup * dim;
  for (uint head = team.simdgroup; head < heads; head += team.simdgroups) {
    const device T* in = x + start + ulong(head) * dim;
    device T* out = y + start + ulong(head) * dim;
    prefetch(in + 8 * dim, dim);
    for (uint i = team.lane; i < pairs; i += team.width) {
      turn_pair(row, turn, i, pairs, offset, float(in[i]), float(in[i + offset]));
    }
    // The row is written over where y is x.
    simdgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
    if (2 * pairs == dim) {
      writer.store_row(out, row, dim, team.lane, team.width);
    } else {
      // In the order of memory, and what has no partner as the bits that it is.
      writer.store_row(out, row, pairs, team.lane, team.width);
      writer.copy_row(out + pairs, in + pairs, offset - pairs, team.lane, team.width);
      writer.store_row(out + offset, row + offset, pairs, team.lane, team.width);
      const uint end = offset + pairs;
      writer.copy_row(out + end, in + end, dim - end, team.lane, team.width);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
  writer.finish();
}

template <typename T>
inline void turn_token(constant HeadRopeParams& params, const device T* x, device T* y, Turn turn,
                       threadgroup float* rows, uint token, uint tokens, Team team) {
  const uint dim = params.head_dim;
  if (dim == 128 && params.half_rope_dim == 64) {
    turn_heads<T, 128>(params, x, y, turn, rows, token, tokens, team);
  } else if (dim == 256 && params.half_rope_dim == 128) {
    turn_heads<T, 256>(params, x, y, turn, rows, token, tokens, team);
  } else {
    turn_heads<T, 0>(params, x, y, turn, rows, token, tokens, team);
  }
}

template <typename T>
[[kernel]] void rope_neox_cached(constant HeadRopeParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                                 device T* y [[buffer(2)]], const device float* cosine [[buffer(4)]],
                                 const device float* sine [[buffer(5)]], TOKEN_ARGUMENTS) {
  const Turn turn = cached_turn<false>(params, x, cosine, sine, memory, token, TEAM);
  turn_token(params, x, y, turn, rows, token, tokens, TEAM);
}

template <typename T>
[[kernel]] void rope_neox_positional(constant HeadRopeParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                                     device T* y [[buffer(2)]], const device uint* positions [[buffer(4)]],
                                     const device float2* frequencies [[buffer(5)]],
                                     const device float* factors [[buffer(6)]], TOKEN_ARGUMENTS) {
  const Turn turn = positional_turn<false>(params, x, positions, frequencies, factors, memory, token, TEAM);
  turn_token(params, x, y, turn, rows, token, tokens, TEAM);
}

#define INSTANTIATE(name, T)                                                                                     \
  template [[host_name("rope_neox_cached_" name)]] [[kernel]] decltype(rope_neox_cached<T>) rope_neox_cached<T>; \
  template [[host_name("rope_neox_positional_" name)]] [[kernel]]                                                \
  decltype(rope_neox_positional<T>) rope_neox_positional<T>;

INSTANTIATE("f32", float)
INSTANTIATE("f16", half)
INSTANTIATE("bf16", bfloat)
