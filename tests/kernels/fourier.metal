// A batch of Fourier transforms of a power of two (Stockham), one threadgroup each.
#include <metal_stdlib>

using namespace metal;

inline float2 complex_mul(float2 a, float2 b) { return float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }

template <int n, bool inverse>
kernel void fft(device const float2* in [[buffer(0)]], device float2* out [[buffer(1)]],
                uint batch [[threadgroup_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float2 buffers[2][n];
  buffers[0][t] = in[batch * n + t];
  buffers[0][t + n / 2] = in[batch * n + t + n / 2];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  int from = 0;
  for (int p = 1; p < n; p *= 2) {
    const int k = t & (p - 1);
    const float angle = (inverse ? M_PI_F : -M_PI_F) * float(k) / float(p);
    float c;
    const float s = sincos(angle, c);
    const float2 u = buffers[from][t], v = complex_mul(buffers[from][t + n / 2], float2(c, s));
    const int j = (int(t) - k) * 2 + k;
    buffers[1 - from][j] = u + v;
    buffers[1 - from][j + p] = u - v;
    from = 1 - from;
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  const float scale = inverse ? 1.0f / n : 1.0f;
  out[batch * n + t] = buffers[from][t] * scale;
  out[batch * n + t + n / 2] = buffers[from][t + n / 2] * scale;
}

template [[host_name("fft_256")]] kernel decltype(fft<256, false>) fft<256, false>;
template [[host_name("ifft_256")]] kernel decltype(fft<256, true>) fft<256, true>;
