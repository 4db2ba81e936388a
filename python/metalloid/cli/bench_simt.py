"""`metalloid bench --suite simt`: what 32 lanes, the checker, barriers and compilation cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
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

ROWS, CHECKED_ROWS, DIM, THREADS = 4096, 512, 4096, 256

# The kernel of shaders/rms_norm.metal in short, as a GPU would have it: four elements at a time.
RMS_NORM = """
#include <metal_stdlib>
using namespace metal;

[[kernel]] void rms_norm(const device float4* x, device float4* y, constant uint& dim,
                         uint row [[threadgroup_position_in_grid]],
                         uint thread_index [[thread_index_in_threadgroup]],
                         uint threads [[threads_per_threadgroup]],
                         uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  const uint chunks = dim / 4;
  const device float4* in = x + ulong(row) * chunks;
  device float4* out = y + ulong(row) * chunks;
  float sum = 0.0f;
  for (uint i = thread_index; i < chunks; i += threads) sum += dot(in[i], in[i]);
  sum = simd_sum(sum);
  if (lane == 0) partial[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float all = 0.0f;
  for (uint i = 0; i < simdgroups; i++) all += partial[i];
  const float inverse = rsqrt(all / float(dim) + 1e-6f);
  for (uint i = thread_index; i < chunks; i += threads) out[i] = in[i] * inverse;
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
    """One line of the table."""

    what: str
    unit: str
    values: list[float]  # of each run, or of each pair of runs
    best: float
    target: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.median <= self.target


def _times(what: str, unit: str, values: list[float], target: float | None = None) -> Measurement:
    return Measurement(what, unit, values, min(values), target)


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


def time_norms(rounds: int, rows: int, checked: bool) -> dict[str, list[float]]:
    """Seconds of the forms of one RMS norm, taking turns."""
    cpu = ml.Device("cpu")
    x = np.random.default_rng(1).standard_normal((rows, DIM), dtype=np.float32)
    norms = {
        "builtin": _builtin_norm(cpu, x),
        "width 1": _norm(cpu, cpu.compile(RMS_NORM, simd_width="any"), x, 1),
        "unchecked": _norm(cpu, cpu.compile(RMS_NORM), x, THREADS),
    }
    if checked:
        simt = ml.Device("simt")
        norms["checked"] = _norm(simt, simt.compile(RMS_NORM), x, THREADS)
    for name, norm in norms.items():
        norm.run()
        if not np.allclose(norm.out.numpy(), norms["builtin"].out.numpy(), rtol=1e-5, atol=1e-6):
            raise BenchError(f"the {name} RMS norm computed something else than the built-in one")
    for _ in range(rounds):
        for norm in norms.values():
            norm.times.append(seconds(norm.run))
    return {name: norm.times for name, norm in norms.items()}


def _times_of_norms(rounds: int, rows: int, checked: bool, **environment: str) -> dict[str, list[float]]:
    """time_norms() in a process of its own, because a process cannot change its number of threads."""
    code = (
        "import json; from metalloid.cli.bench_simt import time_norms; "
        f"print(json.dumps(time_norms({rounds}, {rows}, {checked})))"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "METALLOID_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=inherited | environment
    )
    if done.returncode != 0:
        raise BenchError(f"the RMS norm failed:\n{done.stderr.rstrip()}")
    return json.loads(done.stdout)


def measure_norms(rounds: int) -> list[Measurement]:
    def ratio(times: dict, what: str, above: str, below: str, target: float | None = None) -> Measurement:
        a, b = times[above], times[below]
        return Measurement(what, "x", [x / y for x, y in zip(a, b, strict=True)], min(a) / min(b), target)

    def name(rows: int) -> str:
        return f"rms_norm {rows}x{DIM} f32, {THREADS} threads"

    every = _times_of_norms(rounds, ROWS, False)
    # The checker has one thread, so what it is compared with gets no more.
    one = _times_of_norms(rounds, CHECKED_ROWS, True, METALLOID_NUM_THREADS="1")
    return [
        ratio(every, f"{name(ROWS)}: 32 lanes over metalloid.ops.rms_norm", "unchecked", "builtin", 20.0),
        ratio(every, f"{name(ROWS)}: 32 lanes over the same source at width 1", "unchecked", "width 1"),
        ratio(one, f"{name(CHECKED_ROWS)}: checked over unchecked, on one CPU", "checked", "unchecked", 10.0),
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
    return _times(f"a barrier, {THREADS} threads: each thread", "ns", values, 10.0)


# Times in a process of its own, because a process knows again what it has compiled.
_COMPILE = """
import json, sys, time
import metalloid as ml
device, times = ml.Device("cpu"), []
for source in json.load(sys.stdin):
    start = time.perf_counter()
    device.compile(source)
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""


def _compile(sources: list[str]) -> list[float]:
    """How long each takes, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE], input=json.dumps(sources), capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BenchError(f"compiling failed:\n{done.stderr.rstrip()}")
    return json.loads(done.stdout)


def measure_compilation(rounds: int) -> list[Measurement]:
    """Kernels that the cache does not have, and kernels that it has.

    The first of all is told apart: the compiler then also makes what every library is linked with. So is the
    first of a process, which looks for the compiler.
    """
    sources = [hundred_lines() for _ in range(min(rounds, 5) + 1)]
    first, *cold = _compile(sources)
    cached = [_compile(sources) for _ in range(3)]
    return [
        _times("compile 100 lines: the first of all", "s", [first]),
        _times("compile 100 lines: new", "s", cold, 1.5),
        _times("compile 100 lines: from the cache", "ms", [1e3 * t for ts in cached for t in ts[1:]], 5.0),
        _times("compile 100 lines: from the cache, first of a process", "ms", [1e3 * ts[0] for ts in cached]),
    ]


def run(console: Console, *, rounds: int = 9, json_file: Path | None = None) -> bool:
    """Measures, prints the table and returns whether every target was met."""
    if missing := {"cpu", "simt"} - set(ml.devices()):
        raise BenchError(f"this machine has no device '{min(missing)}'")
    # Both are read when first needed, which is below. One thread, to see what one spends; and a cache of this
    # run, because it is to be empty.
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
        rows = [asdict(m) | {"median": m.median, "met": m.met} for m in measured]
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
            "The best ratio is that of the best runs, the median that of ratios of neighbouring runs, and "
            "verdicts go by the median. The first compilation of all also makes what every library is linked "
            "with; the first of a process looks for the compiler."
        ),
    )
