// 2-D rotary embedding of vision towers: the first half of a head turns by x, the second by y.
#include "include/rope.h"
#include "include/rows.h"
#include "params/vision_2d_rope.h"

// One threadgroup turns all heads of one token; the angles are computed once for them.
template <typename T>
[[kernel]] void vision_2d_rope(constant Vision2dRopeParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                               device T* y [[buffer(2)]], const device uint* pos_x [[buffer(3)]],
                               const device uint* pos_y [[buffer(4)]], const device float2* frequencies [[buffer(5)]],
                               threadgroup float* rows [[threadgroup(0)]], threadgroup float* angles [[threadgroup(1)]],
                               uint token [[threadgroup_position_in_grid]], uint tokens [[threadgroups_per_grid]],
                               uint thread_index [[thread_index_in_threadgroup]],
                               uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                               uint width [[threads_per_simdgroup]],
                               uint simdgroup [[simdgroup_index_in_threadgroup]],
                               uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint dim = params.head_dim, half_dim = dim / 2, quarter = dim / 4;
  // cos x, sin x, cos y, sin y: a quarter of a head each.
  const float position_x = position_value(pos_x[token], params.pos_x_signed != 0);
  const float position_y = position_value(pos_y[token], params.pos_y_signed != 0);
  for (uint i = thread_index; i < quarter; i += threads) {
    const float angle_x = rope_angle(position_x, frequencies[i]);
    const float angle_y = rope_angle(position_y, frequencies[i]);
    angles[i] = precise::cos(angle_x);
    angles[quarter + i] = precise::sin(angle_x);
    angles[half_dim + i] = precise::cos(angle_y);
    angles[half_dim + quarter + i] = precise::sin(angle_y);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const bool stream = streams(ulong(tokens) * params.heads * dim * sizeof(T));
  const ulong start = ulong(token) * params.heads * dim;
  threadgroup float* row = rows + simdgroup * dim;
  for (uint head = simdgroup; head < params.heads; head += simdgroups) {
    const device T* in = x + start + ulong(head) * dim;
    for (uint axis = 0; axis < 2; axis++) {
      const uint base = axis * half_dim;
      threadgroup const float* cosine = angles + base;
      threadgroup const float* sine = cosine + quarter;
      for (uint i = lane; i < quarter; i += width) {
        const float a = float(in[base + i]), b = float(in[base + quarter + i]);
        row[base + i] = a * cosine[i] - b * sine[i];
        row[base + quarter + i] = b * cosine[i] + a * sine[i];
      }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    store_row(y + start + ulong(head) * dim, row, dim, lane, width, stream);
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}

#define INSTANTIATE(name, T) \
  template [[host_name("vision_2d_rope_" name)]] [[kernel]] decltype(vision_2d_rope<T>) vision_2d_rope<T>;

INSTANTIATE("f32", float)
INSTANTIATE("f16", half)
INSTANTIATE("bf16", bfloat)
