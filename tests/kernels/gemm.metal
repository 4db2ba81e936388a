// Matrix products: tiles in threadgroup memory with registers, and SIMD-group matrices.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

using namespace metal;

struct GemmParams {
  int M;
  int N;
  int K;
  int lda;
  int ldb;
  int ldc;
  float alpha;
  float beta;
};

constant bool transpose_b [[function_constant(0)]];
constant bool use_out_source [[function_constant(1)]];

// Every thread keeps TM x TN results of a BM x BN tile.
template <typename T, int BM, int BN, int BK, int TM, int TN>
[[kernel]] void gemm_tiled(const device T* A [[buffer(0)]], const device T* B [[buffer(1)]],
                           const device T* C [[buffer(2), function_constant(use_out_source)]],
                           device T* D [[buffer(3)]], constant GemmParams& p [[buffer(4)]],
                           uint2 group [[threadgroup_position_in_grid]],
                           uint2 tid [[thread_position_in_threadgroup]],
                           uint index [[thread_index_in_threadgroup]]) {
  constexpr int threads = (BM / TM) * (BN / TN);
  threadgroup float As[BK][BM + 1];
  threadgroup float Bs[BK][BN + 1];
  float acc[TM][TN] = {{0}};
  const int row0 = group.y * BM, col0 = group.x * BN;

  for (int k0 = 0; k0 < p.K; k0 += BK) {
    for (int i = index; i < BM * BK; i += threads) {
      const int r = i / BK, k = i % BK;
      As[k][r] = row0 + r < p.M && k0 + k < p.K ? float(A[(row0 + r) * p.lda + k0 + k]) : 0.0f;
    }
    for (int i = index; i < BN * BK; i += threads) {
      const int c = transpose_b ? i / BK : i % BN, k = transpose_b ? i % BK : i / BN;
      const bool inside = col0 + c < p.N && k0 + k < p.K;
      const int at = transpose_b ? (col0 + c) * p.ldb + k0 + k : (k0 + k) * p.ldb + col0 + c;
      Bs[k][c] = inside ? float(B[at]) : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int k = 0; k < BK; k++) {
      float a[TM], b[TN];
      for (int i = 0; i < TM; i++) a[i] = As[k][tid.y * TM + i];
      for (int j = 0; j < TN; j++) b[j] = Bs[k][tid.x * TN + j];
      for (int i = 0; i < TM; i++) {
        for (int j = 0; j < TN; j++) acc[i][j] = fma(a[i], b[j], acc[i][j]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (int i = 0; i < TM; i++) {
    const int r = row0 + int(tid.y) * TM + i;
    for (int j = 0; j < TN; j++) {
      const int c = col0 + int(tid.x) * TN + j;
      if (r >= p.M || c >= p.N) continue;
      float v = p.alpha * acc[i][j];
      if (use_out_source) v += p.beta * float(C[r * p.ldc + c]);
      D[r * p.ldc + c] = T(v);
    }
  }
}

template [[host_name("gemm_tiled_f32")]] [[kernel]] decltype(gemm_tiled<float, 32, 16, 8, 4, 2>)
    gemm_tiled<float, 32, 16, 8, 4, 2>;
template [[host_name("gemm_tiled_f16")]] [[kernel]] decltype(gemm_tiled<half, 16, 32, 16, 2, 4>)
    gemm_tiled<half, 16, 32, 16, 2, 4>;

// The SIMD-groups of a threadgroup stand in WM rows and WN columns over a BM x BN tile of the result; what lies
// past the edges of the matrices is zero.
template <typename T, int BM, int BN, int BK, int WM, int WN>
[[kernel]] void gemm_simdgroup(const device T* A [[buffer(0)]], const device T* B [[buffer(1)]],
                               device T* D [[buffer(3)]], constant GemmParams& p [[buffer(4)]],
                               threadgroup T* shared [[threadgroup(0)]],
                               threadgroup float* staging [[threadgroup(1)]],
                               uint3 tid [[threadgroup_position_in_grid]],
                               uint lid [[thread_index_in_threadgroup]],
                               uint simd_group_id [[simdgroup_index_in_threadgroup]],
                               uint simd_lane_id [[thread_index_in_simdgroup]]) {
  constexpr int threads = WM * WN * 32;
  constexpr int TM = BM / (8 * WM), TN = BN / (8 * WN);
  constexpr int pad = 16 / sizeof(T), lda = BK + pad, ldb = BN + pad;
  threadgroup T* As = shared;
  threadgroup T* Bs = shared + BM * lda;
  const int row0 = tid.y * BM, col0 = tid.x * BN;
  const int tm = (simd_group_id / WN) * TM * 8, tn = (simd_group_id % WN) * TN * 8;

  simdgroup_matrix<float, 8, 8> results[TM][TN];
  for (int i = 0; i < TM; i++) {
    for (int j = 0; j < TN; j++) results[i][j] = simdgroup_matrix<float, 8, 8>(0);
  }
  A += size_t(tid.z) * p.M * p.lda;
  B += size_t(tid.z) * (transpose_b ? p.N : p.K) * p.ldb;
  D += size_t(tid.z) * p.M * p.ldc;

  for (int k0 = 0; k0 < p.K; k0 += BK) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = lid; i < BM * BK; i += threads) {
      const int r = i / BK, k = i % BK;
      As[r * lda + k] = row0 + r < p.M && k0 + k < p.K ? A[(row0 + r) * p.lda + k0 + k] : T(0);
    }
    for (int i = lid; i < BN * BK; i += threads) {
      const int c = transpose_b ? i / BK : i % BN, k = transpose_b ? i % BK : i / BN;
      const bool inside = col0 + c < p.N && k0 + k < p.K;
      const int at = transpose_b ? (col0 + c) * p.ldb + k0 + k : (k0 + k) * p.ldb + col0 + c;
      Bs[k * ldb + c] = inside ? B[at] : T(0);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int k = 0; k < BK; k += 8) {
      simdgroup_matrix<T, 8, 8> a[TM], b[TN];
      simdgroup_barrier(mem_flags::mem_none);
      for (int i = 0; i < TM; i++) simdgroup_load(a[i], As + (tm + i * 8) * lda + k, lda);
      for (int j = 0; j < TN; j++) simdgroup_load(b[j], Bs, ldb, ulong2(tn + j * 8, k));
      simdgroup_barrier(mem_flags::mem_none);
      for (int i = 0; i < TM; i++) {
        for (int j = 0; j < TN; j++) {
          // Serpentine, so that a neighbour's operand is still at hand.
          const int js = i % 2 != 0 ? TN - 1 - j : j;
          simdgroup_multiply_accumulate(results[i][js], a[i], b[js], results[i][js]);
        }
      }
    }
  }

  threadgroup float* mine = staging + simd_group_id * 64;
  for (int i = 0; i < TM; i++) {
    for (int j = 0; j < TN; j++) {
      simdgroup_store(results[i][j], mine, 8);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      for (int e = simd_lane_id; e < 64; e += 32) {
        const int r = row0 + tm + i * 8 + e / 8, c = col0 + tn + j * 8 + e % 8;
        if (r < p.M && c < p.N) D[r * p.ldc + c] = T(p.alpha * mine[e]);
      }
      simdgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
}

#define instantiate_gemm(name, type, bm, bn, bk, wm, wn)                                          \
  template [[host_name("gemm_simdgroup_" name)]] [[kernel]]                                      \
  decltype(gemm_simdgroup<type, bm, bn, bk, wm, wn>) gemm_simdgroup<type, bm, bn, bk, wm, wn>;

instantiate_gemm("f32_32x32", float, 32, 32, 16, 2, 2)
instantiate_gemm("f16_32x32", half, 32, 32, 16, 2, 2)
instantiate_gemm("bf16_16x64", bfloat, 16, 64, 8, 1, 2)

// One SIMD-group, whole tiles, straight from and to device memory.
kernel void gemm_8x8(const device float* A, const device float* B, device float* D, constant uint& K,
                     uint2 group [[threadgroup_position_in_grid]], uint2 groups [[threadgroups_per_grid]]) {
  const uint n = groups.x * 8;
  simdgroup_float8x8 sum(0.0f), left, right;
  for (uint k = 0; k < K; k += 8) {
    simdgroup_load(left, A, K, ulong2(k, group.y * 8));
    simdgroup_load(right, B, n, ulong2(group.x * 8, k));
    simdgroup_multiply_accumulate(sum, left, right, sum);
  }
  simdgroup_store(sum, D, n, ulong2(group.x * 8, group.y * 8));
}
