"""Kernels of one's own: compiled at run time, with a header, a macro, a function constant and a struct."""

import metalloid as ml
import numpy as np

SOURCE = """
#include <metal_stdlib>
#include "clamp.h"
using namespace metal;

constant bool clamped [[function_constant(0)]];

struct Params {
  uint n;
  float a;
};

template <typename T>
[[kernel]] void axpy(const device T* x [[buffer(0)]], device T* y [[buffer(1)]],
                     constant Params& params [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i >= params.n) return;
  const float v = params.a * float(x[i]) + float(y[i]);
  y[i] = T(clamped ? clamp_to(v, LIMIT) : v);
}

template [[host_name("axpy_f32")]] [[kernel]] decltype(axpy<float>) axpy<float>;
template [[host_name("axpy_f16")]] [[kernel]] decltype(axpy<half>) axpy<half>;
"""

CLAMP = """
#pragma once
inline float clamp_to(float v, float limit) { return metal::clamp(v, -limit, limit); }
"""

PARAMS = np.dtype([("n", np.uint32), ("a", np.float32)], align=True)

dev = ml.Device()
library = dev.compile(SOURCE, name="axpy.metal", headers={"clamp.h": CLAMP}, macros={"LIMIT": "2.0f"})
print("kernels:", ", ".join(library.kernels))

kernel = library.kernel("axpy_f32", constants={"clamped": True})
for argument in kernel.arguments:
    print(f"  {argument.index}: {argument.name}, {argument.access}, {argument.element_type}")

n = 1000
x, y = dev.array(np.linspace(-1, 1, n, dtype=np.float32)), dev.array(np.ones(n, np.float32))
with dev.commands() as cmd:
    cmd.dispatch(kernel, threads=n, threadgroup=256, args=[x, y, np.array((n, 3.0), PARAMS)])

want = np.clip(3 * np.linspace(-1, 1, n, dtype=np.float32) + 1, -2, 2)
print(f"{dev.description}: largest difference {np.abs(y.numpy() - want).max():.1e}")
