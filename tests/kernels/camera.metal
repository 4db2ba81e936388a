// Points through a camera: matrices, packed vectors, structs of them, normal vectors packed into words.
#include <metal_stdlib>

using namespace metal;

struct Camera {
  float4x4 view_projection;
  float3x3 normal_matrix;
  float3 eye;
  float2 viewport;
};

struct Vertex {
  packed_float3 position;
  packed_float3 normal;
  packed_half2 texture;
};

struct Projected {
  float4 screen;
  uint normal;
  uint texture;
  half facing;
};

constant float2 corner_offsets[4] = {float2(-1, -1), float2(1, -1), float2(-1, 1), float2(1, 1)};

kernel void project(device const Vertex* vertices [[buffer(0)]], device Projected* out [[buffer(1)]],
                    constant Camera& camera [[buffer(2)]], constant uint& count [[buffer(3)]],
                    uint i [[thread_position_in_grid]]) {
  if (i >= count) return;
  const Vertex v = vertices[i];
  const float4 clip = camera.view_projection * float4(float3(v.position), 1.0f);
  const float3 ndc = clip.xyz / clip.w;
  const float3 normal = normalize(camera.normal_matrix * float3(v.normal));
  const float2 nudge = corner_offsets[i % 4] * 0.25f;
  Projected p;
  p.screen = float4((ndc.xy * 0.5f + 0.5f) * camera.viewport + nudge, ndc.z, clip.w);
  p.normal = pack_float_to_snorm4x8(float4(normal, 0.0f));
  p.texture = pack_half_to_unorm2x16(half2(v.texture));
  p.facing = half(dot(normal, normalize(camera.eye - float3(v.position))));
  out[i] = p;
}
