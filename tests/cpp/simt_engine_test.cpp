// The engine that runs GPU threads as fibers, with kernels written by hand against the binary contract.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "softmetal/runtime/device.h"
#include "softmetal/simt/engine.h"

namespace simt = softmetal::simt;

namespace {

constexpr uint32_t kThreadgroupMemory = 2;  // a flag of metal::mem_flags

// Places in a kernel, in the order of its code.
const void* place(uintptr_t number) { return reinterpret_cast<const void*>(0x1000 + 16 * number); }

void barrier(uintptr_t at) {
  simt::hooks().barrier(SOFTMETAL_SCOPE_THREADGROUP, kThreadgroupMemory, place(at));
}
void simd_barrier(uintptr_t at) {
  simt::hooks().barrier(SOFTMETAL_SCOPE_SIMDGROUP, kThreadgroupMemory, place(at));
}
void let_others_run() { simt::hooks().pause(place(0)); }

// What a lane gives to a meeting and gets from it.
struct Record {
  uint32_t in = 0, sum = 0, before = 0, active = 0, existing = 0, folds = 0;
};
void fold(SoftmetalMeeting* meeting) {
  uint32_t sum = 0;
  for (uint32_t lane = 0; lane < SOFTMETAL_LANES; ++lane) {
    auto* record = static_cast<Record*>(meeting->records[lane]);
    CHECK((record != nullptr) == static_cast<bool>(meeting->active >> lane & 1));
    if (!record) continue;
    record->before = sum;
    sum += record->in;
  }
  for (void* each : meeting->records) {
    if (!each) continue;
    auto* record = static_cast<Record*>(each);
    record->sum = sum;
    record->active = meeting->active;
    record->existing = meeting->existing;
    ++record->folds;
  }
}
Record meet(uintptr_t at, uint32_t value, uint32_t kind = SOFTMETAL_MEETING_SIMD) {
  Record record;
  record.in = value;
  simt::hooks().meet(&record, fold, kind, place(at));
  return record;
}

uint64_t index_in_grid(const SoftmetalThread& thread) {
  const SoftmetalLaunch& launch = *thread.launch;
  uint64_t at[3];
  for (int i = 0; i < 3; ++i)
    at[i] = uint64_t{thread.threadgroup_position_in_grid[i]} * launch.threads_per_threadgroup[i] +
            thread.thread_position_in_threadgroup[i];
  return (at[2] * launch.threads_per_grid[1] + at[1]) * launch.threads_per_grid[0] + at[0];
}

template <class T>
T* buffer(const SoftmetalThread& thread, uint32_t index = 0) {
  return static_cast<T*>(thread.launch->buffers[index]);
}
uint32_t* scratch(const SoftmetalThread& thread) { return reinterpret_cast<uint32_t*>(thread.variables); }

// A launch of one kernel over a grid of threads, with one buffer.
struct Launch {
  using Size = std::array<uint32_t, 3>;

  Launch(SoftmetalThreadRun entry, Size threads, Size threadgroup, void* memory) : buffers{memory} {
    kernel.name = "kernel";
    kernel.thread = entry;
    launch.buffers = buffers;
    for (int i = 0; i < 3; ++i) {
      launch.threads_per_grid[i] = threads[i];
      launch.threads_per_threadgroup[i] = threadgroup[i];
      launch.threadgroups_per_grid[i] = (threads[i] + threadgroup[i] - 1) / threadgroup[i];
    }
  }
  uint64_t threadgroups() const {
    return uint64_t{launch.threadgroups_per_grid[0]} * launch.threadgroups_per_grid[1] *
           launch.threadgroups_per_grid[2];
  }
  bool run(uint64_t threadgroup, uint64_t seed = 0, simt::Observer* observer = nullptr) {
    return simt::run_threadgroup({&kernel, &launch, nullptr, variables, observer, seed}, threadgroup);
  }
  void run_all(uint64_t seed = 0) {
    for (uint64_t i = 0; i < threadgroups(); ++i) REQUIRE(run(i, seed));
  }

  void* buffers[1];
  SoftmetalKernel kernel{};
  SoftmetalLaunch launch{};
  alignas(64) char variables[32 * 1024] = {};
};

constexpr uint64_t kSeeds[] = {0, 1, 2, 77, 123456789};

}  // namespace

TEST_CASE("each thread of a grid runs once and knows its place") {
  struct Seen {
    uint32_t count, position[3], size[3], index, lane, simdgroup, simdgroups;
    uint64_t threadgroup;
  };
  const auto note = [](const SoftmetalThread* thread) {
    Seen& seen = buffer<Seen>(*thread)[index_in_grid(*thread)];
    ++seen.count;
    std::copy_n(thread->thread_position_in_threadgroup, 3, seen.position);
    std::copy_n(thread->threads_per_threadgroup, 3, seen.size);
    seen.index = thread->thread_index_in_threadgroup;
    seen.lane = thread->thread_index_in_simdgroup;
    seen.simdgroup = thread->simdgroup_index_in_threadgroup;
    seen.simdgroups = thread->simdgroups_per_threadgroup;
    seen.threadgroup = simt::current_thread().threadgroup;
    CHECK(&simt::current_thread() == thread);
  };
  const auto waits_first = [](const SoftmetalThread* thread) {
    barrier(1);
    Seen& seen = buffer<Seen>(*thread)[index_in_grid(*thread)];
    ++seen.count;
    CHECK(&simt::current_thread() == thread);
    std::copy_n(thread->thread_position_in_threadgroup, 3, seen.position);
    std::copy_n(thread->threads_per_threadgroup, 3, seen.size);
    seen.index = thread->thread_index_in_threadgroup;
    seen.lane = thread->thread_index_in_simdgroup;
    seen.simdgroup = thread->simdgroup_index_in_threadgroup;
    seen.simdgroups = thread->simdgroups_per_threadgroup;
    seen.threadgroup = simt::current_thread().threadgroup;
  };
  struct Shape {
    Launch::Size threads, threadgroup;
  };
  const Shape shapes[] = {
      {{1, 1, 1}, {1, 1, 1}},       {{64, 1, 1}, {32, 1, 1}},     {{100, 1, 1}, {32, 1, 1}},
      {{1000, 1, 1}, {1024, 1, 1}}, {{3000, 1, 1}, {1024, 1, 1}}, {{17, 13, 3}, {5, 4, 2}},
      {{16, 16, 16}, {8, 8, 8}},    {{7, 1, 9}, {4, 1, 4}},       {{3, 1000, 1}, {2, 300, 1}},
      {{1, 1, 70}, {1, 1, 64}},
  };
  for (const Shape& shape : shapes)
    for (const uint64_t seed : kSeeds)
      for (const SoftmetalThreadRun kernel : {SoftmetalThreadRun(note), SoftmetalThreadRun(waits_first)}) {
        const auto [w, h, d] = shape.threads;
        std::vector<Seen> seen(size_t{w} * h * d);
        Launch launch(kernel, shape.threads, shape.threadgroup, seen.data());
        launch.run_all(seed);
        size_t wrong = 0;
        for (uint32_t z = 0; z < d; ++z)
          for (uint32_t y = 0; y < h; ++y)
            for (uint32_t x = 0; x < w; ++x) {
              const Seen& s = seen[(size_t{z} * h + y) * w + x];
              const uint32_t at[3] = {x, y, z};
              uint32_t group[3], position[3], size[3];
              for (int i = 0; i < 3; ++i) {
                group[i] = at[i] / shape.threadgroup[i];
                position[i] = at[i] % shape.threadgroup[i];
                size[i] = std::min(shape.threadgroup[i], shape.threads[i] - group[i] * shape.threadgroup[i]);
              }
              const uint32_t index = (position[2] * size[1] + position[1]) * size[0] + position[0];
              const uint32_t* groups = launch.launch.threadgroups_per_grid;
              wrong += s.count != 1 || !std::equal(position, position + 3, s.position) ||
                       !std::equal(size, size + 3, s.size) || s.index != index || s.lane != index % 32 ||
                       s.simdgroup != index / 32 || s.simdgroups != (size[0] * size[1] * size[2] + 31) / 32 ||
                       s.threadgroup != (uint64_t{group[2]} * groups[1] + group[1]) * groups[0] + group[0];
            }
        CHECK(wrong == 0);
      }
}

TEST_CASE("a grid may have more threadgroups than 32 bits count") {
  const auto note = [](const SoftmetalThread* thread) {
    std::copy_n(thread->threadgroup_position_in_grid, 3, buffer<uint32_t>(*thread));
  };
  uint32_t at[3] = {};
  Launch launch(note, {UINT32_MAX, 1 << 20, 1 << 10}, {1, 1, 1}, at);
  REQUIRE(launch.run(launch.threadgroups() - 1));
  CHECK(at[0] == UINT32_MAX - 1);
  CHECK(at[1] == (1 << 20) - 1);
  CHECK(at[2] == (1 << 10) - 1);
}

TEST_CASE("a barrier holds until all threads of the threadgroup are there") {
  // Each phase reads what the neighbour wrote in the one before.
  const auto rotate = [](const SoftmetalThread* thread) {
    uint32_t* values = scratch(*thread);
    const uint32_t n = thread->threads_per_threadgroup[0], i = thread->thread_index_in_threadgroup;
    values[i] = i;
    for (int round = 0; round < 5; ++round) {
      barrier(1);
      const uint32_t value = values[(i + 1) % n];
      barrier(2);
      values[i] = value;
    }
    buffer<uint32_t>(*thread)[index_in_grid(*thread)] = values[i];
  };
  for (const uint32_t size : {1u, 2u, 31u, 32u, 33u, 64u, 100u, 255u, 256u, 1000u, 1023u, 1024u})
    for (const uint64_t seed : kSeeds) {
      std::vector<uint32_t> out(3 * size);
      Launch(rotate, {3 * size, 1, 1}, {size, 1, 1}, out.data()).run_all(seed);
      size_t wrong = 0;
      for (uint32_t i = 0; i < 3 * size; ++i) wrong += out[i] != (i % size + 5) % size;
      CHECK(wrong == 0);
    }
}

TEST_CASE("a tree in threadgroup memory and SIMD sums add up the same") {
  const auto reduce = [](const SoftmetalThread* thread) {
    uint32_t* values = scratch(*thread);
    const uint32_t n = thread->threads_per_threadgroup[0], i = thread->thread_index_in_threadgroup;
    values[i] = i * i;
    for (uint32_t step = 512; step > 0; step /= 2) {
      barrier(1);
      if (i < step && i + step < n) values[i] += values[i + step];
    }
    barrier(2);
    const uint32_t tree = values[0];
    barrier(3);
    const uint32_t part = meet(4, i * i).sum;
    if (thread->thread_index_in_simdgroup == 0) values[thread->simdgroup_index_in_threadgroup] = part;
    barrier(5);
    const bool holds = i < thread->simdgroups_per_threadgroup;
    uint32_t total = 0;
    if (thread->simdgroup_index_in_threadgroup == 0) total = meet(6, holds ? values[i] : 0).sum;
    if (i == 0) {
      buffer<uint32_t>(*thread)[0] = tree;
      buffer<uint32_t>(*thread)[1] = total;
    }
  };
  for (const uint32_t size : {32u, 40u, 333u, 1024u})
    for (const uint64_t seed : kSeeds) {
      uint32_t out[2] = {}, expected = 0;
      for (uint32_t i = 0; i < size; ++i) expected += i * i;
      Launch(reduce, {size, 1, 1}, {size, 1, 1}, out).run_all(seed);
      CHECK(out[0] == expected);
      CHECK(out[1] == expected);
    }
}

TEST_CASE("lanes in the two arms of a branch meet each other only, then all") {
  const auto branch = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    uint32_t* out = buffer<uint32_t>(*thread) + 4 * index_in_grid(*thread);
    const Record arm = lane % 3 == 0 ? meet(1, lane) : meet(2, lane);
    const Record all = meet(3, lane);
    CHECK(arm.folds == 1);
    out[0] = arm.sum;
    out[1] = arm.active;
    out[2] = all.before;
    out[3] = all.active;
  };
  for (const uint32_t size : {32u, 64u, 44u})
    for (const uint64_t seed : kSeeds) {
      std::vector<uint32_t> out(4 * size);
      Launch(branch, {size, 1, 1}, {size, 1, 1}, out.data()).run_all(seed);
      for (uint32_t i = 0; i < size; ++i) {
        const uint32_t lanes = std::min(32u, size - i / 32 * 32), lane = i % 32;
        uint32_t sum = 0, active = 0;
        for (uint32_t l = 0; l < lanes; ++l)
          if ((l % 3 == 0) == (lane % 3 == 0)) sum += l, active |= 1u << l;
        CHECK(out[4 * i] == sum);
        CHECK(out[4 * i + 1] == active);
        CHECK(out[4 * i + 2] == lane * (lane - 1) / 2);
        CHECK(out[4 * i + 3] == UINT32_MAX >> (32 - lanes));
      }
    }
}

TEST_CASE("branches nest") {
  const auto nest = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    uint32_t* out = buffer<uint32_t>(*thread) + 3 * lane;
    if (lane & 1) {
      out[0] = (lane & 2 ? meet(1, 1) : meet(2, 1)).active;
      out[1] = meet(3, 1).active;
    } else {
      out[0] = (lane & 4 ? meet(4, 1) : meet(5, 1)).active;
      if (lane & 8) return;
      out[1] = meet(6, 1).active;
    }
    out[2] = meet(7, 1).active;
  };
  for (const uint64_t seed : kSeeds) {
    uint32_t out[96] = {};
    Launch(nest, {32, 1, 1}, {32, 1, 1}, out).run_all(seed);
    const auto lanes_where = [](const std::function<bool(uint32_t)>& where) {
      uint32_t mask = 0;
      for (uint32_t lane = 0; lane < 32; ++lane) mask |= static_cast<uint32_t>(where(lane)) << lane;
      return mask;
    };
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint32_t bits = lane & 1 ? 3 : 5;
      const bool returns = (lane & 9) == 8;
      CHECK(out[3 * lane] == lanes_where([&](uint32_t l) { return (l & bits) == (lane & bits); }));
      CHECK(out[3 * lane + 1] == (returns    ? 0
                                  : lane & 1 ? lanes_where([](uint32_t l) { return l & 1; })
                                             : lanes_where([](uint32_t l) { return (l & 9) == 0; })));
      CHECK(out[3 * lane + 2] == (returns ? 0 : lanes_where([](uint32_t l) { return (l & 9) != 8; })));
    }
  }
}

TEST_CASE("lanes that returned take no part, and those that return next did") {
  const auto leave = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    uint32_t* out = buffer<uint32_t>(*thread) + 32 * thread->simdgroup_index_in_threadgroup + lane;
    if (lane < 5) return;
    const Record first = meet(1, 1);
    if (lane % 2) {
      *out = first.sum;
      return;
    }
    // By now the odd lanes are gone; what the first meeting gave must not depend on it.
    *out = first.sum * 100 + meet(2, 1).sum;
  };
  for (const uint64_t seed : kSeeds) {
    uint32_t out[64] = {};
    Launch(leave, {64, 1, 1}, {64, 1, 1}, out).run_all(seed);
    for (uint32_t i = 0; i < 64; ++i) CHECK(out[i] == (i % 32 < 5 ? 0u : i % 2 ? 27u : 2713u));
  }
}

TEST_CASE("loops of different lengths: lanes that are still in one meet, and all meet behind it") {
  const auto loop = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    uint32_t* out = buffer<uint32_t>(*thread) + 2 * lane;
    for (uint32_t i = 0; i < lane; ++i) out[0] += meet(1, 1).sum;
    out[1] = meet(2, lane).sum;
  };
  for (const uint64_t seed : kSeeds) {
    uint32_t out[64] = {};
    Launch(loop, {32, 1, 1}, {32, 1, 1}, out).run_all(seed);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      uint32_t sum = 0;  // in round i the lanes above i are there
      for (uint32_t i = 0; i < lane; ++i) sum += 31 - i;
      CHECK(out[2 * lane] == sum);
      CHECK(out[2 * lane + 1] == 496);
    }
  }
}

TEST_CASE("different functions at one place do not meet") {
  const auto mix = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    const auto count = [](SoftmetalMeeting* meeting) {
      for (void* record : meeting->records)
        if (record) *static_cast<uint32_t*>(record) = meeting->active;
    };
    uint32_t active = 0;
    if (lane < 16)
      simt::hooks().meet(&active, count, SOFTMETAL_MEETING_SIMD, place(1));
    else
      active = meet(1, 1).active;
    buffer<uint32_t>(*thread)[lane] = active;
  };
  uint32_t out[32] = {};
  Launch(mix, {32, 1, 1}, {32, 1, 1}, out).run_all();
  for (uint32_t lane = 0; lane < 32; ++lane) CHECK(out[lane] == (lane < 16 ? 0xffffu : 0xffff0000u));
}

TEST_CASE("SIMD-group barriers hold the lanes of one SIMD-group, and none of another") {
  const auto exchange = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    uint32_t* values = scratch(*thread) + 32 * thread->simdgroup_index_in_threadgroup;
    uint32_t value = lane;
    // SIMD-groups go different numbers of rounds.
    for (uint32_t round = 0; round <= thread->simdgroup_index_in_threadgroup; ++round) {
      values[lane] = value;
      simd_barrier(1);
      value = values[(lane + 1) % 32];
      simd_barrier(2);
    }
    buffer<uint32_t>(*thread)[index_in_grid(*thread)] = value;
  };
  for (const uint64_t seed : kSeeds) {
    std::vector<uint32_t> out(256);
    Launch(exchange, {256, 1, 1}, {256, 1, 1}, out.data()).run_all(seed);
    for (uint32_t i = 0; i < 256; ++i) CHECK(out[i] == (i % 32 + i / 32 + 1) % 32);
  }
}

TEST_CASE("lanes at a threadgroup barrier take no part in meetings") {
  const auto half = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    uint32_t active = 0;
    if (lane >= 16) active = meet(1, 1).active;
    barrier(2);
    buffer<uint32_t>(*thread)[lane] = active;
  };
  for (const uint64_t seed : kSeeds) {
    uint32_t out[32] = {};
    Launch(half, {32, 1, 1}, {32, 1, 1}, out).run_all(seed);
    for (uint32_t lane = 0; lane < 32; ++lane) CHECK(out[lane] == (lane < 16 ? 0 : 0xffff0000u));
  }
}

TEST_CASE("a thread that spins lets the one run that it waits for") {
  // Each thread waits for the one after it, or before it.
  static bool backwards;
  const auto chain = [](const SoftmetalThread* thread) {
    auto* flags = buffer<uint32_t>(*thread);
    const uint32_t n = thread->threads_per_threadgroup[0], i = thread->thread_index_in_threadgroup;
    const uint32_t next = backwards ? i - 1 : i + 1;
    if (next < n)
      while (flags[next] == 0) let_others_run();
    flags[i] = 1;
    barrier(1);
    flags[i] += meet(2, 1).sum;
  };
  for (backwards = false;; backwards = true) {
    for (const uint32_t size : {2u, 32u, 100u, 256u})
      for (const uint64_t seed : kSeeds) {
        std::vector<uint32_t> flags(size);
        Launch(chain, {size, 1, 1}, {size, 1, 1}, flags.data()).run_all(seed);
        for (uint32_t i = 0; i < size; ++i) CHECK(flags[i] == 1 + std::min(32u, size - i / 32 * 32));
      }
    if (backwards) break;
  }
}

TEST_CASE("seeds change the order, and a seed always gives the same") {
  const auto note = [](const SoftmetalThread* thread) {
    auto* order = buffer<uint32_t>(*thread);
    order[++order[0]] = thread->thread_index_in_threadgroup;
  };
  const auto order_of = [&](uint64_t seed, uint64_t threadgroup) {
    std::vector<uint32_t> order(513);
    Launch launch(note, {2048, 1, 1}, {512, 1, 1}, order.data());
    REQUIRE(launch.run(threadgroup, seed));
    return std::vector<uint32_t>(order.begin() + 1, order.end());
  };
  std::vector<uint32_t> sorted(512);
  std::iota(sorted.begin(), sorted.end(), 0u);
  CHECK(order_of(0, 0) == sorted);
  CHECK(order_of(0, 3) == sorted);
  std::set<std::vector<uint32_t>> orders;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    auto order = order_of(seed, 0);
    CHECK(order == order_of(seed, 0));
    CHECK(order != order_of(seed, 1));
    orders.insert(order);
    std::sort(order.begin(), order.end());
    CHECK(order == sorted);
  }
  CHECK(orders.size() == 10);
}

TEST_CASE("threads that never wait share one stack, and each stack is deep") {
  const auto note = [](const SoftmetalThread* thread) {
    volatile char large[150'000];
    for (size_t i = 0; i < sizeof(large); i += 4096) large[i] = 1;
    buffer<const void*>(*thread)[thread->thread_index_in_threadgroup] = thread;
    const simt::Stacks stacks = simt::stacks();
    CHECK(reinterpret_cast<const char*>(thread) >= stacks.begin);
    CHECK(const_cast<const char*>(large) < stacks.end);
    if (thread->threads_per_threadgroup[0] == 64) barrier(1);
  };
  const auto stacks_of = [&](uint32_t size) {
    std::vector<const void*> stacks(size);
    Launch(note, {size, 1, 1}, {size, 1, 1}, stacks.data()).run_all();
    return std::set<const void*>(stacks.begin(), stacks.end()).size();
  };
  CHECK(stacks_of(1000) == 1);
  CHECK(stacks_of(64) == 64);
}

TEST_CASE("OS threads run threadgroups side by side") {
  const auto sum = [](const SoftmetalThread* thread) {
    scratch(*thread)[thread->thread_index_in_threadgroup] = 1;
    barrier(1);
    const uint32_t n = thread->threads_per_threadgroup[0];
    uint32_t total = 0;
    for (uint32_t i = 0; i < n; ++i) total += scratch(*thread)[i];
    buffer<uint32_t>(*thread)[index_in_grid(*thread)] = total + meet(2, 1).sum;
  };
  constexpr uint32_t kThreads = 4, kSize = 96, kGroups = 64;
  std::vector<uint32_t> out(kGroups * kSize);
  std::atomic<uint64_t> next{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      Launch launch(sum, {kGroups * kSize, 1, 1}, {kSize, 1, 1}, out.data());
      for (uint64_t i; (i = next++) < kGroups;) launch.run(i, i);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(std::all_of(out.begin(), out.end(), [](uint32_t value) { return value == kSize + 32; }));
}

// What an observer is told ----------------------------------------------------------------------------

namespace {

struct Notes final : simt::Observer {
  struct Barrier {
    uint32_t scope, simdgroup, flags;
    bool operator==(const Barrier&) const = default;
  };
  struct Divergence {
    uint32_t waiting;
    const void* pc;
    uint32_t other;
    simt::Stuck how;
    const void* other_pc;
  };
  struct Misuse {
    uint32_t simdgroup, kind, lanes, active;
    const void* pc;
  };

  void begin_threadgroup(uint64_t threadgroup) override { begun.push_back(threadgroup); }
  void passed_barrier(uint32_t scope, uint32_t simdgroup, uint32_t flags) override {
    barriers.push_back({scope, simdgroup, flags});
  }
  void divergent_barrier(const simt::Thread& waiting, const void* pc, const simt::Thread& other,
                         simt::Stuck how, const void* other_pc) override {
    divergences.push_back(
        {waiting.thread_index_in_threadgroup, pc, other.thread_index_in_threadgroup, how, other_pc});
    if (stops) simt::stop();
  }
  void lane_misuse(const simt::Thread& thread, uint32_t kind, uint32_t lanes, uint32_t active,
                   const void* pc) override {
    misuses.push_back({thread.simdgroup_index_in_threadgroup, kind, lanes, active, pc});
  }
  void end_threadgroup() override { ++ended; }

  bool stops = false;
  std::vector<uint64_t> begun;
  size_t ended = 0;
  std::vector<Barrier> barriers;
  std::vector<Divergence> divergences;
  std::vector<Misuse> misuses;
};

Notes observe(SoftmetalThreadRun kernel, uint32_t size, uint64_t seed = 0) {
  Notes notes;
  Launch launch(kernel, {size, 1, 1}, {size, 1, 1}, nullptr);
  REQUIRE(launch.run(0, seed, &notes));
  CHECK(notes.begun == std::vector<uint64_t>{0});
  CHECK(notes.ended == 1);
  return notes;
}

}  // namespace

TEST_CASE("barriers that all pass are told with their flags, and nothing else is") {
  const auto kernel = [](const SoftmetalThread*) {
    simt::hooks().barrier(SOFTMETAL_SCOPE_THREADGROUP, 1, place(1));
    simt::hooks().barrier(SOFTMETAL_SCOPE_SIMDGROUP, 2, place(2));
    simt::hooks().barrier(SOFTMETAL_SCOPE_THREADGROUP, 3, place(3));
    meet(4, 1);
    meet(5, 1, SOFTMETAL_MEETING_QUAD);
    meet(6, 1, SOFTMETAL_MEETING_MATRIX);
  };
  for (const uint64_t seed : kSeeds) {
    Notes notes = observe(kernel, 64, seed);
    REQUIRE(notes.barriers.size() == 4);
    std::sort(notes.barriers.begin() + 1, notes.barriers.begin() + 3,
              [](const auto& a, const auto& b) { return a.simdgroup < b.simdgroup; });
    CHECK(notes.barriers[0] == Notes::Barrier{SOFTMETAL_SCOPE_THREADGROUP, 0, 1});
    CHECK(notes.barriers[1] == Notes::Barrier{SOFTMETAL_SCOPE_SIMDGROUP, 0, 2});
    CHECK(notes.barriers[2] == Notes::Barrier{SOFTMETAL_SCOPE_SIMDGROUP, 1, 2});
    CHECK(notes.barriers[3] == Notes::Barrier{SOFTMETAL_SCOPE_THREADGROUP, 0, 3});
    CHECK(notes.divergences.empty());
    CHECK(notes.misuses.empty());
  }
}

TEST_CASE("a barrier that threads have returned before is divergent") {
  const auto kernel = [](const SoftmetalThread* thread) {
    if (thread->thread_index_in_threadgroup == 70) return;
    barrier(1);
  };
  for (const uint64_t seed : kSeeds) {
    const Notes notes = observe(kernel, 100, seed);
    REQUIRE(notes.divergences.size() == 1);
    CHECK(notes.divergences[0].pc == place(1));
    CHECK(notes.divergences[0].other == 70);
    CHECK(notes.divergences[0].waiting != 70);
    CHECK(notes.divergences[0].how == simt::Stuck::Finished);
    CHECK(notes.divergences[0].other_pc == nullptr);
    CHECK(notes.barriers.size() == 1);
  }
}

TEST_CASE("barriers in the two arms of a branch are divergent") {
  const auto kernel = [](const SoftmetalThread* thread) {
    barrier(thread->thread_index_in_threadgroup < 40 ? 1 : 2);
  };
  const Notes notes = observe(kernel, 64);
  REQUIRE(notes.divergences.size() == 1);
  CHECK(notes.divergences[0].waiting == 0);
  CHECK(notes.divergences[0].other == 40);
  CHECK(notes.divergences[0].how == simt::Stuck::OtherBarrier);
  CHECK(notes.divergences[0].other_pc == place(2));
}

TEST_CASE("SIMD-group barriers diverge within a SIMD-group only") {
  const auto whole = [](const SoftmetalThread* thread) {
    if (thread->simdgroup_index_in_threadgroup == 1) return;
    simd_barrier(1);
  };
  CHECK(observe(whole, 96).divergences.empty());

  const auto returned = [](const SoftmetalThread* thread) {
    if (thread->thread_index_in_threadgroup == 33) return;
    simd_barrier(1);
  };
  const Notes gone = observe(returned, 96);
  REQUIRE(gone.divergences.size() == 1);
  CHECK(gone.divergences[0].waiting == 32);
  CHECK(gone.divergences[0].other == 33);
  CHECK(gone.divergences[0].how == simt::Stuck::Finished);

  const auto mixed = [](const SoftmetalThread* thread) {
    if (thread->thread_index_in_threadgroup == 5)
      barrier(2);
    else
      simd_barrier(1);
  };
  const Notes other = observe(mixed, 32);
  REQUIRE(other.divergences.size() >= 1);
  CHECK(other.divergences[0].waiting == 0);
  CHECK(other.divergences[0].other == 5);
  CHECK(other.divergences[0].how == simt::Stuck::OtherBarrier);
  CHECK(other.divergences[0].other_pc == place(2));
}

TEST_CASE("results that depend on absent lanes, and matrix operations that lack some, are told") {
  const auto undefined = [](const SoftmetalThread* thread) {
    const uint32_t lane = thread->thread_index_in_simdgroup;
    if (thread->simdgroup_index_in_threadgroup == 1 && lane == 3) return;
    const auto uses_next = [](SoftmetalMeeting* meeting) {
      meeting->undefined = meeting->active & ~(meeting->active >> 1) & 0x7fffffff;
    };
    int record = 0;
    simt::hooks().meet(&record, uses_next, SOFTMETAL_MEETING_SIMD, place(1));
  };
  const Notes shuffles = observe(undefined, 64);
  REQUIRE(shuffles.misuses.size() == 1);
  CHECK(shuffles.misuses[0].simdgroup == 1);
  CHECK(shuffles.misuses[0].lanes == 1u << 2);
  CHECK(shuffles.misuses[0].active == ~(1u << 3));
  CHECK(shuffles.misuses[0].pc == place(1));

  const auto matrix = [](const SoftmetalThread*) { meet(1, 1, SOFTMETAL_MEETING_MATRIX); };
  const Notes lacking = observe(matrix, 48);
  REQUIRE(lacking.misuses.size() == 1);
  CHECK(lacking.misuses[0].simdgroup == 1);
  CHECK(lacking.misuses[0].kind == SOFTMETAL_MEETING_MATRIX);
  CHECK(lacking.misuses[0].lanes == 0xffff0000u);
}

TEST_CASE("stop ends a threadgroup wherever its threads are, and the next one runs as ever") {
  const auto kernel = [](const SoftmetalThread* thread) {
    const uint32_t i = thread->thread_index_in_threadgroup, at = *buffer<uint32_t>(*thread);
    if (i % 7 == 0) barrier(1);
    if (i % 7 == 1) meet(2, 1);
    if (i == at) simt::stop();
    while (at < 1000 && i == at + 1) let_others_run();
    barrier(3);
    ++scratch(*thread)[0];
  };
  for (const uint32_t at : {2u, 3u, 31u, 32u, 100u, 255u})
    for (const uint64_t seed : kSeeds) {
      uint32_t value = at;
      Notes notes;
      Launch launch(kernel, {256, 1, 1}, {256, 1, 1}, &value);
      CHECK_FALSE(launch.run(0, seed, &notes));
      CHECK(notes.ended == 0);
      value = UINT32_MAX;
      CHECK(launch.run(0, seed, &notes));
      CHECK(notes.ended == 1);
      CHECK(reinterpret_cast<uint32_t*>(launch.variables)[0] == 256);
    }
}

TEST_CASE("an observer may stop the run") {
  const auto kernel = [](const SoftmetalThread* thread) {
    if (thread->thread_index_in_threadgroup == 9) return;
    barrier(1);
    ++scratch(*thread)[0];
  };
  Notes notes;
  notes.stops = true;
  Launch launch(kernel, {64, 1, 1}, {64, 1, 1}, nullptr);
  CHECK_FALSE(launch.run(0, 0, &notes));
  CHECK(reinterpret_cast<uint32_t*>(launch.variables)[0] == 0);
  CHECK(notes.divergences.size() == 1);
}
