// Vectors, matrices and classes that lie in constant memory, and pointers to them.
#include <metal_stdlib>
using namespace metal;

struct Rotation {
  float2x2 m;
  float4 axis;
  int turns;
};

constant float4 braces = {1, 2, 3, 4};
constant float4 list{1, 2, 3, 4};
constant float4 parentheses(1, 2, 3, 4);
constant float4 same(2);
constant float4 copied = braces;
constant float2 rows[2] = {{1, 0}, {0, 1}};
constant float3x3 unit = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
constant float2x2 elements = {1, 0, 0, 1};
constant float2x2 columns(float2(1, 0), float2(0, 1));
constant float2x2 diagonal(2);
constant float2x2 again = diagonal;
constant half3 parts = {1.0h, half2(2.0h, 3.0h)};
constant packed_float3 packed = {1, 2, 3};
constant float3 unpacked = packed;
constant float3 computed = float3(1, float2(2, 3)).zyx * 2;
constant float2 converted(int2(1, 2));
constant array<float2, 2> pairs = {{{1, 2}, {3, 4}}};
constant Rotation rotation = {{{1, 0}, {0, 1}}, {1, 2, 3, 4}, 3};
constant Rotation rotations[2] = {{{{1, 0}, {0, 1}}, {1, 2, 3, 4}, 3}, {float2x2(1), float4(1), 2}};
constant Rotation turned = rotation;
constexpr constant int2 size = {3, 4};
constexpr constant float weights[4] = {1, 2, 3, 4};

// That what it points to is const besides changes nothing.
float sum(constant float* v) { return v[0] + v[1]; }
template <typename T>
T first(constant T* v) {
  T x = v[0];
  x += 1;
  return x;
}

template <typename P>
float increased(P p) {
  remove_addrspace_t<remove_pointer_t<P>> x = p[0];
  x += 1;
  return x;
}

kernel void constants(device float4* x [[buffer(0)]], constant float* given [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) {
  float room[size.x];
  float2x2 mine = {{1, 2}, {3, 4}};
  float2x2 mixed = float2x2(float2(1, 2), {3, 4});
  constant float* chosen = i > 2 ? weights : given;
  room[0] = sum(weights) + first(weights) + first(given) + increased(given);
  room[1] = chosen[1] + turned.axis.x + rotations[1].turns;
  x[i] = braces + list + parentheses + same + copied + float4(rows[0], rows[1]) + float4(unit[0], room[0] + room[1]);
  x[i] += float4(elements[0], columns[1]) + float4(diagonal[0], again[1]) + float4(mine[0], mixed[0]);
  x[i] += float(parts.x) + packed.y + unpacked.z + computed.x + converted.y + pairs[0].x + rotation.m[0].x;
}
