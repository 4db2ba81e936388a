// 2-D convolution, stride 1, same size, with the input tile and its halo in threadgroup memory.
#include <metal_stdlib>

using namespace metal;

constant constexpr int tile = 16;

struct ConvParams {
  int channels;
  int filters;
  int height;
  int width;
};

constant bool has_bias [[function_constant(0)]];
constant int activation [[function_constant(1)]];
constant bool has_activation = is_function_constant_defined(activation);

template <typename T, int kernel_size>
[[kernel]] void conv2d(constant ConvParams& p [[buffer(0)]], const device T* input [[buffer(1)]],
                       const device T* weight [[buffer(2)]], device T* output [[buffer(3)]],
                       const device float* bias [[buffer(4), function_constant(has_bias)]],
                       ushort3 group [[threadgroup_position_in_grid]],
                       ushort2 t [[thread_position_in_threadgroup]]) {
  constexpr int halo = kernel_size / 2, side = tile + 2 * halo;
  threadgroup T patch[side][side];
  threadgroup T taps[kernel_size * kernel_size];
  const int x0 = group.x * tile, y0 = group.y * tile, f = group.z;
  const int x = x0 + t.x, y = y0 + t.y;

  float sum = has_bias ? bias[f] : 0.0f;
  for (int c = 0; c < p.channels; c++) {
    for (int py = t.y; py < side; py += tile) {
      for (int px = t.x; px < side; px += tile) {
        const int iy = y0 + py - halo, ix = x0 + px - halo;
        const bool inside = iy >= 0 && iy < p.height && ix >= 0 && ix < p.width;
        patch[py][px] = inside ? input[(c * p.height + iy) * p.width + ix] : T(0);
      }
    }
    const int tap = t.y * tile + t.x;
    if (tap < kernel_size * kernel_size) {
      taps[tap] = weight[(f * p.channels + c) * kernel_size * kernel_size + tap];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int ky = 0; ky < kernel_size; ky++) {
      for (int kx = 0; kx < kernel_size; kx++) {
        sum += float(patch[t.y + ky][t.x + kx]) * float(taps[ky * kernel_size + kx]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (has_activation) {
    switch (activation) {
      case 1: sum = max(sum, 0.0f); break;
      case 2: sum = clamp(sum, -1.0f, 1.0f); break;
      default: sum = abs(sum); break;
    }
  }
  if (x < p.width && y < p.height) output[(f * p.height + y) * p.width + x] = T(sum);
}

template [[host_name("conv2d_f32_k3")]] [[kernel]] decltype(conv2d<float, 3>) conv2d<float, 3>;
template [[host_name("conv2d_f16_k5")]] [[kernel]] decltype(conv2d<half, 5>) conv2d<half, 5>;

// The 3-tap filters of a depth-wise convolution along a sequence, with the state of the steps before.
kernel void causal_conv1d(device const float* x [[buffer(0)]], device const float* state [[buffer(1)]],
                          device const float4* taps [[buffer(2)]], device float* y [[buffer(3)]],
                          device float* new_state [[buffer(4)]], constant uint2& shape [[buffer(5)]],
                          uint2 at [[thread_position_in_grid]]) {
  const uint channels = shape.x, steps = shape.y;
  if (at.x >= channels || at.y >= steps) return;
  float4 window;
  for (int j = 0; j < 4; j++) {
    const int step = int(at.y) + j - 3;
    window[j] = step < 0 ? state[(step + 3) * channels + at.x] : x[step * channels + at.x];
  }
  const float v = dot(window, taps[at.x]);
  y[at.y * channels + at.x] = v / (1.0f + exp(-v));
  if (at.y == steps - 1) {
    for (int j = 0; j < 3; j++) new_state[j * channels + at.x] = window[j + 1];
  }
}
