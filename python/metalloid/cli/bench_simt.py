"""`metalloid bench --suite simt`: what 32 lanes, the checker, barriers and compilation cost."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

import metalloid as ml
from metalloid.cli import machine, tables
from metalloid.cli.bench import BenchError, environment, verdict
from metalloid.cli.tables import Column
from metalloid.cli.timing import seconds

ROWS, DIM, THREADS = 512, 4096, 256

# The kernel of shaders/rms_norm.metal in short, as a GPU would have it.
RMS_NORM = """
#include <metal_stdlib>
using namespace metal;

[[kernel]] void rms_norm(const device float* x, device float* y, constant uint& dim,
                         uint row [[threadgroup_position_in_grid]],
                         uint thread_index [[thread_index_in_threadgroup]],
                         uint threads [[threads_per_threadgroup]],
                         uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  const device float* in = x + ulong(row) * dim;
  device float* out = y + ulong(row) * dim;
  float sum = 0.0f;
  for (uint i = thread_index; i < dim; i += threads) sum += in[i] * in[i];
  sum = simd_sum(sum);
  if (lane == 0) partial[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float all = 0.0f;
  for (uint i = 0; i < simdgroups; i++) all += partial[i];
  const float inverse = rsqrt(all / float(dim) + 1e-6f);
  for (uint i = thread_index; i < dim; i += threads) out[i] = in[i] * inverse;
}
"""

BARRIERS = """
#include <metal_stdlib>
using namespace metal;

[[kernel]] void barriers(device uint* out, constant uint& count, uint i [[thread_position_in_grid]]) {
  for (uint n = 0; n < count; n++) threadgroup_barrier(mem_flags::mem_threadgroup);
  out[i] = count;
}
"""


def hundred_lines() -> str:
    """A kernel of a hundred lines that no cache has seen."""
    head = [
        f"// {uuid.uuid4()}",
        "#include <metal_stdlib>",
        "using namespace metal;",
        "[[kernel]] void lines(const device float* x, device float* y, constant uint& n,",
        "                      uint i [[thread_position_in_grid]],",
        "                      uint lane [[thread_index_in_simdgroup]]) {",
        "  threadgroup float scratch[256];",
        "  if (i >= n) return;",
        "  float v = x[i];",
    ]
    steps = (
        "  v = fma(v, {k}.5f, x[(i + {k}) % n]);",
        "  v += simd_sum(v * {k}.25f) + float(lane);",
        "  v = select(v, exp2(-v), v > {k}.0f);",
        "  scratch[lane] = v;",
        "  simdgroup_barrier(mem_flags::mem_threadgroup);",
        "  v += scratch[lane ^ 1];",
        "  simdgroup_barrier(mem_flags::mem_threadgroup);",
    )
    body = [steps[k % len(steps)].format(k=k) for k in range(100 - len(head) - 2)]
    return "\n".join([*head, *body, "  y[i] = v;", "}"]) + "\n"


@dataclass
class Measurement:
    """One line of the table: ratios or times of its runs, of which the best and the median are told."""

    what: str
    unit: str
    values: list[float]
    target: float | None = None

    @property
    def best(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.median <= self.target


@dataclass
class _Norm:
    """One way to run the RMS norm."""

    run: Callable[[], None]
    out: ml.Buffer
    times: list[float] = field(default_factory=list)


def _norm(device: ml.Device, library: ml.Library, x: np.ndarray, threads: int) -> _Norm:
    kernel = library.kernel("rms_norm")
    source, out = device.array(x), device.empty(x.shape, np.float32)

    def run() -> None:
        cmd = device.commands()
        cmd.dispatch(kernel, threadgroups=(len(x),), threadgroup=(threads,), args=[source, out, x.shape[1]])
        cmd.commit_and_wait()

    return _Norm(run, out)


def _builtin_norm(device: ml.Device, x: np.ndarray) -> _Norm:
    source, out = device.array(x), device.empty(x.shape, np.float32)

    def run() -> None:
        cmd = device.commands()
        ml.ops.rms_norm(cmd, source, eps=1e-6, out=out)
        cmd.commit_and_wait()

    return _Norm(run, out)


def measure_norms(rounds: int) -> list[Measurement]:
    """All forms of one RMS norm, taking turns."""
    cpu, simt = ml.Device("cpu"), ml.Device("simt")
    x = np.random.default_rng(1).standard_normal((ROWS, DIM), dtype=np.float32)
    norms = {
        "builtin": _builtin_norm(cpu, x),
        "width 1": _norm(cpu, cpu.compile(RMS_NORM, simd_width="any"), x, 1),
        "unchecked": _norm(cpu, cpu.compile(RMS_NORM), x, THREADS),
        "checked": _norm(simt, simt.compile(RMS_NORM), x, THREADS),
    }
    for name, norm in norms.items():
        norm.run()
        if not np.allclose(norm.out.numpy(), norms["builtin"].out.numpy(), rtol=1e-5, atol=1e-6):
            raise BenchError(f"the {name} RMS norm computed something else than the built-in one")
    for _ in range(rounds):
        for norm in norms.values():
            norm.times.append(seconds(norm.run))

    def ratio(what: str, above: str, below: str, target: float | None = None) -> Measurement:
        pairs = zip(norms[above].times, norms[below].times, strict=True)
        return Measurement(what, "x", [a / b for a, b in pairs], target)

    size = f"rms_norm {ROWS}x{DIM} f32, {THREADS} threads"
    return [
        ratio(f"{size}: 32 lanes over metalloid.ops.rms_norm", "unchecked", "builtin", 20.0),
        ratio(f"{size}: 32 lanes over the same source at width 1", "unchecked", "width 1"),
        ratio(f"{size}: checked over unchecked", "checked", "unchecked", 10.0),
    ]


def measure_barriers(rounds: int) -> Measurement:
    """The slope over the number of barriers, so that what a dispatch costs anyway cancels."""
    device = ml.Device("cpu")
    kernel = device.compile(BARRIERS).kernel("barriers")
    groups, few, many = 16, 100, 1100
    out = device.empty((groups * THREADS,), ml.uint32)

    def run(count: int) -> float:
        cmd = device.commands()
        cmd.dispatch(kernel, threadgroups=(groups,), threadgroup=(THREADS,), args=[out, count])
        taken = seconds(cmd.commit_and_wait)
        if not (out.numpy() == count).all():
            raise BenchError("the kernel of barriers did not run to its end")
        return taken

    run(few)
    per_thread = 1e9 / (groups * THREADS * (many - few))
    values = [(run(many) - run(few)) * per_thread for _ in range(rounds)]
    return Measurement(f"a barrier, {THREADS} threads: each thread", "ns", values, 10.0)


def measure_compilation(rounds: int) -> list[Measurement]:
    """A kernel that the cache does not have, and one that it has.

    The first of all is told apart: the compiler then also makes what every library is linked with.
    """
    device = ml.Device("cpu")
    first = seconds(lambda: device.compile(hundred_lines()))
    cold, cached = [], []
    for _ in range(min(rounds, 5)):
        source = hundred_lines()
        cold.append(seconds(lambda source=source: device.compile(source)))
        cached += [seconds(lambda source=source: device.compile(source)) for _ in range(5)]
    return [
        Measurement("compile 100 lines: the first of all", "s", [first]),
        Measurement("compile 100 lines: new", "s", cold, 1.5),
        Measurement("compile 100 lines: from the cache", "ms", [1e3 * t for t in cached], 5.0),
    ]


def run(console: Console, *, rounds: int = 9, json_file: Path | None = None) -> bool:
    """Measures, prints the table and returns whether every target was met."""
    if missing := {"cpu", "simt"} - set(ml.devices()):
        raise BenchError(f"this machine has no device '{min(missing)}'")
    # Both are read when first needed, which is below. One thread, because the checker has one; and a cache of
    # this run, because it is to be empty.
    os.environ["METALLOID_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="metalloid-bench-") as cache:
        os.environ["METALLOID_CACHE_DIR"] = str(Path(cache) / "cache")
        device = ml.Device("cpu")
        console.print(f"[bold]{machine.describe()}[/]")
        measured: list[Measurement] = []
        for what, work in (
            ("compilation", measure_compilation),
            ("the RMS norm", measure_norms),
            ("barriers", lambda rounds: [measure_barriers(rounds)]),
        ):
            with console.status(f"measuring {what}"):
                measured += work(rounds)
    show(console, measured)
    if json_file is not None:
        about = environment(device, 1)
        rows = [asdict(m) | {"best": m.best, "median": m.median, "met": m.met} for m in measured]
        try:
            json_file.write_text(json.dumps({"environment": about, "rows": rows}, indent=1) + "\n")
        except OSError as error:
            raise BenchError(f"cannot write '{json_file}': {error.strerror}") from error
    return all(m.met is not False for m in measured)


def show(console: Console, measured: list[Measurement]) -> None:
    digits = {"x": 1, "ns": 1, "s": 2, "ms": 1}
    tables.show(
        console,
        "What real lanes, checks and compilation cost",
        [
            Column("what", "left", fold=True),
            Column("best"),
            Column("median", style="bold"),
            Column("target"),
            Column("verdict", "center"),
        ],
        [
            [
                m.what,
                f"{m.best:.{digits[m.unit]}f} {m.unit}",
                f"{m.median:.{digits[m.unit]}f} {m.unit}",
                f"{m.target:g} {m.unit}" if m.target is not None else "",
                verdict(m.met),
            ]
            for m in measured
        ],
        caption=(
            "All on one CPU thread. Ratios are those of neighbouring runs, and verdicts go by the median. "
            "The first compilation of all also makes what every library is linked with."
        ),
    )
