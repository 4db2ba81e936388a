// A row in threadgroup memory, sorted by a bitonic network: all of it, its indices, or the first k.
#include <metal_stdlib>

using namespace metal;

#define SORT_ASC 0
#define SORT_DESC 1

template <int order>
inline bool goes_after(float a, int ia, float b, int ib) {
  if (a == b) return ia > ib;  // stable
  return order == SORT_ASC ? a > b : a < b;
}

template <int order>
inline void sort_shared(threadgroup float* values, threadgroup int* indices, int padded, int tid) {
  for (int k = 2; k <= padded; k *= 2) {
    for (int j = k / 2; j > 0; j /= 2) {
      const int other = tid ^ j;
      if (other > tid) {
        const bool up = (tid & k) == 0;
        const bool after = goes_after<order>(values[tid], indices[tid], values[other], indices[other]);
        if (after == up) {
          const float value = values[tid];
          const int index = indices[tid];
          values[tid] = values[other];
          indices[tid] = indices[other];
          values[other] = value;
          indices[other] = index;
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
}

template <int order>
kernel void kernel_argsort(device const float* x [[buffer(0)]], device int32_t* dst [[buffer(1)]],
                           device float* sorted [[buffer(2)]], constant int& ncols [[buffer(3)]],
                           constant int& keep [[buffer(4)]], threadgroup float* values [[threadgroup(0)]],
                           threadgroup int* indices [[threadgroup(1)]],
                           uint3 tgpig [[threadgroup_position_in_grid]],
                           uint3 tpitg [[thread_position_in_threadgroup]],
                           uint3 ntg [[threads_per_threadgroup]]) {
  const int tid = tpitg[0];
  const int row = tgpig[1];
  values[tid] = tid < ncols ? x[row * ncols + tid] : (order == SORT_ASC ? INFINITY : -INFINITY);
  indices[tid] = tid;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sort_shared<order>(values, indices, ntg.x, tid);
  if (tid < keep) {
    dst[row * keep + tid] = indices[tid];
    sorted[row * keep + tid] = values[tid];
  }
}

typedef decltype(kernel_argsort<SORT_ASC>) argsort_t;
template [[host_name("kernel_argsort_f32_asc")]] kernel argsort_t kernel_argsort<SORT_ASC>;
template [[host_name("kernel_argsort_f32_desc")]] kernel argsort_t kernel_argsort<SORT_DESC>;
