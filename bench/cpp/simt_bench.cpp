// What it costs a GPU thread to wait for others on one OS thread: nanoseconds a thread, in the counter
// "thread".
#include <benchmark/benchmark.h>

#include "softmetal/simt/engine.h"

namespace softmetal::simt {
namespace {

constexpr uint32_t kTimes = 1000;

const void* place() { return reinterpret_cast<const void*>(0x1000); }

void ends(const SoftmetalThread*) {}

void barriers(const SoftmetalThread*) {
  for (uint32_t i = 0; i < kTimes; ++i) hooks().barrier(SOFTMETAL_SCOPE_THREADGROUP, 2, place());
}

void simd_barriers(const SoftmetalThread*) {
  for (uint32_t i = 0; i < kTimes; ++i) hooks().barrier(SOFTMETAL_SCOPE_SIMDGROUP, 2, place());
}

// A sum over the lanes.
void meetings(const SoftmetalThread*) {
  for (uint32_t i = 0; i < kTimes; ++i) {
    float record[2] = {1, 0};
    const auto fold = [](SoftmetalMeeting* meeting) {
      float sum = 0;
      for (void* each : meeting->records)
        if (each) sum += static_cast<float*>(each)[0];
      for (void* each : meeting->records)
        if (each) static_cast<float*>(each)[1] = sum;
    };
    hooks().meet(record, fold, SOFTMETAL_MEETING_SIMD, place());
    benchmark::DoNotOptimize(record[1]);
  }
}

// `times` is how often each thread of the kernel waits.
void run(benchmark::State& state, SoftmetalThreadRun entry, uint32_t times) {
  const auto threads = static_cast<uint32_t>(state.range(0));
  SoftmetalKernel kernel{};
  kernel.thread = entry;
  SoftmetalLaunch launch{};
  for (int i = 0; i < 3; ++i)
    launch.threads_per_grid[i] = launch.threads_per_threadgroup[i] = launch.threadgroups_per_grid[i] = 1;
  launch.threads_per_grid[0] = launch.threads_per_threadgroup[0] = threads;
  const Run what{&kernel, &launch, nullptr, nullptr};
  for (auto _ : state) run_threadgroup(what, 0);
  state.counters["thread"] = benchmark::Counter(static_cast<double>(state.iterations()) * threads * times,
                                                benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_Barrier(benchmark::State& state) { run(state, barriers, kTimes); }
void BM_SimdBarrier(benchmark::State& state) { run(state, simd_barriers, kTimes); }
void BM_SimdSum(benchmark::State& state) { run(state, meetings, kTimes); }
void BM_Thread(benchmark::State& state) { run(state, ends, 1); }

BENCHMARK(BM_Barrier)->Arg(32)->Arg(256)->Arg(1024);
BENCHMARK(BM_SimdBarrier)->Arg(32)->Arg(256)->Arg(1024);
BENCHMARK(BM_SimdSum)->Arg(32)->Arg(256)->Arg(1024);
BENCHMARK(BM_Thread)->Arg(32)->Arg(1024);

}  // namespace
}  // namespace softmetal::simt
