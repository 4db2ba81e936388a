// 2-D rotary embedding of vision towers: the first half of a head turns by x, the second by y.
#include "include/rope.h"
#include "include/rows.h"
#include "params/vision_2d_rope.h"

// The lanes of one SIMD-group turn every `simdgroups`-th head, which they hold in `row` in between.
// Quarter: a quarter of head_dim, 0 where that is known at run time only.
template <typename T, uint Quarter>
inline void turn_heads(constant Vision2dRopeParams& params, const device T* x, device T* y, threadgroup const float* angles,
                       threadgroup float* rows, uint token, uint tokens, Team team) {
  const uint quarter = Quarter != 0 ? Quarter : params.head_dim / 4;
  const uint dim = 4 * quarter;
  const ulong start = ulong(token) * params.heads * dim;
  RowWriter<T> writer(y + start, streams(ulong(tokens) * params.heads * dim * sizeof(T), team.width));
  threadgroup float* row = rows + team.simdgroup * dim;
  for (uint head = team.simdgroup; head < params.heads; head += team.simdgroups) {
    const device T* in = x + start + ulong(head) * dim;
    prefetch(in + 8 * dim, dim);
    for (uint axis = 0; axis < 2; axis++) {
      const uint base = axis * 2 * quarter;
      for (uint i = team.lane; i < quarter; i += team.width) {
        const float a = float(in[base + i]), b = float(in[base + quarter + i]);
        const float cosine = angles[axis * quarter + i], sine = angles[(axis + 2) * quarter + i];
        row[base + i] = a * cosine - b * sine;
        row[base + quarter + i] = b * cosine + a * sine;
      }
    }
    // The row is written over where y is x.
    simdgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
    writer.store_row(y + start + ulong(head) * dim, row, dim, team.lane, team.width);
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
  writer.finish();
}

#if defined(__SOFTMETAL__)
// Turns sixteen pairs.
template <typename From, typename Angles>
inline void turn_pairs(From first, From second, Angles cosines, Angles sines, thread float (&turned)[2][16]) {
  float a[16], b[16];
  softmetal::load_floats<16>(a, first);
  softmetal::load_floats<16>(b, second);
  for (uint i = 0; i < 16; i++) {
    turned[0][i] = a[i] * cosines[i] - b[i] * sines[i];
    turned[1][i] = b[i] * cosines[i] + a[i] * sines[i];
  }
}

// What turn_heads does, by a lone lane and for quarters of sixteen elements and an end of 2 or 4 more. The ends of
// a head are turned together. Nothing is gathered for streaming: a line would be read back from stores in other
// pieces, which waits for all of them, and costs more than that y's lines are read before they are overwritten.
template <typename T, uint Quarter>
inline void turn_uneven_heads(uint heads, const device T* x, device T* y, threadgroup const float* angles) {
  constexpr uint end = Quarter - 16, dim = 4 * Quarter;
  float end_cosines[16] = {}, end_sines[16] = {};
  for (uint i = 0; i < 2 * end; i++) {
    const uint j = i / end * Quarter + 16 + i % end;
    end_cosines[i] = angles[j];
    end_sines[i] = angles[2 * Quarter + j];
  }
  for (uint head = 0; head < heads; head++, x += dim, y += dim) {
    prefetch(x + 8 * dim, dim);
    T ends[2][16] = {};
    for (uint q = 0; q < 4; q++) softmetal::copy<end>(&ends[q % 2][q / 2 * end], x + q * Quarter + 16);
    float turned[3][2][16];  // a head is read before it is written, as y may be x
    for (uint axis = 0; axis < 2; axis++) {
      const device T* first = x + 2 * axis * Quarter;
      turn_pairs(first, first + Quarter, angles + axis * Quarter, angles + (axis + 2) * Quarter, turned[axis]);
    }
    turn_pairs(ends[0], ends[1], end_cosines, end_sines, turned[2]);
    for (uint j = 0; j < 2; j++) softmetal::store_floats(ends[j], turned[2][j], 16);
    for (uint q = 0; q < 4; q++) {
      softmetal::store_floats(y + q * Quarter, turned[q / 2][q % 2], 16);
      softmetal::copy<end>(y + q * Quarter + 16, &ends[q % 2][q / 2 * end]);
    }
  }
}
#endif

// One threadgroup turns all heads of one token; the angles are computed once for them.
template <typename T>
[[kernel]] void vision_2d_rope(constant Vision2dRopeParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                               device T* y [[buffer(2)]], const device uint* pos_x [[buffer(3)]],
                               const device uint* pos_y [[buffer(4)]], const device float2* frequencies [[buffer(5)]],
                               threadgroup float* rows [[threadgroup(0)]], threadgroup float* angles [[threadgroup(1)]],
                               uint token [[threadgroup_position_in_grid]], uint tokens [[threadgroups_per_grid]],
                               TEAM_ARGUMENTS) {
  const Team team = TEAM;
  const uint quarter = params.head_dim / 4, half_dim = 2 * quarter;
  const float position_x = position_value(pos_x[token], params.pos_x_signed != 0);
  const float position_y = position_value(pos_y[token], params.pos_y_signed != 0);
  // The cosines of both axes, then their sines, in two loops simple enough to vectorise.
  for (uint i = thread_index; i < quarter; i += threads) {
    angles[i] = rope_angle(position_x, frequencies[i]);
    angles[quarter + i] = rope_angle(position_y, frequencies[i]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = thread_index; i < half_dim; i += threads) {
    float cosine;
    angles[half_dim + i] = precise::sincos(angles[i], cosine);
    angles[i] = cosine;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

#if defined(__SOFTMETAL__)
  if (width == 1 && (quarter == 18 || quarter == 20)) {
    const ulong start = ulong(token) * params.heads * params.head_dim;
    return quarter == 18 ? turn_uneven_heads<T, 18>(params.heads, x + start, y + start, angles)
                         : turn_uneven_heads<T, 20>(params.heads, x + start, y + start, angles);
  }
#endif
  // Heads of 64, 72, 80 and 128, as constants.
  switch (quarter) {
    case 16: return turn_heads<T, 16>(params, x, y, angles, rows, token, tokens, team);
    case 18: return turn_heads<T, 18>(params, x, y, angles, rows, token, tokens, team);
    case 20: return turn_heads<T, 20>(params, x, y, angles, rows, token, tokens, team);
    case 32: return turn_heads<T, 32>(params, x, y, angles, rows, token, tokens, team);
    default: return turn_heads<T, 0>(params, x, y, angles, rows, token, tokens, team);
  }
}

#define INSTANTIATE(name, T) \
  template [[host_name("vision_2d_rope_" name)]] [[kernel]] decltype(vision_2d_rope<T>) vision_2d_rope<T>;

INSTANTIATE("f32", float)
INSTANTIATE("f16", half)
INSTANTIATE("bf16", bfloat)
