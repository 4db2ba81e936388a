#include "softmetal/simt/checker.h"

#include <time.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string_view>
#include <tuple>
#include <utility>

#include "softmetal/runtime/device.h"
#include "softmetal/runtime/division.h"

namespace softmetal::simt {

namespace {

// Slots: the buffer arguments; what a launch consists of; threadgroup arguments; then variables.
constexpr unsigned kLaunchSlot = SOFTMETAL_MAX_BUFFERS;
constexpr unsigned kFirstThreadgroupSlot = kLaunchSlot + 1;
constexpr unsigned kNoSlot = kFirstThreadgroupSlot + SOFTMETAL_MAX_BUFFERS;
constexpr unsigned kFirstVariableSlot = kNoSlot + 1;
// The last slot of the arena is divided into drawers, for threadgroup arguments, the variables, and the
// launch.
constexpr unsigned kDrawersArena = Arena::kSlots - 1;
constexpr unsigned kDrawerShift = 26;
constexpr unsigned kVariablesDrawer = SOFTMETAL_MAX_BUFFERS, kLaunchDrawer = kVariablesDrawer + 1;
constexpr uint32_t kDrawer = 1u << kDrawerShift;

constexpr uint32_t kFenceDevice = 1, kFenceThreadgroup = 2;  // bits of metal::mem_flags
constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kLastTime = UINT32_MAX - (1u << 28);
constexpr uintptr_t kNullReach = uintptr_t{1} << 36;  // that an index leads from null
constexpr size_t kMostFindings = 64;
constexpr uint32_t kTicks = 16;

// What an access needs to know, apart so that it is found without a pointer.
struct Now {
  // The stacks of the GPU threads.
  uintptr_t stacks = 0, stacks_bytes = 0;
  // Where arguments lie; nothing unless a checked dispatch runs.
  uintptr_t arena = 0;
  uint64_t arena_bytes = 0;
  unsigned slot_shift = 0;
  const Slot* slots = nullptr;
  uintptr_t variables = 0;
  uint64_t variables_bytes = 0;
  const uint16_t* granules = nullptr;

  uintptr_t image = 0;
  uint32_t poison = 0;
  bool runs = false;
  bool non_finite = false;

  uint32_t time = 0;
  uint32_t begin = 0;        // of the threadgroup
  uint32_t valid[2] = {};    // by space: what is older does not count any more
  uint32_t ordered[2] = {};  // what this threadgroup did before is ordered by a barrier
  uint32_t generation = 0;   // of threadgroup memory, in place

  // Less often used.
  uint32_t any_barrier = 0;
  uint32_t simdgroup_ordered[2][SOFTMETAL_LANES] = {};
  uint32_t simdgroup_any[SOFTMETAL_LANES] = {};
  uint32_t fences[2][kMaxThreads] = {};
  const void* barrier_pc = nullptr;  // of the threadgroup barrier that somebody came to last
  uint32_t barrier_flags = 0;
  uint32_t ticks = kTicks;
  int64_t deadline = 0;  // 0: to be set
  int64_t limit = 0;     // nanoseconds; 0: none
  bool tainted = false;  // this threadgroup has met a NaN or Inf
  struct {
    uintptr_t address = 0;
    uint64_t bytes = 0;
    const Slot* slot = nullptr;
    const void* pc = nullptr;
    uint32_t thread = 0;
  } pending;  // a store whose value has to be looked at
};
Now now;

int64_t cpu_time() {
  timespec spent;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return int64_t{spent.tv_sec} * 1'000'000'000 + spent.tv_nsec;
}

const char* name_of(Kind kind) {
  static constexpr const char* kNames[] = {
      "threadgroup-race",  "device-race",        "barrier-flags", "divergent-barrier", "out-of-bounds",
      "misaligned",        "uninitialized-read", "inactive-lane", "incomplete-matrix", "read-only-write",
      "null-argument",     "invalid-address",    "hazard",        "non-finite",        "runaway",
      "undefined-division"};
  return kNames[static_cast<size_t>(kind)];
}

bool is_fatal(Kind kind) {
  switch (kind) {
    case Kind::OutOfBounds:
    case Kind::Misaligned:
    case Kind::ReadOnlyWrite:
    case Kind::NullArgument:
    case Kind::InvalidAddress:
    case Kind::Runaway:
      return true;
    default:
      return false;
  }
}

std::string flags_text(uint32_t flags) {
  if (flags == 0) return "mem_flags::mem_none";
  std::string result;
  for (const auto& [bit, name] :
       {std::pair{1u, "mem_flags::mem_device"}, std::pair{2u, "mem_flags::mem_threadgroup"},
        std::pair{4u, "mem_flags::mem_texture"}})
    if (flags & bit) result += (result.empty() ? "" : " | ") + std::string(name);
  return result.empty() ? text("mem_flags(%u)", flags) : result;
}

const char* action_of(uint32_t access) {
  const bool reads = access & SOFTMETAL_READS, writes = access & SOFTMETAL_WRITES;
  if (access & SOFTMETAL_ATOMIC)
    return reads && writes ? "changes atomically" : writes ? "stores atomically" : "loads atomically";
  return reads && writes ? "changes" : writes ? "writes" : "reads";
}

// Of what a cell remembers in place `which`.
const char* action_of(const Cell& cell, int which) {
  if (which == 0) return "writes";
  if (cell.who[which] & kAtomicWrite) return "changes atomically";
  return cell.who[which] & kPlainRead ? "reads" : "loads atomically";
}

Scalar scalar_of(uint32_t type) {
  if (type >= MTL::DataTypeFloat && type < MTL::DataTypeHalf) return Scalar::Float;
  if (type >= MTL::DataTypeHalf && type < MTL::DataTypeInt) return Scalar::Half;
  if (type >= MTL::DataTypeBFloat && type <= MTL::DataTypeBFloat4) return Scalar::BFloat;
  return Scalar::Other;
}

// As fine as the elements, so that neighbours do not share a cell.
uint8_t shift_of(uint32_t alignment) { return alignment >= 4 ? 2 : alignment == 2 ? 1 : 0; }

enum class NonFinite : uint8_t { None, PlusInfinity, MinusInfinity, NaN };

NonFinite non_finite(Scalar scalar, uintptr_t address) {
  const bool wide = scalar == Scalar::Float;
  uint32_t bits = 0;
  std::memcpy(&bits, reinterpret_cast<const void*>(address), wide ? 4 : 2);
  const uint32_t sign = wide ? 0x80000000 : 0x8000;
  const uint32_t infinity = wide ? 0x7f800000 : scalar == Scalar::Half ? 0x7c00 : 0x7f80;
  const uint32_t magnitude = bits & ~sign;
  if (magnitude < infinity) return NonFinite::None;
  if (magnitude > infinity) return NonFinite::NaN;
  return bits & sign ? NonFinite::MinusInfinity : NonFinite::PlusInfinity;
}

NonFinite non_finite(const Slot& slot, uintptr_t address, uint64_t bytes) {
  const uint64_t size = slot.scalar == Scalar::Float ? 4 : 2;
  NonFinite found = NonFinite::None;
  if (slot.scalar == Scalar::Other || (address - slot.begin) % size != 0) return found;
  for (uint64_t at = 0; at + size <= bytes; at += size)
    found = std::max(found, non_finite(slot.scalar, address + at));
  return found;
}

uint32_t offset_in_image(const void* pc) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc) - now.image);
}

bool on_fiber() {
  return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - now.stacks < now.stacks_bytes;
}

// What lies at an address of the arena.
inline const Slot& find_slot(uintptr_t address) {
  const uintptr_t inside = address - now.arena;
  const uintptr_t index = inside >> now.slot_shift;
  if (index != kDrawersArena) return now.slots[index];
  const uintptr_t drawer = (inside - (index << now.slot_shift)) >> kDrawerShift;
  if (drawer < SOFTMETAL_MAX_BUFFERS) return now.slots[kFirstThreadgroupSlot + drawer];
  if (drawer == kLaunchDrawer) return now.slots[kLaunchSlot];
  if (drawer != kVariablesDrawer || now.variables_bytes == 0) return now.slots[kNoSlot];
  const uintptr_t within = address - now.variables;
  // What is beyond them all is nearest to the last one, or before to the first one.
  const uintptr_t granule = within < now.variables_bytes ? within >> 4
                            : address < now.variables    ? 0
                                                         : (now.variables_bytes >> 4) - 1;
  return now.slots[now.granules[granule]];
}

// Whether what a cell remembers of this time cannot conflict with what this threadgroup does now, whichever
// of its threads does it.
inline bool is_past(uint32_t time, Space space) {
  return time < now.valid[space] || time - now.begin < now.ordered[space] - now.begin;
}

// Whether another thread left this in a cell since.
inline bool is_foreign(const Cell& cell, int which, Space space, uint16_t who) {
  const uint32_t time = cell.time[which];
  return !is_past(time, space) && (time < now.begin || ((cell.who[which] ^ who) >> kWhoShift) != 0);
}

}  // namespace

Order::Order(uint64_t count, uint64_t seed) : count_(std::max<uint64_t>(count, 1)) {
  if (seed == 0 || count_ == 1) return;
  // splitmix64
  const auto next = [&seed] {
    uint64_t z = seed += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  };
  start_ = next() % count_;
  do step_ = next() % count_;
  while (std::gcd(step_, count_) != 1);
}

// Hooks -----------------------------------------------------------------------------------------------------

struct Hooks {
  static void access(const void* address, uint64_t bytes, uint32_t kind, const void* pc);
  static void barrier(uint32_t scope, uint32_t flags, const void* pc);
  static void fence(uint32_t flags, uint32_t order, uint32_t scope, const void* pc);
  static void pause(const void* pc);
  static void tick(const void* pc);

  template <bool Writes, bool Atomic>
  static void touch_cell(const Access& access, uintptr_t index, unsigned touched);
  template <bool Writes, bool Atomic>
  static void touch(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc);
  template <bool Writes>
  static void touch_own(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc);
  static void touch(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc);
  [[gnu::noinline]] static void note(Cell& cell, uint16_t who, uint32_t pc, Space space);
  [[gnu::noinline, gnu::cold]] static void conflict(const Access& access, const Cell& cell, int with,
                                                    unsigned touched);
  static void elsewhere(uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc);
  static void out_of_bounds(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                            const void* pc);
  static void misaligned(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc);
  static void read_only(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc);
  static void uninitialized(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                            const void* pc);
  static void look_at_value(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                            const void* pc);
  static void look_at_clock(const void* pc);
  static void divided(const void* next, bool least);
};

// One cell of an access. What is rare is out of line, so that the rest needs few registers.
template <bool Writes, bool Atomic>
[[gnu::always_inline]] inline void Hooks::touch_cell(const Access& access, uintptr_t index,
                                                     unsigned touched) {
  const Space space = access.slot.space;
  const auto me = static_cast<uint16_t>(current_thread().thread_index_in_threadgroup << kWhoShift);
  const uint32_t time = now.time, place = offset_in_image(access.pc);
  Cell& cell = access.slot.cells[index];
  const auto check = [&](int which) {
    if (is_foreign(cell, which, space, me)) [[unlikely]]
      conflict(access, cell, which, touched);
  };
  if (Writes || (!Atomic && (cell.who[1] | cell.who[2]) & kAtomicWrite)) {
    if (std::max(cell.time[0], std::max(cell.time[1], cell.time[2])) >= now.valid[space]) {
      check(0);
      check(1);
      check(2);
    }
  } else {
    check(0);
  }
  if constexpr (Writes) {
    const unsigned before = cell.written >> 4 == now.generation ? cell.written & kWhoBytes : 0;
    cell.written = static_cast<uint16_t>(now.generation << 4 | before | touched);
  }
  if constexpr (Writes && !Atomic) {
    const bool again = cell.time[0] == time && ((cell.who[0] ^ me) >> kWhoShift) == 0;
    cell.who[0] = static_cast<uint16_t>(me | touched | (again ? cell.who[0] & kWhoBytes : 0));
    cell.time[0] = time;
    cell.pc[0] = place;
  } else {
    constexpr unsigned flag = !Atomic ? kPlainRead : Writes ? kAtomicWrite : 0;
    const auto who = static_cast<uint16_t>(me | flag | touched);
    if (cell.time[1] == time && cell.who[1] == who) return;
    if (is_past(cell.time[1], space) && is_past(cell.time[2], space)) {
      cell.time[1] = time;
      cell.who[1] = who;
      cell.pc[1] = place;
    } else {
      note(cell, who, place, space);
    }
  }
}

template <bool Writes, bool Atomic>
[[gnu::noinline]] void Hooks::touch(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                                    const void* pc) {
  const Access access{slot, address, bytes, kind, pc};
  const unsigned shift = slot.shift;
  const uintptr_t size = uintptr_t{1} << shift;
  const auto whole = static_cast<unsigned>((1u << size) - 1);
  const uintptr_t from = address - slot.origin, to = from + bytes;
  uintptr_t index = from >> shift;
  if (((from | bytes) & (size - 1)) == 0) [[likely]] {
    const uintptr_t end = to >> shift;
    do touch_cell<Writes, Atomic>(access, index, whole);
    while (++index != end);
    return;
  }
  for (; index << shift < to; ++index) {
    const uintptr_t start = index << shift;
    unsigned touched = whole;
    if (start < from) touched &= whole << (from - start);
    if (to - start < size) touched &= (1u << (to - start)) - 1;
    touch_cell<Writes, Atomic>(access, index, touched);
  }
}

// Whether a cell holds two reads by others that say as much as one more would, as where all threads read it.
inline bool holds_enough(const Cell& cell, uint16_t who, Space space) {
  const auto simdgroup_of = [](uint16_t one) { return one / (SOFTMETAL_LANES << kWhoShift); };
  const unsigned simdgroup = simdgroup_of(who), first = simdgroup_of(cell.who[1]),
                 second = simdgroup_of(cell.who[2]);
  const uint32_t since = std::max(now.ordered[space], now.simdgroup_ordered[space][simdgroup]);
  return cell.time[1] >= since && cell.time[2] >= since && (cell.who[1] & cell.who[2] & kPlainRead) != 0 &&
         (cell.who[1] ^ who) >> kWhoShift != 0 && (cell.who[2] ^ who) >> kWhoShift != 0 &&
         (first != second || first == simdgroup);
}

// Plain accesses to whole cells that nobody else has touched since. All others are left to touch(), which
// does again what has been done here.
template <bool Writes>
inline void Hooks::touch_own(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                             const void* pc) {
  const unsigned shift = slot.shift;
  const uintptr_t from = address - slot.origin;
  if (((from | bytes) & ((uintptr_t{1} << shift) - 1)) != 0)
    return touch<Writes, false>(slot, address, bytes, kind, pc);
  const Space space = slot.space;
  const uint32_t time = now.time, valid = now.valid[space], begin = now.begin, place = offset_in_image(pc);
  const auto me = static_cast<uint16_t>(current_thread().thread_index_in_threadgroup << kWhoShift);
  const unsigned whole = (1u << (1u << shift)) - 1;
  const auto free = [&](const Cell& cell, int which) {
    return cell.time[which] < valid ||
           (cell.time[which] >= begin && ((cell.who[which] ^ me) >> kWhoShift) == 0);
  };
  Cell* cell = slot.cells + (from >> shift);
  Cell* const end = slot.cells + ((from + bytes) >> shift);
  do {
    if constexpr (Writes) {
      const bool fresh = std::max(cell->time[0], std::max(cell->time[1], cell->time[2])) < valid;
      if (!fresh && !(free(*cell, 0) && free(*cell, 1) && free(*cell, 2)))
        return touch<true, false>(slot, address, bytes, kind, pc);
      cell->written = static_cast<uint16_t>(now.generation << 4 | whole);
      cell->who[0] = static_cast<uint16_t>(me | whole);
      cell->time[0] = time;
      cell->pc[0] = place;
    } else {
      const auto who = static_cast<uint16_t>(me | kPlainRead | whole);
      if (!free(*cell, 0) || (cell->who[1] | cell->who[2]) & kAtomicWrite)
        return touch<false, false>(slot, address, bytes, kind, pc);
      if (cell->time[1] == time && cell->who[1] == who) continue;
      if (cell->time[1] >= valid || cell->time[2] >= valid) {
        if (holds_enough(*cell, me, space)) continue;
        return touch<false, false>(slot, address, bytes, kind, pc);
      }
      cell->time[1] = time;
      cell->who[1] = who;
      cell->pc[1] = place;
    }
  } while (++cell != end);
}

inline void Hooks::touch(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc) {
  if (!slot.tracked) return;
  if (!(kind & SOFTMETAL_ATOMIC)) {
    if (kind & SOFTMETAL_WRITES) return touch_own<true>(slot, address, bytes, kind, pc);
    return touch_own<false>(slot, address, bytes, kind, pc);
  }
  if (kind & SOFTMETAL_WRITES) return touch<true, true>(slot, address, bytes, kind, pc);
  return touch<false, true>(slot, address, bytes, kind, pc);
}

// All calls are the last thing done, so nothing has to be kept over them.
void Hooks::access(const void* pointer, uint64_t bytes, uint32_t kind, const void* pc) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (address - now.stacks < now.stacks_bytes) return;
  if (address - now.arena >= now.arena_bytes) return elsewhere(address, bytes, kind, pc);
  const Slot& slot = find_slot(address);
  const uint64_t offset = address - slot.begin;
  if (offset >= slot.bytes || bytes - 1 >= slot.bytes - offset) [[unlikely]]
    return out_of_bounds(slot, address, bytes, kind, pc);
  // Other sizes are copies, whose alignment is not known.
  if ((address & (bytes - 1)) != 0 && !(kind & SOFTMETAL_UNALIGNED) && bytes <= 16 &&
      (bytes & (bytes - 1)) == 0) [[unlikely]]
    return misaligned(slot, address, bytes, kind, pc);
  if (kind & SOFTMETAL_WRITES) {
    if (!slot.writable) [[unlikely]]
      return read_only(slot, address, bytes, kind, pc);
    const uint64_t last = (address + bytes - 1 - slot.origin) >> Shadow::kLineShift;
    volatile uint8_t* const lines = slot.lines;
    for (uint64_t line = (address - slot.origin) >> Shadow::kLineShift; line <= last; ++line) lines[line] = 1;
  }
  if (kind & SOFTMETAL_READS) {
    // The first cell decides: what follows may be padding, which a copy of a struct reads and nobody writes.
    if (slot.space == kThreadgroup) {
      const uintptr_t from = address - slot.origin;
      const uint16_t written = slot.cells[from >> slot.shift].written;
      const unsigned within = from & ((1u << slot.shift) - 1);
      const unsigned touched = ((1u << (bytes < 4 ? bytes : 4)) - 1) << within;
      if (written >> 4 != now.generation || (written & kWhoBytes & touched) == 0) [[unlikely]]
        return uninitialized(slot, address, bytes, kind, pc);
    } else if (slot.poisoned && *reinterpret_cast<const uint32_t*>(address & ~uintptr_t{3}) == now.poison)
        [[unlikely]] {
      return uninitialized(slot, address, bytes, kind, pc);
    }
  }
  if (now.non_finite) [[unlikely]]
    return look_at_value(slot, address, bytes, kind, pc);
  touch(slot, address, bytes, kind, pc);
}

void Hooks::conflict(const Access& access, const Cell& cell, int with, unsigned touched) {
  Checker::get().conflict(access, cell, with, touched);
}

// Finds a place for an access in a cell that already has some.
void Hooks::note(Cell& cell, uint16_t who, uint32_t pc, Space space) {
  const uint32_t thread = who >> kWhoShift, simdgroup = thread / SOFTMETAL_LANES;
  const uint32_t apart = now.simdgroup_ordered[space][simdgroup];
  const auto simdgroup_of = [&](int which) { return (cell.who[which] >> kWhoShift) / SOFTMETAL_LANES; };
  const auto put = [&](int which, uint16_t value) {
    cell.time[which] = now.time;
    cell.who[which] = value;
    cell.pc[which] = pc;
  };
  bool free[3], earlier[3];
  for (const int which : {1, 2}) {
    const uint32_t time = cell.time[which];
    earlier[which] = !is_past(time, space) && time < now.begin;
    free[which] =
        is_past(time, space) || (!earlier[which] && simdgroup_of(which) == simdgroup && time < apart);
    if (is_past(time, space) || earlier[which] || cell.who[which] >> kWhoShift != thread) continue;
    // What it did before goes on counting, but for its SIMD-group only until their barrier.
    const uint16_t before = time < apart ? 0 : cell.who[which];
    if ((before | who) != before || time != now.time) put(which, static_cast<uint16_t>(before | who));
    return;
  }
  if (free[1]) return put(1, who);
  if (free[2]) return put(2, who);
  // One access of an earlier threadgroup is enough.
  if (earlier[1] && earlier[2]) return put(2, who);
  if (earlier[1] || earlier[2]) return;
  // Atomic loads conflict with less than other accesses do.
  constexpr uint16_t kMore = kPlainRead | kAtomicWrite;
  if (who & kMore)
    for (const int which : {1, 2})
      if (!(cell.who[which] & kMore)) return put(which, who);
  if (simdgroup_of(1) == simdgroup_of(2) && simdgroup_of(1) != simdgroup &&
      (who & kMore || !(cell.who[2] & kMore)))
    put(2, who);
}

void Hooks::barrier(uint32_t scope, uint32_t flags, const void* pc) {
  if (now.runs) {
    look_at_clock(pc);
    if (scope == SOFTMETAL_SCOPE_THREADGROUP) now.barrier_pc = pc;
  }
  simt::hooks().barrier(scope, flags, pc);
}

// Any order but relaxed counts, for all threads of the threadgroup: rather miss a fault than report correct
// code.
void Hooks::fence(uint32_t flags, uint32_t order, uint32_t scope, const void* pc) {
  if (now.runs && order != 0) {
    const uint32_t time = ++now.time;
    const uint32_t thread = current_thread().thread_index_in_threadgroup % kMaxThreads;
    if (flags & kFenceDevice) now.fences[kDevice][thread] = time;
    if (flags & kFenceThreadgroup) now.fences[kThreadgroup][thread] = time;
    if (flags & kFenceDevice && scope >= SOFTMETAL_SCOPE_DEVICE)
      Checker::get().device_fences_[Checker::get().threadgroup_] = time;
  }
  simt::hooks().fence(flags, order, scope, pc);
}

void Hooks::pause(const void* pc) {
  if (now.runs) look_at_clock(pc);
  simt::hooks().pause(pc);
}

void Hooks::tick(const void* pc) {
  if (now.runs) look_at_clock(pc);
}

void Hooks::look_at_clock(const void* pc) {
  if (now.limit == 0 || --now.ticks != 0) return;
  now.ticks = kTicks;
  const int64_t time = cpu_time();
  if (now.deadline == 0) now.deadline = time + now.limit;
  if (time < now.deadline || !on_fiber()) return;
  if (auto* finding = Checker::get().report(Kind::Runaway, nullptr, reinterpret_cast<uintptr_t>(pc))) {
    finding->fault.first.action = "still runs";
    finding->fault.message =
        text("a threadgroup ran for more than %g s, the time limit", static_cast<double>(now.limit) * 1e-9);
  }
  stop();
}

// From a signal handler, but one that interrupted nothing else than the kernel.
void Hooks::divided(const void* next, bool least) {
  if (!now.runs || !on_fiber()) return;
  Checker::Finding* finding =
      Checker::get().report(Kind::UndefinedDivision, nullptr, reinterpret_cast<uintptr_t>(next));
  if (!finding) return;
  finding->fault.first.action = "divides";
  finding->fault.message =
      least ? "divides the least number of its type by -1 or 0, which has no specified result"
            : "divides an integer by zero, which has no specified result";
}

// An address of no argument.
void Hooks::elsewhere(uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc) {
  if (!now.runs || bytes == 0 || !on_fiber()) return;
  Checker& checker = Checker::get();
  const bool writes = kind & SOFTMETAL_WRITES;
  const auto inside = [&](const Image::Range& range) {
    return address >= range.begin && address < range.end && bytes <= range.end - address &&
           (range.writable || !writes);
  };
  const auto allowed = [&] { return std::any_of(checker.allowed_.begin(), checker.allowed_.end(), inside); };
  if (allowed()) return;
  // Thread-local variables may have got their place only now.
  if (const Image::Range range = checker.image_->thread_local_range();
      range.end > range.begin && checker.allowed_.size() == checker.image_->ranges.size()) {
    checker.allowed_.push_back(range);
    if (allowed()) return;
  }
  if (address < kNullReach) {
    std::vector<const SoftmetalArgument*> unbound;
    std::string names;
    for (uint32_t i = 0; i < checker.kernel_->argument_count; ++i) {
      const SoftmetalArgument& argument = checker.kernel_->arguments[i];
      const unsigned slot =
          argument.index + (argument.kind == SOFTMETAL_ARGUMENT_BUFFER ? 0 : kFirstThreadgroupSlot);
      if (checker.slots_[slot].name) continue;
      unbound.push_back(&argument);
      names += (names.empty() ? "" : " or ") + text("\"%s\" (index %u)", argument.name, argument.index);
    }
    std::string message =
        text("%s %llu bytes through a null pointer", action_of(kind), static_cast<unsigned long long>(bytes));
    if (!names.empty()) message += "; nothing is bound to " + names;
    Checker::Finding* finding =
        checker.report_access(Kind::NullArgument, nullptr, address, bytes, kind, pc, message);
    if (finding && unbound.size() == 1) {
      finding->fault.variable = unbound[0]->name;
      finding->fault.address_space =
          unbound[0]->address_space == SOFTMETAL_SPACE_CONSTANT ? "constant" : "device";
      finding->fault.offset = static_cast<int64_t>(address);
      finding->fault.element = finding->fault.offset / std::max(unbound[0]->element_size, 1u);
    }
  } else {
    checker.report_access(
        Kind::InvalidAddress, nullptr, address, bytes, kind, pc,
        text("%s %llu bytes at %p, which is no memory of an argument or variable", action_of(kind),
             static_cast<unsigned long long>(bytes), reinterpret_cast<void*>(address)));
  }
  stop();
}

void Hooks::out_of_bounds(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                          const void* pc) {
  if (bytes == 0) return;
  Checker& checker = Checker::get();
  if (!slot.name) {
    checker.report_access(Kind::InvalidAddress, nullptr, address, bytes, kind, pc,
                          text("%s %llu bytes at an address far from all arguments and variables",
                               action_of(kind), static_cast<unsigned long long>(bytes)));
  } else {
    const auto offset = static_cast<int64_t>(address - slot.begin);
    std::string message =
        text("%s %llu bytes at byte %lld of \"%s\"", action_of(kind), static_cast<unsigned long long>(bytes),
             static_cast<long long>(offset), slot.name);
    message += offset < 0 ? text(", %lld bytes before its start", static_cast<long long>(-offset))
                          : text(", which has %llu bytes", static_cast<unsigned long long>(slot.bytes));
    checker.report_access(Kind::OutOfBounds, &slot, address, bytes, kind, pc, message);
  }
  stop();
}

void Hooks::misaligned(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc) {
  Checker::get().report_access(
      Kind::Misaligned, &slot, address, bytes, kind, pc,
      text("%s %llu bytes at byte %lld of \"%s\", needs a multiple of %llu", action_of(kind),
           static_cast<unsigned long long>(bytes), static_cast<long long>(address - slot.begin), slot.name,
           static_cast<unsigned long long>(bytes)));
  stop();
}

void Hooks::read_only(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind, const void* pc) {
  Checker::get().report_access(
      Kind::ReadOnlyWrite, &slot, address, bytes, kind, pc,
      text("%s \"%s\", which the kernel declares as %s", action_of(kind), slot.name,
           std::string_view(slot.address_space) == "constant" ? "constant" : "const"));
  stop();
}

void Hooks::uninitialized(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                          const void* pc) {
  Checker::get().note_unwritten(slot, address, bytes, kind, pc);
  if (now.non_finite) return look_at_value(slot, address, bytes, kind, pc);
  touch(slot, address, bytes, kind, pc);
}

// A store is looked at when the next access comes, as then its value is there.
void Hooks::look_at_value(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t kind,
                          const void* pc) {
  Checker::get().look_at_pending();
  if (slot.scalar != Scalar::Other) {
    if (kind & SOFTMETAL_READS && !now.tainted)
      now.tainted = non_finite(slot, address, bytes) != NonFinite::None;
    if (kind & SOFTMETAL_WRITES && !now.tainted)
      now.pending = {address, bytes, &slot, pc, current_thread().thread_index_in_threadgroup};
  }
  touch(slot, address, bytes, kind, pc);
}

// Engine ----------------------------------------------------------------------------------------------------

void Checker::begin_threadgroup(uint64_t threadgroup) {
  threadgroup_ = threadgroup;
  const uint32_t time = ++now.time;
  now.begin = now.valid[kThreadgroup] = time;
  now.ordered[kDevice] = now.ordered[kThreadgroup] = now.any_barrier = time;
  std::fill_n(now.simdgroup_ordered[kDevice], SOFTMETAL_LANES, time);
  std::fill_n(now.simdgroup_ordered[kThreadgroup], SOFTMETAL_LANES, time);
  std::fill_n(now.simdgroup_any, SOFTMETAL_LANES, time);
  // What was written so long ago that its generation comes again must not count as written by this one.
  constexpr uint32_t kGenerations = 4095;
  if (now.generation == kGenerations && threadgroup_cells_.size() > 0) threadgroup_cells_.clear();
  now.generation = now.generation % kGenerations + 1;
  now.deadline = 0;
  now.tainted = muted_ = false;
  past_.back().begins.push_back(time);
}

void Checker::end_threadgroup() {
  look_at_pending();
  report_unwritten(kThreadgroup);
}

void Checker::passed_barrier(uint32_t scope, uint32_t simdgroup, uint32_t flags) {
  const uint32_t time = ++now.time;
  if (scope == SOFTMETAL_SCOPE_THREADGROUP) {
    now.any_barrier = time;
    now.barrier_flags = flags;
    if (flags & kFenceDevice) now.ordered[kDevice] = time;
    if (flags & kFenceThreadgroup) now.valid[kThreadgroup] = now.ordered[kThreadgroup] = time;
  } else if (simdgroup < SOFTMETAL_LANES) {
    now.simdgroup_any[simdgroup] = time;
    if (flags & kFenceDevice) now.simdgroup_ordered[kDevice][simdgroup] = time;
    if (flags & kFenceThreadgroup) now.simdgroup_ordered[kThreadgroup][simdgroup] = time;
  }
}

void Checker::divergent_barrier(const Thread& waiting, const void* pc, const Thread& other, Stuck how,
                                const void* other_pc) {
  // Those that follow come from the first one.
  if (std::exchange(muted_, true)) return;
  Finding* finding = report(Kind::DivergentBarrier, nullptr, reinterpret_cast<uintptr_t>(pc),
                            reinterpret_cast<uintptr_t>(other_pc), &past_.back());
  if (!finding) return;
  Fault& fault = finding->fault;
  fault.first.thread = place(waiting);
  fault.first.action = "waits at a barrier";
  fault.second.thread = place(other);
  fault.second.action = how == Stuck::Finished ? "has returned" : "waits at another barrier";
  fault.message = how == Stuck::Finished
                      ? "a thread waits at a barrier that another one, which has returned, never reaches"
                      : "threads of one threadgroup wait at different barriers";
}

void Checker::lane_misuse(const Thread& thread, uint32_t kind, uint32_t lanes, uint32_t active,
                          const void* pc) {
  const bool matrix = kind == SOFTMETAL_MEETING_MATRIX;
  Finding* finding =
      report(matrix ? Kind::IncompleteMatrix : Kind::InactiveLane, nullptr, reinterpret_cast<uintptr_t>(pc));
  if (!finding) return;
  const auto list = [](uint32_t mask) {
    std::string result;
    for (uint32_t lane = 0; lane < SOFTMETAL_LANES; ++lane) {
      if (!(mask >> lane & 1)) continue;
      uint32_t last = lane;
      while (last + 1 < SOFTMETAL_LANES && mask >> (last + 1) & 1) ++last;
      result += (result.empty() ? "" : ", ") + std::to_string(lane);
      if (last > lane) result += (last == lane + 1 ? ", " : "-") + std::to_string(last);
      lane = last;
    }
    return result;
  };
  Fault& fault = finding->fault;
  fault.first.thread = place(thread);
  fault.first.action =
      matrix ? "multiplies, loads or stores a matrix" : "exchanges values with its SIMD-group";
  fault.message = matrix
                      ? "a SIMD-group matrix operation needs all 32 lanes, missing: " + list(lanes)
                      : "lanes " + list(lanes) +
                            " get an undefined value: from a lane that takes no part, "
                            "or by an argument that is out of range or not the same in all lanes (active: " +
                            (active ? list(active) : "none") + ")";
}

// Conflicts -------------------------------------------------------------------------------------------------

// What another thread did since is in the way of an access, unless something else sets them apart.
void Checker::conflict(const Access& access, const Cell& cell, int with, unsigned bytes) {
  const Slot& slot = access.slot;
  const uint16_t other = cell.who[with];
  if ((other & bytes) == 0 || muted_) return;
  const bool writes = access.kind & SOFTMETAL_WRITES, plain = !(access.kind & SOFTMETAL_ATOMIC);
  const bool other_plain = with == 0 || other & kPlainRead;
  if (with != 0 && !(writes ? plain || other_plain : plain && other & kAtomicWrite)) return;

  const uint32_t time = cell.time[with];
  const Space space = slot.space;
  const Thread& thread = current_thread();
  const uint32_t me = thread.thread_index_in_threadgroup, they = other >> kWhoShift;
  Kind kind = space == kDevice ? Kind::DeviceRace : Kind::ThreadgroupRace;
  std::string message;
  const Past& before = past(time);
  if (&before != &past_.back()) {
    kind = Kind::Hazard;
  } else if (time < now.begin) {
    const auto begins = std::upper_bound(before.begins.begin(), before.begins.end(), time);
    const auto fence =
        device_fences_.find(before.order[static_cast<uint64_t>(begins - before.begins.begin()) - 1]);
    const auto mine = device_fences_.find(threadgroup_);
    if (fence != device_fences_.end() && mine != device_fences_.end() && fence->second > time &&
        mine->second > time)
      return;
  } else {
    if (now.fences[space][me % kMaxThreads] > time && now.fences[space][they] > time) return;
    const uint32_t simdgroup = me / SOFTMETAL_LANES;
    const bool together = they / SOFTMETAL_LANES == simdgroup;
    if (together && time < now.simdgroup_ordered[space][simdgroup]) return;
    if (time < now.any_barrier || (together && time < now.simdgroup_any[simdgroup]))
      kind = Kind::BarrierFlags;
  }

  unwritten_[space].erase(&cell);
  Finding* finding = report(kind, &slot, reinterpret_cast<uintptr_t>(access.pc),
                            before.image->base + cell.pc[with], &before);
  if (!finding) return;
  Fault& fault = finding->fault;
  // Only what both touch, where that is less than the whole.
  const uintptr_t start =
      std::max(access.address, slot.origin + (static_cast<uintptr_t>(&cell - slot.cells) << slot.shift));
  fault.offset = static_cast<int64_t>(start - slot.begin);
  fault.element = fault.offset / slot.element_size;
  fault.bytes = std::min(access.bytes, access.address + access.bytes - start);
  fault.first.action = action_of(access.kind);
  fault.second.action = action_of(cell, with);
  fault.second.thread = place(time, they);
  const std::string element = text("%s[%lld]", slot.name, static_cast<long long>(fault.element));
  switch (kind) {
    case Kind::BarrierFlags:
      fault.message = text("the barrier between two accesses to %s has %s, needs %s", element.c_str(),
                           flags_text(time < now.any_barrier ? now.barrier_flags : 0).c_str(),
                           flags_text(space == kDevice ? kFenceDevice : kFenceThreadgroup).c_str());
      break;
    case Kind::Hazard:
      fault.message =
          text("dispatches %llu (\"%s\") and %llu access %s and no barrier between them sets them apart",
               static_cast<unsigned long long>(before.place), before.kernel.c_str(),
               static_cast<unsigned long long>(past_.back().place), element.c_str());
      break;
    default:
      if (!plain || !other_plain)
        fault.message = text("one thread accesses %s atomically and another one does not, at the same time",
                             element.c_str());
      else if (time < now.begin)
        fault.message =
            text("threads of two threadgroups access %s, which nothing sets apart", element.c_str());
      else
        fault.message =
            text("two threads of a threadgroup access %s and no barrier sets them apart", element.c_str());
  }
}

void Checker::note_unwritten(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t access,
                             const void* pc) {
  if (muted_) return;
  // Where nothing is tracked nobody writes, and the address tells the places apart as well.
  const auto* cell = slot.tracked ? slot.cells + ((address - slot.origin) >> slot.shift)
                                  : reinterpret_cast<const Cell*>(address);
  std::vector<Unwritten>& reads = unwritten_[slot.space][cell];
  for (Unwritten& read : reads) {
    if (read.pc != pc) continue;
    ++read.count;
    return;
  }
  reads.push_back({&slot, address, bytes, access, pc, place(current_thread()), 1});
}

void Checker::report_unwritten(Space space) {
  std::vector<Unwritten> reads;
  for (const auto& [cell, of_cell] : unwritten_[space])
    reads.insert(reads.end(), of_cell.begin(), of_cell.end());
  unwritten_[space].clear();
  // The first place of each variable is the one to be shown.
  std::sort(reads.begin(), reads.end(),
            [](const Unwritten& a, const Unwritten& b) { return a.address < b.address; });
  for (const Unwritten& read : reads) {
    Finding* finding = report_access(
        Kind::UninitializedRead, read.slot, read.address, read.bytes, read.access, read.pc,
        space == kThreadgroup
            ? text("%s \"%s\" where no thread of the threadgroup has written", action_of(read.access),
                   read.slot->name)
            : text("%s \"%s\" where nobody has ever written", action_of(read.access), read.slot->name),
        read.count);
    if (finding) finding->fault.first.thread = read.thread;
  }
}

void Checker::look_at_pending() {
  const auto store = std::exchange(now.pending, {});
  if (store.bytes == 0 || now.tainted) return;
  const NonFinite found = non_finite(*store.slot, store.address, store.bytes);
  if (found == NonFinite::None) return;
  // What many a maximum begins with.
  if (found == NonFinite::MinusInfinity && store.slot->space == kThreadgroup) return;
  now.tainted = true;
  Finding* finding = report(Kind::NonFinite, store.slot, reinterpret_cast<uintptr_t>(store.pc));
  if (!finding) return;
  Fault& fault = finding->fault;
  fault.first.thread = place(now.begin, store.thread);
  fault.first.action = "writes";
  fault.offset = static_cast<int64_t>(store.address - store.slot->begin);
  fault.element = fault.offset / store.slot->element_size;
  fault.bytes = store.bytes;
  fault.message = text("%s is written to \"%s\", and the threadgroup had read none",
                       found == NonFinite::NaN ? "NaN" : "Inf", store.slot->name);
}

// Reports ---------------------------------------------------------------------------------------------------

const Checker::Past& Checker::past(uint32_t time) const {
  size_t index = past_.size() - 1;
  while (index > 0 && past_[index].begin > time) --index;
  return past_[index];
}

ThreadPlace Checker::place(uint32_t time, uint32_t thread) const {
  const Past& run = past(time);
  const auto after = std::upper_bound(run.begins.begin(), run.begins.end(), time);
  uint64_t group =
      run.order[static_cast<uint64_t>(std::max<std::ptrdiff_t>(after - run.begins.begin(), 1)) - 1];
  ThreadPlace result;
  result.dispatch = run.place;
  uint32_t index = thread;
  for (int i = 0; i < 3; ++i) {
    const auto position = static_cast<uint32_t>(group % run.groups[i]);
    group /= run.groups[i];
    result.threadgroup[i] = position;
    // Threadgroups at the far edge may be smaller.
    const uint32_t size = std::min(run.threads[i], run.grid[i] - position * run.threads[i]);
    result.thread[i] = index % size;
    index /= size;
  }
  result.simdgroup = thread / SOFTMETAL_LANES;
  result.lane = thread % SOFTMETAL_LANES;
  return result;
}

ThreadPlace Checker::place(const Thread& thread) const {
  ThreadPlace result;
  std::copy_n(thread.threadgroup_position_in_grid, 3, result.threadgroup);
  std::copy_n(thread.thread_position_in_threadgroup, 3, result.thread);
  result.simdgroup = thread.simdgroup_index_in_threadgroup;
  result.lane = thread.thread_index_in_simdgroup;
  result.dispatch = past_.back().place;
  return result;
}

Checker::Finding* Checker::report(Kind kind, const Slot* slot, uintptr_t pc, uintptr_t other_pc,
                                  const Past* other, uint64_t count) {
  // The two sides of a race come in any order.
  const uint64_t low = std::min(pc, other_pc), high = std::max(pc, other_pc);
  std::vector<size_t>& same = known_[low * 0x9e3779b97f4a7c15 ^ high ^ static_cast<uint64_t>(kind) << 56];
  for (const size_t index : same) {
    Finding& known = findings_[index];
    // Two arguments may be the same memory.
    const bool same_memory =
        known.slot == slot || (other && known.slot && slot && known.slot->cells == slot->cells);
    if (known.kind != kind || !same_memory || std::min(known.pc[0], known.pc[1]) != low ||
        std::max(known.pc[0], known.pc[1]) != high)
      continue;
    known.fault.count += count;
    return nullptr;
  }
  if (findings_.size() >= kMostFindings && !is_fatal(kind)) return nullptr;
  same.push_back(findings_.size());
  Finding& made = findings_.emplace_back();
  made.kind = kind;
  made.slot = slot;
  made.pc[0] = pc;
  made.pc[1] = other_pc;
  made.image[0] = image_.get();
  made.image[1] = other ? other->image.get() : nullptr;
  made.fault.kind = name_of(kind);
  made.fault.count = count;
  made.fault.kernel = kernel_->name;
  if (!past_.empty()) made.fault.label = past_.back().label;
  made.fault.seed = settings_.seed;
  made.fault.fatal = is_fatal(kind);
  made.fault.has_second = other != nullptr;
  if (slot && slot->name) {
    made.fault.variable = slot->name;
    made.fault.address_space = slot->address_space;
  }
  if (on_fiber()) made.fault.first.thread = place(current_thread());
  return &made;
}

Checker::Finding* Checker::report_access(Kind kind, const Slot* slot, uintptr_t address, uint64_t bytes,
                                         uint32_t access, const void* pc, std::string message,
                                         uint64_t count) {
  Finding* finding = report(kind, slot, reinterpret_cast<uintptr_t>(pc), 0, nullptr, count);
  if (!finding) return nullptr;
  Fault& fault = finding->fault;
  fault.bytes = bytes;
  if (slot) {
    fault.offset = static_cast<int64_t>(address - slot->begin);
    const int64_t size = slot->element_size;
    fault.element = fault.offset >= 0 ? fault.offset / size : -((-fault.offset + size - 1) / size);
  }
  fault.first.action = action_of(access);
  fault.message = std::move(message);
  return finding;
}

std::vector<Fault> Checker::take_findings() {
  std::vector<Fault> faults;
  for (Finding& finding : findings_) {
    finding.fault.first.location = finding.image[0]->locate(finding.pc[0]);
    if (finding.image[1]) finding.fault.second.location = finding.image[1]->locate(finding.pc[1]);
    faults.push_back(std::move(finding.fault));
  }
  findings_.clear();
  known_.clear();
  return merged(std::move(faults));
}

// Dispatches ------------------------------------------------------------------------------------------------

Checker::Checker() : unused_lines_(1 << 16) { observe_divisions(Hooks::divided); }

Checker& Checker::get() {
  // Never destroyed: threads may still be inside when the process exits.
  static Checker* const checker = new Checker;
  return *checker;
}

const SoftmetalHooks& Checker::hooks() {
  static const SoftmetalHooks hooks{simt::hooks().meet, Hooks::barrier, Hooks::fence,
                                    Hooks::pause,       Hooks::access,  Hooks::tick};
  return hooks;
}

std::vector<Fault> Checker::run(const Dispatch& dispatch, const SoftmetalLibrary& table,
                                const Settings& settings) {
  settings_ = settings;
  kernel_ = &dispatch.pipeline->kernel;
  image_ = std::make_shared<Image>(table, dispatch.pipeline->function->library->object_path());
  allowed_ = image_->ranges;
  if (dispatch.barrier || dispatch.command_buffer != command_buffer_ || now.time > kLastTime) {
    for (auto& [key, shadow] : shadows_) {
      const uint64_t bytes = shadow.bytes;
      pool_.give(std::move(shadow), bytes);
    }
    shadows_.clear();
    past_.clear();
    if (now.time > kLastTime) {
      pool_.clear();
      threadgroup_cells_ = {};
      now.time = 0;
      std::fill_n(&now.fences[0][0], 2 * kMaxThreads, 0);
    }
    now.valid[kDevice] = ++now.time;
  }
  command_buffer_ = dispatch.command_buffer;
  device_fences_.clear();

  const SoftmetalLaunch& launch = dispatch.launch;
  Past& run = past_.emplace_back();
  run.begin = ++now.time;
  run.place = dispatch.place;
  run.kernel = kernel_->name;
  run.label = dispatch.label;
  run.image = image_;
  run.order = Order(dispatch.units, settings.seed);
  std::copy_n(launch.threadgroups_per_grid, 3, run.groups);
  std::copy_n(launch.threads_per_threadgroup, 3, run.threads);
  std::copy_n(launch.threads_per_grid, 3, run.grid);

  bind(dispatch);
  const Launch& copy = bind_launch(dispatch);
  if (kernel_->prepare) kernel_->prepare(&copy.launch);
  const Stacks fibers = stacks();
  now.stacks = reinterpret_cast<uintptr_t>(fibers.begin);
  now.stacks_bytes = static_cast<uintptr_t>(fibers.end - fibers.begin);
  now.arena = arena_.begin();
  now.arena_bytes = arena_.bytes();
  now.slot_shift = arena_.slot_shift();
  now.slots = slots_.data();
  now.granules = granules_.data();
  now.image = image_->base;
  now.poison = poison_pattern();
  now.non_finite = settings.non_finite;
  now.limit = static_cast<int64_t>(std::min(settings.time_limit, 1e9) * 1e9);
  now.ticks = kTicks;
  now.pending = {};
  now.runs = true;

  char* const drawers = reinterpret_cast<char*>(arena_.slot(kDrawersArena));
  const Run each{kernel_, &copy.launch, drawers, reinterpret_cast<char*>(now.variables), this, settings.seed};
  for (uint64_t i = 0; i < dispatch.units; ++i)
    if (!run_threadgroup(each, past_.back().order[i])) break;
  end_threadgroup();  // one that was stopped
  report_unwritten(kDevice);

  now.runs = false;
  now.arena_bytes = 0;
  unbind();
  return take_findings();
}

void Checker::bind(const Dispatch& dispatch) {
  slots_.assign(kFirstVariableSlot, Slot{});
  bind_buffers(dispatch);
  bind_threadgroup_memory(dispatch);
}

void Checker::bind_buffers(const Dispatch& dispatch) {
  struct Bound {
    unsigned index;
    const Buffer* buffer;
    char* host;
    uint64_t bytes;
    bool writable;
  };
  std::vector<Bound> bindings;
  const Function& function = *dispatch.pipeline->function;
  for (uint32_t i = 0; i < kernel_->argument_count; ++i) {
    const SoftmetalArgument& argument = kernel_->arguments[i];
    if (argument.kind != SOFTMETAL_ARGUMENT_BUFFER || !is_active(function, argument)) continue;
    const BoundBuffer& bound = dispatch.bindings[argument.index];
    char* const host = static_cast<char*>(dispatch.launch.buffers[argument.index]);
    if (!host) continue;
    Slot& slot = slots_[argument.index];
    slot.bytes = bound.bytes;
    slot.shift = shift_of(argument.element_align);
    slot.scalar = scalar_of(argument.data_type);
    slot.writable = argument.access != SOFTMETAL_ACCESS_READ;
    slot.poisoned = bound.buffer != nullptr;
    slot.name = argument.name;
    slot.address_space = argument.address_space == SOFTMETAL_SPACE_CONSTANT ? "constant" : "device";
    slot.element_size = std::max(argument.element_size, 1u);
    bindings.push_back({argument.index, bound.buffer, host, bound.bytes, slot.writable});
  }

  // Those that overlap share their memory.
  std::sort(bindings.begin(), bindings.end(), [](const Bound& a, const Bound& b) {
    return std::tie(a.buffer, a.host) < std::tie(b.buffer, b.host);
  });
  regions_.clear();
  for (const Bound& bound : bindings) {
    Region* last = regions_.empty() ? nullptr : &regions_.back();
    if (!last || last->buffer != bound.buffer || bound.host >= last->host + last->bytes) {
      regions_.push_back({bound.buffer, bound.host, 0, {}, {}, false});
      last = &regions_.back();
    }
    last->bytes =
        std::max<uint64_t>(last->bytes, static_cast<uint64_t>(bound.host - last->host) + bound.bytes);
    last->indices.push_back(bound.index);
    last->writable |= bound.writable;
  }

  // Reads matter only where somebody writes: here, or in a neighbouring dispatch that may run at the same
  // time.
  const auto* next = dispatch.next && dispatch.next->kind == Command::Kind::Dispatch
                         ? static_cast<const Dispatch*>(dispatch.next)
                         : nullptr;
  const bool alone = dispatch.barrier && (!next || next->barrier);
  for (Region& region : regions_) {
    const auto like = reinterpret_cast<uintptr_t>(region.host);
    region.places = region.indices.size() == 1
                        ? std::vector{arena_.place(region.indices[0], region.bytes, like)}
                        : arena_.share(region.indices, region.bytes, like);
    std::memcpy(region.places[0], region.host, region.bytes);

    const bool tracked = region.writable || (!alone && region.buffer);
    char* const whole = region.buffer ? region.buffer->address : region.host;
    const uint64_t whole_bytes = region.buffer ? region.buffer->length : region.bytes;
    Shadow* shadow = nullptr;
    if (tracked) {
      const void* key = region.buffer ? static_cast<const void*>(region.buffer) : region.host;
      uint8_t shift = 2;
      for (const Bound& bound : bindings)
        if (bound.buffer == region.buffer) shift = std::min(shift, slots_[bound.index].shift);
      auto found = shadows_.find(key);
      if (found == shadows_.end()) found = shadows_.emplace(key, pool_.take(whole_bytes, shift)).first;
      shadow = &found->second;
    }
    for (size_t i = 0; i < region.indices.size(); ++i) {
      Slot& slot = slots_[region.indices[i]];
      // The sharing slots show the whole of the region; each binding begins in it where it does on the host.
      const auto shift_in = static_cast<char*>(dispatch.launch.buffers[region.indices[i]]) - region.host;
      slot.begin = reinterpret_cast<uintptr_t>(region.places[i] + shift_in);
      slot.origin =
          reinterpret_cast<uintptr_t>(region.places[i]) - static_cast<uintptr_t>(region.host - whole);
      slot.tracked = tracked;
      if (!shadow) continue;
      slot.cells = shadow->cells();
      slot.lines = shadow->written();
      slot.shift = static_cast<uint8_t>(shadow->shift);
    }
  }
}

void Checker::bind_threadgroup_memory(const Dispatch& dispatch) {
  const uintptr_t drawers = arena_.slot(kDrawersArena);
  uint64_t cells = 0;
  std::vector<std::pair<size_t, uint64_t>> first_cells;
  const auto prepare = [&](size_t index, uintptr_t begin, uint64_t bytes, const char* name,
                           uint32_t alignment, uint32_t element_size, uint32_t data_type) {
    Slot& slot = slots_[index];
    slot.begin = slot.origin = begin;
    slot.bytes = bytes;
    slot.shift = shift_of(alignment);
    slot.space = kThreadgroup;
    slot.scalar = scalar_of(data_type);
    slot.writable = slot.tracked = true;
    slot.name = name;
    slot.address_space = "threadgroup";
    slot.element_size = std::max(element_size, 1u);
    first_cells.emplace_back(index, cells);
    cells += (bytes >> slot.shift) + 2;
  };

  const Function& function = *dispatch.pipeline->function;
  for (uint32_t i = 0; i < kernel_->argument_count; ++i) {
    const SoftmetalArgument& argument = kernel_->arguments[i];
    if (argument.kind != SOFTMETAL_ARGUMENT_THREADGROUP || !is_active(function, argument)) continue;
    // Not all at the same place in a page, where they would fight for the same lines of the cache.
    const uintptr_t begin =
        drawers + argument.index * uintptr_t{kDrawer} + kDrawer / 2 + argument.index * 320;
    const uint64_t bytes = dispatch.launch.threadgroup_bytes[argument.index];
    arena_.open(begin, bytes);
    prepare(kFirstThreadgroupSlot + argument.index, begin, bytes, argument.name, argument.element_align,
            argument.element_size, argument.data_type);
  }

  now.variables = drawers + kVariablesDrawer * uintptr_t{kDrawer} + kDrawer / 2;
  variables_bytes_ = 0;
  for (const SoftmetalVariable* variable = kernel_->variables; variable; variable = variable->next) {
    slots_.emplace_back();
    prepare(slots_.size() - 1, now.variables + variable->offset, variable->bytes, variable->name,
            variable->element_size, variable->element_size, variable->data_type);
    variables_bytes_ = std::max<uint64_t>(variables_bytes_,
                                          uint64_t{variable->offset} + variable->bytes + SOFTMETAL_RED_ZONE);
  }
  variables_bytes_ = (variables_bytes_ + 15) / 16 * 16;
  now.variables_bytes = variables_bytes_;
  if (variables_bytes_ > 0) arena_.open(now.variables, variables_bytes_);
  // Whatever lies between two variables is nearest to one of them.
  granules_.resize(variables_bytes_ / 16);
  for (size_t granule = 0; granule < granules_.size(); ++granule) {
    const uintptr_t address = now.variables + granule * 16;
    uintptr_t best = UINTPTR_MAX;
    for (size_t index = kFirstVariableSlot; index < slots_.size(); ++index) {
      const Slot& slot = slots_[index];
      const uintptr_t distance = address < slot.begin ? slot.begin - address
                                 : address < slot.begin + slot.bytes
                                     ? 0
                                     : address - (slot.begin + slot.bytes) + 1;
      if (distance >= best) continue;
      best = distance;
      granules_[granule] = static_cast<uint16_t>(index);
    }
  }

  if (threadgroup_cells_.size() < cells * sizeof(Cell))
    threadgroup_cells_ = Reserve(std::bit_ceil(std::max<uint64_t>(cells * sizeof(Cell), 1 << 20)));
  for (const auto& [index, first] : first_cells) {
    slots_[index].cells = reinterpret_cast<Cell*>(threadgroup_cells_.data()) + first;
    slots_[index].lines = reinterpret_cast<uint8_t*>(unused_lines_.data());
  }
}

// Kernels read the launch through their accesses too, so it lies in the arena.
Checker::Launch& Checker::bind_launch(const Dispatch& dispatch) {
  const uintptr_t begin = arena_.slot(kDrawersArena) + kLaunchDrawer * uintptr_t{kDrawer} + kDrawer / 2;
  const uint64_t bytes = sizeof(Launch) + kernel_->constants_bytes;
  arena_.open(begin, bytes);
  auto& copy = *new (reinterpret_cast<void*>(begin)) Launch{};
  copy.launch = dispatch.launch;
  copy.launch.buffers = copy.buffers;
  copy.launch.buffer_bytes = copy.buffer_bytes;
  copy.launch.threadgroup_offsets = copy.threadgroup_offsets;
  copy.launch.threadgroup_bytes = copy.threadgroup_bytes;
  if (kernel_->constants_bytes > 0 && dispatch.launch.constants)
    copy.launch.constants = std::memcpy(&copy + 1, dispatch.launch.constants, kernel_->constants_bytes);
  const uintptr_t drawers = arena_.slot(kDrawersArena);
  for (unsigned i = 0; i < SOFTMETAL_MAX_BUFFERS; ++i) {
    if (const Slot& slot = slots_[i]; slot.name) {
      copy.buffers[i] = reinterpret_cast<void*>(slot.begin);
      copy.buffer_bytes[i] = slot.bytes;
    }
    if (const Slot& slot = slots_[kFirstThreadgroupSlot + i]; slot.name) {
      copy.threadgroup_offsets[i] = static_cast<uint32_t>(slot.begin - drawers);
      copy.threadgroup_bytes[i] = static_cast<uint32_t>(slot.bytes);
    }
  }
  Slot& slot = slots_[kLaunchSlot];
  slot.begin = slot.origin = begin;
  slot.bytes = bytes;
  slot.name = "launch";
  return copy;
}

// Gives back what was written, line by line, as the host may be writing elsewhere in the same buffer.
void Checker::unbind() {
  for (const Region& region : regions_) {
    if (!region.writable) continue;
    const Slot& slot = slots_[region.indices[0]];
    constexpr uint64_t kLine = uint64_t{1} << Shadow::kLineShift;
    const auto place = reinterpret_cast<uintptr_t>(region.places[0]);
    const uint64_t first = (place - slot.origin) >> Shadow::kLineShift,
                   end = ((place + region.bytes - 1 - slot.origin) >> Shadow::kLineShift) + 1;
    for (uint64_t line = first; line < end; ++line) {
      const auto* found = static_cast<const uint8_t*>(std::memchr(slot.lines + line, 1, end - line));
      if (!found) break;
      line = static_cast<uint64_t>(found - slot.lines);
      uint64_t last = line;
      while (last < end && slot.lines[last]) ++last;
      const uintptr_t from = std::max(slot.origin + line * kLine, place),
                      to = std::min(slot.origin + last * kLine, place + region.bytes);
      std::memcpy(region.host + (from - place), reinterpret_cast<const void*>(from), to - from);
      std::memset(slot.lines + line, 0, last - line);
      line = last;
    }
  }
  arena_.reset();
}

}  // namespace softmetal::simt
