// What a dispatch costs apart from its work.
#include <benchmark/benchmark.h>

#include "metalloid/command_encoder.h"
#include "ops/rms_norm.h"

namespace metalloid {
namespace {

constexpr double kEps = 1e-6;

struct Tiny {
  Device& device = Device::open();
  Buffer x = device.zeros({1, 64}, DType::float32);
  Buffer weight = device.zeros({64}, DType::float32);
  Buffer y = device.empty({1, 64}, DType::float32);

  void encode(CommandEncoder& encoder) const { ops::rms_norm(encoder, x, &weight, kEps, &y); }
};

// One operation, validation included, into a command buffer that is already open.
void encode(benchmark::State& state) {
  constexpr int64_t kBatch = 500;
  Tiny tiny;
  while (state.KeepRunningBatch(kBatch)) {
    CommandEncoder encoder(tiny.device);
    for (int64_t i = 0; i < kBatch; ++i) tiny.encode(encoder);
    encoder.discard();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(encode);

// Encode, commit and wait, for as many dispatches in one command buffer as the argument says.
void commit_and_wait(benchmark::State& state) {
  Tiny tiny;
  for (auto _ : state) {
    CommandEncoder encoder(tiny.device);
    for (int64_t i = 0; i < state.range(0); ++i) tiny.encode(encoder);
    encoder.commit_and_wait();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(commit_and_wait)->Arg(1)->Arg(10)->Arg(100)->UseRealTime();

// A buffer from the pool and back.
void allocate(benchmark::State& state) {
  Device& device = Device::open();
  auto bytes = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(device.empty({bytes}, DType::uint8));
}
BENCHMARK(allocate)->Arg(1 << 10)->Arg(1 << 20)->Arg(64 << 20);

}  // namespace
}  // namespace metalloid
