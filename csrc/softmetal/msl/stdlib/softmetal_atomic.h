// <metal_atomic>. Threads of one dispatch run on several OS threads, so these are real atomics; MSL offers
// relaxed order only, and fences for more.
#pragma once

#include "softmetal_simd_width1.h"

namespace metal {

enum memory_order {
  memory_order_relaxed = 0,
  memory_order_acquire,
  memory_order_release,
  memory_order_acq_rel,
  memory_order_seq_cst
};
enum thread_scope {
  thread_scope_thread,
  thread_scope_simdgroup,
  thread_scope_threadgroup,
  thread_scope_device,
  thread_scope_system
};

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

SOFTMETAL_INLINE int order_of(metal::memory_order order) {
  return order == metal::memory_order_relaxed ? __ATOMIC_RELAXED : __ATOMIC_SEQ_CST;
}
template <class T, class F>
SOFTMETAL_INLINE T atomic_update(volatile metal::atomic<T>* object, F change) {
  T old;
  __atomic_load(&object->value, &old, __ATOMIC_RELAXED);
  for (;;) {
    T next = change(old);
    if (__atomic_compare_exchange(&object->value, &old, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return old;
  }
}

}  // namespace softmetal

namespace metal {

template <class T>
SOFTMETAL_INLINE void atomic_store_explicit(volatile atomic<T>* object, type_identity_t<T> desired,
                                            memory_order) {
  __atomic_store(&object->value, &desired, __ATOMIC_RELAXED);
}
template <class T>
SOFTMETAL_INLINE T atomic_load_explicit(const volatile atomic<T>* object, memory_order) {
  T result;
  __atomic_load(&object->value, &result, __ATOMIC_RELAXED);
  return result;
}
template <class T>
SOFTMETAL_INLINE T atomic_exchange_explicit(volatile atomic<T>* object, type_identity_t<T> desired,
                                            memory_order) {
  T result;
  __atomic_exchange(&object->value, &desired, &result, __ATOMIC_RELAXED);
  return result;
}
template <class T>
SOFTMETAL_INLINE bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* object, T* expected,
                                                            type_identity_t<T> desired, memory_order,
                                                            memory_order) {
  return __atomic_compare_exchange(&object->value, expected, &desired, true, __ATOMIC_RELAXED,
                                   __ATOMIC_RELAXED);
}

#define SOFTMETAL_FETCH_INTEGER(name, builtin)                                                              \
  template <class T>                                                                                        \
  SOFTMETAL_INLINE T atomic_fetch_##name##_explicit(volatile atomic<T>* object, type_identity_t<T> operand, \
                                                    memory_order) {                                         \
    static_assert(is_integral<T>::value, "atomic_fetch_" #name "_explicit takes an atomic integer");        \
    return builtin(&object->value, operand, __ATOMIC_RELAXED);                                              \
  }
SOFTMETAL_FETCH_INTEGER(and, __atomic_fetch_and)
SOFTMETAL_FETCH_INTEGER(or, __atomic_fetch_or)
SOFTMETAL_FETCH_INTEGER(xor, __atomic_fetch_xor)
#undef SOFTMETAL_FETCH_INTEGER

template <class T>
SOFTMETAL_INLINE T atomic_fetch_add_explicit(volatile atomic<T>* object, type_identity_t<T> operand,
                                             memory_order) {
  if constexpr (is_integral<T>::value) {
    return __atomic_fetch_add(&object->value, operand, __ATOMIC_RELAXED);
  } else {
    return softmetal::atomic_update(object, [operand](T old) { return T(old + operand); });
  }
}
template <class T>
SOFTMETAL_INLINE T atomic_fetch_sub_explicit(volatile atomic<T>* object, type_identity_t<T> operand,
                                             memory_order) {
  if constexpr (is_integral<T>::value) {
    return __atomic_fetch_sub(&object->value, operand, __ATOMIC_RELAXED);
  } else {
    return softmetal::atomic_update(object, [operand](T old) { return T(old - operand); });
  }
}
template <class T>
SOFTMETAL_INLINE T atomic_fetch_min_explicit(volatile atomic<T>* object, type_identity_t<T> operand,
                                             memory_order) {
  return softmetal::atomic_update(object, [operand](T old) { return operand < old ? operand : old; });
}
template <class T>
SOFTMETAL_INLINE T atomic_fetch_max_explicit(volatile atomic<T>* object, type_identity_t<T> operand,
                                             memory_order) {
  return softmetal::atomic_update(object, [operand](T old) { return operand > old ? operand : old; });
}
// The forms without a result, which MSL has for ulong.
template <class T>
SOFTMETAL_INLINE void atomic_min_explicit(volatile atomic<T>* object, type_identity_t<T> operand,
                                          memory_order order) {
  atomic_fetch_min_explicit(object, operand, order);
}
template <class T>
SOFTMETAL_INLINE void atomic_max_explicit(volatile atomic<T>* object, type_identity_t<T> operand,
                                          memory_order order) {
  atomic_fetch_max_explicit(object, operand, order);
}

SOFTMETAL_INLINE void atomic_thread_fence(mem_flags, memory_order order,
                                          thread_scope scope = thread_scope_device) {
  if (scope == thread_scope_thread) return;
  __atomic_thread_fence(softmetal::order_of(order));
}

}  // namespace metal
