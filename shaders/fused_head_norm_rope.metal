// RMS norm of every head followed by a rotary embedding, in one pass.
#include "include/rope.h"
#include "include/rows.h"
#include "params/fused_head_norm_rope.h"

// What turns a head, the same for all heads of a token: weight and angles multiplied out once, so that
//   y[i] = own[i] * v[i] + other[i] * v[partner of i]
// for the normalised v. `own` has head_dim floats; `other` has two for each pair: of its first, of its second element.
struct Turn {
  threadgroup float* own;
  threadgroup float* other;
};

inline Turn turn_in(threadgroup float* memory, uint head_dim) { return Turn{memory, memory + head_dim}; }

template <bool weighted, typename W>
inline float weight_at(const device W* weight, uint i) {
  return weighted ? float(weight[i]) : 1.0f;
}

template <bool weighted, typename W>
inline void set_pair(Turn turn, constant FusedHeadNormRopeParams& params, const device W* weight, uint i, float cosine,
                     float sine) {
  const uint partner = i + params.pair_offset;
  const float first = weight_at<weighted>(weight, i), second = weight_at<weighted>(weight, partner);
  turn.own[i] = first * cosine;
  turn.own[partner] = second * cosine;
  turn.other[i] = -second * sine;
  turn.other[params.half_rope_dim + i] = first * sine;
}

// Elements that are normalised only: the rest of each half, or of the head.
template <bool weighted, typename W>
inline void set_unturned(Turn turn, constant FusedHeadNormRopeParams& params, const device W* weight, Team team) {
  const uint pairs = params.half_rope_dim, offset = params.pair_offset;
  for (uint i = pairs + team.thread_index; i < offset; i += team.threads) {
    turn.own[i] = weight_at<weighted>(weight, i);
  }
  for (uint i = offset + pairs + team.thread_index; i < params.head_dim; i += team.threads) {
    turn.own[i] = weight_at<weighted>(weight, i);
  }
}

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
  const uint dim = Dim != 0 ? Dim : params.head_dim;
  const uint pairs = Dim != 0 ? Dim / 2 : params.half_rope_dim;
  const uint offset = Dim != 0 ? Dim / 2 : params.pair_offset;
  for (uint i = lane; i < pairs; i += width) {
    const float a = float(in[i]) * inverse, b = float(in[i + offset]) * inverse;
    row[i] = a * turn.own[i] + b * turn.other[i];
    row[i + offset] = b * turn.own[i + offset] + a * turn.other[pairs + i];
  }
  for (uint i = pairs + lane; i < offset; i += width) row[i] = float(in[i]) * inverse * turn.own[i];
  for (uint i = offset + pairs + lane; i < dim; i += width) row[i] = float(in[i]) * inverse * turn.own[i];
  simdgroup_barrier(mem_flags::mem_threadgroup);
  writer.store_row(out, row, dim, lane, width);
  simdgroup_barrier(mem_flags::mem_threadgroup);
}

template <typename T, uint Dim>
inline void turn_heads(constant FusedHeadNormRopeParams& params, const device T* x, device T* y, Turn turn,
                       threadgroup float* rows, uint token, uint tokens, Team team) {
  const uint dim = Dim != 0 ? Dim : params.head_dim, heads = params.heads;
  const ulong start = ulong(token) * heads * dim;
  RowWriter<T> writer(y + start, streams(ulong(tokens) * heads * dim * sizeof(T), team.width));
  threadgroup float* row = rows + team.simdgroup * dim;
  for (uint first = team.simdgroup; first < heads; first += team.simdgroups * heads_at_once) {
    float inverse[heads_at_once];
    for (uint j = 0; j < heads_at_once; j++) {
      const device T* in = x + start + ulong(min(first + j * team.simdgroups, heads - 1)) * dim;
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
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint dim = params.head_dim;
  if (dim == 128 && params.half_rope_dim == 64) {
    turn_heads<T, 128>(params, x, y, turn, rows, token, tokens, team);
  } else if (dim == 256 && params.half_rope_dim == 128) {
    turn_heads<T, 256>(params, x, y, turn, rows, token, tokens, team);
  } else {
    turn_heads<T, 0>(params, x, y, turn, rows, token, tokens, team);
  }
}

template <bool weighted, typename T, typename W>
inline void cached(constant FusedHeadNormRopeParams& params, const device T* x, device T* y, const device W* weight,
                   const device float* cosine, const device float* sine, threadgroup float* rows,
                   threadgroup float* memory, uint token, uint tokens, Team team) {
  const Turn turn = turn_in(memory, params.head_dim);
  const ulong table = ulong(token) * params.table_stride;
  for (uint i = team.thread_index; i < params.half_rope_dim; i += team.threads) {
    set_pair<weighted>(turn, params, weight, i, cosine[table + i], sine[table + i]);
  }
  set_unturned<weighted>(turn, params, weight, team);
  turn_token(params, x, y, turn, rows, token, tokens, team);
}

template <bool weighted, typename T, typename W>
inline void positional(constant FusedHeadNormRopeParams& params, const device T* x, device T* y,
                       const device W* weight, const device uint* positions, const device float2* frequencies,
                       const device float* factors, threadgroup float* rows, threadgroup float* memory, uint token,
                       uint tokens, Team team) {
  const Turn turn = turn_in(memory, params.head_dim);
  const float position = position_value(positions[token], params.positions_signed != 0);
  const uint pairs = params.half_rope_dim;
  // One loop a step: each is simple enough to vectorise. A thread comes back to its own elements only.
  if (params.has_freq_factors != 0) {
    for (uint i = team.thread_index; i < pairs; i += team.threads) {
      turn.own[i] = rope_angle(position, frequencies[i], factors[i]);
    }
  } else {
    for (uint i = team.thread_index; i < pairs; i += team.threads) turn.own[i] = rope_angle(position, frequencies[i]);
  }
  for (uint i = team.thread_index; i < pairs; i += team.threads) {
    float cosine;
    turn.other[i] = precise::sincos(turn.own[i], cosine);
    turn.own[i] = cosine;
  }
  for (uint i = team.thread_index; i < pairs; i += team.threads) {
    set_pair<weighted>(turn, params, weight, i, turn.own[i], turn.other[i]);
  }
  set_unturned<weighted>(turn, params, weight, team);
  turn_token(params, x, y, turn, rows, token, tokens, team);
}

#define TOKEN_ARGUMENTS                                                                    \
  threadgroup float *rows [[threadgroup(0)]], threadgroup float *memory [[threadgroup(1)]], \
      uint token [[threadgroup_position_in_grid]], uint tokens [[threadgroups_per_grid]], TEAM_ARGUMENTS

template <typename T>
[[kernel]] void rope_cached(constant FusedHeadNormRopeParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                            device T* y [[buffer(2)]], const device float* cosine [[buffer(4)]],
                            const device float* sine [[buffer(5)]], TOKEN_ARGUMENTS) {
  cached<false>(params, x, y, x, cosine, sine, rows, memory, token, tokens, TEAM);
}

template <typename T, typename W>
[[kernel]] void rope_cached_weighted(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                     const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                     const device W* weight [[buffer(3)]], const device float* cosine [[buffer(4)]],
                                     const device float* sine [[buffer(5)]], TOKEN_ARGUMENTS) {
  cached<true>(params, x, y, weight, cosine, sine, rows, memory, token, tokens, TEAM);
}

template <typename T>
[[kernel]] void rope_positional(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                const device uint* positions [[buffer(4)]],
                                const device float2* frequencies [[buffer(5)]],
                                const device float* factors [[buffer(6)]], TOKEN_ARGUMENTS) {
  positional<false>(params, x, y, x, positions, frequencies, factors, rows, memory, token, tokens, TEAM);
}

template <typename T, typename W>
[[kernel]] void rope_positional_weighted(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                         const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                         const device W* weight [[buffer(3)]],
                                         const device uint* positions [[buffer(4)]],
                                         const device float2* frequencies [[buffer(5)]],
                                         const device float* factors [[buffer(6)]], TOKEN_ARGUMENTS) {
  positional<true>(params, x, y, weight, positions, frequencies, factors, rows, memory, token, tokens, TEAM);
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
