// expect: unsupported 6, unsupported 9
#include <metal_stdlib>
using namespace metal;

struct Buffers {
  device float* x [[id(0)]];
};
kernel void k(device float* x [[buffer(0)]], constant Buffers& b [[buffer(1)]],
              texture2d<float> image [[texture(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = b.x[i];
}
