// <metal_atomic>. Threads of one dispatch run on several OS threads, so these are real atomics. An order that
// is not relaxed is made the strictest, which every function takes.
#pragma once

#include "softmetal_simd.h"

namespace metal {

template <class T>
struct atomic {
  static_assert(sizeof(T) <= 8, "an atomic holds at most 8 bytes");
  alignas(sizeof(T)) T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

}  // namespace metal

namespace softmetal {

// A thread that asks for what another one left may do so in a loop: lets the others run now and then.
SOFTMETAL_INLINE void may_spin() {
#if SOFTMETAL_WIDTH != 1
  softmetal_pause();
  SOFTMETAL_RETURNS_HERE;
#endif
}

template <class T>
SOFTMETAL_INLINE bool compare_exchange(volatile metal::atomic<T>* object, T* expected, T* desired,
                                       metal::memory_order order) {
  return order == metal::memory_order_relaxed
             ? __atomic_compare_exchange(&object->value, expected, desired, true, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED)
             : __atomic_compare_exchange(&object->value, expected, desired, true, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST);
}
template <class T, class F>
SOFTMETAL_INLINE T atomic_update(volatile metal::atomic<T>* object, metal::memory_order order, F change) {
  T old;
  __atomic_load(&object->value, &old, __ATOMIC_RELAXED);
  for (;;) {
    T next = change(old);
    if (compare_exchange(object, &old, &next, order)) break;
  }
  may_spin();
  return old;
}

}  // namespace softmetal

namespace metal {

template <class T>
SOFTMETAL_INLINE void atomic_store_explicit(volatile atomic<T>* object, type_identity_t<T> desired,
                                            memory_order order) {
  if (order == memory_order_relaxed) {
    __atomic_store(&object->value, &desired, __ATOMIC_RELAXED);
  } else {
    __atomic_store(&object->value, &desired, __ATOMIC_SEQ_CST);
  }
}
template <class T>
SOFTMETAL_INLINE T atomic_load_explicit(const volatile atomic<T>* object, memory_order order) {
  T result;
  if (order == memory_order_relaxed) {
    __atomic_load(&object->value, &result, __ATOMIC_RELAXED);
  } else {
    __atomic_load(&object->value, &result, __ATOMIC_SEQ_CST);
  }
  softmetal::may_spin();
  return result;
}
template <class T>
SOFTMETAL_INLINE T atomic_exchange_explicit(volatile atomic<T>* object, type_identity_t<T> desired,
                                            memory_order order) {
  T result;
  if (order == memory_order_relaxed) {
    __atomic_exchange(&object->value, &desired, &result, __ATOMIC_RELAXED);
  } else {
    __atomic_exchange(&object->value, &desired, &result, __ATOMIC_SEQ_CST);
  }
  softmetal::may_spin();
  return result;
}
template <class T>
SOFTMETAL_INLINE bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* object, T* expected,
                                                            type_identity_t<T> desired, memory_order success,
                                                            memory_order failure) {
  const bool done = softmetal::compare_exchange(object, expected, &desired,
                                                failure == success ? success : memory_order_seq_cst);
  if (!done) softmetal::may_spin();
  return done;
}

#define SOFTMETAL_FETCH(name, builtin, otherwise)                                                           \
  template <class T>                                                                                        \
  SOFTMETAL_INLINE T atomic_fetch_##name##_explicit(volatile atomic<T>* object, type_identity_t<T> operand, \
                                                    memory_order order) {                                   \
    if constexpr (is_integral<T>::value) {                                                                  \
      static_assert(!is_same<T, bool>::value, "atomic_fetch_" #name "_explicit takes an atomic number");    \
      const T old = order == memory_order_relaxed ? builtin(&object->value, operand, __ATOMIC_RELAXED)      \
                                                  : builtin(&object->value, operand, __ATOMIC_SEQ_CST);     \
      softmetal::may_spin();                                                                                \
      return old;                                                                                           \
    } else {                                                                                                \
      otherwise                                                                                             \
    }                                                                                                       \
  }
#define SOFTMETAL_FETCH_NUMBER(name, op) \
  SOFTMETAL_FETCH(                       \
      name, __atomic_fetch_##name,       \
      return softmetal::atomic_update(object, order, [operand](T old) { return T(old op operand); });)
#define SOFTMETAL_FETCH_INTEGER(name) \
  SOFTMETAL_FETCH(                    \
      name, __atomic_fetch_##name,    \
      static_assert(is_integral<T>::value, "atomic_fetch_" #name "_explicit takes an atomic integer");)
SOFTMETAL_FETCH_NUMBER(add, +)
SOFTMETAL_FETCH_NUMBER(sub, -)
SOFTMETAL_FETCH_INTEGER(and)
SOFTMETAL_FETCH_INTEGER(or)
SOFTMETAL_FETCH_INTEGER(xor)
#undef SOFTMETAL_FETCH
#undef SOFTMETAL_FETCH_NUMBER
#undef SOFTMETAL_FETCH_INTEGER

// The forms without a result are those that MSL has for ulong.
#define SOFTMETAL_EXTREME(name, op)                                                                         \
  template <class T>                                                                                        \
  SOFTMETAL_INLINE T atomic_fetch_##name##_explicit(volatile atomic<T>* object, type_identity_t<T> operand, \
                                                    memory_order order) {                                   \
    return softmetal::atomic_update(object, order,                                                          \
                                    [operand](T old) { return operand op old ? operand : old; });           \
  }                                                                                                         \
  template <class T>                                                                                        \
  SOFTMETAL_INLINE void atomic_##name##_explicit(volatile atomic<T>* object, type_identity_t<T> operand,    \
                                                 memory_order order) {                                      \
    atomic_fetch_##name##_explicit(object, operand, order);                                                 \
  }
SOFTMETAL_EXTREME(min, <)
SOFTMETAL_EXTREME(max, >)
#undef SOFTMETAL_EXTREME

SOFTMETAL_INLINE void atomic_thread_fence(mem_flags flags, memory_order order = memory_order_seq_cst,
                                          thread_scope scope = thread_scope_device) {
  if (scope == thread_scope_thread) return;
#if SOFTMETAL_CHECKED
  softmetal_fence(uint(flags), uint(order), uint(scope));
  SOFTMETAL_RETURNS_HERE;
#endif
  (void)flags;
  if (order == memory_order_relaxed) {
    __atomic_thread_fence(__ATOMIC_RELAXED);
  } else {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
  }
}

}  // namespace metal
