// expect: threadgroup-memory 7
#include <metal_stdlib>
using namespace metal;

template <int N>
kernel void k(device float* x [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  threadgroup float tile[N][N + 1];
  threadgroup float row[N];
  tile[i][i] = x[i];
  row[i] = tile[i][0];
}
template [[host_name("k_64")]] [[kernel]] decltype(k<64>) k<64>;
template [[host_name("k_96")]] [[kernel]] decltype(k<96>) k<96>;
