// Compiler differences, in one place. Compiled shaders are built with -ffast-math -fno-finite-math-only,
// so whatever must not be reassociated says so here.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SOFTMETAL_INLINE inline __attribute__((always_inline))
#define METAL_FUNC inline __attribute__((always_inline))

// SOFTMETAL_STRICT opens a function body whose operations keep their order; SOFTMETAL_FENCE(x) keeps x from
// being reassociated with what uses it. clang has the first, gcc the second: a function that needs either
// uses both. Fused multiply-adds through __builtin_fma* are never split or reordered and need neither.
#if defined(__clang__)
#define SOFTMETAL_STRICT _Pragma("clang fp reassociate(off) contract(off)")
#define SOFTMETAL_FENCE(x) (x)
#define SOFTMETAL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SOFTMETAL_STRICT
#define SOFTMETAL_FENCE(x) __builtin_assoc_barrier(x)
#define SOFTMETAL_UNROLL _Pragma("GCC unroll 64")
#endif
