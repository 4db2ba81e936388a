// Memory that the whole device, or the host, sees; and logging.
#include <metal_stdlib>
using namespace metal;

kernel void fence(volatile coherent(system) device uint* x [[buffer(0)]],
                  device coherent(device) float* y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  x[i] = uint(y[i]);
  atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_system);
  os_log_default.log("wrote %u", x[i]);
}

// Vectors are known without their namespace, and numbers of one type to each function.
namespace other {
enum Kind { none, some };
float4 widest(float2 v, packed_float3 w, ushort n, bool b) {
  float most = metal::max(metal::min(v.x, 1.0), metal::clamp(w.x, 0.0f, 1.0f));
  int count = metal::max(some, 3) + metal::max(b, 4) + metal::min(n, ushort(3)) + metal::max3(1, 2, 3);
  return metal::max(float4(v, v), 0) + metal::min(w, float3(1)).x + metal::fast::max(most, 1) + count;
}
}  // namespace other
