// Gather and scatter: embedding rows, a key-value cache, and experts chosen for each token.
#include <metal_stdlib>

using namespace metal;

template <typename T, typename I>
[[kernel]] void gather_rows(const device T* table [[buffer(0)]], const device I* indices [[buffer(1)]],
                            device T* out [[buffer(2)]], constant uint& dim [[buffer(3)]],
                            constant I& vocabulary [[buffer(4)]], uint2 position [[thread_position_in_grid]]) {
  I row = indices[position.y];
  if (row < 0) row += vocabulary;
  out[position.y * size_t(dim) + position.x] = table[size_t(row) * dim + position.x];
}

template [[host_name("gather_f16_i32")]] [[kernel]] decltype(gather_rows<half, int>) gather_rows<half, int>;
template [[host_name("gather_f32_i64")]] [[kernel]] decltype(gather_rows<float, long>) gather_rows<float, long>;
template [[host_name("gather_bf16_i32")]] [[kernel]] decltype(gather_rows<bfloat, int>) gather_rows<bfloat, int>;
template [[host_name("gather_u8_i64")]] [[kernel]] decltype(gather_rows<uint8_t, long>) gather_rows<uint8_t, long>;

struct CacheParams {
  uint heads;
  uint head_dim;
  uint block_size;
  uint max_blocks;
};

// New keys and values of each token into pages of block_size tokens; a page is [block_size, heads, head_dim].
// A slot of -1 is a padded token.
kernel void cache_scatter(constant CacheParams& params [[buffer(0)]], device const half* keys [[buffer(1)]],
                          device const half* values [[buffer(2)]], device const int* slots [[buffer(3)]],
                          device half* key_cache [[buffer(4)]], device half* value_cache [[buffer(5)]],
                          uint token [[threadgroup_position_in_grid]],
                          uint t [[thread_position_in_threadgroup]], uint threads [[threads_per_threadgroup]]) {
  const int slot = slots[token];
  if (slot < 0) return;
  const uint page = slot / params.block_size, within = slot % params.block_size;
  const uint n = params.heads * params.head_dim;
  const ulong to = (ulong(page) * params.block_size + within) * n;
  for (uint i = t; i < n; i += threads) {
    key_cache[to + i] = keys[ulong(token) * n + i];
    value_cache[to + i] = values[ulong(token) * n + i];
  }
}

// Scores of one query head against the pages that a table lists.
kernel void paged_scores(constant CacheParams& params [[buffer(0)]], device const half* query [[buffer(1)]],
                         device const half* key_cache [[buffer(2)]], device const uint* block_table [[buffer(3)]],
                         device float* scores [[buffer(4)]], constant uint& length [[buffer(5)]],
                         uint2 group [[threadgroup_position_in_grid]], uint2 groups [[threadgroups_per_grid]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups [[simdgroups_per_threadgroup]],
                         uint lane [[thread_index_in_simdgroup]]) {
  const uint head = group.y;
  for (uint i = group.x * simdgroups + simdgroup; i < length; i += groups.x * simdgroups) {
    const ulong row = ulong(block_table[i / params.block_size]) * params.block_size + i % params.block_size;
    device const half* key = key_cache + (row * params.heads + head) * params.head_dim;
    float sum = 0;
    for (uint j = lane; j < params.head_dim; j += 32) sum += float(query[head * params.head_dim + j]) * float(key[j]);
    sum = simd_sum(sum);
    if (simd_is_first()) scores[head * length + i] = sum;
  }
}

constant constexpr uint max_experts = 64;

// The experts of largest weight for each token, and their weights, which add up to one. One SIMD-group a token,
// two experts a lane.
kernel void moe_route(device const float* logits [[buffer(0)]], device uint* chosen [[buffer(1)]],
                      device float* weights [[buffer(2)]], constant uint& experts [[buffer(3)]],
                      constant uint& top_k [[buffer(4)]], uint token [[threadgroup_position_in_grid]],
                      uint lane [[thread_index_in_simdgroup]]) {
  float own[2];
  for (uint j = 0; j < 2; j++) {
    const uint e = lane + 32 * j;
    own[j] = e < experts ? logits[token * experts + e] : -INFINITY;
  }
  float largest = 0.0f, sum = 0.0f;
  for (uint k = 0; k < top_k; k++) {
    const float best = simd_max(max(own[0], own[1]));
    const uint mine = own[0] == best ? lane : (own[1] == best ? lane + 32 : max_experts);
    const uint winner = simd_min(mine);
    if (k == 0) largest = best;
    const float weight = exp(best - largest);
    sum += weight;
    if (winner % 32 == lane) {
      own[winner / 32] = -INFINITY;
      chosen[token * top_k + k] = winner;
      weights[token * top_k + k] = weight;
    }
  }
  simdgroup_barrier(mem_flags::mem_device);
  if (lane < top_k) weights[token * top_k + lane] /= sum;
}

// Each token's input through each of its experts' matrices [experts, rows, columns].
kernel void moe_mat_vec(device const half* matrices [[buffer(0)]], device const float* x [[buffer(1)]],
                        device const uint* chosen [[buffer(2)]], device const float* weights [[buffer(3)]],
                        device float* y [[buffer(4)]], constant uint4& shape [[buffer(5)]],
                        uint3 group [[threadgroup_position_in_grid]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]],
                        uint lane [[thread_index_in_simdgroup]]) {
  const uint rows = shape.x, columns = shape.y, top_k = shape.z;
  const uint token = group.y, row = group.x * simdgroups + simdgroup;
  if (row >= rows) return;
  float total = 0.0f;
  for (uint k = 0; k < top_k; k++) {
    const uint expert = chosen[token * top_k + k];
    device const half* m = matrices + (ulong(expert) * rows + row) * columns;
    float sum = 0.0f;
    for (uint i = lane; i < columns; i += 32) sum = fma(float(m[i]), x[token * columns + i], sum);
    total += weights[token * top_k + k] * simd_sum(sum);
  }
  if (lane == 0) y[token * rows + row] = total;
}
