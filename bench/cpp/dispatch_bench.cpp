// What a dispatch costs apart from its work, on inputs of 64 elements. Counters: "each" is the time of one
// dispatch or node, where an iteration is not one; "target" is what the time, or "each", is meant to stay
// below.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "metalloid/command_encoder.h"
#include "metalloid/graph.h"
#include "ops/elementwise.h"
#include "ops/rms_norm.h"
#include "params/elementwise.h"

namespace metalloid {
namespace {

constexpr double kEps = 1e-6;
constexpr int64_t kBatch = 500;  // dispatches of a command buffer, where only encoding counts
constexpr int64_t kMany = 1000;
constexpr double kNano = 1e-9;  // counters print a unit: 80n is 80 ns

struct Tiny {
  Device& device = Device::open();
  Buffer x = device.zeros({1, 64}, DType::float32);
  Buffer weight = device.zeros({64}, DType::float32);
  std::vector<Buffer> outputs;

  explicit Tiny(int64_t count = 1) {
    for (int64_t i = 0; i < count; ++i) outputs.push_back(device.zeros({1, 64}, DType::float32));
  }
  const Buffer& output(int64_t i) const { return outputs[static_cast<size_t>(i) % outputs.size()]; }
  void encode(Encoder& encoder, int64_t i = 0) const { ops::rms_norm(encoder, x, &weight, kEps, &output(i)); }
};

benchmark::Counter each(benchmark::State& state, int64_t count) {
  return {static_cast<double>(state.iterations() * count),
          benchmark::Counter::kIsRate | benchmark::Counter::kInvert};
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Encoding --------------------------------------------------------------------------------------------

// One operation, validation included, into a command buffer that is already open. With one output every
// dispatch waits for the one before; with many none does, so that what automatic hazards cost beyond manual
// ones is their bookkeeping alone.
void encode(benchmark::State& state) {
  Tiny tiny(state.range(1));
  while (state.KeepRunningBatch(kBatch)) {
    CommandEncoder encoder(tiny.device, {.hazards = state.range(0) != 0});
    for (int64_t i = 0; i < kBatch; ++i) tiny.encode(encoder, i);
    encoder.discard();
  }
  state.counters["target"] = 80 * kNano;
}
BENCHMARK(encode)->ArgNames({"automatic", "outputs"})->ArgsProduct({{1, 0}, {1, kBatch}});

// The same by threads that each have an encoder, on one device: what matters is CPU time, which is that of
// one dispatch whatever the number of processors.
void encode_by_threads(benchmark::State& state) {
  Tiny tiny;
  while (state.KeepRunningBatch(kBatch)) {
    CommandEncoder encoder(tiny.device);
    for (int64_t i = 0; i < kBatch; ++i) tiny.encode(encoder);
    encoder.discard();
  }
}
BENCHMARK(encode_by_threads)->Threads(1)->Threads(8);

// A kernel of four arguments the way a user's own goes: checked against its reflection.
void encode_kernel(benchmark::State& state) {
  Tiny tiny(2);
  std::shared_ptr<const Kernel> kernel = tiny.device.library().kernel("add_f32");
  const ElementwiseParams params{64, 64, 1};
  const Value values[] = {{Value::Kind::bytes, sizeof params, &params},
                          {Value::Kind::buffer, 0, &tiny.x},
                          {Value::Kind::buffer, 0, &tiny.outputs[0]},
                          {Value::Kind::buffer, 0, &tiny.outputs[1]}};
  const Grid grid{Grid::Unit::threadgroups, {1}};
  while (state.KeepRunningBatch(kBatch)) {
    CommandEncoder encoder(tiny.device, {.hazards = state.range(0) != 0});
    for (int64_t i = 0; i < kBatch; ++i) encoder.dispatch(*kernel, values, grid, {1});
    encoder.discard();
  }
}
BENCHMARK(encode_kernel)->ArgName("automatic")->Arg(1)->Arg(0);

// Hazards ---------------------------------------------------------------------------------------------

// Bookkeeping of dispatches that read one allocation and write one, up to so many after the last barrier: a
// cost for each that does not grow but for the caches' sake. The tracker never looks into an allocation.
void track_allocations(benchmark::State& state) {
  std::vector<std::pair<uint64_t, uint64_t>> memory(static_cast<size_t>(state.range(0)) + 1);
  const auto storage = [&](size_t i) { return reinterpret_cast<Storage*>(&memory[i]); };
  HazardTracker tracker;
  for (auto _ : state) {
    for (size_t i = 1; i < memory.size(); ++i) {
      const MemoryUse uses[] = {{storage(0), 0, 256, true, false, 0}, {storage(i), 0, 256, false, true, 0}};
      benchmark::DoNotOptimize(tracker.note(uses));
    }
    tracker.barrier();
  }
  state.counters["each"] = each(state, state.range(0));
  state.counters["target"] = 60 * kNano;
}
BENCHMARK(track_allocations)->Arg(1)->Arg(10)->Arg(1000)->Arg(100'000);

// The same where all write into one allocation, with gaps between: a search in a tree.
void track_ranges(benchmark::State& state) {
  std::pair<uint64_t, uint64_t> memory[2];
  const auto storage = [&](size_t i) { return reinterpret_cast<Storage*>(&memory[i]); };
  HazardTracker tracker;
  const auto count = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t begin = 512 * (i * 7919 % count);  // in no order
      const MemoryUse uses[] = {{storage(0), 0, 256, true, false, 0},
                                {storage(1), begin, begin + 256, false, true, 0}};
      benchmark::DoNotOptimize(tracker.note(uses));
    }
    tracker.barrier();
  }
  state.counters["each"] = each(state, state.range(0));
}
BENCHMARK(track_ranges)->Arg(1)->Arg(10)->Arg(1000)->Arg(100'000);

// Running ---------------------------------------------------------------------------------------------

// Encode, commit and wait. With one output each dispatch needs the one before, else none does.
void commit_and_wait(benchmark::State& state) {
  Tiny tiny(state.range(1));
  const int64_t count = state.range(0);
  for (auto _ : state) {
    CommandEncoder encoder(tiny.device);
    for (int64_t i = 0; i < count; ++i) tiny.encode(encoder, i);
    encoder.commit_and_wait();
  }
  state.counters["each"] = each(state, count);
  if (count == 1) state.counters["target"] = 3000 * kNano;
}
BENCHMARK(commit_and_wait)
    ->ArgNames({"dispatches", "outputs"})
    ->Args({1, 1})
    ->Args({kMany, 1})
    ->Args({kMany, kMany})
    ->UseRealTime();

// Graphs ----------------------------------------------------------------------------------------------

// Layers of three nodes whose results nobody else keeps, so that every pass has something to do; two nodes
// of a layer become one. What is written last is kept.
std::unique_ptr<Graph> recorded(const Tiny& tiny, int64_t count) {
  auto graph = std::make_unique<Graph>(tiny.device);
  Buffer h = tiny.x;
  for (int64_t i = 0; i < (count - 1) / 3; ++i) {
    const Buffer normed = ops::rms_norm(*graph, h, &tiny.weight, kEps, nullptr);
    h = ops::add(*graph, h, ops::mul(*graph, normed, tiny.x, nullptr), nullptr);
  }
  for (int64_t i = 0; i < (count - 1) % 3; ++i) h = ops::add(*graph, h, tiny.x, nullptr);
  ops::add(*graph, h, tiny.x, &tiny.outputs[0]);
  graph->finish();
  return graph;
}

// A chain of sums, which no pass makes shorter.
std::unique_ptr<Graph> chain(const Tiny& tiny, int64_t count, bool optimized) {
  auto graph = std::make_unique<Graph>(tiny.device);
  Buffer h = tiny.x;
  for (int64_t i = 0; i < count; ++i) {
    h = ops::add(*graph, h, tiny.x, i + 1 < count ? nullptr : &tiny.outputs[0]);
  }
  graph->finish();
  if (optimized) graph->optimize({});
  return graph;
}

void replay(benchmark::State& state, bool waits) {
  Tiny tiny;
  std::unique_ptr<Graph> graph = chain(tiny, kMany, state.range(0) != 0);
  const auto count = static_cast<uint32_t>(graph->size());
  const auto run = [&] {
    const double start = now();
    CommandEncoder encoder(tiny.device);
    graph->encode(encoder, 0, count);
    encoder.commit();
    const double committed = now();
    encoder.wait();
    return (waits ? now() : committed) - start;
  };
  run();  // makes the program
  double least = 1e9;
  for (auto _ : state) {
    const double taken = run();
    least = std::min(least, taken);
    state.SetIterationTime(taken);
  }
  state.counters["each"] = each(state, count);
  state.counters["best"] = least / count;
  if (!waits) state.counters["target"] = 30 * kNano;
}

// Of a graph of a thousand nodes: encoding and committing it, and all of it up to its end. Counter "best" is
// "each" of the best run: where processors are few, what runs the nodes may have that of the thread that
// commits them.
void replay_host(benchmark::State& state) { replay(state, false); }
void replay_total(benchmark::State& state) { replay(state, true); }
BENCHMARK(replay_host)->ArgName("optimized")->Arg(0)->Arg(1)->UseManualTime();
BENCHMARK(replay_total)->ArgName("optimized")->Arg(0)->Arg(1)->UseManualTime();

// Counter "growth": the time of a node over that in a graph of half as many, where that was measured before;
// meant to stay below 1.3.
void record_and_optimize(benchmark::State& state) {
  static std::map<int64_t, double> best;
  Tiny tiny;
  const int64_t count = state.range(0);
  double least = 1e9;
  for (auto _ : state) {
    const double start = now();
    std::unique_ptr<Graph> graph = recorded(tiny, count);
    graph->optimize({});
    const double taken = now() - start;
    if (static_cast<int64_t>(graph->size()) < count * 2 / 3) state.SkipWithError("nodes are missing");
    least = std::min(least, taken);
    state.SetIterationTime(taken);  // without giving the nodes back
  }
  best[count] = least;
  state.counters["each"] = each(state, count);
  if (auto half = best.find(count / 2); half != best.end()) {
    state.counters["growth"] = least / half->second / 2;
  }
  if (count == 100'000) state.counters["target"] = 1;
}
BENCHMARK(record_and_optimize)
    ->Arg(10)
    ->Arg(100)
    ->Arg(1000)
    ->Arg(3125)
    ->Arg(6250)
    ->Arg(12'500)
    ->Arg(25'000)
    ->Arg(50'000)
    ->Arg(100'000)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

// Memory ----------------------------------------------------------------------------------------------

// A buffer from the pool and back.
void allocate(benchmark::State& state) {
  Device& device = Device::open();
  auto bytes = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(device.empty({bytes}, DType::uint8));
}
BENCHMARK(allocate)->Arg(1 << 10)->Arg(1 << 20)->Arg(64 << 20);

}  // namespace
}  // namespace metalloid
