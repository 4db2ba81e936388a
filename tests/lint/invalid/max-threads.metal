// expect: max-threads 5
#include <metal_stdlib>
using namespace metal;

[[kernel, max_total_threads_per_threadgroup(2048)]] void k(device float* x [[buffer(0)]]) {
  x[0] = 1;
}
