// RMS norm of every head followed by a rotary embedding, in one pass.
#include "include/rope.h"
#include "include/rows.h"
#include "params/fused_head_norm_rope.h"

// Lanes of one SIMD-group normalise and turn one head, which they hold in `row` in between.
// cosine and sine may lie in device or in threadgroup memory.
template <typename T, typename W, bool weighted, typename Table>
inline void turn_head(constant FusedHeadNormRopeParams& params, const device T* in, device T* out,
                      const device W* weight, Table cosine, Table sine, threadgroup float* row, uint lane, uint width,
                      bool stream) {
  const uint dim = params.head_dim, pairs = params.half_rope_dim, offset = params.pair_offset;
  float sum = 0.0f;
  for (uint i = lane; i < dim; i += width) {
    const float v = float(in[i]);
    row[i] = v;
    sum += v * v;
  }
  const float inverse = precise::rsqrt(simd_sum(sum) / float(dim) + params.eps);
  simdgroup_barrier(mem_flags::mem_threadgroup);

  // A lane reads and writes the two elements of its own pairs only.
  for (uint i = lane; i < pairs; i += width) {
    float a = row[i] * inverse, b = row[i + offset] * inverse;
    if (weighted) {
      a *= float(weight[i]);
      b *= float(weight[i + offset]);
    }
    row[i] = a * cosine[i] - b * sine[i];
    row[i + offset] = b * cosine[i] + a * sine[i];
  }
  for (uint i = pairs + lane; i < offset; i += width) row[i] *= weighted ? inverse * float(weight[i]) : inverse;
  for (uint i = offset + pairs + lane; i < dim; i += width) row[i] *= weighted ? inverse * float(weight[i]) : inverse;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  store_row(out, row, dim, lane, width, stream);
  simdgroup_barrier(mem_flags::mem_threadgroup);
}

template <typename T, typename W, bool weighted, typename Table>
inline void turn_token(constant FusedHeadNormRopeParams& params, const device T* x, device T* y, const device W* weight,
                       Table cosine, Table sine, threadgroup float* rows, uint token, uint tokens, Team team) {
  const uint dim = params.head_dim;
  const ulong start = ulong(token) * params.heads * dim;
  const bool stream = streams(ulong(tokens) * params.heads * dim * sizeof(T));
  threadgroup float* row = rows + team.simdgroup * dim;
  for (uint head = team.simdgroup; head < params.heads; head += team.simdgroups) {
    const ulong at = start + ulong(head) * dim;
    turn_head<T, W, weighted>(params, x + at, y + at, weight, cosine, sine, row, team.lane, team.width, stream);
  }
}

#define TEAM_ARGUMENTS                                                                       \
  uint token [[threadgroup_position_in_grid]], uint tokens [[threadgroups_per_grid]],        \
      uint thread_index [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]], \
      uint lane [[thread_index_in_simdgroup]], uint width [[threads_per_simdgroup]],         \
      uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]]
#define TEAM \
  Team { thread_index, threads, lane, width, simdgroup, simdgroups }

#define CACHED_ARGUMENTS                                                                                     \
  const device float *cosine [[buffer(4)]], const device float *sine [[buffer(5)]],                          \
      threadgroup float *rows [[threadgroup(0)]], TEAM_ARGUMENTS
#define CACHED_TURN(T, W, weighted, weight)                                                                  \
  const ulong table = ulong(token) * params.table_stride;                                                    \
  turn_token<T, W, weighted>(params, x, y, weight, cosine + table, sine + table, rows, token, tokens, TEAM)

template <typename T>
[[kernel]] void rope_cached(constant FusedHeadNormRopeParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                            device T* y [[buffer(2)]], CACHED_ARGUMENTS) {
  CACHED_TURN(T, T, false, x);
}

template <typename T, typename W>
[[kernel]] void rope_cached_weighted(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                     const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                     const device W* weight [[buffer(3)]], CACHED_ARGUMENTS) {
  CACHED_TURN(T, W, true, weight);
}

// The angles of one token, computed once for all its heads.
inline void angle_table(constant FusedHeadNormRopeParams& params, const device uint* positions,
                        const device float2* frequencies, const device float* factors, threadgroup float* angles,
                        uint token, Team team) {
  const float position = position_value(positions[token], params.positions_signed != 0);
  const uint pairs = params.half_rope_dim;
  for (uint i = team.thread_index; i < pairs; i += team.threads) {
    const float angle = params.has_freq_factors != 0 ? rope_angle(position, frequencies[i], factors[i])
                                                     : rope_angle(position, frequencies[i]);
    angles[i] = precise::cos(angle);
    angles[pairs + i] = precise::sin(angle);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

#define POSITIONAL_ARGUMENTS                                                                                 \
  const device uint *positions [[buffer(4)]], const device float2 *frequencies [[buffer(5)]],                \
      const device float *factors [[buffer(6)]], threadgroup float *rows [[threadgroup(0)]],                 \
      threadgroup float *angles [[threadgroup(1)]], TEAM_ARGUMENTS
#define POSITIONAL_TURN(T, W, weighted, weight)                                                              \
  const Team team = TEAM;                                                                                    \
  angle_table(params, positions, frequencies, factors, angles, token, team);                                 \
  threadgroup const float* cosine = angles;                                                                  \
  turn_token<T, W, weighted>(params, x, y, weight, cosine, cosine + params.half_rope_dim, rows, token, tokens, team)

template <typename T>
[[kernel]] void rope_positional(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                const device T* x [[buffer(1)]], device T* y [[buffer(2)]], POSITIONAL_ARGUMENTS) {
  POSITIONAL_TURN(T, T, false, x);
}

template <typename T, typename W>
[[kernel]] void rope_positional_weighted(constant FusedHeadNormRopeParams& params [[buffer(0)]],
                                         const device T* x [[buffer(1)]], device T* y [[buffer(2)]],
                                         const device W* weight [[buffer(3)]], POSITIONAL_ARGUMENTS) {
  POSITIONAL_TURN(T, W, true, weight);
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
