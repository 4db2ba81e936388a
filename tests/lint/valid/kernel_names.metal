// Names of kernels that other things have too.
#include <metal_stdlib>
using namespace metal;

struct Store {
  float scale;
  float ones(float x) const { return scale * x; }
};
inline float plus_one(float a) { return a + 1; }

kernel void ones(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  const Store store = {2};
  x[i] = store.ones(1);
}
kernel void plus_one(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = plus_one(x[i]); }
kernel void copy(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  auto copy = [](float y) { return y; };
  x[i] = copy(x[i]);
}
kernel void max(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = metal::max(x[i], 1.0f); }
