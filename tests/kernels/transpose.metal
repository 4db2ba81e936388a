// Transposition through a padded tile, so that neither side is strided and no bank is hit twice.
#include <metal_stdlib>

using namespace metal;

#define TILE 32
#define ROWS 8

template <typename T>
kernel void transpose(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                      constant uint2& shape [[buffer(2)]], uint3 group [[threadgroup_position_in_grid]],
                      uint3 t [[thread_position_in_threadgroup]]) {
  threadgroup T tile[TILE][TILE + 1];
  const uint rows = shape.y, columns = shape.x;
  in += size_t(group.z) * rows * columns;
  out += size_t(group.z) * rows * columns;
  for (uint j = t.y; j < TILE; j += ROWS) {
    const uint r = group.y * TILE + j, c = group.x * TILE + t.x;
    if (r < rows && c < columns) tile[j][t.x] = in[r * columns + c];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint j = t.y; j < TILE; j += ROWS) {
    const uint r = group.x * TILE + j, c = group.y * TILE + t.x;
    if (r < columns && c < rows) out[r * rows + c] = tile[t.x][j];
  }
}

template [[host_name("transpose_u8")]] kernel decltype(transpose<uchar>) transpose<uchar>;
template [[host_name("transpose_u16")]] kernel decltype(transpose<ushort>) transpose<ushort>;
template [[host_name("transpose_u32")]] kernel decltype(transpose<uint>) transpose<uint>;
template [[host_name("transpose_u64")]] kernel decltype(transpose<ulong>) transpose<ulong>;
