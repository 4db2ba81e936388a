#include "softmetal/simt/engine.h"

#include <sched.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <memory>

#include "softmetal/runtime/device.h"
#include "softmetal/simt/fiber.h"

namespace softmetal::simt {

namespace {

constexpr uint32_t kLanes = SOFTMETAL_LANES;
constexpr uint32_t kMaxThreads = StackRange::kCount;
constexpr uint32_t kMaxGroups = kMaxThreads / kLanes;
constexpr uint32_t kNone = UINT32_MAX;

static_assert(kMaxThreads == kMaxThreadgroupSide);

uint64_t mix(uint64_t value) {  // SplitMix64
  value += 0x9e3779b97f4a7c15;
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27) * 0x94d049bb133111eb;
  return value ^ value >> 31;
}

// The lanes of a SIMD-group by what they are doing. In no set: one that runs, and those that have finished.
struct Group {
  uint32_t existing;
  uint32_t unbegun;
  uint32_t ready;
  uint32_t meeting;    // at a SIMD-group function
  uint32_t gathering;  // at a SIMD-group barrier
  uint32_t waiting;    // at a threadgroup barrier
  uint32_t paused;
};

// What a thread that stands still waits for.
struct Wait {
  const void* pc;
  void* record;
  SoftmetalFold fold;
  uint32_t kind;
  uint32_t flags;
};

class Engine;

// The lowest bytes of a stack.
struct StackBase {
  Thread thread;
  Engine* engine;  // of the first stack only
};

// Runs the threads of one threadgroup after another on one OS thread. A thread runs until it has to wait; it
// then picks the next one and switches to it itself. Threads are numbered SIMD-group * 32 + lane.
class Engine {
 public:
  Engine();
  ~Engine();

  static Engine& current() { return *reinterpret_cast<StackBase*>(StackRange::current())->engine; }

  bool run(const Run& run, uint64_t threadgroup);
  [[noreturn]] void stop();

  void meet(void* record, SoftmetalFold fold, uint32_t kind, const void* pc);
  void barrier(uint32_t scope, uint32_t flags, const void* pc);
  void pause();

  const StackRange& stacks() const { return stacks_; }

 private:
  static void entry();
  [[noreturn]] void work();

  void describe_threadgroup(uint64_t threadgroup);
  void number_positions();
  void order(uint64_t seed);
  void fill(Thread& thread, uint32_t index) const;

  uint32_t lane_of(uint32_t lanes) const;
  uint32_t pick();
  void block();
  uint32_t take_fiber();

  uint32_t places(const Group& group, uint32_t lanes, bool (*same)(const Wait&, const Wait&)) const;
  void settle(Group& group);
  void hold_meeting(Group& group, uint32_t lanes);
  void release_gathering(Group& group, uint32_t lanes);
  bool release_paused();
  void release_barrier();
  void report_divergence(uint32_t waiting, uint32_t other, bool finished);

  Group& group_of(uint32_t thread) { return groups_[thread / kLanes]; }
  static uint32_t bit_of(uint32_t thread) { return 1u << thread % kLanes; }
  uint32_t number_of(const Group& group) const { return static_cast<uint32_t>(&group - groups_); }
  Thread& thread_at(uint32_t thread) const {
    return *reinterpret_cast<Thread*>(stacks_.base(fiber_of_[thread]));
  }

  // What a switch touches lies together: at the bases of the stacks it would fall into few sets of the
  // caches.
  const Run* run_ = nullptr;
  uint32_t current_ = kNone;  // the thread that runs
  bool fresh_ = false;        // pick() gave one that has not begun
  bool reversed_ = false;     // lanes
  uint32_t rotation_ = 0;     // of lanes
  uint32_t at_ = 0;           // the SIMD-group that runs, as a place in order_
  uint32_t group_count_ = 0;
  uint32_t waiting_ = 0;  // threads at the threadgroup barrier
  uint32_t paused_ = 0;
  uint32_t rounds_ = 0;  // in which nobody could do anything but those that paused
  uint8_t order_[kMaxGroups];
  Group groups_[kMaxGroups];
  Context contexts_[kMaxThreads];  // by fiber
  uint16_t fiber_of_[kMaxThreads];
  Wait waits_[kMaxThreads];

  uint16_t free_fibers_[kMaxThreads];
  uint32_t free_count_ = 0;
  uint32_t fiber_count_ = 0;
  bool stopped_ = false;

  Thread common_;  // what the threads of the threadgroup share
  uint32_t thread_count_ = 0;
  uint32_t sides_[3] = {};  // that positions_ is for
  uint16_t positions_[kMaxThreads][3];

  Context main_;
  StackRange stacks_;
};

Engine::Engine() {
  stacks_.enable(1);
  reinterpret_cast<StackBase*>(stacks_.begin())->engine = this;
}

Engine::~Engine() {
  for (uint32_t i = 0; i < fiber_count_; ++i) StackRange::retire(contexts_[i]);
}

Engine& own_engine() {
  // It is large, and most threads of a program have none.
  static thread_local std::unique_ptr<Engine> engine;
  if (!engine) engine = std::make_unique<Engine>();
  return *engine;
}

// A threadgroup ---------------------------------------------------------------------------------------

void Engine::describe_threadgroup(uint64_t threadgroup) {
  const SoftmetalLaunch& launch = *run_->launch;
  const uint64_t row = launch.threadgroups_per_grid[0], plane = row * launch.threadgroups_per_grid[1];
  const uint64_t place[3] = {threadgroup % row, threadgroup % plane / row, threadgroup / plane};
  thread_count_ = 1;
  for (int i = 0; i < 3; ++i) {
    const uint64_t side = launch.threads_per_threadgroup[i];
    // A grid that is counted in threads need not be a whole number of threadgroups.
    const auto size = static_cast<uint32_t>(std::min(side, launch.threads_per_grid[i] - place[i] * side));
    common_.threadgroup_position_in_grid[i] = static_cast<uint32_t>(place[i]);
    common_.threads_per_threadgroup[i] = size;
    thread_count_ *= size;
  }
  group_count_ = (thread_count_ + kLanes - 1) / kLanes;
  common_.launch = run_->launch;
  common_.arguments = run_->arguments;
  common_.variables = run_->variables;
  common_.simdgroups_per_threadgroup = group_count_;
  common_.threadgroup = threadgroup;
  if (std::memcmp(sides_, common_.threads_per_threadgroup, sizeof(sides_)) != 0) number_positions();
}

void Engine::number_positions() {
  std::memcpy(sides_, common_.threads_per_threadgroup, sizeof(sides_));
  uint32_t index = 0;
  for (uint32_t z = 0; z < sides_[2]; ++z)
    for (uint32_t y = 0; y < sides_[1]; ++y)
      for (uint32_t x = 0; x < sides_[0]; ++x, ++index) {
        positions_[index][0] = static_cast<uint16_t>(x);
        positions_[index][1] = static_cast<uint16_t>(y);
        positions_[index][2] = static_cast<uint16_t>(z);
      }
}

void Engine::order(uint64_t seed) {
  for (uint32_t i = 0; i < group_count_; ++i) order_[i] = static_cast<uint8_t>(i);
  rotation_ = 0;
  reversed_ = false;
  if (seed == 0) return;
  uint64_t random = mix(seed ^ mix(common_.threadgroup));
  rotation_ = random % kLanes;
  reversed_ = random >> 8 & 1;
  for (uint32_t i = group_count_; i > 1; --i) {
    random = mix(random);
    std::swap(order_[i - 1], order_[random % i]);
  }
}

void Engine::fill(Thread& thread, uint32_t index) const {
  thread = common_;
  for (int i = 0; i < 3; ++i) thread.thread_position_in_threadgroup[i] = positions_[index][i];
  thread.thread_index_in_threadgroup = index;
  thread.thread_index_in_simdgroup = index % kLanes;
  thread.simdgroup_index_in_threadgroup = index / kLanes;
}

bool Engine::run(const Run& run, uint64_t threadgroup) {
  run_ = &run;
  describe_threadgroup(threadgroup);
  order(run.seed);
  for (uint32_t i = 0; i < group_count_; ++i) {
    const uint32_t lanes = std::min(kLanes, thread_count_ - i * kLanes);
    const uint32_t existing = UINT32_MAX >> (kLanes - lanes);
    groups_[i] = {existing, existing, 0, 0, 0, 0, 0};
  }
  at_ = waiting_ = paused_ = rounds_ = 0;
  stopped_ = false;
  if (run.observer) run.observer->begin_threadgroup(threadgroup);

  current_ = pick();
  const uint32_t fiber = take_fiber();
  fiber_of_[current_] = static_cast<uint16_t>(fiber);
  describe_current(main_);
  switch_context(main_, contexts_[fiber]);
  current_ = kNone;
  if (stopped_) {
    free_count_ = 0;
    for (uint32_t i = fiber_count_; i-- > 0;) {
      stacks_.prepare(i, contexts_[i], entry);
      free_fibers_[free_count_++] = static_cast<uint16_t>(i);
    }
    return false;
  }
  if (run.observer) run.observer->end_threadgroup();
  return true;
}

void Engine::stop() {
  stopped_ = true;
  leave_context(main_);
}

// Fibers ----------------------------------------------------------------------------------------------

uint32_t Engine::take_fiber() {
  if (free_count_) return free_fibers_[--free_count_];
  const uint32_t made = fiber_count_++;
  stacks_.enable(fiber_count_);
  stacks_.prepare(made, contexts_[made], entry);
  return made;
}

void Engine::entry() {
  arrived();
  current().work();
}

// What a fiber does: whoever switches to it, for the first time or after it had nothing to do, has made
// current_ a thread that begins.
void Engine::work() {
  for (;;) {
    const uint32_t fiber = fiber_of_[current_];
    Thread& thread = thread_at(current_);
    fill(thread, current_);
    run_->kernel->thread(&thread);

    const uint32_t next = pick();
    if (next != kNone && fresh_) {
      fiber_of_[next] = static_cast<uint16_t>(fiber);
      current_ = next;
      continue;
    }
    free_fibers_[free_count_++] = static_cast<uint16_t>(fiber);
    current_ = next;
    switch_context(contexts_[fiber], next == kNone ? main_ : contexts_[fiber_of_[next]]);
  }
}

// The thread that runs has noted what it waits for: lets others run until that has come.
void Engine::block() {
  const uint32_t next = pick();
  if (next == current_) return;
  Context& here = contexts_[fiber_of_[current_]];
  if (fresh_) fiber_of_[next] = static_cast<uint16_t>(take_fiber());
  current_ = next;
  switch_context(here, contexts_[fiber_of_[next]]);
}

// The first of some lanes, in this threadgroup's order.
uint32_t Engine::lane_of(uint32_t lanes) const {
  const uint32_t turned = std::rotr(lanes, static_cast<int>(rotation_));
  const auto lane =
      static_cast<uint32_t>(reversed_ ? 31 - std::countl_zero(turned) : std::countr_zero(turned));
  return (lane + rotation_) % kLanes;
}

// The thread that is to run next; kNone when all have finished. Stays with a SIMD-group for as long as one of
// its lanes can do something, as what these touch is in the caches.
uint32_t Engine::pick() {
  uint32_t idle = 0;  // SIMD-groups in a row that can do nothing
  for (;;) {
    Group& group = groups_[order_[at_]];
    if (const uint32_t lanes = group.ready | group.unbegun) {
      const uint32_t lane = lane_of(lanes);
      fresh_ = group.unbegun >> lane & 1;
      group.ready &= ~(1u << lane);
      group.unbegun &= ~(1u << lane);
      return number_of(group) * kLanes + lane;
    }
    if (!group.paused && (group.meeting | group.gathering)) {
      settle(group);
      continue;
    }
    if (++at_ == group_count_) at_ = 0;
    if (++idle < group_count_) continue;
    idle = 0;
    if (release_paused()) continue;
    if (waiting_ == 0) return kNone;
    release_barrier();
  }
}

// Waiting ---------------------------------------------------------------------------------------------

void Engine::meet(void* record, SoftmetalFold fold, uint32_t kind, const void* pc) {
  waits_[current_] = {pc, record, fold, kind, 0};
  group_of(current_).meeting |= bit_of(current_);
  block();
}

void Engine::barrier(uint32_t scope, uint32_t flags, const void* pc) {
  Wait& wait = waits_[current_];
  wait.pc = pc;
  wait.flags = flags;
  if (scope == SOFTMETAL_SCOPE_SIMDGROUP) {
    group_of(current_).gathering |= bit_of(current_);
  } else {
    group_of(current_).waiting |= bit_of(current_);
    ++waiting_;
  }
  block();
}

void Engine::pause() {
  group_of(current_).paused |= bit_of(current_);
  ++paused_;
  block();
}

// Those of `lanes` at the lowest of their places. Code that loops lies before what follows the loop, so lanes
// that are still in it catch up with those that have left it.
uint32_t Engine::places(const Group& group, uint32_t lanes, bool (*same)(const Wait&, const Wait&)) const {
  const Wait* waits = waits_ + number_of(group) * kLanes;
  const Wait* lowest = nullptr;
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    const Wait& wait = waits[std::countr_zero(rest)];
    if (!lowest || wait.pc < lowest->pc) lowest = &wait;
  }
  uint32_t found = 0;
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (same(waits[lane], *lowest)) found |= 1u << lane;
  }
  return found;
}

// No lane of the SIMD-group can come to a place where others wait any more: those go on.
void Engine::settle(Group& group) {
  if (group.meeting)
    hold_meeting(group, places(group, group.meeting, [](const Wait& a, const Wait& b) {
                   return a.pc == b.pc && a.fold == b.fold;
                 }));
  else
    release_gathering(
        group, places(group, group.gathering, [](const Wait& a, const Wait& b) { return a.pc == b.pc; }));
}

void Engine::hold_meeting(Group& group, uint32_t lanes) {
  const uint32_t first = number_of(group) * kLanes + static_cast<uint32_t>(std::countr_zero(lanes));
  const Wait wait = waits_[first];
  SoftmetalMeeting meeting;
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    meeting.records[lane] = lanes >> lane & 1 ? waits_[number_of(group) * kLanes + lane].record : nullptr;
  meeting.active = lanes;
  meeting.existing = group.existing;
  meeting.undefined = 0;
  wait.fold(&meeting);
  group.meeting &= ~lanes;
  group.ready |= lanes;
  if (!run_->observer) return;
  const uint32_t lacking = wait.kind == SOFTMETAL_MEETING_MATRIX ? ~lanes : 0;
  if (const uint32_t misused = lacking ? lacking : meeting.undefined)
    run_->observer->lane_misuse(thread_at(first), wait.kind, misused, lanes, wait.pc);
}

void Engine::release_gathering(Group& group, uint32_t lanes) {
  const uint32_t base = number_of(group) * kLanes;
  const uint32_t first = base + static_cast<uint32_t>(std::countr_zero(lanes));
  if (run_->observer) {
    if (const uint32_t others = group.existing & ~lanes) {
      const uint32_t blocked = others & (group.gathering | group.waiting);
      const uint32_t finished = others & ~blocked;
      report_divergence(first, base + static_cast<uint32_t>(std::countr_zero(finished ? finished : blocked)),
                        finished != 0);
    }
    run_->observer->passed_barrier(SOFTMETAL_SCOPE_SIMDGROUP, number_of(group), waits_[first].flags);
  }
  group.gathering &= ~lanes;
  group.ready |= lanes;
}

// Wakes those that paused, once nobody else can do anything. False when there are none.
bool Engine::release_paused() {
  if (paused_ == 0) return false;
  for (uint32_t i = 0; i < group_count_; ++i) {
    groups_[i].ready |= groups_[i].paused;
    groups_[i].paused = 0;
  }
  paused_ = 0;
  // They may be waiting for a threadgroup that another OS thread runs.
  constexpr uint32_t kRounds = 256;
  if (++rounds_ % kRounds == 0) sched_yield();
  return true;
}

// All threads that have not finished wait at the barrier: they go on.
void Engine::release_barrier() {
  if (Observer* observer = run_->observer) {
    uint32_t first = kNone, finished = kNone, elsewhere = kNone, flags = 0;
    for (uint32_t thread = 0; thread < thread_count_; ++thread) {
      if (!(group_of(thread).waiting & bit_of(thread))) {
        if (finished == kNone) finished = thread;
        continue;
      }
      if (first == kNone) first = thread;
      flags |= waits_[thread].flags;
      if (elsewhere == kNone && waits_[thread].pc != waits_[first].pc) elsewhere = thread;
    }
    if (finished != kNone) report_divergence(first, finished, true);
    if (elsewhere != kNone) report_divergence(first, elsewhere, false);
    observer->passed_barrier(SOFTMETAL_SCOPE_THREADGROUP, 0, flags);
  }
  for (uint32_t i = 0; i < group_count_; ++i) {
    groups_[i].ready |= groups_[i].waiting;
    groups_[i].waiting = 0;
  }
  waiting_ = 0;
}

void Engine::report_divergence(uint32_t waiting, uint32_t other, bool finished) {
  Thread gone;  // a thread that has finished may have left its stack to another one
  if (finished) fill(gone, other);
  run_->observer->divergent_barrier(
      thread_at(waiting), waits_[waiting].pc, finished ? gone : thread_at(other),
      finished ? Stuck::Finished : Stuck::OtherBarrier, finished ? nullptr : waits_[other].pc);
}

}  // namespace

Stacks stacks() {
  const StackRange& range = own_engine().stacks();
  return {range.begin(), range.begin() + StackRange::kBytes};
}

bool run_threadgroup(const Run& run, uint64_t threadgroup) { return own_engine().run(run, threadgroup); }

void stop() { Engine::current().stop(); }

const SoftmetalHooks& hooks() {
  static constexpr SoftmetalHooks kHooks = {
      [](void* record, SoftmetalFold fold, uint32_t kind, const void* pc) {
        Engine::current().meet(record, fold, kind, pc);
      },
      [](uint32_t scope, uint32_t flags, const void* pc) { Engine::current().barrier(scope, flags, pc); },
      // A threadgroup runs on one OS thread, but its grid on many.
      [](uint32_t, uint32_t, uint32_t, const void*) { std::atomic_thread_fence(std::memory_order_seq_cst); },
      [](const void*) { Engine::current().pause(); },
      nullptr,
      nullptr,
  };
  return kHooks;
}

}  // namespace softmetal::simt
