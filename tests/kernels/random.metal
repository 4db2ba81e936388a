// Counter-based random numbers (Salmon et al. 2011, Philox 4x32 with ten rounds).
#include <metal_stdlib>

using namespace metal;

inline uint4 philox(uint4 counter, uint2 key) {
  for (int round = 0; round < 10; round++) {
    const uint high0 = mulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
    const uint high1 = mulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
    counter = uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
    key += uint2(0x9E3779B9u, 0xBB67AE85u);
  }
  return counter;
}

kernel void random_bits(device uint* out [[buffer(0)]], constant ulong& seed [[buffer(1)]],
                        constant ulong& offset [[buffer(2)]], constant uint& n [[buffer(3)]],
                        uint i [[thread_position_in_grid]]) {
  const ulong block = offset + i;
  const uint4 bits = philox(uint4(uint(block), uint(block >> 32), 0, 0), as_type<uint2>(seed));
  for (uint j = 0; j < 4 && 4 * i + j < n; j++) out[4 * i + j] = bits[j];
}

// Uniform in (0, 1], then two normal numbers of each pair.
kernel void random_normal(device float4* out [[buffer(0)]], constant ulong& seed [[buffer(1)]],
                          constant float2& mean_and_deviation [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const uint4 bits = philox(uint4(i, 0, 0, 0), as_type<uint2>(seed));
  const float4 u = (float4(bits >> 8) + 1.0f) * 0x1p-24f;
  const float2 radius = sqrt(-2.0f * log(u.xz));
  const float2 angle = 2.0f * M_PI_F * u.yw;
  const float2 c = cos(angle), s = sin(angle);
  const float4 normal(radius.x * c.x, radius.x * s.x, radius.y * c.y, radius.y * s.y);
  out[i] = fma(normal, mean_and_deviation.y, mean_and_deviation.x);
}
