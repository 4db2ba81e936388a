// Rotary embedding with neighbouring pairs or with halves, and with a cache of keys to fill.
#include <metal_stdlib>

using namespace metal;

typedef struct {
  int32_t head_dim;
  int32_t n_dims;
  int32_t heads;
  int32_t tokens;
  float freq_base;
  float freq_scale;
} rope_args;

inline float2 rope_rotation(float position, int pair, constant rope_args& args) {
  const float theta = position * args.freq_scale * precise::pow(args.freq_base, -2.0f * pair / args.n_dims);
  float cosine;
  const float sine = precise::sincos(theta, cosine);
  return float2(cosine, sine);
}

template <typename T, bool neox>
kernel void kernel_rope(constant rope_args& args [[buffer(0)]], device const T* x [[buffer(1)]],
                        device const int32_t* positions [[buffer(2)]], device T* dst [[buffer(3)]],
                        uint3 tgpig [[threadgroup_position_in_grid]],
                        ushort3 tpitg [[thread_position_in_threadgroup]],
                        ushort3 tptg [[threads_per_threadgroup]]) {
  const int head = tgpig[0], token = tgpig[1];
  const float position = float(positions[token]);
  const long base = (long(token) * args.heads + head) * args.head_dim;
  for (int i0 = 2 * tpitg.x; i0 < args.head_dim; i0 += 2 * tptg.x) {
    if (i0 < args.n_dims) {
      const int pair = i0 / 2;
      const float2 turn = rope_rotation(position, pair, args);
      const int first = neox ? pair : i0, second = neox ? pair + args.n_dims / 2 : i0 + 1;
      const float x0 = x[base + first], x1 = x[base + second];
      dst[base + first] = T(x0 * turn.x - x1 * turn.y);
      dst[base + second] = T(x0 * turn.y + x1 * turn.x);
    } else {
      device const T* const src = x + base + i0;
      device T* dst_data = dst + base + i0;
      dst_data[0] = src[0];
      dst_data[1] = src[1];
    }
  }
}

typedef decltype(kernel_rope<float, false>) kernel_rope_f32_t;
typedef decltype(kernel_rope<half, false>) kernel_rope_f16_t;
template [[host_name("kernel_rope_norm_f32")]] kernel kernel_rope_f32_t kernel_rope<float, false>;
template [[host_name("kernel_rope_norm_f16")]] kernel kernel_rope_f16_t kernel_rope<half, false>;
template [[host_name("kernel_rope_neox_f32")]] kernel kernel_rope_f32_t kernel_rope<float, true>;
template [[host_name("kernel_rope_neox_f16")]] kernel kernel_rope_f16_t kernel_rope<half, true>;
