// Kernels that are bound by memory, beside a memcpy by two threads of as many bytes read and written.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "metalloid/command_encoder.h"
#include "ops/im2col_2d.h"
#include "ops/rms_norm.h"
#include "ops/vision_2d_rope.h"

namespace metalloid {
namespace {

constexpr double kEps = 1e-6;

// Zeroed memory may be one shared page until it is written, and reading that would be too fast.
Buffer ones(const Shape& shape, DType type) {
  Buffer buffer = Device::open().empty(shape, type);
  std::memset(buffer.address(), 0x3f, buffer.nbytes());  // a number near 1 in all our floating-point types
  return buffer;
}

// The calling thread copies the first half, a helper that stays the second.
class Memcpy {
 public:
  explicit Memcpy(uint64_t bytes)
      : bytes_(bytes),
        from_(ones({bytes}, DType::uint8)),
        to_(ones({bytes}, DType::uint8)),
        helper_([this] { help(); }) {}
  ~Memcpy() {
    last_ = true;
    start();
    helper_.join();
  }

  void run() {
    start();
    std::memcpy(to_.address(), from_.address(), bytes_ / 2);
    done_.wait(false);
    done_ = false;
  }

 private:
  void start() {
    started_ = true;
    started_.notify_one();
  }
  void help() {
    while (true) {
      started_.wait(false);
      started_ = false;
      if (last_) return;
      uint64_t half = bytes_ / 2;
      std::memcpy(to_.address() + half, from_.address() + half, bytes_ - half);
      done_ = true;
      done_.notify_one();
    }
  }

  uint64_t bytes_;
  Buffer from_, to_;
  std::atomic<bool> started_{false}, done_{false}, last_{false};
  std::thread helper_;
};

// Times `encode(encoder)` in a command buffer of its own; the counter "memcpy" is how many times as long as
// the memcpy it took, both at their best.
template <class Encode>
void against_memcpy(benchmark::State& state, DType type, uint64_t traffic, const Encode& encode) {
  using Clock = std::chrono::steady_clock;
  Memcpy copy(traffic / 2);
  copy.run();
  auto ours = Clock::duration::max(), theirs = Clock::duration::max();
  for (auto _ : state) {
    auto start = Clock::now();
    copy.run();
    auto middle = Clock::now();
    CommandEncoder encoder(Device::open());
    encode(encoder);
    encoder.commit_and_wait();
    auto end = Clock::now();
    theirs = std::min(theirs, middle - start);
    ours = std::min(ours, end - middle);
    state.SetIterationTime(std::chrono::duration<double>(end - middle).count());
  }
  state.SetLabel(std::string(name_of(type)));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(traffic));
  state.counters["memcpy"] = std::chrono::duration<double>(ours) / theirs;
}

void rms_norm(benchmark::State& state) {
  auto type = static_cast<DType>(state.range(0));
  Buffer x = ones({4096, 4096}, type), y = ones({4096, 4096}, type), weight = ones({4096}, type);
  against_memcpy(state, type, x.nbytes() + y.nbytes() + weight.nbytes(),
                 [&](CommandEncoder& encoder) { ops::rms_norm(encoder, x, &weight, kEps, &y); });
}

void vision_2d_rope(benchmark::State& state) {
  auto type = static_cast<DType>(state.range(0));
  Buffer x = ones({4096, 16, 72}, type), y = ones({4096, 16, 72}, type);
  Buffer positions = Device::open().zeros({4096}, DType::int32);
  for (int32_t i = 0; i < 4096; ++i) reinterpret_cast<int32_t*>(positions.address())[i] = i % 64;
  against_memcpy(state, type, x.nbytes() + y.nbytes() + 2 * positions.nbytes(), [&](CommandEncoder& encoder) {
    ops::vision_2d_rope(encoder, x, positions, positions, 10000.0, &y);
  });
}

void im2col_2d(benchmark::State& state) {
  auto type = static_cast<DType>(state.range(0));
  Buffer pixels = ones({3, 1792, 1792}, type), out = ones({128 * 128, 3 * 14 * 14}, type);
  against_memcpy(state, type, pixels.nbytes() + out.nbytes(),
                 [&](CommandEncoder& encoder) { ops::im2col_2d(encoder, pixels, 14, &out); });
}

void types(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("type")->UseManualTime()->Unit(benchmark::kMillisecond);
  for (DType type : {DType::float32, DType::bfloat16}) benchmark->Arg(static_cast<int64_t>(type));
}
BENCHMARK(rms_norm)->Apply(types);
BENCHMARK(vision_2d_rope)->Apply(types);
BENCHMARK(im2col_2d)->Apply(types);

}  // namespace
}  // namespace metalloid
