// RMS norm of the last axis, with an optional weight and an optional product.
#include "include/rows.h"
#include "params/rms_norm.h"

// One threadgroup normalises one row. The row is read twice, the second time from a cache.
template <typename T, typename W, bool weighted, bool scaled>
inline void normalize_row(constant RmsNormParams& params, const device T* x, device T* y, const device W* weight,
                          const device T* scale, uint row, uint rows, Team team, threadgroup float* partial) {
  const uint dim = params.dim;
  const ulong start = ulong(row) * dim;
  const device T* in = x + start;
  const device T* factor = scaled ? scale + start : x;
  device T* out = y + start;
  const bool chunked = !chunks_need_alignment || params.vectorized != 0;

  float sum = 0.0f;
  const uint wide = chunked ? dim - dim % read_size : 0;
  for (uint i = team.thread_index * read_size; i < wide; i += team.threads * read_size) {
    float v[read_size];
    load_chunk(v, in + i);
    for (uint j = 0; j < read_size; j++) sum += v[j] * v[j];
  }
  for (uint i = wide + team.thread_index; i < dim; i += team.threads) {
    const float v = float(in[i]);
    sum += v * v;
  }
  const float inverse = rsqrt(threadgroup_sum(sum, team, partial) / float(dim) + params.eps);

  RowWriter<T> writer(out, streams(ulong(rows) * dim * sizeof(T), team.width));
  const uint whole = chunked ? dim - dim % chunk_size : 0;
  for (uint i = team.thread_index * chunk_size; i < whole; i += team.threads * chunk_size) {
    float v[chunk_size], w[chunk_size];
    load_chunk(v, in + i);
    prefetch(in + dim + i, chunk_size);
    if (weighted) {
      load_chunk(w, weight + i);
      for (uint j = 0; j < chunk_size; j++) v[j] = v[j] * inverse * w[j];
    } else {
      for (uint j = 0; j < chunk_size; j++) v[j] *= inverse;
    }
    if (scaled) {
      load_chunk(w, factor + i);
      prefetch(factor + dim + i, chunk_size);
      for (uint j = 0; j < chunk_size; j++) v[j] *= w[j];
    }
    writer.store_chunk(out + i, v);
  }
  for (uint i = whole + team.thread_index; i < dim; i += team.threads) {
    float v = float(in[i]) * inverse;
    if (weighted) v *= float(weight[i]);
    if (scaled) v *= float(factor[i]);
    writer.store_one(out + i, v);
  }
  writer.finish();
}

#define ROW_ARGUMENTS \
  uint row [[threadgroup_position_in_grid]], uint rows [[threadgroups_per_grid]], TEAM_ARGUMENTS

template <typename T>
[[kernel]] void rms_norm(constant RmsNormParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                         device T* y [[buffer(2)]], ROW_ARGUMENTS) {
  threadgroup float partial[max_simdgroups];
  normalize_row<T, T, false, false>(params, x, y, x, x, row, rows, TEAM, partial);
}

template <typename T, typename W>
[[kernel]] void rms_norm_weighted(constant RmsNormParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                                  device T* y [[buffer(2)]], const device W* weight [[buffer(3)]], ROW_ARGUMENTS) {
  threadgroup float partial[max_simdgroups];
  normalize_row<T, W, true, false>(params, x, y, weight, x, row, rows, TEAM, partial);
}

template <typename T, typename W>
[[kernel]] void rms_norm_mul(constant RmsNormParams& params [[buffer(0)]], const device T* x [[buffer(1)]],
                             device T* y [[buffer(2)]], const device W* weight [[buffer(3)]],
                             const device T* scale [[buffer(4)]], ROW_ARGUMENTS) {
  threadgroup float partial[max_simdgroups];
  normalize_row<T, W, true, true>(params, x, y, weight, scale, row, rows, TEAM, partial);
}

#define INSTANTIATE_PLAIN(name, T) template [[host_name("rms_norm_" name)]] [[kernel]] decltype(rms_norm<T>) rms_norm<T>;
#define INSTANTIATE(name, T, W)                                                                              \
  template [[host_name("rms_norm_" name)]] [[kernel]] decltype(rms_norm_weighted<T, W>) rms_norm_weighted<T, W>; \
  template [[host_name("rms_norm_mul_" name)]] [[kernel]] decltype(rms_norm_mul<T, W>) rms_norm_mul<T, W>;

INSTANTIATE_PLAIN("f32", float)
INSTANTIATE_PLAIN("f16", half)
INSTANTIATE_PLAIN("bf16", bfloat)
INSTANTIATE("f32_f32", float, float)
INSTANTIATE("f16_f32", half, float)
INSTANTIATE("f16_f16", half, half)
INSTANTIATE("bf16_f32", bfloat, float)
INSTANTIATE("bf16_bf16", bfloat, bfloat)
