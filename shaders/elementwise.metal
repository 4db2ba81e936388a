// One result for each pair of elements that stand at the same place in two arrays.
#include "include/rows.h"
#include "params/elementwise.h"

struct Add {
  static float of(float a, float b) { return a + b; }
};

struct Mul {
  static float of(float a, float b) { return a * b; }
};

// gate / (1 + exp(-t)), for a t of gate's sign, as max(gate, 0) - |gate| / (1 + exp(|t|)). The exponential is of -|t|,
// so that it cannot overflow, and |gate| is bounded where it is 0, so that -inf gives the limit. After a difference
// relaxed arithmetic does not multiply `up` by gate first either, which may overflow where the result does not.
inline float times_sigmoid(float gate, float t) {
  const float e = exp(-fabs(t));
  return max(gate, 0.0f) - min(fabs(gate), 1000.0f) * (e / (1.0f + e));
}

struct SiluMul {
  static float of(float gate, float up) { return times_sigmoid(gate, gate) * up; }
};

// 0.5 * (1 + tanh(u)) = 1 / (1 + exp(-2 u)), without the difference that cancels for u below 0.
struct GeluMul {
  static float of(float gate, float up) {
    const float t = gate * (1.5957691216f + 0.0713548163f * gate * gate);  // 2 sqrt(2/pi), times 0.044715
    return times_sigmoid(gate, t) * up;
  }
};

// Bytes of each input that a lone lane asks for ahead of its use.
constant constexpr uint ahead = 2048;

template <typename Op, typename T>
[[kernel]] void elementwise(constant ElementwiseParams& params [[buffer(0)]], const device T* a [[buffer(1)]],
                            device T* y [[buffer(2)]], const device T* b [[buffer(3)]],
                            uint block [[threadgroup_position_in_grid]], uint blocks [[threadgroups_per_grid]],
                            TEAM_ARGUMENTS) {
  const ulong start = ulong(block) * params.block;
  const uint n = block == blocks - 1 ? params.last_block : params.block;
  const device T* first = a + start;
  const device T* second = b + start;
  device T* out = y + start;

  RowWriter<T> writer(out, streams(ulong(blocks) * params.block * sizeof(T), width));
  const uint whole = !chunks_need_alignment || params.vectorized != 0 ? n - n % chunk_size : 0;
  for (uint i = thread_index * chunk_size; i < whole; i += threads * chunk_size) {
    float v[chunk_size], w[chunk_size];
    load_chunk(v, first + i);
    load_chunk(w, second + i);
    prefetch(first + i + ahead / sizeof(T), chunk_size);
    prefetch(second + i + ahead / sizeof(T), chunk_size);
    for (uint j = 0; j < chunk_size; j++) v[j] = Op::of(v[j], w[j]);
    writer.store_chunk(out + i, v);
  }
  for (uint i = whole + thread_index; i < n; i += threads) {
    writer.store_one(out + i, Op::of(float(first[i]), float(second[i])));
  }
  writer.finish();
}

#define INSTANTIATE_TYPE(name, Op, T) \
  template [[host_name(name)]] [[kernel]] decltype(elementwise<Op, T>) elementwise<Op, T>;
#define INSTANTIATE(name, Op)               \
  INSTANTIATE_TYPE(name "_f32", Op, float)  \
  INSTANTIATE_TYPE(name "_f16", Op, half)   \
  INSTANTIATE_TYPE(name "_bf16", Op, bfloat)

INSTANTIATE("add", Add)
INSTANTIATE("mul", Mul)
INSTANTIATE("silu_mul", SiluMul)
INSTANTIATE("gelu_mul", GeluMul)
