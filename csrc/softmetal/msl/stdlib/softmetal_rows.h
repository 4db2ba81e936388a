// Stores of whole runs, past the caches when the caller says that the output is
// too large to stay in them: a store that misses first reads the line it is about
// to overwrite, which costs a memory-bound kernel a third of its time.
#pragma once

#include "softmetal_half.h"

namespace softmetal {

// Outputs of at least this many bytes are worth writing past the caches.
constexpr uint64_t stream_threshold = uint64_t(8) << 20;

namespace detail {

typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x16 __attribute__((vector_size(64)));
#if defined(__clang__)
typedef _Float16 f16x16 __attribute__((vector_size(32)));
#endif
typedef uint32_t u32x16 __attribute__((vector_size(64)));

#if defined(__x86_64__)
template <typename V>
inline __attribute__((always_inline)) V load_any(const char* source) {
  V v;
  __builtin_memcpy(&v, source, sizeof(V));
  return v;
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
  __builtin_memcpy(target, source, 64);
#endif
}
inline void stream_drain() { __asm__ volatile("sfence" ::: "memory"); }
#else
// Elsewhere the compiler's plain stores are the best known choice.
inline void stream64(char* target, const char* source) { __builtin_memcpy(target, source, 64); }
inline void stream_drain() {}
#endif

// Widens sixteen elements. Spelt in vectors, as not every compiler finds them in an unrolled loop.
template <typename T>
inline __attribute__((always_inline)) void widen16(float* to, const T* from) {
  for (unsigned i = 0; i < 16; i++) to[i] = float(from[i]);
}
inline __attribute__((always_inline)) void widen16(float* to, const metal::bfloat* from) {
  typedef uint16_t u16x16 __attribute__((vector_size(32)));
  u16x16 narrow;
  __builtin_memcpy(&narrow, from, sizeof(narrow));
  const u32x16 wide = __builtin_convertvector(narrow, u32x16) << 16;
  __builtin_memcpy(to, &wide, sizeof(wide));
}
#if defined(__clang__)
inline __attribute__((always_inline)) void widen16(float* to, const metal::half* from) {
  f16x16 narrow;
  __builtin_memcpy(&narrow, from, sizeof(narrow));
  const f32x16 wide = __builtin_convertvector(narrow, f32x16);
  __builtin_memcpy(to, &wide, sizeof(wide));
}
#elif defined(__F16C__)
inline __attribute__((always_inline)) void widen16(float* to, const metal::half* from) {
  for (unsigned i = 0; i < 16; i += 8) {
    u16x8 narrow;
    f32x8 wide;
    __builtin_memcpy(&narrow, from + i, sizeof(narrow));
    __asm__("vcvtph2ps %1, %0" : "=v"(wide) : "v"(narrow));
    __builtin_memcpy(to + i, &wide, sizeof(wide));
  }
}
#endif

// Rounds N floats to T.
template <typename T, unsigned N>
inline __attribute__((always_inline)) void round_line(T* line, const float* source) {
  for (unsigned i = 0; i < N; i++) line[i] = T(source[i]);
}

#if defined(__clang__) || defined(__F16C__)
template <unsigned N>
inline __attribute__((always_inline)) void round_halves(metal::half* line, const float* source) {
#if defined(__clang__)
  for (unsigned i = 0; i < N; i += 16) {
    f32x16 wide;
    __builtin_memcpy(&wide, source + i, sizeof(wide));
    const f16x16 narrow = __builtin_convertvector(wide, f16x16);
    __builtin_memcpy(line + i, &narrow, sizeof(narrow));
  }
#else
  for (unsigned i = 0; i < N; i += 8) {
    f32x8 wide;
    u16x8 narrow;
    __builtin_memcpy(&wide, source + i, sizeof(wide));
    __asm__("vcvtps2ph $0, %1, %0" : "=v"(narrow) : "v"(wide));  // 0: to nearest even
    __builtin_memcpy(line + i, &narrow, sizeof(narrow));
  }
#endif
}
template <>
inline __attribute__((always_inline)) void round_line<metal::half, 32>(metal::half* line,
                                                                       const float* source) {
  round_halves<32>(line, source);
}
template <>
inline __attribute__((always_inline)) void round_line<metal::half, 16>(metal::half* line,
                                                                       const float* source) {
  round_halves<16>(line, source);
}
#endif

#if defined(__AVX512BF16__)
// The instructions flush subnormals, so a line that holds one goes the integer way.
template <>
inline __attribute__((always_inline)) void round_line<metal::bfloat, 32>(metal::bfloat* line,
                                                                         const float* source) {
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
template <>
inline __attribute__((always_inline)) void round_line<metal::bfloat, 16>(metal::bfloat* line,
                                                                         const float* source) {
  f32x16 floats;
  __builtin_memcpy(&floats, source, 64);
  uint16_t tiny;
  __asm__("vfpclassps $0x20, %1, %0" : "=Yk"(tiny) : "v"(floats));
  if (__builtin_expect(tiny, 0)) {
    for (unsigned i = 0; i < 16; i++) line[i] = metal::bfloat(source[i]);
    return;
  }
  u32x8 packed;
  __asm__("vcvtneps2bf16 %1, %0" : "=v"(packed) : "v"(floats));
  __builtin_memcpy(line, &packed, 32);
}
#endif

}  // namespace detail

// Loads N elements as floats.
template <unsigned N, typename T>
inline __attribute__((always_inline)) void load_floats(float* to, const T* from) {
  unsigned i = 0;
  for (; i + 16 <= N; i += 16) detail::widen16(to + i, from + i);
  for (; i < N; i++) to[i] = float(from[i]);
}

// Rounds n floats to T and stores them.
template <typename T>
inline __attribute__((always_inline)) void store_floats(T* target, const float* source, uint32_t n) {
  constexpr uint32_t per_line = 64 / sizeof(T);
  uint32_t i = 0;
  for (; i + per_line <= n; i += per_line) detail::round_line<T, per_line>(target + i, source + i);
  if (i + 16 <= n) {
    detail::round_line<T, 16>(target + i, source + i);
    i += 16;
  }
  for (; i < n; i++) target[i] = T(source[i]);
}

// Copies N elements in one piece.
template <unsigned N, typename T>
inline __attribute__((always_inline)) void copy(T* target, const T* source) {
  __builtin_memcpy(static_cast<void*>(target), source, N * sizeof(T));
}

// Asks for bytes that will be read soon, as far as the second-level cache. A processor's own prefetching
// stops where a kernel turns to storing, and does not follow many rows at once.
template <typename T>
inline __attribute__((always_inline)) void prefetch(const T* from, uint32_t n) {
  for (uint32_t i = 0; i < n * sizeof(T); i += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(from) + i, 0, 2);
}

// Stores runs that follow each other in memory, past the caches and by the whole line: what does not fill a
// line waits for the next run.
template <typename T>
class RunStream {
 public:
  // The most elements that reserve() has room for: they stay in the first-level cache meanwhile.
  static constexpr uint32_t longest = ((20 << 10) - 64) / sizeof(T);

  explicit RunStream(T* target)
      : line_(reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(target) & ~uintptr_t(63))),
        fill_(reinterpret_cast<uintptr_t>(target) & 63),
        skipped_(fill_) {}

  // Room for the next n elements, n <= longest, to be filled before anything else is stored.
  inline __attribute__((always_inline)) T* reserve(uint32_t n) {
    if (fill_ + n * sizeof(T) > capacity) flush();
    T* room = reinterpret_cast<T*>(gathered_ + fill_);
    fill_ += n * sizeof(T);
    return room;
  }

  // Stores n floats, rounded to T.
  inline __attribute__((always_inline)) void append_floats(const float* run, uint32_t n) {
    if (fill_ == 0) {
      for (; n >= per_line; run += per_line, n -= per_line) {
        alignas(64) T line[per_line];
        detail::round_line<T, per_line>(line, run);
        detail::stream64(line_, reinterpret_cast<const char*>(line));
        line_ += 64;
      }
    }
    for (; n > longest; run += longest, n -= longest) store_floats(reserve(longest), run, longest);
    if (n != 0) store_floats(reserve(n), run, n);
  }

  // Stores n elements as they are.
  inline __attribute__((always_inline)) void append(const T* run, uint32_t n) {
    for (; n > longest; run += longest, n -= longest) {
      __builtin_memcpy(static_cast<void*>(reserve(longest)), run, longest * sizeof(T));
    }
    if (n != 0) __builtin_memcpy(static_cast<void*>(reserve(n)), run, n * sizeof(T));
  }

  inline void finish() {
    flush();
    __builtin_memcpy(line_ + skipped_, gathered_ + skipped_, fill_ - skipped_);
    fill_ = skipped_;
  }

 private:
  static constexpr uint32_t capacity = 20 << 10, per_line = 64 / sizeof(T);

  inline __attribute__((noinline)) void flush() {
    const size_t whole = fill_ & ~size_t(63);
    if (whole == 0) return;
    size_t i = 0;
    if (skipped_ != 0) {  // the start of this line is not ours
      __builtin_memcpy(line_ + skipped_, gathered_ + skipped_, 64 - skipped_);
      skipped_ = 0;
      i = 64;
    }
    for (; i < whole; i += 64) detail::stream64(line_ + i, gathered_ + i);
    __builtin_memcpy(gathered_, gathered_ + whole, 64);
    line_ += whole;
    fill_ -= whole;
  }

  char* line_;      // where gathered_ begins
  size_t fill_;     // bytes in gathered_, counting the skipped
  size_t skipped_;  // bytes of the first line that come before the target
  alignas(64) char gathered_[capacity + 64];
};

// Makes streamed stores visible before anything that follows.
inline void stream_fence() { detail::stream_drain(); }

}  // namespace softmetal
