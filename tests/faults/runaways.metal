// Kernels that never end.
#include <metal_stdlib>

using namespace metal;

// case no_progress: zero never becomes one.
kernel void no_progress_faulty(device const uint* x [[buffer(0)]], device uint* y [[buffer(1)]],
                               uint i [[thread_position_in_grid]]) {
  uint v = x[i];
  uint steps = 0;
  while (v != 1) {                            // FAULT first
    v = v % 2 == 0 ? v / 2 : 3 * v + 1;       // FAULT first
    y[i] = steps++;                           // FAULT first
  }
}

kernel void no_progress_mended(device const uint* x [[buffer(0)]], device uint* y [[buffer(1)]],
                               uint i [[thread_position_in_grid]]) {
  uint v = x[i];
  uint steps = 0;
  while (v > 1) {
    v = v % 2 == 0 ? v / 2 : 3 * v + 1;
    y[i] = steps++;
  }
}

// case flag_nobody_sets: a threadgroup waits for one that does not run yet.
kernel void flag_nobody_sets_faulty(device atomic_uint* flag [[buffer(0)]], device uint* y [[buffer(1)]],
                                    uint i [[thread_position_in_grid]]) {
  while (atomic_load_explicit(flag, memory_order_relaxed) == 0) {  // FAULT first
  }
  y[i] = 1;
}

kernel void flag_nobody_sets_mended(device atomic_uint* flag [[buffer(0)]], device uint* y [[buffer(1)]],
                                    uint i [[thread_position_in_grid]]) {
  uint tries = 0;
  while (atomic_load_explicit(flag, memory_order_relaxed) == 0 && tries < 100) tries++;
  y[i] = tries;
}

// case lock_of_lanes: lanes of a SIMD-group take a lock that one of them never gives back.
kernel void lock_of_lanes_faulty(device atomic_uint* lock [[buffer(0)]], device uint* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  while (atomic_exchange_explicit(lock, 1u, memory_order_relaxed) != 0) {  // FAULT first
  }
  y[0] += 1;
}

kernel void lock_of_lanes_mended(device atomic_uint* lock [[buffer(0)]], device atomic_uint* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(y, 1u, memory_order_relaxed);
}
