#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "softmetal_kernels.h"

using test::Bench;
using test::string;
using test::text;

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

template <class Condition>
bool soon(Condition condition) {
  const auto start = Clock::now();
  while (!condition()) {
    if (milliseconds_since(start) > 10'000) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// A bench whose command buffers append digits to a number, or count slowly.
struct Digits : Bench {
  NS::SharedPtr<MTL::ComputePipelineState> append_state = pipeline("append");
  NS::SharedPtr<MTL::ComputePipelineState> slow_state = pipeline("slow");
  NS::SharedPtr<MTL::Buffer> number = buffer(8);
  NS::SharedPtr<MTL::Buffer> count = buffer(4);

  MTL::CommandBuffer* digit(MTL::CommandQueue* on, uint64_t value) {
    MTL::CommandBuffer* commands = on->commandBuffer();
    encode(commands, value);
    return commands;
  }
  void encode(MTL::CommandBuffer* commands, uint64_t value) {
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    append(encoder, append_state.get(), number.get(), value);
    encoder->endEncoding();
  }
  // About 2 ms for each unit.
  MTL::CommandBuffer* slow(uint32_t units) {
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->setComputePipelineState(slow_state.get());
    encoder->setBuffer(count.get(), 0, 0);
    encoder->dispatchThreadgroups(MTL::Size(units, 1, 1), MTL::Size(1, 1, 1));
    encoder->endEncoding();
    return commands;
  }
  // Lets the runtime learn that the kernel is slow, so that it splits it.
  void teach() {
    MTL::CommandBuffer* commands = slow(1);
    commands->commit();
    commands->waitUntilCompleted();
    *contents<uint32_t>(count) = 0;
  }
  uint64_t value() { return *contents<uint64_t>(number); }
};

}  // namespace

TEST_CASE("committing does not wait for slow work, waiting does") {
  Digits digits;
  digits.teach();
  const auto start = Clock::now();
  MTL::CommandBuffer* commands = digits.slow(50);
  commands->commit();
  CHECK(milliseconds_since(start) < 50);
  CHECK(commands->status() < MTL::CommandBufferStatusCompleted);
  commands->waitUntilScheduled();
  CHECK(commands->status() >= MTL::CommandBufferStatusScheduled);
  commands->waitUntilCompleted();
  CHECK(*Bench::contents<uint32_t>(digits.count) == 50);
  CHECK(commands->GPUEndTime() - commands->GPUStartTime() > 0.002);
}

TEST_CASE("work goes on without anybody waiting") {
  Digits digits;
  digits.teach();
  MTL::CommandBuffer* commands = digits.slow(4);
  commands->commit();
  CHECK(soon([&] { return commands->status() == MTL::CommandBufferStatusCompleted; }));
}

TEST_CASE("a wait for an event ends at its deadline, between two chunks") {
  Digits digits;
  digits.teach();
  auto event = NS::TransferPtr(digits.device->newSharedEvent());
  MTL::CommandBuffer* commands = digits.slow(400);
  commands->encodeSignalEvent(event.get(), 1);
  commands->commit();
  const auto start = Clock::now();
  CHECK_FALSE(event->waitUntilSignaledValue(1, 30));
  CHECK(milliseconds_since(start) >= 30);
  CHECK(milliseconds_since(start) < 300);
  CHECK(__atomic_load_n(Bench::contents<uint32_t>(digits.count), __ATOMIC_RELAXED) > 0);
  CHECK_FALSE(event->waitUntilSignaledValue(1, 0));
  CHECK(event->waitUntilSignaledValue(1, 60'000));
  CHECK(*Bench::contents<uint32_t>(digits.count) == 400);
  CHECK(event->waitUntilSignaledValue(1, ~uint64_t{0}));
}

TEST_CASE("events order queues among each other and with the host") {
  Digits digits;
  auto other = NS::TransferPtr(digits.device->newCommandQueue());
  auto event = NS::TransferPtr(digits.device->newSharedEvent());
  // 1 waits for the host, 2 for 1, 3 for 2 on the first queue again.
  MTL::CommandBuffer* third = digits.queue->commandBuffer();
  MTL::CommandBuffer* second = other->commandBuffer();
  second->encodeWait(event.get(), 2);
  digits.encode(second, 2);
  second->encodeSignalEvent(event.get(), 3);
  second->commit();
  MTL::CommandBuffer* first = digits.queue->commandBuffer();
  first->encodeWait(event.get(), 1);
  digits.encode(first, 1);
  first->encodeSignalEvent(event.get(), 2);
  first->commit();
  third->encodeWait(event.get(), 3);
  digits.encode(third, 3);
  third->commit();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(digits.value() == 0);
  CHECK(third->status() == MTL::CommandBufferStatusCommitted);
  event->setSignaledValue(1);
  third->waitUntilCompleted();
  CHECK(digits.value() == 123);
  CHECK(event->signaledValue() == 3);
}

TEST_CASE("a value past the awaited one will do") {
  Digits digits;
  auto event = NS::TransferPtr(digits.device->newEvent());
  MTL::CommandBuffer* first = digits.queue->commandBuffer();
  first->encodeSignalEvent(event.get(), 10);
  first->encodeWait(event.get(), 7);
  digits.encode(first, 4);
  first->commit();
  first->waitUntilCompleted();
  CHECK(digits.value() == 4);
}

TEST_CASE("enqueue reserves a place that commit fills later") {
  Digits digits;
  MTL::CommandBuffer* first = digits.digit(digits.queue.get(), 1);
  first->enqueue();
  CHECK(first->status() == MTL::CommandBufferStatusEnqueued);
  MTL::CommandBuffer* second = digits.digit(digits.queue.get(), 2);
  second->commit();
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(digits.value() == 0);
  first->commit();
  second->waitUntilCompleted();
  CHECK(digits.value() == 12);
}

TEST_CASE("handlers run in order on another thread, before waitUntilCompleted returns") {
  Digits digits;
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<int> order;
    std::thread::id thread;
    MTL::CommandBuffer* commands = digits.digit(digits.queue.get(), 1);
    commands->addScheduledHandler([&](MTL::CommandBuffer*) { order.push_back(0); });
    commands->addCompletedHandler([&](MTL::CommandBuffer* which) {
      CHECK(which == commands);
      CHECK(which->status() == MTL::CommandBufferStatusCompleted);
      thread = std::this_thread::get_id();
      order.push_back(1);
      // The queue is free while a handler runs.
      auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
      MTL::CommandBuffer* inner = digits.digit(digits.queue.get(), 2);
      inner->commit();
      inner->waitUntilCompleted();
      order.push_back(2);
    });
    commands->addCompletedHandler([&](MTL::CommandBuffer*) { order.push_back(3); });
    commands->commit();
    commands->waitUntilCompleted();
    CHECK(order == std::vector<int>{0, 1, 2, 3});
    CHECK(thread != std::this_thread::get_id());
    CHECK(digits.value() == 12);
    *Bench::contents<uint64_t>(digits.number) = 0;
  }
}

TEST_CASE("listeners hear of an event once") {
  Digits digits;
  auto event = NS::TransferPtr(digits.device->newSharedEvent());
  auto listener = NS::TransferPtr(MTL::SharedEventListener::alloc()->init());
  std::atomic<uint64_t> heard{0};
  std::atomic<int> times{0};
  event->notifyListener(listener.get(), 5, [&](MTL::SharedEvent* which, uint64_t value) {
    CHECK(which == event.get());
    heard = value;
    ++times;
  });
  event->setSignaledValue(4);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(times == 0);
  MTL::CommandBuffer* commands = digits.queue->commandBuffer();
  commands->encodeSignalEvent(event.get(), 6);
  commands->commit();
  CHECK(soon([&] { return times == 1; }));
  CHECK(heard == 6);
  event->setSignaledValue(7);
  event->notifyListener(listener.get(), 3, [&](MTL::SharedEvent*, uint64_t) { ++times; });
  CHECK(soon([&] { return times == 2; }));
}

TEST_CASE("a full queue waits for a command buffer to finish") {
  Digits digits;
  digits.teach();
  digits.queue = NS::TransferPtr(digits.device->newCommandQueue(4));
  for (int i = 0; i < 30; ++i) {
    auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    digits.slow(1)->commit();
  }
  MTL::CommandBuffer* last = digits.queue->commandBuffer();
  last->commit();
  last->waitUntilCompleted();
  CHECK(*Bench::contents<uint32_t>(digits.count) == 30);
}

TEST_CASE("many threads share a queue and a device") {
  Bench bench;
  auto axpy = bench.pipeline("axpy");
  constexpr int kThreads = 8, kRounds = 60;
  std::atomic<size_t> wrong{0};
  std::vector<std::thread> threads;
  auto shared_x = bench.buffer(1 << 18);
  std::fill_n(Bench::contents<float>(shared_x), 1 << 16, 1.0f);
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      auto own_queue = NS::TransferPtr(bench.device->newCommandQueue());
      MTL::CommandQueue* queue = t % 2 ? own_queue.get() : bench.queue.get();
      auto event = NS::TransferPtr(bench.device->newSharedEvent());
      for (int i = 1; i <= kRounds; ++i) {
        auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
        const size_t n = i % 3 == 0 ? 1 << 16 : 100;
        auto y = bench.buffer(n * 4);
        MTL::CommandBuffer* commands = queue->commandBuffer();
        MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
        const auto a = static_cast<float>(t * 1000 + i);
        encoder->setComputePipelineState(axpy.get());
        encoder->setBuffer(shared_x.get(), 0, 0);
        encoder->setBuffer(y.get(), 0, 1);
        encoder->setBytes(&a, sizeof(a), 2);
        encoder->dispatchThreads(MTL::Size(n, 1, 1), MTL::Size(64, 1, 1));
        encoder->endEncoding();
        commands->encodeSignalEvent(event.get(), static_cast<uint64_t>(i));
        commands->commit();
        if (i % 2)
          commands->waitUntilCompleted();
        else
          event->waitUntilSignaledValue(static_cast<uint64_t>(i), 60'000);
        for (size_t k = 0; k < n; ++k) wrong += Bench::contents<float>(y)[k] != a;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

namespace {

// What a dispatch of the kernels below is about.
struct Turn {
  uint32_t index;  // counts its units here
  uint32_t from, fence,
      until;              // the barriers before it: all of [from, fence) has ended, nothing at `until` began
  uint32_t microseconds;  // for each unit
  uint32_t together;      // waits for so many units of its dispatch and those beside it
};

// Argument 0: units that ended, by dispatch; 1: units of each; 2: mistakes seen; 3: Turn.
void take_turn(const SoftmetalLaunch* launch, char*, uint64_t begin, uint64_t end) {
  auto* ended = static_cast<uint32_t*>(launch->buffers[0]);
  const auto* units = static_cast<const uint32_t*>(launch->buffers[1]);
  auto* mistakes = static_cast<uint32_t*>(launch->buffers[2]);
  const Turn& turn = *static_cast<const Turn*>(launch->buffers[3]);
  const auto load = [&](uint32_t i) { return __atomic_load_n(&ended[i], __ATOMIC_RELAXED); };
  for (uint64_t i = begin; i < end; ++i) {
    for (uint32_t k = turn.from; k < turn.fence; ++k)
      if (load(k) != units[k]) __atomic_fetch_add(mistakes, 1, __ATOMIC_RELAXED);
    const auto start = Clock::now();
    while (Clock::now() - start < std::chrono::microseconds(turn.microseconds)) {
    }
    if (load(turn.until) != 0) __atomic_fetch_add(mistakes, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ended[turn.index], 1, __ATOMIC_RELAXED);
    while (turn.together) {
      uint32_t here = 0;
      for (uint32_t k = turn.fence; k < turn.until; ++k) here += load(k);
      if (here >= turn.together) break;
      if (Clock::now() - start > std::chrono::seconds(5)) {
        __atomic_fetch_add(mistakes, 1, __ATOMIC_RELAXED);
        break;
      }
      std::this_thread::yield();
    }
  }
}

const SoftmetalArgument turn_arguments[] = {
    {"ended", "atomic_uint", 0, test::kUInt, 4, 4, 0, test::kDevice, test::kReadWrite, 0, -1, 0},
    {"units", "uint", 1, test::kUInt, 4, 4, 0, test::kDevice, test::kRead, 0, -1, 0},
    {"mistakes", "atomic_uint", 2, test::kUInt, 4, 4, 0, test::kDevice, test::kReadWrite, 0, -1, 0},
    {"turn", "Turn", 3, MTL::DataTypeStruct, sizeof(Turn), 4, 0, test::kConstant, test::kRead, 1, -1, 0},
};
// One for each size, as the runtime learns how long the units of a kernel take.
const SoftmetalKernel turn_kernels[] = {
    test::kernel("tiny", take_turn, SOFTMETAL_MODE_THREADGROUPS, 1, turn_arguments),
    test::kernel("medium", take_turn, SOFTMETAL_MODE_THREADGROUPS, 1, turn_arguments),
    test::kernel("big", take_turn, SOFTMETAL_MODE_THREADGROUPS, 1, turn_arguments),
};
const SoftmetalUnit turn_unit = {turn_kernels, std::size(turn_kernels)};
const SoftmetalUnit* const turn_units[] = {&turn_unit};
const SoftmetalLibrary turn_table = test::make_library(turn_units, 1);

struct Turns : Bench {
  enum Size { Tiny, Medium, Big };
  static constexpr uint32_t kMicroseconds[] = {0, 60, 30}, kUnits[] = {1, 1, 40};

  Turns() {
    library = NS::TransferPtr(softmetal::new_library(device.get(), &turn_table, nullptr));
    for (const char* name : {"tiny", "medium", "big"}) pipelines.push_back(pipeline(name));
    // Each size runs alone, so that it is known.
    for (const Size size : {Tiny, Medium, Big}) CHECK(run(queue.get(), {{size}}) == 0);
  }

  // Runs groups of dispatches with a barrier after each, and returns how often the order was wrong.
  uint32_t run(MTL::CommandQueue* on, const std::vector<std::vector<Size>>& groups, uint32_t together = 0,
               MTL::SharedEvent* event = nullptr, uint64_t value = 0) {
    auto inner = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    uint32_t count = 0;
    for (const auto& group : groups) count += static_cast<uint32_t>(group.size());
    auto ended = buffer((count + 1) * 4), units = buffer((count + 1) * 4), mistakes = buffer(4);
    MTL::CommandBuffer* commands = on->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(MTL::DispatchTypeConcurrent);
    encoder->setBuffer(ended.get(), 0, 0);
    encoder->setBuffer(units.get(), 0, 1);
    encoder->setBuffer(mistakes.get(), 0, 2);
    Turn turn{};
    for (const auto& group : groups) {
      turn.from = turn.fence;
      turn.fence = turn.until;
      turn.until += static_cast<uint32_t>(group.size());
      for (const Size size : group) {
        contents<uint32_t>(units)[turn.index] = kUnits[size];
        turn.microseconds = kMicroseconds[size];
        turn.together = together;
        encoder->setComputePipelineState(pipelines[size].get());
        encoder->setBytes(&turn, sizeof(turn), 3);
        encoder->dispatchThreadgroups(MTL::Size(kUnits[size], 1, 1), MTL::Size(1, 1, 1));
        ++turn.index;
      }
      encoder->memoryBarrier(MTL::BarrierScopeBuffers);
    }
    encoder->endEncoding();
    if (event) commands->encodeSignalEvent(event, value);
    commands->commit();
    // Some wait with a time limit, which stops threads in the middle of their work.
    while (event && !event->waitUntilSignaledValue(value, 1)) {
    }
    commands->waitUntilCompleted();
    uint32_t wrong = *contents<uint32_t>(mistakes);
    for (uint32_t i = 0; i < count; ++i)
      wrong += contents<uint32_t>(ended)[i] != contents<uint32_t>(units)[i];
    return wrong;
  }

  std::vector<NS::SharedPtr<MTL::ComputePipelineState>> pipelines;
};

}  // namespace

TEST_CASE("independent dispatches of one unit run side by side") {
  if (softmetal::thread_count() < 2) return;
  Turns turns;
  for (int i = 0; i < 20; ++i) {
    CHECK(turns.run(turns.queue.get(), {{Turns::Medium, Turns::Medium}}, 2) == 0);
    CHECK(turns.run(turns.queue.get(), {{Turns::Tiny}, {Turns::Medium, Turns::Medium}, {Turns::Tiny}}) == 0);
  }
}

TEST_CASE("tiny dispatches between large ones keep to the barriers") {
  Turns turns;
  using T = Turns;
  const std::vector<T::Size> many(300, T::Tiny);
  CHECK(turns.run(turns.queue.get(), {many, many, many}) == 0);
  CHECK(turns.run(turns.queue.get(), {{T::Big, T::Tiny, T::Big}, {T::Tiny}, {T::Big, T::Tiny}, {T::Tiny}}) ==
        0);
  std::vector<T::Size> between = many;
  between.insert(between.begin(), T::Big);
  between.push_back(T::Big);
  CHECK(turns.run(turns.queue.get(), {between, many, between, {T::Tiny}, between}) == 0);
}

TEST_CASE("mixtures of sizes and barriers run in order on two queues") {
  Turns turns;
  auto other = NS::TransferPtr(turns.device->newCommandQueue());
  std::atomic<uint32_t> wrong{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      auto event = NS::TransferPtr(turns.device->newSharedEvent());
      for (uint64_t i = 1; i <= 40; ++i) {
        std::vector<std::vector<Turns::Size>> groups(1 + random() % 6);
        for (auto& group : groups)
          for (uint32_t left = 1 + random() % 12; left > 0; --left) {
            const uint32_t roll = random() % 10;
            group.push_back(roll < 7 ? Turns::Tiny : roll < 9 ? Turns::Medium : Turns::Big);
          }
        wrong += turns.run(t % 2 ? other.get() : turns.queue.get(), groups, 0,
                           random() % 2 ? event.get() : nullptr, i);
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

// ThreadSanitizer does not support threads in a forked child.
#if defined(__SANITIZE_THREAD__)
#define SOFTMETAL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SOFTMETAL_TSAN 1
#endif
#endif

#ifndef SOFTMETAL_TSAN

TEST_CASE("a forked child can use the device") {
  Digits digits;
  digits.teach();
  MTL::CommandBuffer* pending = digits.slow(20);
  pending->commit();
  auto event = NS::TransferPtr(digits.device->newSharedEvent());
  MTL::CommandBuffer* parked = digits.queue->commandBuffer();
  parked->encodeWait(event.get(), 1);
  digits.encode(parked, 7);
  parked->commit();

  const pid_t child = fork();
  if (child == 0) {
    // Work committed before the fork has ended; work of the child needs threads of its own.
    if (pending->status() != MTL::CommandBufferStatusCompleted) _exit(1);
    if (*Bench::contents<uint32_t>(digits.count) != 20) _exit(2);
    event->setSignaledValue(1);
    parked->waitUntilCompleted();
    if (digits.value() != 7) _exit(3);
    MTL::CommandBuffer* commands = digits.slow(10);
    bool handled = false;
    commands->addCompletedHandler([&](MTL::CommandBuffer*) { handled = true; });
    commands->commit();
    commands->waitUntilCompleted();
    if (!handled || *Bench::contents<uint32_t>(digits.count) != 30) _exit(4);
    MTL::CommandBuffer* unwaited = digits.slow(4);
    unwaited->commit();
    if (!soon([&] { return unwaited->status() == MTL::CommandBufferStatusCompleted; })) _exit(5);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(digits.value() == 0);
  event->setSignaledValue(1);
  parked->waitUntilCompleted();
  CHECK(digits.value() == 7);
  CHECK(*Bench::contents<uint32_t>(digits.count) == 20);
}

#endif  // SOFTMETAL_TSAN

TEST_CASE("the number of threads is what the process may use") {
  cpu_set_t set;
  REQUIRE(sched_getaffinity(0, sizeof(set), &set) == 0);
  if (!std::getenv("METALLOID_NUM_THREADS"))
    CHECK(softmetal::thread_count() == static_cast<unsigned>(CPU_COUNT(&set)));
  else
    CHECK(softmetal::thread_count() ==
          static_cast<unsigned>(std::atoi(std::getenv("METALLOID_NUM_THREADS"))));
}

// What the process of the last test does, so that it starts and ends as a program would.
static void leave_work_in_flight() {
  Digits digits;
  digits.teach();
  for (int i = 0; i < 10; ++i) digits.slow(1000)->commit();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST_CASE("a process may exit with work in flight") {
  const auto start = Clock::now();
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    execl("/proc/self/exe", "softmetal_concurrency_test", "leave-work-in-flight", nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(milliseconds_since(start) < 10'000);  // the work would take 20 seconds
}

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "leave-work-in-flight") {
    leave_work_in_flight();
    return 0;
  }
  return doctest::Context(argc, argv).run();
}
