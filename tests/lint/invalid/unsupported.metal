// expect: unsupported 7, unsupported 9, unsupported 10, unsupported 12, unsupported 13, unsupported 14, unsupported 18, unsupported 19, unsupported 20, unsupported 21, unsupported 23, unsupported 26, unsupported 29
#include <metal_stdlib>
#include <metal_raytracing>
using namespace metal;

struct Buffers {
  device float* x [[id(0)]];
};
using namespace raytracing;
typedef texture2d<half> Picture;
kernel void k(device float* x [[buffer(0)]], constant Buffers& b [[buffer(1)]],
              texture2d<float> image [[texture(0)]], sampler s [[sampler(0)]],
              texture2d<half> unnumbered,
              Picture picture, uint i [[thread_position_in_grid]]) {
  x[i] = b.x[i] + image.sample(s, float2(0)).x + unnumbered.read(uint2(0)).x + picture.read(uint2(0)).y;
}
kernel void rays(device float* x [[buffer(0)]],
                 instance_acceleration_structure scene [[buffer(1)]],
                 visible_function_table<float(float)> functions [[buffer(2)]],
                 tensor<device half, dextents<int, 2>> matrix [[buffer(3)]],
                 metal::raytracing::intersection_function_table<triangle_data> table [[buffer(4)]],
                 uint i [[thread_position_in_grid]]) {
  raytracing::ray r;
  x[i] = functions[0](r.max_distance);
}
constexpr sampler program_scope(coord::normalized, address::clamp_to_edge);

// A kernel takes groups of any size here.
[[required_threads_per_threadgroup(32, 1, 1)]] kernel void sized(device float* x [[buffer(0)]]) { x[0] = 1; }
