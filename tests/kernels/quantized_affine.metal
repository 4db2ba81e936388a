// Mat-vec with weights packed into 32-bit words, a scale and a bias for each group of values along a row.
#include <metal_simdgroup>
#include <metal_stdlib>

using namespace metal;

#define MLX_MTL_CONST static constant constexpr const

MLX_MTL_CONST int SIMD_SIZE = 32;

template <typename T, typename U, int values_per_thread, int bits>
inline U load_vector(const device T* x, thread U* x_thread) {
  static_assert(bits == 2 || bits == 4 || bits == 8, "bits must divide a byte or be one");
  U sum = 0;
  for (int i = 0; i < values_per_thread; i++) {
    x_thread[i] = x[i];
    sum += x_thread[i];
  }
  return sum;
}

template <typename U, int values_per_thread, int bits>
inline U qdot(const device uint8_t* w, const thread U* x_thread, U scale, U bias, U sum) {
  constexpr int per_byte = 8 / bits;
  constexpr uint8_t mask = (1 << bits) - 1;
  U accum = 0;
  for (int i = 0; i < values_per_thread / per_byte; i++) {
    uint8_t byte = w[i];
    for (int j = 0; j < per_byte; j++) {
      accum += x_thread[i * per_byte + j] * (byte & mask);
      byte >>= bits;
    }
  }
  return scale * accum + sum * bias;
}

template <typename T, const int group_size, const int bits>
[[kernel]] void affine_qmv(const device uint32_t* w [[buffer(0)]], const device T* scales [[buffer(1)]],
                           const device T* biases [[buffer(2)]], const device T* x [[buffer(3)]],
                           device T* y [[buffer(4)]], const constant int& in_vec_size [[buffer(5)]],
                           const constant int& out_vec_size [[buffer(6)]],
                           uint3 tid [[threadgroup_position_in_grid]],
                           uint simd_gid [[simdgroup_index_in_threadgroup]],
                           uint simd_lid [[thread_index_in_simdgroup]]) {
  constexpr int num_simdgroups = 2;
  constexpr int results_per_simdgroup = 4;
  constexpr int pack_factor = 32 / bits;
  constexpr int values_per_thread = pack_factor;
  constexpr int block_size = values_per_thread * SIMD_SIZE;

  typedef float U;
  thread U x_thread[values_per_thread];
  thread U result[results_per_simdgroup] = {0};

  const int row_words = in_vec_size / pack_factor;
  const int row_groups = in_vec_size / group_size;
  const int out_row = tid.y * (num_simdgroups * results_per_simdgroup) + simd_gid * results_per_simdgroup;
  const int rows = min(results_per_simdgroup, out_vec_size - out_row);
  if (rows <= 0) {
    return;
  }

  x += tid.x * in_vec_size;
  y += tid.x * out_vec_size + out_row;
  for (int k = simd_lid * values_per_thread; k < in_vec_size; k += block_size) {
    const U sum = load_vector<T, U, values_per_thread, bits>(x + k, x_thread);
    for (int row = 0; row < rows; row++) {
      const device uint8_t* wl = (const device uint8_t*)(w + (out_row + row) * row_words + k / pack_factor);
      const int g = (out_row + row) * row_groups + k / group_size;
      result[row] += qdot<U, values_per_thread, bits>(wl, x_thread, scales[g], biases[g], sum);
    }
  }

  for (int row = 0; row < rows; row++) {
    result[row] = simd_sum(result[row]);
    if (simd_lid == 0) {
      y[row] = static_cast<T>(result[row]);
    }
  }
}

#define instantiate_qmv(type, group_size, bits)                                                       \
  template [[host_name("affine_qmv_" #type "_gs_" #group_size "_b_" #bits)]] [[kernel]] void         \
  affine_qmv<type, group_size, bits>(                                                                \
      const device uint32_t* w [[buffer(0)]], const device type* scales [[buffer(1)]],               \
      const device type* biases [[buffer(2)]], const device type* x [[buffer(3)]],                   \
      device type* y [[buffer(4)]], const constant int& in_vec_size [[buffer(5)]],                   \
      const constant int& out_vec_size [[buffer(6)]], uint3 tid [[threadgroup_position_in_grid]],    \
      uint simd_gid [[simdgroup_index_in_threadgroup]], uint simd_lid [[thread_index_in_simdgroup]]);

#define instantiate_groups(type, bits) \
  instantiate_qmv(type, 32, bits)      \
  instantiate_qmv(type, 64, bits)

instantiate_groups(float, 4)
instantiate_groups(float, 8)
instantiate_groups(half, 4)
instantiate_groups(bfloat, 4)
instantiate_groups(bfloat, 2)
