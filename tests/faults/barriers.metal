// Barriers with the wrong flags, and barriers that not all threads come to.
#include <metal_stdlib>

using namespace metal;

// case flags_none: the barrier orders execution, but no memory.
kernel void flags_none_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                              uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup float shared[64];
  shared[t] = x[t];  // FAULT first
  threadgroup_barrier(mem_flags::mem_none);
  y[t] = shared[n - 1 - t];  // FAULT second
}

kernel void flags_none_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                              uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup float shared[64];
  shared[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = shared[n - 1 - t];
}

// case flags_device: the barrier orders device memory, but the data is in threadgroup memory.
kernel void flags_device_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                threadgroup float* shared [[threadgroup(0)]],
                                uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  shared[t] = x[t];  // FAULT first
  threadgroup_barrier(mem_flags::mem_device);
  y[t] = shared[n - 1 - t];  // FAULT second
}

kernel void flags_device_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                threadgroup float* shared [[threadgroup(0)]],
                                uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  shared[t] = x[t];
  threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
  y[t] = shared[n - 1 - t];
}

// case flags_threadgroup: the data goes through device memory.
kernel void flags_threadgroup_faulty(device const float* x [[buffer(0)]], device float* between [[buffer(1)]],
                                     device float* y [[buffer(2)]], uint i [[thread_position_in_grid]],
                                     uint t [[thread_index_in_threadgroup]],
                                     uint n [[threads_per_threadgroup]]) {
  between[i] = x[i] * x[i];  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = between[i - t + n - 1 - t];  // FAULT second
}

kernel void flags_threadgroup_mended(device const float* x [[buffer(0)]], device float* between [[buffer(1)]],
                                     device float* y [[buffer(2)]], uint i [[thread_position_in_grid]],
                                     uint t [[thread_index_in_threadgroup]],
                                     uint n [[threads_per_threadgroup]]) {
  between[i] = x[i] * x[i];
  threadgroup_barrier(mem_flags::mem_device);
  y[i] = between[i - t + n - 1 - t];
}

// case simdgroup_flags_none: the same within a SIMD-group.
kernel void simdgroup_flags_none_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        uint t [[thread_index_in_threadgroup]],
                                        uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float shared[64];
  shared[t] = x[t];  // FAULT first
  simdgroup_barrier(mem_flags::mem_none);
  y[t] = shared[t - lane + 31 - lane];  // FAULT second
}

kernel void simdgroup_flags_none_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        uint t [[thread_index_in_threadgroup]],
                                        uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float shared[64];
  shared[t] = x[t];
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = shared[t - lane + 31 - lane];
}

// case simdgroup_flags_threadgroup: lanes exchange through device memory.
kernel void simdgroup_flags_threadgroup_faulty(device float* between [[buffer(0)]], device float* y [[buffer(1)]],
                                               uint i [[thread_position_in_grid]],
                                               uint lane [[thread_index_in_simdgroup]]) {
  between[i] = float(i);  // FAULT first
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = between[i ^ 1];  // FAULT second
}

kernel void simdgroup_flags_threadgroup_mended(device float* between [[buffer(0)]], device float* y [[buffer(1)]],
                                               uint i [[thread_position_in_grid]],
                                               uint lane [[thread_index_in_simdgroup]]) {
  between[i] = float(i);
  simdgroup_barrier(mem_flags::mem_device);
  y[i] = between[i ^ 1];
}

// case early_return: threads past the end return before a barrier.
kernel void early_return_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                constant uint& n [[buffer(2)]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float shared[64];
  if (t >= n) return;
  shared[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT first
  y[t] = shared[n - 1 - t];
}

kernel void early_return_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                constant uint& n [[buffer(2)]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float shared[64];
  if (t < n) shared[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < n) y[t] = shared[n - 1 - t];
}

// case two_branches: each branch has a barrier of its own.
kernel void two_branches_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint t [[thread_index_in_threadgroup]]) {
  threadgroup float shared[64];
  shared[t] = x[t];
  float v;
  if (t % 2 == 0) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT first
    v = shared[t + 1];
  } else {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT second
    v = -shared[t - 1];
  }
  y[t] = v;
}

kernel void two_branches_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint t [[thread_index_in_threadgroup]]) {
  threadgroup float shared[64];
  shared[t] = x[t];
  float v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t % 2 == 0) {
    v = shared[t + 1];
  } else {
    v = -shared[t - 1];
  }
  y[t] = v;
}

// case trip_counts: the threads go round a loop with a barrier different numbers of times.
kernel void trip_counts_faulty(device const uint* trips [[buffer(0)]], device uint* y [[buffer(1)]],
                               uint t [[thread_index_in_threadgroup]]) {
  threadgroup atomic_uint turns;
  if (t == 0) atomic_store_explicit(&turns, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint n = trips[t];
  for (uint k = 0; k < n; k++) {
    atomic_fetch_add_explicit(&turns, 1u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT first
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT second
  if (t == 0) y[0] = atomic_load_explicit(&turns, memory_order_relaxed);
}

kernel void trip_counts_mended(device const uint* trips [[buffer(0)]], device uint* y [[buffer(1)]],
                               uint t [[thread_index_in_threadgroup]]) {
  threadgroup atomic_uint turns, most;
  if (t == 0) {
    atomic_store_explicit(&turns, 0u, memory_order_relaxed);
    atomic_store_explicit(&most, 0u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint n = trips[t];
  atomic_fetch_max_explicit(&most, n, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint rounds = atomic_load_explicit(&most, memory_order_relaxed);
  for (uint k = 0; k < rounds; k++) {
    if (k < n) atomic_fetch_add_explicit(&turns, 1u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (t == 0) y[0] = atomic_load_explicit(&turns, memory_order_relaxed);
}

// case one_simdgroup_waits: only the first SIMD-group comes to the barrier of the threadgroup.
kernel void one_simdgroup_waits_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                       uint t [[thread_index_in_threadgroup]],
                                       uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float shared[32];
  if (simdgroup == 0) {
    shared[t] = x[t];
    threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT first
    y[t] = shared[31 - t];
  }
}

kernel void one_simdgroup_waits_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                       uint t [[thread_index_in_threadgroup]],
                                       uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float shared[32];
  if (simdgroup == 0) {
    shared[t] = x[t];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = shared[31 - t];
  }
}
