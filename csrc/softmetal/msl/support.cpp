// What every compiled library of 32-lane kernels has of its own: the way from compiled code into the runtime.
// Compiled with them, but never checked itself. The return address of each function is what the runtime knows
// the place in the kernel by, so none of them may be inlined.
#include "softmetal/runtime/kernel_abi.h"

#define PLACE __builtin_return_address(0)

namespace {

// Until the runtime gives its own, for what runs while the library is loaded.
const SoftmetalHooks idle = {
    [](void*, SoftmetalFold, uint32_t, const void*) {},  [](uint32_t, uint32_t, const void*) {},
    [](uint32_t, uint32_t, uint32_t, const void*) {},    [](const void*) {},
    [](const void*, uint64_t, uint32_t, const void*) {}, [](const void*) {}};

}  // namespace

extern "C" {

const SoftmetalHooks* softmetal_hooks = &idle;

void softmetal_meet(void* record, SoftmetalFold fold, uint32_t kind) {
  softmetal_hooks->meet(record, fold, kind, PLACE);
}
void softmetal_barrier(uint32_t scope, uint32_t flags) { softmetal_hooks->barrier(scope, flags, PLACE); }
void softmetal_fence(uint32_t flags, uint32_t order, uint32_t scope) {
  softmetal_hooks->fence(flags, order, scope, PLACE);
}
void softmetal_pause() {
  // Every atomic operation may be one that waits, but few do, and making way takes longer than most.
  constexpr uint32_t kCalls = 64;
  static thread_local uint32_t calls;
  if (++calls % kCalls == 0) softmetal_hooks->pause(PLACE);
}

}  // extern "C"

#if SOFTMETAL_CHECKED
// The entry points of -fsanitize=thread, by the names that clang and gcc give them.
namespace {

constexpr uint32_t kReads = SOFTMETAL_READS, kWrites = SOFTMETAL_WRITES, kAtomic = SOFTMETAL_ATOMIC,
                   kUnaligned = SOFTMETAL_UNALIGNED;

inline void report(const volatile void* address, uint64_t bytes, uint32_t kind, const void* place) {
  softmetal_hooks->access(const_cast<const void*>(address), bytes, kind, place);
}

// Every so many edges of the control flow one tick.
constexpr uint32_t kTick = 4096;
uint32_t until_tick = kTick;

// Loops that the compiler does not take for calls of themselves.
void copy_up(char* to, const char* from, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    to[i] = from[i];
    __asm__ volatile("" ::: "memory");
  }
}
void copy_down(char* to, const char* from, size_t bytes) {
  while (bytes-- > 0) {
    to[bytes] = from[bytes];
    __asm__ volatile("" ::: "memory");
  }
}
void* copy(void* to, const void* from, size_t bytes, const void* place) {
  if (bytes == 0) return to;
  report(from, bytes, kReads | kUnaligned, place);
  report(to, bytes, kWrites | kUnaligned, place);
  if (reinterpret_cast<uintptr_t>(to) - reinterpret_cast<uintptr_t>(from) >= bytes)
    copy_up(static_cast<char*>(to), static_cast<const char*>(from), bytes);
  else
    copy_down(static_cast<char*>(to), static_cast<const char*>(from), bytes);
  return to;
}
void* fill(void* to, int value, size_t bytes, const void* place) {
  if (bytes == 0) return to;
  report(to, bytes, kWrites | kUnaligned, place);
  for (size_t i = 0; i < bytes; ++i) {
    static_cast<char*>(to)[i] = static_cast<char>(value);
    __asm__ volatile("" ::: "memory");
  }
  return to;
}

// One that fails only reads.
template <class T>
bool exchange_if(volatile T* object, T* expected, T desired, const void* place) {
  report(object, sizeof(T), kReads | kAtomic, place);
  const T old = *object;
  if (old == *expected) {
    report(object, sizeof(T), kReads | kWrites | kAtomic, place);
    *object = desired;
    return true;
  }
  *expected = old;
  return false;
}

typedef unsigned __int128 uint128_t;

struct TypeMismatch {
  struct {
    const char* file;
    uint32_t line, column;
  } place;
  const void* type;
  uint8_t alignment;  // as a power of two
  uint8_t use;
};
constexpr uint8_t kStores = 1;

}  // namespace

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void** object, void*) { report(object, sizeof(void*), kWrites, PLACE); }
void __tsan_vptr_read(void** object) { report(object, sizeof(void*), kReads, PLACE); }
void __tsan_read_range(void* address, size_t bytes) { report(address, bytes, kReads | kUnaligned, PLACE); }
void __tsan_write_range(void* address, size_t bytes) { report(address, bytes, kWrites | kUnaligned, PLACE); }

#define ACCESSES(bytes)                                                                                 \
  void __tsan_read##bytes(void* a) { report(a, bytes, kReads, PLACE); }                                 \
  void __tsan_write##bytes(void* a) { report(a, bytes, kWrites, PLACE); }                               \
  void __tsan_read_write##bytes(void* a) { report(a, bytes, kReads | kWrites, PLACE); }                 \
  void __tsan_volatile_read##bytes(void* a) { report(a, bytes, kReads, PLACE); }                        \
  void __tsan_volatile_write##bytes(void* a) { report(a, bytes, kWrites, PLACE); }                      \
  void __tsan_unaligned_read##bytes(void* a) { report(a, bytes, kReads | kUnaligned, PLACE); }          \
  void __tsan_unaligned_write##bytes(void* a) { report(a, bytes, kWrites | kUnaligned, PLACE); }        \
  void __tsan_unaligned_read_write##bytes(void* a) {                                                    \
    report(a, bytes, kReads | kWrites | kUnaligned, PLACE);                                             \
  }                                                                                                     \
  void __tsan_unaligned_volatile_read##bytes(void* a) { report(a, bytes, kReads | kUnaligned, PLACE); } \
  void __tsan_unaligned_volatile_write##bytes(void* a) { report(a, bytes, kWrites | kUnaligned, PLACE); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
#undef ACCESSES

// Checked kernels run on one OS thread, and switch to another GPU thread only inside of the hooks: plain
// operations are atomic.
#define UPDATE(bits, name, result)                                                                 \
  uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t* a, uint##bits##_t v, int) { \
    report(a, sizeof(*a), kReads | kWrites | kAtomic, PLACE);                                      \
    const uint##bits##_t old = *a;                                                                 \
    *a = static_cast<uint##bits##_t>(result);                                                      \
    return old;                                                                                    \
  }
#define ATOMICS(bits)                                                                                     \
  uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* a, int) {                      \
    report(a, sizeof(*a), kReads | kAtomic, PLACE);                                                       \
    return *a;                                                                                            \
  }                                                                                                       \
  void __tsan_atomic##bits##_store(volatile uint##bits##_t* a, uint##bits##_t v, int) {                   \
    report(a, sizeof(*a), kWrites | kAtomic, PLACE);                                                      \
    *a = v;                                                                                               \
  }                                                                                                       \
  UPDATE(bits, exchange, v)                                                                               \
  UPDATE(bits, fetch_add, old + v)                                                                        \
  UPDATE(bits, fetch_sub, old - v)                                                                        \
  UPDATE(bits, fetch_and, old& v)                                                                         \
  UPDATE(bits, fetch_or, old | v)                                                                         \
  UPDATE(bits, fetch_xor, old ^ v)                                                                        \
  UPDATE(bits, fetch_nand, ~(old & v))                                                                    \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile uint##bits##_t* a, uint##bits##_t* e,       \
                                                     uint##bits##_t v, int, int) {                        \
    return exchange_if(a, e, v, PLACE);                                                                   \
  }                                                                                                       \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile uint##bits##_t* a, uint##bits##_t* e,         \
                                                   uint##bits##_t v, int, int) {                          \
    return exchange_if(a, e, v, PLACE);                                                                   \
  }                                                                                                       \
  uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(volatile uint##bits##_t* a, uint##bits##_t e, \
                                                            uint##bits##_t v, int, int) {                 \
    exchange_if(a, &e, v, PLACE);                                                                         \
    return e;                                                                                             \
  }
ATOMICS(8)
ATOMICS(16)
ATOMICS(32)
ATOMICS(64)
ATOMICS(128)
#undef ATOMICS
#undef UPDATE

// Fences of the source come through softmetal_fence.
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

void* __tsan_memcpy(void* to, const void* from, size_t bytes) { return copy(to, from, bytes, PLACE); }
void* __tsan_memmove(void* to, const void* from, size_t bytes) { return copy(to, from, bytes, PLACE); }
void* __tsan_memset(void* to, int value, size_t bytes) { return fill(to, value, bytes, PLACE); }
#if !defined(__clang__)
// gcc leaves these calls to the sanitizer's library, and so to this one.
void* memcpy(void* to, const void* from, size_t bytes) { return copy(to, from, bytes, PLACE); }
void* memmove(void* to, const void* from, size_t bytes) { return copy(to, from, bytes, PLACE); }
void* memset(void* to, int value, size_t bytes) { return fill(to, value, bytes, PLACE); }
#endif

// -fsanitize=alignment has found an address that is not a multiple of what its type needs. The accesses that
// follow may be to its members, and aligned.
void __ubsan_handle_type_mismatch_v1(const TypeMismatch* found, void* address) {
  report(address, uint64_t{1} << found->alignment, found->use == kStores ? kWrites : kReads, PLACE);
}

// The source makes a pointer to what needs that alignment, of an address that does not have it.
void softmetal_aligned(const void* address, uint32_t alignment) { report(address, alignment, kReads, PLACE); }

// Only our own headers assume an alignment.
void __ubsan_handle_alignment_assumption(const void*, void*, uintptr_t, uintptr_t) {}

void __sanitizer_cov_trace_pc() {
  if (--until_tick != 0) return;
  until_tick = kTick;
  softmetal_hooks->tick(PLACE);
}

}  // extern "C"
#endif
