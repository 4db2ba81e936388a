// Stores of whole runs, past the caches when the caller says that the output is
// too large to stay in them: a store that misses first reads the line it is about
// to overwrite, which costs a memory-bound kernel a third of its time.
#pragma once

#include "softmetal_half.h"

namespace softmetal {

// Outputs of at least this many bytes are worth writing past the caches.
constexpr uint64_t stream_threshold = uint64_t(6) << 20;

namespace detail {

typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

#if defined(__x86_64__)
template <typename V>
inline __attribute__((always_inline)) V load_any(const char* source) {
  V v;
  __builtin_memcpy(&v, source, sizeof(V));
  return v;
}
inline __attribute__((always_inline)) void stream16(char* target, const char* source) {
  const u32x4 v = load_any<u32x4>(source);
  __asm__ volatile("movntdq %1, %0" : "=m"(*reinterpret_cast<u32x4*>(target)) : "x"(v));
}
inline __attribute__((always_inline)) void stream64(char* target, const char* source) {
#if defined(__AVX512F__)
  const u32x16 v = load_any<u32x16>(source);
  __asm__ volatile("vmovntdq %1, %0" : "=m"(*reinterpret_cast<u32x16*>(target)) : "v"(v));
#elif defined(__AVX__)
  const u32x8 a = load_any<u32x8>(source), b = load_any<u32x8>(source + 32);
  __asm__ volatile("vmovntdq %1, %0" : "=m"(*reinterpret_cast<u32x8*>(target)) : "x"(a));
  __asm__ volatile("vmovntdq %1, %0" : "=m"(*reinterpret_cast<u32x8*>(target + 32)) : "x"(b));
#else
  for (int i = 0; i < 64; i += 16) stream16(target + i, source + i);
#endif
}
inline void stream4(char* target, const char* source) {
  uint32_t v;
  __builtin_memcpy(&v, source, 4);
  __asm__ volatile("movnti %1, %0" : "=m"(*reinterpret_cast<uint32_t*>(target)) : "r"(v));
}
inline void stream_drain() { __asm__ volatile("sfence" ::: "memory"); }
#else
// Elsewhere the compiler's plain stores are the best known choice.
inline void stream16(char* target, const char* source) { __builtin_memcpy(target, source, 16); }
inline void stream64(char* target, const char* source) { __builtin_memcpy(target, source, 64); }
inline void stream4(char* target, const char* source) { __builtin_memcpy(target, source, 4); }
inline void stream_drain() {}
#endif

// Rounds 64 bytes' worth of floats to T.
template <typename T, unsigned N>
inline __attribute__((always_inline)) void round_line(T* line, const float* source) {
  for (unsigned i = 0; i < N; i++) line[i] = T(source[i]);
}

#if defined(__AVX512BF16__)
// The instruction flushes subnormals, so a line that holds one goes the integer way.
template <>
inline __attribute__((always_inline)) void round_line<metal::bfloat, 32>(metal::bfloat* line,
                                                                         const float* source) {
  typedef float f32x16 __attribute__((vector_size(64)));
  f32x16 low, high;
  __builtin_memcpy(&low, source, 64);
  __builtin_memcpy(&high, source + 16, 64);
  uint16_t tiny_low, tiny_high;
  __asm__("vfpclassps $0x20, %1, %0" : "=Yk"(tiny_low) : "v"(low));
  __asm__("vfpclassps $0x20, %1, %0" : "=Yk"(tiny_high) : "v"(high));
  if (__builtin_expect(tiny_low | tiny_high, 0)) {
    for (unsigned i = 0; i < 32; i++) line[i] = metal::bfloat(source[i]);
    return;
  }
  u32x16 packed;
  __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(packed) : "v"(low), "v"(high));
  __builtin_memcpy(line, &packed, 64);
}
#endif

}  // namespace detail

// Copies `bytes` bytes to `target`; the ranges do not overlap.
inline void stream_copy(void* target, const void* source, size_t bytes) {
  char* to = static_cast<char*>(target);
  const char* from = static_cast<const char*>(source);
  const size_t skew = reinterpret_cast<uintptr_t>(to) & 63;
  if (bytes < 64 || (skew & 3) != 0) {  // movnti moves four bytes at the least
    __builtin_memcpy(to, from, bytes);
    return;
  }
  size_t done = 0;
  const size_t head = (64 - skew) & 63;
  for (; done < head && ((skew + done) & 15) != 0; done += 4) detail::stream4(to + done, from + done);
  for (; done < head; done += 16) detail::stream16(to + done, from + done);
  for (; done + 64 <= bytes; done += 64) detail::stream64(to + done, from + done);
  for (; done + 16 <= bytes; done += 16) detail::stream16(to + done, from + done);
  for (; done + 4 <= bytes; done += 4) detail::stream4(to + done, from + done);
  __builtin_memcpy(to + done, from + done, bytes - done);
}

// Rounds n floats to T and stores them, past the caches if `stream`.
template <typename T>
inline __attribute__((always_inline)) void store_floats(T* target, const float* source, uint32_t n,
                                                        bool stream) {
  constexpr uint32_t per_line = 64 / sizeof(T);
  char* to = reinterpret_cast<char*>(target);
  const uintptr_t skew = reinterpret_cast<uintptr_t>(to) & 63;
  uint32_t i = 0;
  if (stream && (skew & 15) == 0) {
    alignas(64) T line[per_line];
    const char* bytes = reinterpret_cast<const char*>(line);
    if (skew == 0) {
      for (; i + per_line <= n; i += per_line) {
        detail::round_line<T, per_line>(line, source + i);
        detail::stream64(to + i * sizeof(T), bytes);
      }
    } else {
      for (; i + per_line <= n; i += per_line) {
        detail::round_line<T, per_line>(line, source + i);
        for (uint32_t k = 0; k < 64; k += 16) detail::stream16(to + i * sizeof(T) + k, bytes + k);
      }
    }
    constexpr uint32_t per_16 = 16 / sizeof(T);
    for (; i + per_16 <= n; i += per_16) {
      for (uint32_t k = 0; k < per_16; k++) line[k] = T(source[i + k]);
      detail::stream16(to + i * sizeof(T), bytes);
    }
  } else {
    for (; i + per_line <= n; i += per_line) detail::round_line<T, per_line>(target + i, source + i);
  }
  for (; i < n; i++) target[i] = T(source[i]);
}

// Gathers short runs that follow each other in memory, and streams them by the line.
template <typename T>
class RunStream {
 public:
  explicit RunStream(T* target) : target_(target) {}
  inline __attribute__((always_inline)) void append(const T* run, uint32_t n) {
    if (count_ + n > capacity) {
      flush();
      if (n > capacity) {
        stream_copy(target_, run, n * sizeof(T));
        target_ += n;
        return;
      }
    }
    T* to = gathered_ + count_;
    for (uint32_t i = 0; i < n; i++) to[i] = run[i];
    count_ += n;
  }
  void flush() {
    stream_copy(target_, gathered_, count_ * sizeof(T));
    target_ += count_;
    count_ = 0;
  }

 private:
  static constexpr uint32_t capacity = 4096 / sizeof(T);
  T* target_;
  uint32_t count_ = 0;
  alignas(64) T gathered_[capacity];
};

// Makes streamed stores visible before anything that follows.
inline void stream_fence() { detail::stream_drain(); }

}  // namespace softmetal
