// What depends on the SIMD width, at width 32: real lanes on stacks of their own, against plain loops. The
// runtime's part is played by the smallest scheduler that does: fibers, and lanes that meet at one return
// address.
#if !defined(__clang__)
// Lanes know each other by their places in the code, so none may be copied along one path or be made one with
// another. clang is told at the functions themselves.
#pragma GCC optimize("no-crossjumping", "no-tree-tail-merge", "no-thread-jumps", "no-split-paths", \
                     "no-reorder-blocks", "no-reorder-blocks-and-partition")
#endif
#define SOFTMETAL_WIDTH 32
#define SOFTMETAL_CHECKED 1
#include <doctest/doctest.h>
#include <stdlib.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "softmetal/msl/stdlib/softmetal_stdlib.h"

namespace {

enum class State { Ready, Meeting, Barrier, Finished };

struct Fiber {
  char* stack = nullptr;
  ucontext_t context;
  State state = State::Ready;
  const void* pc = nullptr;
  void* record = nullptr;
  SoftmetalFold fold = nullptr;
  uint32_t kind = 0, scope = 0;
};

struct Threadgroup {
  std::vector<Fiber> fibers;
  ucontext_t scheduler;
  Fiber* running = nullptr;
  std::function<void(uint32_t)> body;
  std::vector<SoftmetalMeeting> meetings;  // as the folds left them
  std::vector<uint32_t> kinds;
  uint32_t pauses = 0, fences = 0, barriers = 0;
};
Threadgroup* current = nullptr;

void wait_as(State state, const void* pc) {
  Fiber& fiber = *current->running;
  fiber.state = state;
  fiber.pc = pc;
  swapcontext(&fiber.context, &current->scheduler);
}
void fiber_main() {
  current->body(uint32_t(current->running - current->fibers.data()));
  wait_as(State::Finished, nullptr);
}

// Of the lanes that wait, those at the lowest place meet.
bool hold_meeting(uint32_t simdgroup) {
  const size_t begin = simdgroup * 32, end = std::min(begin + 32, current->fibers.size());
  const void* place = nullptr;
  for (size_t i = begin; i < end; i++) {
    const Fiber& fiber = current->fibers[i];
    const bool waits = fiber.state == State::Meeting ||
                       (fiber.state == State::Barrier && fiber.scope == SOFTMETAL_SCOPE_SIMDGROUP);
    if (waits && (!place || fiber.pc < place)) place = fiber.pc;
  }
  if (!place) return false;
  SoftmetalMeeting meeting = {};
  SoftmetalFold fold = nullptr;
  uint32_t kind = 0;
  for (size_t i = begin; i < end; i++) {
    Fiber& fiber = current->fibers[i];
    meeting.existing |= 1u << (i - begin);
    if (fiber.pc != place) continue;
    fiber.state = State::Ready;
    fiber.pc = nullptr;
    meeting.records[i - begin] = fiber.record;
    meeting.active |= 1u << (i - begin);
    fold = fiber.fold;
    kind = fiber.kind;
  }
  if (fold) {
    fold(&meeting);
    current->meetings.push_back(meeting);
    current->kinds.push_back(kind);
  }
  return true;
}
bool pass_barrier() {
  uint32_t waiting = 0;
  for (Fiber& fiber : current->fibers) {
    if (fiber.state == State::Finished) continue;
    if (fiber.state != State::Barrier || fiber.scope != SOFTMETAL_SCOPE_THREADGROUP) return false;
    waiting++;
  }
  for (Fiber& fiber : current->fibers)
    if (fiber.state == State::Barrier) fiber.state = State::Ready;
  current->barriers += waiting != 0;
  return waiting != 0;
}

// Puts thread i at its begin. Apart from the loop over them, as getcontext() may return twice.
void begin(Fiber& fiber, char* stack, uint32_t i, uint32_t threads) {
  fiber.stack = stack;
  const uintptr_t top = softmetal_thread_address(reinterpret_cast<uintptr_t>(stack));
  auto* thread = new (reinterpret_cast<void*>(top)) SoftmetalThread();
  for (uint32_t axis = 0; axis < 3; axis++) thread->threads_per_threadgroup[axis] = axis == 0 ? threads : 1;
  thread->thread_position_in_threadgroup[0] = thread->thread_index_in_threadgroup = i;
  thread->thread_index_in_simdgroup = i % 32;
  thread->simdgroup_index_in_threadgroup = i / 32;
  thread->simdgroups_per_threadgroup = (threads + 31) / 32;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = top - reinterpret_cast<uintptr_t>(fiber.stack);
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, fiber_main, 0);
}

// Runs body(i) for each thread of a threadgroup, and gives what happened.
Threadgroup run(uint32_t threads, std::function<void(uint32_t)> body) {
  // Stacks stay for the next run.
  static std::vector<char*>& stacks = *new std::vector<char*>;
  while (stacks.size() < threads) {
    void* memory = nullptr;
    REQUIRE(posix_memalign(&memory, SOFTMETAL_STACK_BYTES, SOFTMETAL_STACK_BYTES) == 0);
    stacks.push_back(static_cast<char*>(memory));
  }
  Threadgroup group;
  group.fibers.resize(threads);
  group.body = std::move(body);
  current = &group;
  for (uint32_t i = 0; i < threads; i++) begin(group.fibers[i], stacks[i], i, threads);
  for (bool progress = true; progress;) {
    progress = false;
    for (Fiber& fiber : group.fibers) {
      if (fiber.state != State::Ready) continue;
      group.running = &fiber;
      swapcontext(&group.scheduler, &fiber.context);
      progress = true;
    }
    if (progress) continue;
    for (uint32_t s = 0; s < (threads + 31) / 32; s++) progress |= hold_meeting(s);
    progress = progress || pass_barrier();
  }
  uint32_t stuck = 0;
  for (const Fiber& fiber : group.fibers) stuck += fiber.state != State::Finished;
  CHECK(stuck == 0);
  current = nullptr;
  return group;
}

}  // namespace

// The return address has to be the one in the kernel.
#define NOT_INLINED __attribute__((noinline))
extern "C" {
NOT_INLINED void softmetal_meet(void* record, SoftmetalFold fold, uint32_t kind) {
  Fiber& fiber = *current->running;
  fiber.record = record;
  fiber.fold = fold;
  fiber.kind = kind;
  wait_as(State::Meeting, __builtin_return_address(0));
}
NOT_INLINED void softmetal_barrier(uint32_t scope, uint32_t) {
  current->running->scope = scope;
  current->running->fold = nullptr;
  wait_as(State::Barrier, __builtin_return_address(0));
}
NOT_INLINED void softmetal_fence(uint32_t, uint32_t, uint32_t) { current->fences++; }
NOT_INLINED void softmetal_pause() {
  current->pauses++;
  wait_as(State::Ready, nullptr);
}
}

namespace {

uint32_t hash(uint32_t x) {
  x = (x ^ 61u ^ (x >> 16)) * 9u;
  x = (x ^ (x >> 4)) * 0x27D4EB2Du;
  return x ^ (x >> 15);
}
// Every lane, some, one, and a SIMD-group that has only 20.
const uint32_t kActive[] = {0xFFFFFFFFu, 0x80000001u, 0x5A3C0FF0u, 0x00000100u, 0x000FFFFFu};

template <class T>
bool same(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}
template <class V>
constexpr int kWidth = softmetal::width_of<V>;
template <class V>
using Element = softmetal::element_of<V>;

template <class V>
Element<V> element(const V& v, int k) {
  if constexpr (kWidth<V> == 1) {
    return (void)k, v;
  } else {
    return v[size_t(k)];
  }
}
template <class V, class F>
V make(F f) {
  if constexpr (kWidth<V> == 1) {
    return V(f(0));
  } else {
    V v = V(Element<V>());
    for (int k = 0; k < kWidth<V>; k++) v[size_t(k)] = Element<V>(f(k));
    return v;
  }
}
// Whole numbers, so small that every sum, and every product of `factor`s, is exact in each type of float.
int term(uint32_t lane, int k) { return int(hash(lane * 4 + uint32_t(k)) % 7) - 3; }
int factor(uint32_t lane, int k) {
  const uint32_t h = hash(lane * 4 + uint32_t(k) + 1000);
  return lane % 7 == 3 ? 2 : h % 2 != 0 ? -1 : 1;
}
template <class T>
T to(int64_t x) {
  if constexpr (metal::is_integral<T>::value) {
    return T(x);
  } else {
    return T(float(x));
  }
}

using Lanes = std::vector<uint32_t>;
// The active lanes of `lane`'s group, in order.
Lanes members(uint32_t active, uint32_t lane, uint32_t group) {
  Lanes result;
  for (uint32_t i = lane / group * group; i < lane / group * group + group; i++)
    if ((active >> i) & 1) result.push_back(i);
  return result;
}

// What the reductions and prefix forms give to `lane`, as whole numbers. In the order of `reduce` below.
enum Operation { Sum, Product, Min, Max, PrefixSum, PrefixProduct, SumBefore, ProductBefore, And, Or, Xor };
int64_t expected(int operation, const Lanes& lanes, uint32_t lane, int k, bool is_unsigned) {
  const bool inclusive = operation == PrefixSum || operation == PrefixProduct;
  const bool exclusive = operation == SumBefore || operation == ProductBefore;
  const bool product = operation == Product || operation == PrefixProduct || operation == ProductBefore;
  int64_t result = product ? 1 : operation >= Min && !inclusive && !exclusive ? term(lanes[0], k) : 0;
  for (uint32_t i : lanes) {
    if ((inclusive && i > lane) || (exclusive && i >= lane)) continue;
    const int64_t x = term(i, k);
    const bool less = is_unsigned ? uint64_t(x) < uint64_t(result) : x < result;
    if (product) {
      result *= factor(i, k);
    } else if (operation == Min || operation == Max) {
      result = less == (operation == Min) ? x : result;
    } else if (operation == And) {
      result &= x;
    } else if (operation == Or) {
      result |= x;
    } else if (operation == Xor) {
      result ^= i == lanes[0] ? 0 : x;
    } else {
      result += x;
    }
  }
  return result;
}

template <class V>
struct Results {
  V simd[11][32], quad[11][32];
};
template <class V>
void check_reductions() {
  using T = Element<V>;
  constexpr int operations = metal::is_integral_v<T> ? 11 : 8;
  int wrong = 0;
  for (uint32_t active : kActive) {
    const auto out = std::make_unique<Results<V>>();
    const uint32_t lanes = active == 0x000FFFFFu ? 20 : 32;
    const Threadgroup done = run(lanes, [&](uint32_t i) {
      if (((active >> i) & 1) == 0) return;
      const V v = make<V>([&](int k) { return to<T>(term(i, k)); });
      const V f = make<V>([&](int k) { return to<T>(factor(i, k)); });
#define REDUCE(group)                                                        \
  out->group[Sum][i] = metal::group##_sum(v);                                \
  out->group[Product][i] = metal::group##_product(f);                        \
  out->group[Min][i] = metal::group##_min(v);                                \
  out->group[Max][i] = metal::group##_max(v);                                \
  out->group[PrefixSum][i] = metal::group##_prefix_inclusive_sum(v);         \
  out->group[PrefixProduct][i] = metal::group##_prefix_inclusive_product(f); \
  out->group[SumBefore][i] = metal::group##_prefix_exclusive_sum(v);         \
  out->group[ProductBefore][i] = metal::group##_prefix_exclusive_product(f); \
  if constexpr (operations == 11) {                                          \
    out->group[And][i] = metal::group##_and(v);                              \
    out->group[Or][i] = metal::group##_or(v);                                \
    out->group[Xor][i] = metal::group##_xor(v);                              \
  }
      REDUCE(simd)
      REDUCE(quad)
#undef REDUCE
    });
    wrong += done.meetings.size() != 2 * operations;
    for (size_t m = 0; m < done.meetings.size(); m++) {
      wrong += done.meetings[m].active != active || done.meetings[m].undefined != 0;
      wrong += done.kinds[m] != uint32_t(m < operations ? SOFTMETAL_MEETING_SIMD : SOFTMETAL_MEETING_QUAD);
    }
    for (uint32_t i = 0; i < 32; i++) {
      if (((active >> i) & 1) == 0) continue;
      for (int operation = 0; operation < operations; operation++) {
        for (int k = 0; k < kWidth<V>; k++) {
          const bool u = metal::is_unsigned_v<T>;
          const T simd = to<T>(expected(operation, members(active, i, 32), i, k, u));
          const T quad = to<T>(expected(operation, members(active, i, 4), i, k, u));
          wrong += !same(element(out->simd[operation][i], k), simd);
          wrong += !same(element(out->quad[operation][i], k), quad);
        }
      }
    }
  }
  CHECK(wrong == 0);
}

// Each shuffle with v and the filling value w on lane i, and where its value comes from: a lane, 100 + the
// lane of a filling value, or -1 where it is not defined.
#define SHUFFLES(SHUFFLE)                                                                 \
  SHUFFLE(metal::simd_broadcast(v, 8), 8)                                                 \
  SHUFFLE(metal::simd_broadcast(v, 32), -1)                                               \
  SHUFFLE(metal::simd_shuffle(v, ushort((i * 5 + 3) % 32)), (i * 5 + 3) % 32)             \
  SHUFFLE(metal::simd_shuffle(v, ushort(i + 1)), i == 31 ? -1 : i + 1)                    \
  SHUFFLE(metal::simd_shuffle_up(v, 3), i < 3 ? i : i - 3)                                \
  SHUFFLE(metal::simd_shuffle_down(v, 5), i + 5 > 31 ? i : i + 5)                         \
  SHUFFLE(metal::simd_shuffle_xor(v, 21), i ^ 21)                                         \
  SHUFFLE(metal::simd_shuffle_xor(v, 33), -1)                                             \
  SHUFFLE(metal::simd_shuffle_rotate_up(v, 7), (i + 25) % 32)                             \
  SHUFFLE(metal::simd_shuffle_rotate_down(v, 7), (i + 7) % 32)                            \
  SHUFFLE(metal::simd_shuffle_and_fill_up(v, w, 3), i < 3 ? 100 + i + 29 : i - 3)         \
  SHUFFLE(metal::simd_shuffle_and_fill_down(v, w, 3), i > 28 ? 100 + i - 29 : i + 3)      \
  SHUFFLE(metal::simd_shuffle_and_fill_up(v, w, 3, 8), i % 8 < 3 ? 100 + i + 5 : i - 3)   \
  SHUFFLE(metal::simd_shuffle_and_fill_down(v, w, 3, 8), i % 8 > 4 ? 100 + i - 5 : i + 3) \
  SHUFFLE(metal::simd_shuffle_and_fill_down(v, w, 1, 5), -1)                              \
  SHUFFLE(metal::quad_broadcast(v, 2), i / 4 * 4 + 2)                                     \
  SHUFFLE(metal::quad_broadcast(v, 4), -1)                                                \
  SHUFFLE(metal::quad_shuffle(v, ushort(3 - i % 4)), i / 4 * 4 + 3 - i % 4)               \
  SHUFFLE(metal::quad_shuffle_up(v, 1), i % 4 < 1 ? i : i - 1)                            \
  SHUFFLE(metal::quad_shuffle_down(v, 2), i % 4 > 1 ? i : i + 2)                          \
  SHUFFLE(metal::quad_shuffle_xor(v, 3), i ^ 3)                                           \
  SHUFFLE(metal::quad_shuffle_rotate_up(v, 1), i / 4 * 4 + (i + 3) % 4)                   \
  SHUFFLE(metal::quad_shuffle_rotate_down(v, 1), i / 4 * 4 + (i + 1) % 4)                 \
  SHUFFLE(metal::quad_shuffle_and_fill_up(v, w, 1), i % 4 < 1 ? 100 + i + 3 : i - 1)      \
  SHUFFLE(metal::quad_shuffle_and_fill_down(v, w, 1, 2), i % 2 > 0 ? 100 + i - 1 : i + 1)
#define COUNT(call, from) +1
constexpr int kShuffles = SHUFFLES(COUNT);
std::vector<int> shuffle_sources(int i) {
#define SOURCE(call, from) from,
  return {SHUFFLES(SOURCE)};
}

template <class V>
void check_shuffles() {
  using T = Element<V>;
  int wrong = 0;
  const auto value = [](uint32_t lane, bool filling) {
    return make<V>([&](int k) { return to<T>(int(lane) % 29 + k * 29 + (filling ? 3 : 0)); });
  };
  struct Shuffled {
    V at[kShuffles][32];
  };
  for (uint32_t active : kActive) {
    const uint32_t lanes = active == 0x000FFFFFu ? 20 : 32;
    const auto out = std::make_unique<Shuffled>();
    const Threadgroup done = run(lanes, [&](uint32_t i) {
      if (((active >> i) & 1) == 0) return;
      const V v = value(i, false), w = value(i, true);
      int n = 0;
#define SHUFFLE(call, from) out->at[n++][i] = call;
      SHUFFLES(SHUFFLE)
    });
    REQUIRE(done.meetings.size() == kShuffles);
    uint32_t undefined[kShuffles] = {};
    for (uint32_t i = 0; i < 32; i++) {
      if (((active >> i) & 1) == 0) continue;
      const std::vector<int> sources = shuffle_sources(int(i));
      for (int n = 0; n < kShuffles; n++) {
        const int from = sources[size_t(n)];
        const bool defined = from >= 0 && ((active >> (from % 100)) & 1) != 0;
        if (!defined) undefined[n] |= 1u << i;
        const V want = value(uint32_t(defined ? from % 100 : 0), from >= 100);
        for (int k = 0; k < kWidth<V>; k++) {
          T bits = element(want, k);
          // No pattern of a bool says that it is undefined.
          if (!defined && metal::is_same_v<T, bool>) continue;
          if (!defined) std::memset(&bits, 0xFF, sizeof(bits));
          wrong += !same(element(out->at[n][i], k), bits);
        }
      }
    }
    for (size_t n = 0; n < kShuffles; n++) wrong += done.meetings[n].undefined != undefined[n];
  }
  CHECK(wrong == 0);
}

template <class T>
std::vector<T> ramp(size_t n, int modulus) {
  std::vector<T> v(n);
  for (size_t i = 0; i < n; i++) v[i] = T(float(int(i * 7) % modulus - modulus / 2));
  return v;
}
template <class A, class B, class C>
void check_product() {
  constexpr int K = 24, N = 40, M = 16;
  const std::vector<A> a = ramp<A>(M * K, 11);
  const std::vector<B> b = ramp<B>(K * N, 5);
  std::vector<C> c(M * N, C(-1.0f));
  run(64, [&](uint32_t thread) {
    const int i = int(thread / 32) * 8;
    for (int j = 0; j < N; j += 8) {
      metal::simdgroup_matrix<C, 8, 8> sum = metal::make_filled_simdgroup_matrix<C, 8, 8>(C(2.0f));
      for (int k = 0; k < K; k += 8) {
        metal::simdgroup_matrix<A, 8, 8> left;
        metal::simdgroup_matrix<B, 8, 8> right;
        metal::simdgroup_load(left, a.data(), K, ulong2(k, i));
        metal::simdgroup_load(right, b.data() + k * N + j, N);
        metal::simdgroup_multiply_accumulate(sum, left, right, sum);
      }
      metal::simdgroup_store(sum, c.data(), N, ulong2(j, i));
    }
  });
  int wrong = 0;
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < N; j++) {
      float want = 2.0f;
      for (int k = 0; k < K; k++) want += float(a[i * K + k]) * float(b[k * N + j]);
      wrong += float(c[i * N + j]) != float(C(want));
    }
  }
  CHECK(wrong == 0);
}
template <class T>
void check_tile() {
  const std::vector<T> source = ramp<T>(12 * 12, 101);
  std::vector<T> plain(64), turned(12 * 12, T(0.0f)), squared(64), diagonal(64);
  int wrong = 0;
  run(32, [&](uint32_t l) {
    metal::simdgroup_matrix<T, 8, 8> m;
    metal::simdgroup_load(m, source.data(), 12, ulong2(3, 2), true);
    // Apple's layout.
    const uint32_t q = l / 4, row = (q & 4) + (l / 2) % 4, column = (q & 2) * 2 + (l % 2) * 2;
    wrong += m.thread_elements()[0] != source[(column + 2) * 12 + row + 3];
    wrong += m.thread_elements()[1] != source[(column + 3) * 12 + row + 3];
    metal::simdgroup_store(m, plain.data());
    metal::simdgroup_store(m, turned.data(), 12, ulong2(3, 2), true);
    metal::simdgroup_store(metal::make_diagonal_simdgroup_matrix<T, 8>(T(3.0f)), diagonal.data(), 8, 0,
                           false);
    const metal::simdgroup_matrix<T, 8, 8> twice(T(2.0f));
    metal::vec<T, 2>& elements = m.thread_elements();
    elements = metal::vec<T, 2>(T(float(row)), T(float(column)));
    const auto product = m * twice;
    metal::simdgroup_store(product, squared.data());
  });
  for (uint32_t r = 0; r < 8; r++) {
    for (uint32_t c = 0; c < 8; c++) {
      wrong += plain[r * 8 + c] != source[(c + 2) * 12 + r + 3];
      wrong += turned[(r + 2) * 12 + c + 3] != source[(r + 2) * 12 + c + 3];
      wrong += float(diagonal[r * 8 + c]) != (r == c ? 3.0f : 0.0f);
      wrong += float(squared[r * 8 + c]) != 2.0f * float(c % 2 == 0 ? r : c - 1);
    }
  }
  CHECK(wrong == 0);
  CHECK(turned[0] == T(0.0f));
}

}  // namespace

TEST_CASE("reductions and prefix sums of every type") {
  check_reductions<float>();
  check_reductions<float2>();
  check_reductions<float4>();
  check_reductions<half>();
  check_reductions<half3>();
  check_reductions<bfloat>();
  check_reductions<bfloat4>();
  check_reductions<char>();
  check_reductions<uchar2>();
  check_reductions<short3>();
  check_reductions<ushort>();
  check_reductions<int>();
  check_reductions<uint4>();
  check_reductions<long>();
  check_reductions<ulong3>();
}

TEST_CASE("shuffles of every type take from where they say, or are marked undefined") {
  check_shuffles<float>();
  check_shuffles<float3>();
  check_shuffles<half>();
  check_shuffles<half4>();
  check_shuffles<bfloat2>();
  check_shuffles<char>();
  check_shuffles<ushort3>();
  check_shuffles<int2>();
  check_shuffles<ulong>();
  check_shuffles<long4>();
  check_shuffles<bool>();
  check_shuffles<bool3>();
}

TEST_CASE("broadcast_first takes the first lane that is there") {
  std::vector<int> simd(32), quad(32);
  run(32, [&](uint32_t i) {
    if (i < 5) return;
    simd[i] = metal::simd_broadcast_first(int(i));
    quad[i] = metal::quad_broadcast_first(int(i));
  });
  for (int i = 5; i < 32; i++) {
    CHECK(simd[size_t(i)] == 5);
    CHECK(quad[size_t(i)] == (i < 8 ? 5 : i / 4 * 4));
  }
}

TEST_CASE("a broadcast or shuffle whose argument differs between lanes is undefined where it does") {
  const Threadgroup done =
      run(32, [&](uint32_t i) { metal::simd_broadcast(int(i), ushort(i == 7 ? 1 : 0)); });
  CHECK(done.meetings[0].undefined == 1u << 7);
  const Threadgroup quads =
      run(32, [&](uint32_t i) { metal::quad_shuffle_xor(int(i), ushort(i / 4 % 2 + (i == 30))); });
  CHECK(quads.meetings[0].undefined == 1u << 30);
}

TEST_CASE("minimum and maximum pass over NaN, sums do not") {
  const float nan = __builtin_nanf("");
  std::vector<float> least(32), most(32), sum(32), none(32);
  run(32, [&](uint32_t i) {
    const float x = i == 0 || i == 17 ? nan : float(i);
    least[i] = metal::simd_min(x);
    most[i] = metal::simd_max(x);
    sum[i] = metal::simd_sum(x);
    none[i] = metal::simd_max(nan);
  });
  CHECK(least[3] == 1.0f);
  CHECK(most[3] == 31.0f);
  CHECK(metal::isnan(sum[3]));
  CHECK(metal::isnan(none[3]));
  std::vector<long> large(32);
  std::vector<half> rounded(32, half(0.0f));
  for (size_t i = 0; i < 32; i++) large[i] = i == 9 ? LONG_MIN + 1 : LONG_MAX - long(i);
  rounded[0] = half(2048.0f);
  rounded[1] = rounded[2] = half(1.0f);
  run(32, [&](uint32_t i) {
    large[i] = metal::simd_min(large[i]);
    rounded[i] = metal::simd_sum(rounded[i]);
  });
  CHECK(large[31] == LONG_MIN + 1);
  CHECK(float(rounded[0]) == 2050.0f);
}

TEST_CASE("votes") {
  std::vector<ulong> ballot(32), active(32);
  std::vector<uint> quads(32);
  std::vector<int> facts(32);
  run(32, [&](uint32_t i) {
    if (i < 2 || i == 20) return;
    ballot[i] = ulong(metal::simd_ballot(i % 3 == 0));
    active[i] = ulong(metal::simd_active_threads_mask());
    quads[i] = uint(metal::quad_ballot(i % 2 == 0)) | uint(metal::quad_active_threads_mask()) << 8;
    facts[i] = (metal::simd_all(i > 1) ? 1 : 0) | (metal::simd_all(i > 2) ? 2 : 0) |
               (metal::simd_any(i == 9) ? 4 : 0) | (metal::simd_any(i == 20) ? 8 : 0) |
               (metal::simd_is_first() ? 16 : 0) | (metal::quad_all(i != 31) ? 32 : 0) |
               (metal::quad_any(i == 31) ? 64 : 0) | (metal::quad_is_first() ? 128 : 0) |
               (metal::simd_ballot(true).all() ? 256 : 0) | (metal::simd_ballot(i == 4).any() ? 512 : 0) |
               (metal::simd_is_helper_thread() ? 1024 : 0);
  });
  const uint32_t there = 0xFFEFFFFCu;
  for (uint32_t i = 0; i < 32; i++) {
    if (((there >> i) & 1) == 0) continue;
    CHECK(ballot[i] == (0x49249249u & there));
    CHECK(active[i] == there);
    const uint quad = (there >> (i / 4 * 4)) & 15;
    CHECK(quads[i] == ((0x5u & quad) | quad << 8));
    const bool first_of_quad = i == 2 || i == 21 || (i % 4 == 0 && i != 20);
    CHECK(facts[i] == (1 | 4 | (i == 2 ? 16 : 0) | (i < 28 ? 32 : 64) | (first_of_quad ? 128 : 0) | 512));
  }
  // In the last SIMD-group of a threadgroup "all" is about the lanes that it has.
  std::vector<int> all(40);
  run(40, [&](uint32_t i) { all[i] = metal::simd_ballot(true).all() && metal::quad_ballot(i < 40).all(); });
  for (int x : all) CHECK(x == 1);
}

TEST_CASE("lanes that branch apart meet apart, and together after that") {
  std::vector<int> out(32), before(32);
  const Threadgroup done = run(32, [&](uint32_t i) {
    before[i] = metal::simd_sum(i == 9 ? 2 : 1);
    if (i < 12) {
      out[i] = metal::simd_sum(1);
    } else {
      out[i] = metal::simd_sum(1) + 1;
    }
    out[i] += 100 * metal::simd_sum(1);
  });
  CHECK(done.meetings.size() == 4);
  for (size_t i = 0; i < 32; i++) {
    CHECK(before[i] == 33);
    CHECK(out[i] == (i < 12 ? 12 : 21) + 3200);
  }
}

TEST_CASE("several SIMD-groups, barriers and threadgroup memory") {
  constexpr uint32_t threads = 100;
  std::vector<float> partial(4), out(threads);
  const Threadgroup done = run(threads, [&](uint32_t i) {
    const float sum = metal::simd_sum(float(i));
    if (metal::simd_is_first()) partial[i / 32] = sum;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    out[i] = metal::simd_sum(i % 32 < 4 ? partial[i % 32] : 0.0f);
    metal::simdgroup_barrier(metal::mem_flags::mem_none);
  });
  CHECK(done.barriers == 1);
  for (uint32_t i = 0; i < threads; i++) CHECK(out[i] == 4950.0f);
}

TEST_CASE("simdgroup_matrix multiplies tiles of every type") {
  check_product<float, float, float>();
  check_product<half, half, float>();
  check_product<bfloat, bfloat, float>();
  check_product<half, half, half>();
  check_product<bfloat, bfloat, bfloat>();
  check_product<half, float, float>();
}

TEST_CASE("simdgroup_matrix: lay-out, transposes, diagonal, elements") {
  check_tile<float>();
  check_tile<half>();
  check_tile<bfloat>();
}

TEST_CASE("a matrix operation without all lanes is undefined") {
  std::vector<float> out(32);
  float memory[64] = {};
  const Threadgroup done = run(32, [&](uint32_t i) {
    if (i == 3) return;
    metal::simdgroup_float8x8 m(1.0f), product;
    metal::simdgroup_multiply(product, m, m);
    out[i] = product.thread_elements()[0];
    metal::simdgroup_load(m, memory);
  });
  REQUIRE(done.meetings.size() == 2);
  CHECK(metal::isnan(out[0]));
  for (size_t i = 0; i < 2; i++) {
    CHECK(done.kinds[i] == uint32_t(SOFTMETAL_MEETING_MATRIX));
    CHECK(done.meetings[i].undefined == ~8u);
  }
}

TEST_CASE("copies that lanes make together") {
  const std::vector<float> source = ramp<float>(20 * 16, 301);
  for (uint32_t missing : {32u, 5u}) {
    std::vector<float> line(50, -1.0f), tile(8 * 10, -1.0f), edge(8 * 10, -1.0f), back(20 * 16, -1.0f);
    run(32, [&](uint32_t i) {
      if (i == missing) return;
      metal::simdgroup_event events[3];
      events[0].async_copy(line.data(), source.data() + 3, 50);
      events[1].async_copy(tile.data(), 10, ushort2(8, 7), source.data() + 2, 20, ushort2(6, 5));
      events[2].async_copy(edge.data(), ushort(10), ushort2(7, 8), source.data(), uint(20), ushort2(5, 6),
                           true, metal::simdgroup_async_copy_clamp_mode::clamp_to_edge);
      metal::simdgroup_event::wait(3, events);
      metal::simdgroup_event store;
      store.async_copy(back.data() + 40, 20, ushort2(4, 3), tile.data(), 10, ushort2(4, 3));
      metal::simdgroup_event::wait(1, &store);
    });
    int wrong = 0;
    for (size_t i = 0; i < 50; i++) wrong += line[i] != source[i + 3];
    for (size_t r = 0; r < 8; r++) {
      for (size_t c = 0; c < 10; c++) {
        const float in_tile = r >= 7 || c >= 8 ? -1.0f : r < 5 && c < 6 ? source[r * 20 + c + 2] : 0.0f;
        wrong += tile[r * 10 + c] != in_tile;
        const float at_edge =
            r >= 7 || c >= 8 ? -1.0f : source[std::min<size_t>(r, 4) * 20 + std::min<size_t>(c, 5)];
        wrong += edge[r * 10 + c] != at_edge;
      }
    }
    for (size_t r = 0; r < 16; r++)
      for (size_t c = 0; c < 20; c++)
        wrong += back[r * 20 + c] != (r >= 2 && r < 5 && c < 4 ? tile[(r - 2) * 10 + c] : -1.0f);
    CHECK(wrong == 0);
  }
}

TEST_CASE("a thread that spins on an atomic lets the others run") {
  metal::atomic_uint flag, lock;
  metal::atomic_store_explicit(&flag, 0u, metal::memory_order_relaxed);
  metal::atomic_store_explicit(&lock, 0u, metal::memory_order_relaxed);
  uint32_t inside = 0, seen = 0;
  const Threadgroup done = run(32, [&](uint32_t i) {
    if (i == 31) metal::atomic_store_explicit(&flag, 1u, metal::memory_order_release);
    while (metal::atomic_load_explicit(&flag, metal::memory_order_acquire) == 0) {
    }
    while (metal::atomic_exchange_explicit(&lock, 1u, metal::memory_order_relaxed) != 0) {
    }
    seen = std::max(seen, ++inside);
    metal::atomic_thread_fence(metal::mem_flags::mem_device, metal::memory_order_seq_cst);
    inside--;
    metal::atomic_store_explicit(&lock, 0u, metal::memory_order_relaxed);
  });
  CHECK(seen == 1);
  CHECK(done.pauses > 31);
  CHECK(done.fences == 32);
}
