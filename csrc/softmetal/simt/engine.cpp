#include "softmetal/simt/engine.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <utility>

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

// The lanes of a SIMD-group by what they are doing, each at its place in the order of running. In no set: one
// that runs, and those that have finished.
struct alignas(32) Group {
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
  uint32_t depth;

  // Those with the highest go first: deep inside before further out, and what waits for nothing but the end
  // of a statement after what has still to be done in it.
  uint32_t rank() const { return 2 * depth + (kind != SOFTMETAL_MEETING_JOIN); }
};

// Runs the threads of one threadgroup after another on one OS thread. A thread runs until it has to wait; it
// then picks the next one and switches to it itself. Within the engine a thread goes by its slot: SIMD-group
// * 32 + lane, both by their places in the order of running.
class Engine {
 public:
  ~Engine();

  static Engine& current();

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
  void fill(Thread& thread, uint32_t slot) const;

  void block();
  void block_last();
  uint32_t take_ready(uint32_t group);
  uint32_t pick();
  uint32_t take_fiber();
  void begin(uint32_t slot, uint32_t fiber);

  void settle(Group& group);
  void hold_meeting(Group& group, uint32_t places);
  void release_gathering(Group& group, uint32_t places);
  bool release_paused();
  bool release_barrier();
  void report_barrier();
  bool wake(uint32_t Group::* lanes);
  void report_divergence(uint32_t waiting, uint32_t other, bool finished);

  Group& group_of(uint32_t slot) { return groups_[slot / kLanes]; }
  static uint32_t bit_of(uint32_t slot) { return 1u << slot % kLanes; }
  uint32_t first_slot(const Group& group) const { return static_cast<uint32_t>(&group - groups_) * kLanes; }
  static uint32_t first_of(uint32_t places) { return static_cast<uint32_t>(std::countr_zero(places)); }
  uint32_t simdgroup_of(uint32_t slot) const { return simdgroups_[slot / kLanes]; }
  // The lanes that the SIMD-group has, by number.
  uint32_t existing_lanes(uint32_t simdgroup) const {
    return UINT32_MAX >> (kLanes - std::min(kLanes, thread_count_ - simdgroup * kLanes));
  }
  Thread& thread_at(uint32_t slot) const {
    return *reinterpret_cast<Thread*>(
        softmetal_thread_address(reinterpret_cast<uintptr_t>(stacks_.base(fiber_of_[slot]))));
  }

  // What a switch touches lies together.
  const Run* run_ = nullptr;
  uint32_t current_ = kNone;  // the slot that runs
  bool fresh_ = false;        // pick() gave one that has not begun
  uint32_t group_count_ = 0;
  uint32_t rounds_ = 0;  // in which nobody could do anything but those that paused
  Group groups_[kMaxGroups];
  Context contexts_[kMaxThreads];  // by slot
  Wait waits_[kMaxThreads];        // by slot
  uint16_t fiber_of_[kMaxThreads];

  // By place: the numbers of the SIMD-groups, and of the lanes in each.
  uint8_t simdgroups_[kMaxGroups];
  uint8_t lanes_[kLanes];

  Context idle_[kMaxThreads];  // by fiber
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

// Found through the OS thread rather than the stack pointer: a switch then need not wait for the one before
// it to have loaded that. In a shared object the model saves a call, and the pointer is small enough for the
// space that glibc keeps for libraries loaded later.
#if defined(__GLIBC__)
#define SOFTMETAL_FAST_TLS __attribute__((tls_model("initial-exec")))
#else
#define SOFTMETAL_FAST_TLS
#endif
SOFTMETAL_FAST_TLS constinit thread_local Engine* engine_of_thread = nullptr;

Engine& Engine::current() { return *engine_of_thread; }

Engine::~Engine() {
  for (uint32_t i = 0; i < fiber_count_; ++i) StackRange::retire(idle_[i]);
}

Engine& own_engine() {
  // It is large, and most threads of a program have none.
  static thread_local std::unique_ptr<Engine> engine;
  if (!engine) {
    engine = std::make_unique<Engine>();
    engine_of_thread = engine.get();
  }
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
  uint64_t random = mix(seed ^ mix(common_.threadgroup));
  const auto number = [seed, &random](uint8_t* list, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) list[i] = static_cast<uint8_t>(i);
    for (uint32_t i = count; seed != 0 && i > 1; --i) {
      random = mix(random);
      std::swap(list[i - 1], list[random % i]);
    }
  };
  number(simdgroups_, group_count_);
  number(lanes_, kLanes);
}

void Engine::fill(Thread& thread, uint32_t slot) const {
  const uint32_t lane = lanes_[slot % kLanes], simdgroup = simdgroup_of(slot);
  const uint32_t index = simdgroup * kLanes + lane;
  thread = common_;
  for (int i = 0; i < 3; ++i) thread.thread_position_in_threadgroup[i] = positions_[index][i];
  thread.thread_index_in_threadgroup = index;
  thread.thread_index_in_simdgroup = lane;
  thread.simdgroup_index_in_threadgroup = simdgroup;
}

bool Engine::run(const Run& run, uint64_t threadgroup) {
  run_ = &run;
  describe_threadgroup(threadgroup);
  order(run.seed);
  for (uint32_t i = 0; i < group_count_; ++i) {
    const uint32_t lanes = existing_lanes(simdgroups_[i]);
    uint32_t existing = lanes;
    if (lanes != UINT32_MAX) {
      existing = 0;
      for (uint32_t place = 0; place < kLanes; ++place) existing |= (lanes >> lanes_[place] & 1) << place;
    }
    groups_[i] = {existing, existing, 0, 0, 0, 0, 0};
  }
  current_ = rounds_ = 0;
  stopped_ = false;
  if (run.observer) run.observer->begin_threadgroup(threadgroup);

  current_ = pick();
  begin(current_, take_fiber());
  describe_current(main_);
  switch_context(main_, contexts_[current_]);
  if (stopped_) {
    free_count_ = 0;
    for (uint32_t i = fiber_count_; i-- > 0;) {
      stacks_.prepare(i, idle_[i], entry);
      free_fibers_[free_count_++] = static_cast<uint16_t>(i);
    }
    return false;
  }
  if (run.observer) run.observer->end_threadgroup();
  return true;
}

void Engine::stop() {
  stopped_ = true;
  leave_context(contexts_[current_], main_);
}

// Fibers ----------------------------------------------------------------------------------------------

uint32_t Engine::take_fiber() {
  if (free_count_ > 1) {
    // The one after it will be wanted soon, and what it ran last has left the nearest cache.
    const auto* next = static_cast<const char*>(idle_[free_fibers_[free_count_ - 2]].stack_pointer);
    for (int line = -2; line < 6; ++line) __builtin_prefetch(next + 64 * line);
  }
  if (free_count_) return free_fibers_[--free_count_];
  const uint32_t made = fiber_count_++;
  stacks_.enable(fiber_count_);
  stacks_.prepare(made, idle_[made], entry);
  return made;
}

// Gives a fiber that has nothing to do to a thread.
void Engine::begin(uint32_t slot, uint32_t fiber) {
  fiber_of_[slot] = static_cast<uint16_t>(fiber);
  contexts_[slot] = idle_[fiber];
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
      begin(next, fiber);
      current_ = next;
      continue;
    }
    free_fibers_[free_count_++] = static_cast<uint16_t>(fiber);
    current_ = next;
    switch_context(idle_[fiber], next == kNone ? main_ : contexts_[next]);
  }
}

// The thread that runs has noted what it waits for: lets others run until that has come.
void Engine::block() {
  const uint32_t here = current_, group = here / kLanes;
  if (!groups_[group].ready) return block_last();
  current_ = take_ready(group);
  switch_context(contexts_[here], contexts_[current_]);
}

// The same for the last of its SIMD-group that could do something. Apart, as the above is fast without a
// frame of its own.
[[gnu::noinline]] void Engine::block_last() {
  const uint32_t here = current_;
  const uint32_t next = pick();
  if (next == here) return;
  current_ = next;
  if (fresh_) begin(next, take_fiber());
  switch_context(contexts_[here], contexts_[next]);
}

inline uint32_t Engine::take_ready(uint32_t group) {
  uint32_t& ready = groups_[group].ready;
  const uint32_t place = first_of(ready);
  ready &= ready - 1;
  // More stacks than fit into the caches are on their way before they are needed.
  const uint32_t later = group * kLanes + first_of(ready & (ready - 1)) % kLanes;
  const auto* stack = static_cast<const char*>(contexts_[later].stack_pointer);
  for (int line = 0; line < 4; ++line) __builtin_prefetch(stack + 64 * line);
  return group * kLanes + place;
}

// The slot that is to run next; kNone when all have finished. Stays with a SIMD-group for as long as one of
// its lanes can do something, as what these touch is in the caches.
[[gnu::noinline]] uint32_t Engine::pick() {
  uint32_t idle = 0;  // SIMD-groups in a row that can do nothing
  for (uint32_t at = current_ / kLanes;;) {
    Group& group = groups_[at];
    if (group.ready) {
      fresh_ = false;
      return take_ready(at);
    }
    if (group.unbegun) {
      fresh_ = true;
      const uint32_t place = first_of(group.unbegun);
      group.unbegun &= group.unbegun - 1;
      return at * kLanes + place;
    }
    if (!group.paused && (group.meeting | group.gathering)) {
      settle(group);
      continue;
    }
    if (++at == group_count_) at = 0;
    if (++idle < group_count_) continue;
    idle = 0;
    if (!release_paused() && !release_barrier()) return kNone;
  }
}

// Waiting ---------------------------------------------------------------------------------------------

void Engine::meet(void* record, SoftmetalFold fold, uint32_t kind, const void* pc) {
  constexpr uint32_t kKinds = (1u << SOFTMETAL_DEPTH_SHIFT) - 1;
  waits_[current_] = {pc, record, fold, kind & kKinds, 0, kind >> SOFTMETAL_DEPTH_SHIFT};
  group_of(current_).meeting |= bit_of(current_);
  block();
}

void Engine::barrier(uint32_t scope, uint32_t flags, const void* pc) {
  if (scope != SOFTMETAL_SCOPE_THREADGROUP) {
    waits_[current_] = {pc, nullptr, nullptr, SOFTMETAL_MEETING_SIMD, flags, scope >> SOFTMETAL_DEPTH_SHIFT};
    group_of(current_).gathering |= bit_of(current_);
  } else {
    // Nobody asks where threads wait that all go on together.
    if (run_->observer) {
      waits_[current_].pc = pc;
      waits_[current_].flags = flags;
    }
    group_of(current_).waiting |= bit_of(current_);
  }
  block();
}

void Engine::pause() {
  group_of(current_).paused |= bit_of(current_);
  block();
}

// No lane of the SIMD-group can come to where others wait any more: those of the highest rank go on.
// Statements in which lanes may part count their depth, and end in a join. So at equal depth lanes at
// different places are in different branches, of which any may go first: that at the lowest address, to go by
// something.
void Engine::settle(Group& group) {
  const Wait* waits = waits_ + first_slot(group);
  const uint32_t lanes = group.meeting | group.gathering;
  uint32_t first = first_of(lanes);
  bool together = true;
  for (uint32_t rest = lanes & (lanes - 1); rest; rest &= rest - 1) {
    const Wait& a = waits[first_of(rest)];
    const Wait& b = waits[first];
    if (a.pc == b.pc && a.fold == b.fold && a.rank() == b.rank()) continue;
    together = false;
    if (a.rank() > b.rank() || (a.rank() == b.rank() && a.pc < b.pc)) first = first_of(rest);
  }
  const Wait& best = waits[first];
  const bool join = best.kind == SOFTMETAL_MEETING_JOIN;
  uint32_t found = lanes;
  for (uint32_t rest = together ? 0 : lanes; rest; rest &= rest - 1) {
    const Wait& wait = waits[first_of(rest)];
    // The ends of one statement are several places, one for each way out.
    if (wait.rank() != best.rank() || (!join && (wait.pc != best.pc || wait.fold != best.fold)))
      found &= ~(rest & -rest);
  }
  if (group.meeting >> first & 1)
    hold_meeting(group, found & group.meeting);
  else
    release_gathering(group, found & group.gathering);
}

void Engine::hold_meeting(Group& group, uint32_t places) {
  const uint32_t slots = first_slot(group), first = slots + first_of(places);
  const Wait wait = waits_[first];
  if (wait.kind == SOFTMETAL_MEETING_JOIN) {
    group.meeting &= ~places;
    group.ready |= places;
    return;
  }
  SoftmetalMeeting meeting{};
  for (uint32_t rest = places; rest; rest &= rest - 1) {
    const uint32_t place = first_of(rest), lane = lanes_[place];
    meeting.records[lane] = waits_[slots + place].record;
    meeting.active |= 1u << lane;
  }
  meeting.existing = existing_lanes(simdgroup_of(slots));
  wait.fold(&meeting);
  group.meeting &= ~places;
  group.ready |= places;
  if (!run_->observer) return;
  const uint32_t lacking = wait.kind == SOFTMETAL_MEETING_MATRIX ? ~meeting.active : 0;
  if (const uint32_t misused = lacking ? lacking : meeting.undefined)
    run_->observer->lane_misuse(thread_at(first), wait.kind, misused, meeting.active, wait.pc);
}

void Engine::release_gathering(Group& group, uint32_t places) {
  const uint32_t slots = first_slot(group), first = slots + first_of(places);
  if (run_->observer) {
    if (const uint32_t others = group.existing & ~places) {
      const uint32_t finished = others & ~(group.gathering | group.waiting);
      report_divergence(first, slots + first_of(finished ? finished : others), finished != 0);
    }
    run_->observer->passed_barrier(SOFTMETAL_SCOPE_SIMDGROUP, simdgroup_of(slots), waits_[first].flags);
  }
  group.gathering &= ~places;
  group.ready |= places;
}

// Wakes those that paused, once nobody else can do anything. False when there are none.
bool Engine::release_paused() {
  if (!wake(&Group::paused)) return false;
  // They may be waiting for a threadgroup that another OS thread runs.
  constexpr uint32_t kRounds = 256;
  if (++rounds_ % kRounds == 0) sched_yield();
  return true;
}

// All threads that have not finished wait at the barrier: they go on. False when all have finished.
bool Engine::release_barrier() {
  if (run_->observer) report_barrier();
  return wake(&Group::waiting);
}

bool Engine::wake(uint32_t Group::* lanes) {
  bool any = false;
  for (uint32_t i = 0; i < group_count_; ++i) {
    any |= groups_[i].*lanes != 0;
    groups_[i].ready |= std::exchange(groups_[i].*lanes, 0);
  }
  return any;
}

// Nobody can do anything, and some may wait at a barrier.
void Engine::report_barrier() {
  uint32_t first = kNone, finished = kNone, elsewhere = kNone, flags = 0;
  for (uint32_t slot = 0; slot < group_count_ * kLanes; ++slot) {
    const Group& group = group_of(slot);
    if (!(group.existing & bit_of(slot))) continue;
    if (!(group.waiting & bit_of(slot))) {
      if (finished == kNone) finished = slot;
      continue;
    }
    if (first == kNone) first = slot;
    flags |= waits_[slot].flags;
    if (elsewhere == kNone && waits_[slot].pc != waits_[first].pc) elsewhere = slot;
  }
  if (first == kNone) return;
  if (finished != kNone) report_divergence(first, finished, true);
  if (elsewhere != kNone) report_divergence(first, elsewhere, false);
  run_->observer->passed_barrier(SOFTMETAL_SCOPE_THREADGROUP, 0, flags);
}

void Engine::report_divergence(uint32_t waiting, uint32_t other, bool finished) {
  Thread gone;  // a thread that has finished may have left its stack to another one
  if (finished) fill(gone, other);
  run_->observer->divergent_barrier(
      thread_at(waiting), waits_[waiting].pc, finished ? gone : thread_at(other),
      finished ? Stuck::Finished : Stuck::OtherBarrier, finished ? nullptr : waits_[other].pc);
}

}  // namespace

// A threadgroup runs on one OS thread, but its grid on many.
static void fence() {
#if defined(SOFTMETAL_TSAN)
  // It knows no fences.
  static std::atomic<uint32_t> order{0};
  order.fetch_add(0, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

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
      [](uint32_t, uint32_t, uint32_t, const void*) { fence(); },
      [](const void*) { Engine::current().pause(); },
      nullptr,
      nullptr,
  };
  return kHooks;
}

}  // namespace softmetal::simt
