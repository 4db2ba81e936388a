// Attention: one query at a time with an online softmax, and tiles of queries with SIMD-group matrices.
#include <metal_simdgroup>
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

using namespace metal;

constant bool has_mask [[function_constant(20)]];
constant bool do_causal [[function_constant(21)]];

// One threadgroup for one query head; its SIMD-groups share the keys out and merge at the end.
template <typename T, int D>
[[kernel]] void sdpa_vector(const device T* queries [[buffer(0)]], const device T* keys [[buffer(1)]],
                            const device T* values [[buffer(2)]], device T* out [[buffer(3)]],
                            const constant int& gqa_factor [[buffer(4)]], const constant int& N [[buffer(5)]],
                            const constant float& scale [[buffer(6)]],
                            const device bool* mask [[buffer(7), function_constant(has_mask)]],
                            uint3 tid [[threadgroup_position_in_grid]],
                            uint simd_gid [[simdgroup_index_in_threadgroup]],
                            uint simd_lid [[thread_index_in_simdgroup]]) {
  constexpr int BN = 8;
  constexpr int BD = 32;
  constexpr int per_thread = D / BD;
  typedef float U;

  thread U q[per_thread];
  thread U o[per_thread];
  threadgroup U outputs[BN * BD];
  threadgroup U max_scores[BN];
  threadgroup U sum_exp_scores[BN];

  const int head = tid.x;
  const int kv_head = head / gqa_factor;
  queries += head * D + simd_lid * per_thread;
  keys += kv_head * N * D + simd_gid * D + simd_lid * per_thread;
  values += kv_head * N * D + simd_gid * D + simd_lid * per_thread;
  out += head * D;

  for (int i = 0; i < per_thread; i++) {
    q[i] = static_cast<U>(scale) * queries[i];
    o[i] = 0;
  }
  U max_score = -INFINITY;
  U sum_exp_score = 0;

  for (int i = simd_gid; i < N; i += BN) {
    bool use_key = true;
    if (has_mask) {
      use_key = mask[head * N + i];
    }
    if (use_key) {
      U score = 0;
      for (int j = 0; j < per_thread; j++) {
        score += q[j] * keys[j];
      }
      score = simd_sum(score);
      const U new_max = max(max_score, score);
      const U factor = fast::exp(max_score - new_max);
      const U exp_score = fast::exp(score - new_max);
      max_score = new_max;
      sum_exp_score = sum_exp_score * factor + exp_score;
      for (int j = 0; j < per_thread; j++) {
        o[j] = o[j] * factor + exp_score * values[j];
      }
    }
    keys += BN * D;
    values += BN * D;
  }

  if (simd_lid == 0) {
    max_scores[simd_gid] = max_score;
    sum_exp_scores[simd_gid] = sum_exp_score;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  max_score = simd_lid < BN ? max_scores[simd_lid] : -INFINITY;
  const U new_max = simd_max(max_score);
  const U factor = simd_lid < BN ? fast::exp(max_score - new_max) : 0;
  sum_exp_score = simd_sum(simd_lid < BN ? sum_exp_scores[simd_lid] * factor : 0);

  for (int i = 0; i < per_thread; i++) {
    // Transposed on the way through memory: lane BN of them at a time for each SIMD-group.
    outputs[simd_gid * BD + simd_lid] = o[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int lane = simd_gid; lane < BD; lane += BN) {
      const U part = simd_lid < BN ? outputs[simd_lid * BD + lane] * factor : 0;
      const U total = simd_sum(part);
      if (simd_lid == 0) {
        out[lane * per_thread + i] = static_cast<T>(total / sum_exp_score);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

#define instantiate_kernel(name, func, ...) \
  template [[host_name(name)]] [[kernel]] decltype(func<__VA_ARGS__>) func<__VA_ARGS__>;

instantiate_kernel("sdpa_vector_float_64", sdpa_vector, float, 64)
instantiate_kernel("sdpa_vector_float_128", sdpa_vector, float, 128)
instantiate_kernel("sdpa_vector_half_64", sdpa_vector, half, 64)
instantiate_kernel("sdpa_vector_bfloat_96", sdpa_vector, bfloat, 96)

struct AttentionParams {
  int heads;
  int queries;
  int keys;
  float scale;
};

// Eight queries to a SIMD-group. Scores go through threadgroup memory, where four lanes look after a row, and
// the output is rescaled by a diagonal matrix.
template <typename T, int D, int simdgroups>
[[kernel]] void flash_attention(constant AttentionParams& params [[buffer(0)]], const device T* q [[buffer(1)]],
                                const device T* k [[buffer(2)]], const device T* v [[buffer(3)]],
                                device float* out [[buffer(4)]], threadgroup T* shared [[threadgroup(0)]],
                                uint3 group [[threadgroup_position_in_grid]],
                                ushort thread_index [[thread_index_in_threadgroup]],
                                ushort lane [[thread_index_in_simdgroup]],
                                ushort simdgroup [[simdgroup_index_in_threadgroup]]) {
  constexpr int Q = 8;    // queries of a SIMD-group
  constexpr int C = 32;   // keys of a step
  constexpr int threads = simdgroups * 32;
  threadgroup float scores[simdgroups * Q * C];
  threadgroup float rescale[simdgroups * Q * 8];

  const int head = group.y;
  const int first_query = (group.x * simdgroups + simdgroup) * Q;
  q += long(head) * params.queries * D;
  k += long(head) * params.keys * D;
  v += long(head) * params.keys * D;
  out += long(head) * params.queries * D;

  threadgroup T* sq = shared + simdgroup * Q * D;
  threadgroup T* sk = shared + simdgroups * Q * D;
  threadgroup T* sv = sk + C * D;
  threadgroup float* ss = scores + simdgroup * Q * C;
  threadgroup float* sr = rescale + simdgroup * Q * 8;

  for (int i = lane; i < Q * D; i += 32) {
    const int row = first_query + i / D;
    sq[i] = row < params.queries ? q[row * D + i % D] : T(0);
  }
  for (int i = lane; i < Q * 8; i += 32) sr[i] = 0.0f;
  simdgroup_barrier(mem_flags::mem_threadgroup);

  simdgroup_matrix<T, 8, 8> mq[D / 8];
  simdgroup_float8x8 mo[D / 8];
  for (int i = 0; i < D / 8; i++) {
    simdgroup_load(mq[i], sq + i * 8, D);
    mo[i] = make_filled_simdgroup_matrix<float, 8>(0.0f);
  }

  const short row = lane / 4, part = lane % 4;
  float running_max = -FLT_MAX / 2, running_sum = 0.0f;
  for (int first_key = 0; first_key < params.keys; first_key += C) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = thread_index; i < C * D; i += threads) {
      const int key = first_key + i / D;
      sk[i] = key < params.keys ? k[key * D + i % D] : T(0);
      sv[i] = key < params.keys ? v[key * D + i % D] : T(0);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    for (int c = 0; c < C; c += 8) {
      simdgroup_float8x8 ms = make_filled_simdgroup_matrix<float, 8>(0.0f);
      for (int i = 0; i < D / 8; i++) {
        simdgroup_matrix<T, 8, 8> mk;
        simdgroup_load(mk, sk + c * D + i * 8, D, 0, true);
        simdgroup_multiply_accumulate(ms, mq[i], mk, ms);
      }
      simdgroup_store(ms, ss + c, C);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);

    float largest = running_max;
    for (short j = part; j < C; j += 4) {
      const int key = first_key + j;
      const bool seen = key < params.keys && (!do_causal || key <= first_query + row);
      const float s = seen ? ss[row * C + j] * params.scale : -FLT_MAX / 2;
      ss[row * C + j] = s;
      largest = max(largest, s);
    }
    largest = max(largest, simd_shuffle_xor(largest, 1));
    largest = max(largest, simd_shuffle_xor(largest, 2));
    const float factor = exp(running_max - largest);
    float sum = 0.0f;
    for (short j = part; j < C; j += 4) {
      const float s = ss[row * C + j];
      const float p = s > -FLT_MAX / 4 ? exp(s - largest) : 0.0f;
      ss[row * C + j] = p;
      sum += p;
    }
    sum += simd_shuffle_xor(sum, 1);
    sum += simd_shuffle_xor(sum, 2);
    running_sum = running_sum * factor + sum;
    running_max = largest;
    if (part == 0) sr[row * 8 + row] = factor;
    simdgroup_barrier(mem_flags::mem_threadgroup);

    simdgroup_float8x8 mr;
    simdgroup_load(mr, sr, 8);
    for (int i = 0; i < D / 8; i++) simdgroup_multiply(mo[i], mr, mo[i]);
    for (int c = 0; c < C; c += 8) {
      simdgroup_float8x8 mp;
      simdgroup_load(mp, ss + c, C);
      for (int i = 0; i < D / 8; i++) {
        simdgroup_matrix<T, 8, 8> mv;
        simdgroup_load(mv, sv + c * D + i * 8, D);
        simdgroup_multiply_accumulate(mo[i], mp, mv, mo[i]);
      }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }

  if (part == 0) sr[row * 8 + row] = 1.0f / running_sum;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 mr;
  simdgroup_load(mr, sr, 8);
  for (int i = 0; i < D / 8; i++) {
    simdgroup_multiply(mo[i], mr, mo[i]);
    simdgroup_store(mo[i], ss, 8);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (short j = lane; j < 64; j += 32) {
      const int r = first_query + j / 8;
      if (r < params.queries) out[r * D + i * 8 + j % 8] = ss[j];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}

template [[host_name("flash_attention_f32_d32")]] [[kernel]] decltype(flash_attention<float, 32, 2>)
    flash_attention<float, 32, 2>;
template [[host_name("flash_attention_f16_d64")]] [[kernel]] decltype(flash_attention<half, 64, 2>)
    flash_attention<half, 64, 2>;

// The same without threadgroup memory: each lane knows which two elements of a tile are its own, and rows are
// reduced by shuffles between the lanes that share them.
struct TilePlace {
  short row;
  short column;
};

inline TilePlace tile_place(ushort lane) {
  const short quad = lane / 4;
  return TilePlace{short((quad & 4) + (lane / 2) % 4), short((quad & 2) * 2 + (lane % 2) * 2)};
}

template <typename T, bool transposed>
inline simdgroup_matrix<float, 8, 8> load_safe(const device T* from, int stride, int rows, int columns,
                                               TilePlace place) {
  simdgroup_matrix<float, 8, 8> tile;
  for (short e = 0; e < 2; e++) {
    const int r = transposed ? place.column + e : place.row;
    const int c = transposed ? place.row : place.column + e;
    tile.thread_elements()[e] = r < rows && c < columns ? float(from[r * stride + c]) : 0.0f;
  }
  return tile;
}

inline float row_reduce_max(float v) {
  v = max(v, simd_shuffle_xor(v, ushort(1)));
  return max(v, simd_shuffle_xor(v, ushort(8)));
}

inline float row_reduce_sum(float v) {
  v += simd_shuffle_xor(v, ushort(1));
  return v + simd_shuffle_xor(v, ushort(8));
}

template <typename T, int D>
[[kernel]] void register_attention(constant AttentionParams& params [[buffer(0)]], const device T* q [[buffer(1)]],
                                   const device T* k [[buffer(2)]], const device T* v [[buffer(3)]],
                                   device T* out [[buffer(4)]], uint2 group [[threadgroup_position_in_grid]],
                                   ushort lane [[thread_index_in_simdgroup]]) {
  const TilePlace place = tile_place(lane);
  const int first_query = group.x * 8;
  const int query_rows = params.queries - first_query;
  q += (group.y * params.queries + first_query) * D;
  k += group.y * params.keys * D;
  v += group.y * params.keys * D;
  out += (group.y * params.queries + first_query) * D;

  simdgroup_matrix<float, 8, 8> tiles_q[D / 8], tiles_o[D / 8];
#pragma clang loop unroll(full)
  for (short i = 0; i < D / 8; i++) {
    tiles_q[i] = load_safe<T, false>(q + i * 8, D, query_rows, 8, place);
    tiles_o[i] = simdgroup_matrix<float, 8, 8>(0.0f);
  }
  float largest = -1e30f, total = 0.0f;
  for (int key = 0; key < params.keys; key += 8) {
    const int key_rows = params.keys - key;
    simdgroup_matrix<float, 8, 8> scores(0.0f);
    for (short i = 0; i < D / 8; i++) {
      const simdgroup_matrix<float, 8, 8> tile_k = load_safe<T, true>(k + key * D + i * 8, D, key_rows, 8, place);
      simdgroup_multiply_accumulate(scores, tiles_q[i], tile_k, scores);
    }
    thread auto& s = scores.thread_elements();
    for (short e = 0; e < 2; e++) s[e] = place.column + e < key_rows ? s[e] * params.scale : -1e30f;
    const float next = max(largest, row_reduce_max(max(s[0], s[1])));
    const float factor = exp(largest - next);
    for (short e = 0; e < 2; e++) s[e] = exp(s[e] - next);
    total = total * factor + row_reduce_sum(s[0] + s[1]);
    largest = next;
    for (short i = 0; i < D / 8; i++) {
      for (short e = 0; e < 2; e++) tiles_o[i].thread_elements()[e] *= factor;
      const simdgroup_matrix<float, 8, 8> tile_v = load_safe<T, false>(v + key * D + i * 8, D, key_rows, 8, place);
      simdgroup_multiply_accumulate(tiles_o[i], scores, tile_v, tiles_o[i]);
    }
  }
  for (short i = 0; i < D / 8; i++) {
    for (short e = 0; e < 2; e++) {
      if (place.row < query_rows) {
        out[place.row * D + i * 8 + place.column + e] = T(tiles_o[i].thread_elements()[e] / total);
      }
    }
  }
}

instantiate_kernel("register_attention_f32_d32", register_attention, float, 32)
instantiate_kernel("register_attention_bf16_d64", register_attention, bfloat, 64)
