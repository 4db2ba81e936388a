// expect: host-name-clash 10
#include <metal_stdlib>
using namespace metal;

template <typename T>
kernel void fill(device T* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = T(1);
}
template [[host_name("fill_f")]] [[kernel]] decltype(fill<float>) fill<float>;
template [[host_name("fill_f")]] [[kernel]] decltype(fill<half>) fill<half>;
