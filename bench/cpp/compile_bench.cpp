// What compiling a kernel of about a hundred lines at run time costs: on a machine that never did, with a new
// source, and from the cache (targets: 1.5 s, 1.5 s and 5 ms).
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "metalloid/metal.h"
#include "metalloid/software.h"

namespace metalloid {
namespace {

constexpr const char* kSource = R"(
#include <metal_stdlib>
using namespace metal;

constant bool has_bias [[function_constant(0)]];

struct Params {
  uint rows, columns, stride;
  float scale;
};

// Blocks of 32 weights of four bits with one scale.
struct Block {
  half scale;
  uchar quants[16];
};

template <typename T>
struct Limits {
  static constexpr constant T lowest = T(-65504);
};

inline float dequantise_dot(device const Block& block, thread const float4* x) {
  float sum = 0, offset = 0;
  for (uint i = 0; i < 4; ++i) {
    const uchar4 q = uchar4(block.quants[i * 4], block.quants[i * 4 + 1], block.quants[i * 4 + 2],
                            block.quants[i * 4 + 3]);
    const float4 low = float4(q & uchar4(15)), high = float4(q >> uchar4(4));
    sum += dot(low, x[i]) + dot(high, x[i + 4]);
    offset += dot(x[i], float4(1)) + dot(x[i + 4], float4(1));
  }
  return float(block.scale) * (sum - 8.0f * offset);
}

[[kernel]] void quantised_matvec(device const Block* weights [[buffer(0)]],
                                 device const float* vector [[buffer(1)]],
                                 device const float* bias [[buffer(2), function_constant(has_bias)]],
                                 device float* out [[buffer(3)]], constant Params& params [[buffer(4)]],
                                 uint row [[threadgroup_position_in_grid]],
                                 uint lane [[thread_index_in_simdgroup]],
                                 uint group [[simdgroup_index_in_threadgroup]],
                                 uint groups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  const uint blocks = params.columns / 32;
  device const Block* line = weights + ulong(row) * params.stride;
  float sum = 0;
  for (uint b = group * 32 + lane; b < blocks; b += groups * 32) {
    float4 x[8];
    for (uint i = 0; i < 8; ++i) x[i] = ((device const float4*)(vector + b * 32))[i];
    sum += dequantise_dot(line[b], x);
  }
  sum = simd_sum(sum);
  if (lane == 0) partial[group] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (group == 0) {
    sum = simd_sum(lane < groups ? partial[lane] : 0.0f) * params.scale;
    if (has_bias && lane == 0) sum += bias[row];
    if (lane == 0) out[row] = sum;
  }
}

template <typename T>
[[kernel]] void softmax(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                        constant Params& params [[buffer(2)]], uint row [[threadgroup_position_in_grid]],
                        uint thread_index [[thread_position_in_threadgroup]],
                        uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                        uint group [[simdgroup_index_in_threadgroup]]) {
  threadgroup float scratch[32];
  device const T* from = in + ulong(row) * params.stride;
  float largest = Limits<float>::lowest;
  for (uint i = thread_index; i < params.columns; i += threads) largest = max(largest, float(from[i]));
  largest = simd_max(largest);
  if (lane == 0) scratch[group] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  largest = simd_max(lane < (threads + 31) / 32 ? scratch[lane] : Limits<float>::lowest);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0;
  for (uint i = thread_index; i < params.columns; i += threads) sum += exp(float(from[i]) - largest);
  sum = simd_sum(sum);
  if (lane == 0) scratch[group] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = simd_sum(lane < (threads + 31) / 32 ? scratch[lane] : 0.0f);
  device T* to = out + ulong(row) * params.stride;
  for (uint i = thread_index; i < params.columns; i += threads)
    to[i] = T(exp(float(from[i]) - largest) / sum);
}
template [[host_name("softmax_float")]] [[kernel]] void softmax<float>(device const float*, device float*,
                                                                       constant Params&, uint, uint, uint, uint, uint);
template [[host_name("softmax_half")]] [[kernel]] void softmax<half>(device const half*, device half*,
                                                                     constant Params&, uint, uint, uint, uint, uint);
)";

// A cache folder of our own.
class Folder {
 public:
  Folder() {
    path_ = std::filesystem::temp_directory_path() / "compile-bench-XXXXXX";
    if (!mkdtemp(path_.data())) path_.clear();
    use();
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  void use() const {
    setenv("METALLOID_CACHE_DIR", path_.c_str(), 1);
    software::set_toolchain(nullptr);
  }
  void clear() const {
    for (const auto& entry : std::filesystem::directory_iterator(path_)) std::filesystem::remove_all(entry);
  }

 private:
  std::string path_;
};

enum class Form { AnyWidth, Lanes, Checked };

NS::SharedPtr<MTL::Library> compile(Form form, const std::string& source, std::string& error) {
  AutoreleaseScope scope;
  const auto devices = NS::TransferPtr(MTL::CopyAllDevices());
  auto* device = devices->object<MTL::Device>(form == Form::Checked ? 1 : 0);
  auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  if (form == Form::AnyWidth)
    options->setPreprocessorMacros(
        NS::Dictionary::dictionary(MTLSTR("1"), MTLSTR("METALLOID_SIMD_WIDTH_ANY")));
  NS::Error* failed = nullptr;
  auto library = NS::TransferPtr(device->newLibrary(ns_string(source).get(), options.get(), &failed));
  if (failed) error = to_string(failed->localizedDescription());
  return library;
}

template <class Source>
void measure(benchmark::State& state, Form form, const Folder& folder, bool forget, Source source) {
  std::string error;
  for (auto _ : state) {
    if (forget) {
      state.PauseTiming();
      folder.clear();
      state.ResumeTiming();
    }
    if (!compile(form, source(), error)) {
      state.SkipWithError(error.c_str());
      return;
    }
  }
}

std::string unique() {
  static int count = 0;
  return kSource + ("// " + std::to_string(++count) + "\n");
}

void first(benchmark::State& state, Form form) {
  const Folder folder;
  measure(state, form, folder, true, unique);
}

void cold(benchmark::State& state, Form form) {
  const Folder folder;
  std::string error;
  if (!compile(form, kSource, error)) return state.SkipWithError(error.c_str());
  measure(state, form, folder, false, unique);
}

void cached(benchmark::State& state, Form form) {
  const Folder folder;
  std::string error;
  if (!compile(form, kSource, error)) return state.SkipWithError(error.c_str());
  measure(state, form, folder, false, [] { return std::string(kSource); });
}

#define METALLOID_FORMS(benchmark_name, unit)                                              \
  BENCHMARK_CAPTURE(benchmark_name, any_width, Form::AnyWidth)->UseRealTime()->Unit(unit); \
  BENCHMARK_CAPTURE(benchmark_name, lanes, Form::Lanes)->UseRealTime()->Unit(unit);        \
  BENCHMARK_CAPTURE(benchmark_name, checked, Form::Checked)->UseRealTime()->Unit(unit)
METALLOID_FORMS(first, benchmark::kMillisecond);
METALLOID_FORMS(cold, benchmark::kMillisecond);
METALLOID_FORMS(cached, benchmark::kMillisecond);

}  // namespace
}  // namespace metalloid
