// Runs kernels at the speed of the machine: at SIMD width one as loops over the threads of a threadgroup, and
// where threads have to wait for each other one by one.
#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "softmetal/runtime/command.h"
#include "softmetal/runtime/device.h"
#include "softmetal/runtime/executor.h"
#include "softmetal/runtime/library.h"
#include "softmetal/simt/engine.h"

namespace softmetal {

namespace {

// A thread's threadgroup memory. Each thread's starts at another place within a page, so that
// hyperthreads that share a cache do not fight for the same sets.
class ThreadgroupMemory {
 public:
  ThreadgroupMemory() {
    static std::atomic<size_t> threads{0};
    constexpr size_t kStep = 5 * 64, kPage = 4096;
    const size_t shift = threads.fetch_add(1, std::memory_order_relaxed) * kStep % kPage;
    // Some space behind, for kernels that load whole vectors at the end of an argument.
    if (posix_memalign(&memory_, kPage, kMaxThreadgroupMemory + 2 * kPage) != 0) std::abort();
    start_ = static_cast<char*>(memory_) + shift;
  }
  ~ThreadgroupMemory() { std::free(memory_); }
  char* start() const { return start_; }

 private:
  void* memory_ = nullptr;
  char* start_;
};

class CpuExecutor final : public Executor {
 public:
  const char* device_name() const override { return "softmetal cpu"; }
  uint64_t registry_id() const override { return 1; }
  const SoftmetalHooks& hooks() const override { return simt::hooks(); }

  uint64_t estimate_ns(const Dispatch& dispatch) const override {
    if (dispatch.indirect && dispatch.units == 0) return UINT32_MAX;  // known only when it runs
    const float unit_ns = dispatch.pipeline->unit_ns.load(std::memory_order_relaxed);
    if (unit_ns > 0) return static_cast<uint64_t>(static_cast<float>(dispatch.units) * unit_ns);
    return guess_ns(dispatch);
  }

  uint64_t chunk(const Dispatch& dispatch, unsigned threads) const override {
    if (threads == 1 && dispatch.units == 1) return 1;
    // The measure of the last run and the guess by size: the larger, as the kernel may have been used for
    // something small before. Splitting too finely costs little, too coarsely leaves threads idle.
    const float unit_ns = dispatch.pipeline->unit_ns.load(std::memory_order_relaxed);
    const auto measured = static_cast<uint64_t>(static_cast<float>(dispatch.units) * unit_ns);
    const uint64_t ns = unit_ns > 0 ? std::max(measured, guess_ns(dispatch) / 4) : guess_ns(dispatch);
    // Enough chunks to even out the ends, and none so long that a thread cannot stop to look around.
    const uint64_t most = std::max<uint64_t>(uint64_t{32} * threads, ns / kLongestChunk);
    const uint64_t chunks = std::clamp<uint64_t>(ns / kShortestChunk, 1, std::min(most, dispatch.units));
    const uint64_t units_per_chunk = (dispatch.units + chunks - 1) / chunks;
    // Whole cache lines of contiguous threads.
    const uint64_t step = dispatch.pipeline->kernel.mode == SOFTMETAL_MODE_THREADS ? 64 : 1;
    return (units_per_chunk + step - 1) / step * step;
  }

  void run(const Dispatch& dispatch, uint64_t begin, uint64_t end) override {
    static thread_local ThreadgroupMemory memory;
    const SoftmetalKernel& kernel = dispatch.pipeline->kernel;
    if (kernel.run)
      kernel.run(&dispatch.launch, memory.start(), begin, end);
    else
      run_threads(dispatch, memory.start(), begin, end);
#if defined(__x86_64__)
    __builtin_ia32_sfence();  // kernels may store past the caches, and such stores obey no other order
#endif
  }

 private:
  static constexpr uint64_t kShortestChunk = 10'000;  // nanoseconds
  static constexpr uint64_t kLongestChunk = 1'000'000;

  static void run_threads(const Dispatch& dispatch, char* memory, uint64_t begin, uint64_t end) {
    const SoftmetalKernel& kernel = dispatch.pipeline->kernel;
    if (kernel.prepare) kernel.prepare(&dispatch.launch);
    const uint64_t arguments = (dispatch.threadgroup_memory + 63) / 64 * 64;
    const simt::Run run{&kernel, &dispatch.launch, memory, memory + arguments};
    for (uint64_t i = begin; i < end; ++i) simt::run_threadgroup(run, i);
  }

  // Before a kernel was measured: every thread does something, and memory is read at a few GB/s.
  static uint64_t guess_ns(const Dispatch& dispatch) {
    const uint64_t count = dispatch.units;
    const SoftmetalKernel& kernel = dispatch.pipeline->kernel;
    const uint64_t thread_ns = kernel.run ? 4 : 20;
    const uint64_t work = kernel.mode == SOFTMETAL_MODE_THREADS
                              ? count
                              : count * (100 + thread_ns * uint64_t{dispatch.threadgroup_threads});
    return std::max(work, dispatch.bound_bytes / 8);
  }
};

}  // namespace

Executor& cpu_executor() {
  static CpuExecutor executor;
  return executor;
}

}  // namespace softmetal
