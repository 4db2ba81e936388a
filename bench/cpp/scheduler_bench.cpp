// What it costs to run dispatches that were recorded before: from commit until they have ended, in
// nanoseconds a dispatch, in the counter "dispatch" (target: 100 for the smallest kernels, whether or not
// they depend on each other).
#include <benchmark/benchmark.h>

#include <chrono>
#include <iterator>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/kernel_abi.h"
#include "softmetal/runtime/softmetal.h"

namespace {

using Clock = std::chrono::steady_clock;

// About 10 ns for 64 threads.
void scale(const SoftmetalLaunch* launch, char*, uint64_t begin, uint64_t end) {
  auto* x = static_cast<float*>(launch->buffers[0]);
  for (uint64_t i = begin; i < end; ++i) x[i] = x[i] * 0.5f + 1.0f;
}

// 50 us for each unit.
void busy(const SoftmetalLaunch*, char*, uint64_t begin, uint64_t end) {
  const auto until = Clock::now() + std::chrono::microseconds(50) * (end - begin);
  while (Clock::now() < until) {
  }
}

const SoftmetalArgument arguments[] = {{"x", "float", 0, MTL::DataTypeFloat, 4, 4, SOFTMETAL_ARGUMENT_BUFFER,
                                        SOFTMETAL_SPACE_DEVICE, SOFTMETAL_ACCESS_READ_WRITE, 0, -1, 0}};

SoftmetalKernel kernel(const char* name, SoftmetalRun run, SoftmetalMode mode) {
  SoftmetalKernel made{};
  made.name = name;
  made.run = run;
  made.mode = mode;
  made.execution_width = 1;
  made.max_threads_per_threadgroup = 1024;
  made.arguments = arguments;
  made.argument_count = 1;
  made.source_file = "bench.metal";
  return made;
}
const SoftmetalKernel kernels[] = {kernel("scale", scale, SOFTMETAL_MODE_THREADS),
                                   kernel("busy", busy, SOFTMETAL_MODE_THREADGROUPS)};
const SoftmetalUnit unit = {kernels, std::size(kernels)};
const SoftmetalUnit* const units[] = {&unit};

const SoftmetalLibrary& table() {
  static const SoftmetalLibrary made = [] {
    SoftmetalLibrary library{};
    library.abi_version = SOFTMETAL_ABI_VERSION;
    library.isa = "bench";
    library.compiler = "by hand";
    library.units = units;
    library.unit_count = 1;
    return library;
  }();
  return made;
}

struct Setup {
  NS::SharedPtr<NS::AutoreleasePool> pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
  NS::SharedPtr<MTL::Device> device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
  NS::SharedPtr<MTL::CommandQueue> queue = NS::TransferPtr(device->newCommandQueue());
  NS::SharedPtr<MTL::Library> library =
      NS::TransferPtr(softmetal::new_library(device.get(), &table(), nullptr));
  NS::SharedPtr<MTL::Buffer> buffer =
      NS::TransferPtr(device->newBuffer(16 * 256, MTL::ResourceStorageModeShared));

  NS::SharedPtr<MTL::ComputePipelineState> pipeline(const char* name) {
    auto function = NS::TransferPtr(library->newFunction(NS::String::string(name, NS::UTF8StringEncoding)));
    return NS::TransferPtr(
        device->newComputePipelineState(function.get(), static_cast<NS::Error**>(nullptr)));
  }

  // Times the command buffers that encode(encoder) fills with `count` dispatches.
  template <class Encode>
  void measure(benchmark::State& state, MTL::DispatchType type, int64_t count, const Encode& encode) {
    for (auto _ : state) {
      auto inner = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
      MTL::CommandBuffer* commands = queue->commandBuffer();
      MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(type);
      encode(encoder);
      encoder->endEncoding();
      const auto start = Clock::now();
      commands->commit();
      commands->waitUntilCompleted();
      state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
    }
    state.counters["dispatch"] =
        benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(count),
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  }
};

void run_tiny(benchmark::State& state, MTL::DispatchType type) {
  Setup setup;
  auto pipeline = setup.pipeline("scale");
  setup.measure(state, type, state.range(0), [&](MTL::ComputeCommandEncoder* encoder) {
    encoder->setComputePipelineState(pipeline.get());
    for (int64_t i = 0; i < state.range(0); ++i) {
      encoder->setBuffer(setup.buffer.get(), static_cast<NS::UInteger>(i % 16) * 256, 0);
      encoder->dispatchThreads(MTL::Size(64, 1, 1), MTL::Size(64, 1, 1));
    }
  });
}
void BM_TinyDependent(benchmark::State& state) { run_tiny(state, MTL::DispatchTypeSerial); }
void BM_TinyIndependent(benchmark::State& state) { run_tiny(state, MTL::DispatchTypeConcurrent); }

// Two of 50 us that may run side by side, or not.
void run_medium(benchmark::State& state, MTL::DispatchType type) {
  Setup setup;
  auto pipeline = setup.pipeline("busy");
  setup.measure(state, type, 2, [&](MTL::ComputeCommandEncoder* encoder) {
    encoder->setComputePipelineState(pipeline.get());
    encoder->setBuffer(setup.buffer.get(), 0, 0);
    for (int i = 0; i < 2; ++i) encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
  });
}
void BM_MediumDependent(benchmark::State& state) { run_medium(state, MTL::DispatchTypeSerial); }
void BM_MediumIndependent(benchmark::State& state) { run_medium(state, MTL::DispatchTypeConcurrent); }

// The kernel alone.
void BM_Kernel(benchmark::State& state) {
  alignas(64) float x[64] = {};
  void* buffers[] = {x};
  SoftmetalLaunch launch{};
  launch.buffers = buffers;
  SoftmetalRun volatile run = scale;
  for (auto _ : state) {
    run(&launch, nullptr, 0, 64);
    benchmark::ClobberMemory();
  }
}

BENCHMARK(BM_Kernel);
BENCHMARK(BM_TinyDependent)->Arg(1)->Arg(100)->Arg(1000)->UseManualTime();
BENCHMARK(BM_TinyIndependent)->Arg(1)->Arg(100)->Arg(1000)->UseManualTime();
BENCHMARK(BM_MediumDependent)->UseManualTime();
BENCHMARK(BM_MediumIndependent)->UseManualTime();

}  // namespace
