"""The checker against a corpus of faulty kernels, tests/faults/*.metal.

Each case there has a kernel <name>_faulty, whose lines at fault carry comments such as `// FAULT first`, and
its twin <name>_mended. The faulty one must give exactly the faults that its row of the table expects, on the
marked lines and in every order of threads; the mended one none, and the right result.
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import metalloid as ml
import numpy as np
import pytest
from support import open_device

if "simt" not in ml.devices():
    pytest.skip("only the device simt checks kernels", allow_module_level=True)

FOLDER = Path(__file__).parent / "faults"
SEEDS = (0, 1, 7)

RACE, DEVICE_RACE, FLAGS, DIVERGENT = "threadgroup-race", "device-race", "barrier-flags", "divergent-barrier"
BOUNDS, MISALIGNED, UNINITIALIZED = "out-of-bounds", "misaligned", "uninitialized-read"
LANE, MATRIX, READ_ONLY, NULL = "inactive-lane", "incomplete-matrix", "read-only-write", "null-argument"
HAZARD, NON_FINITE, RUNAWAY, DIVISION = "hazard", "non-finite", "runaway", "undefined-division"
TWO_SIDED = (RACE, DEVICE_RACE, FLAGS, HAZARD)

Numbers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    variable: str | tuple[str, ...]  # several: names of the same memory
    inputs: Callable[[np.random.Generator], dict]  # arguments: arrays, numbers, or functions of the device
    outputs: Callable[[dict], Numbers]  # what the mended kernel leaves in its arguments
    threads: int | tuple[int, ...] = 64
    threadgroup: int | tuple[int, ...] = 64
    lines: tuple[tuple[str, ...], ...] = (("first", "second"),)  # the marks of each fault expected
    offset: range | None = None  # where the fault may lie, in bytes
    element_size: int = 4
    constants: dict = field(default_factory=dict)
    non_finite: bool = False
    mended_inputs: Callable[[np.random.Generator], dict] | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Section:
    """One case of a file."""

    file: Path
    marks: dict[str, list[int]]  # by word: the lines that carry it


@functools.cache
def sections() -> dict[str, Section]:
    found: dict[str, Section] = {}
    for file in sorted(FOLDER.glob("*.metal")):
        section = None
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if case := re.match(r"// case (\w+):", line):
                assert case[1] not in found, f"two cases are called {case[1]}"
                section = found[case[1]] = Section(file, {})
            if mark := re.search(r"// FAULT (\w+)$", line):
                section.marks.setdefault(mark[1], []).append(number)
    return found


@functools.cache
def library(file: Path):
    return ml.Device("simt").compile(file)


@pytest.fixture(scope="module")
def dev() -> ml.Device:
    return open_device("simt")


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed{seed}")
def seed(request):
    before = ml.check_settings()
    ml.set_check_settings(enabled=True, non_finite=False, seed=request.param)
    yield request.param
    ml.set_check_settings(
        enabled=before.enabled,
        non_finite=before.non_finite,
        seed=before.seed,
        time_limit=before.time_limit,
    )


def bound(dev: ml.Device, arguments: dict) -> dict:
    def of(value):
        if callable(value):
            return value(dev)
        return dev.array(value) if isinstance(value, np.ndarray) and value.ndim else value

    return {name: of(value) for name, value in arguments.items()}


def assert_marked(fault: ml.KernelFault, section: Section, marks: tuple[str, ...], seed: int) -> None:
    """The fault is on the lines that carry these marks, and all that it tells about them is right."""
    source = section.file.read_text().splitlines()
    sides = [(fault.file, fault.line, fault.code)]
    if fault.second_line:
        sides.append((fault.second_file, fault.second_line, fault.second_code))
    report = str(fault)
    for file, line, code in sides:
        assert Path(file).name == section.file.name, report
        assert any(line in section.marks[mark] for mark in marks), f"line {line}: {report}"
        assert code.strip() == source[line - 1].strip(), report
        assert f"{section.file.name}:{line}" in report
    for mark in marks:
        assert any(line in section.marks[mark] for _, line, _ in sides), f"not on {mark}: {report}"
    assert fault.seed == seed
    assert f"METALLOID_SEED={seed}" in report
    assert fault.count >= 1
    if fault.kind in TWO_SIDED:
        one, other = fault.threads
        assert fault.second_line > 0, report
        assert one[:4] != other[:4] or one.dispatch != other.dispatch, report


def faults_of(run: Callable[[], None]) -> tuple[ml.KernelFault, ...]:
    with pytest.raises(ml.KernelFault) as raised:
        run()
    return raised.value.faults


def assert_faults(faults, section: Section, kind: str, lines, seed: int) -> None:
    reports = "\n\n".join(map(str, faults))
    assert len(faults) == len(lines), f"{len(faults)} faults, {len(lines)} expected\n{reports}"
    assert {fault.kind for fault in faults} == {kind}, reports

    def on(fault: ml.KernelFault, marks: tuple[str, ...]) -> bool:
        places = {fault.line, fault.second_line} - {0}
        return all(places & set(section.marks[mark]) for mark in marks)

    left = list(faults)
    for marks in lines:
        match = next((fault for fault in left if on(fault, marks)), None)
        assert match is not None, f"none is on the lines {marks}: {section.marks}\n{reports}"
        assert_marked(match, section, marks, seed)
        left.remove(match)


def run_case(case: Case, dev: ml.Device, twin: str, arguments: dict) -> dict:
    kernel = library(sections()[case.name].file).kernel(f"{case.name}_{twin}", constants=case.constants)
    args = bound(dev, arguments)
    with dev.commands(f"{case.name}, {twin}") as cmd:
        cmd.dispatch(kernel, threads=case.threads, threadgroup=case.threadgroup, args=args)
    return args


# Arguments of the table below.


def f32(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def u32(rng: np.random.Generator, n: int, below: int) -> np.ndarray:
    return rng.integers(0, below, n, np.uint32)


def u8(rng: np.random.Generator, n: int, below: int = 256) -> np.ndarray:
    return rng.integers(0, below, n, np.uint8)


def nan(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)


def junk(*shape: int, dtype=np.uint32) -> np.ndarray:
    return np.full(shape, 0xA5, dtype)


def memory(nbytes: int):
    return lambda dev: ml.threadgroup_memory(nbytes)


def empty(n: int):
    return lambda dev: dev.empty(n, np.float32)


def part(array: np.ndarray, begin: int, end: int):
    return lambda dev: dev.array(array)[begin:end]


def overlapping(n: int):
    """Two ranges of one buffer, one element apart."""

    def make(rng: np.random.Generator) -> dict:
        whole = f32(rng, n + 1)
        made = []

        def of(begin: int):
            def get(dev: ml.Device):
                if not made:
                    made.append(dev.array(whole))
                return made[0][begin : begin + n]

            return get

        return {"x": of(0), "y": of(1)}

    return make


PARTICLE = np.dtype(
    {
        "names": ["position", "mass", "velocity"],
        "formats": [(np.float32, 3), np.float32, (np.float32, 3)],
        "offsets": [0, 16, 20],
        "itemsize": 32,
    }
)


def particles(rng: np.random.Generator) -> np.ndarray:
    return f32(rng, 80).view(np.uint8)


def heavier(raw: np.ndarray) -> np.ndarray:
    out = raw.copy()
    out.view(PARTICLE)["mass"] *= 2
    return out


def standardised(x: np.ndarray) -> np.ndarray:
    d = x.astype(np.float64) - x.mean(dtype=np.float64)
    return d / np.sqrt((d**2).mean() + 1e-5)


def eliminated(x: np.ndarray, steps: int) -> np.ndarray:
    v = x.astype(np.float64)
    for k in range(steps):
        v[k + 1 :] -= 0.5 * v[k]
    return v


def scattered(a: dict) -> np.ndarray:
    out = np.zeros((4, 16))
    np.add.at(out, a["token"], a["x"].astype(np.float64))
    return out


def windows(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x.reshape(-1, 64).astype(np.float64), ((0, 0), (1, 1)))
    return (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]).ravel()


def collatz_steps(x: np.ndarray) -> np.ndarray:
    out = np.full(x.shape, 0xA5, np.uint32)
    for i, v in enumerate(map(int, x)):
        steps = 0
        while v > 1:
            v = v // 2 if v % 2 == 0 else 3 * v + 1
            out[i] = steps
            steps += 1
    return out


def around(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return np.roll(x, 1) + x + np.roll(x, -1)


def blocks(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw.reshape(-1, 18)[:, 2:6]).view(np.uint32).ravel()


def square(x: np.ndarray) -> np.ndarray:
    tile = x.astype(np.float64)
    padded = np.zeros((8, 8))
    padded[: tile.shape[0], : tile.shape[1]] = tile
    return (padded @ padded)[: tile.shape[0], : tile.shape[1]]


FIRST = (("first",),)
VIEW = 24  # elements of the views below, in buffers of twice as many


def some_negative(n: int) -> np.ndarray:
    signs = np.where(np.arange(n) % 3 == 0, -1, 1)
    return (signs * np.arange(1, n + 1)).astype(np.float32)


# fmt: off
CASES = [
    # Races in threadgroup memory.
    Case("scratch_reuse", RACE, "scratch", lambda r: {"x": f32(r, 256), "y": nan(256)},
         lambda a: {"y": standardised(a["x"])}, 256, 256),
    Case("helper_scratch", RACE, "partial", lambda r: {"x": f32(r, 128), "y": nan(128)},
         lambda a: {"y": a["x"] * (x := a["x"].astype(np.float64)).sum() + (x**2).sum()}, 128, 128),
    Case("tree_without_barrier", RACE, "scratch",
         lambda r: {"x": f32(r, 64), "y": nan(1), "scratch": memory(256)},
         lambda a: {"y": a["x"].sum(dtype=np.float64, keepdims=True)}),
    Case("one_buffer_one_barrier", RACE, "tile", lambda r: {"x": f32(r, 5, 64), "y": nan(64), "steps": 5},
         lambda a: {"y": a["x"].sum(0, dtype=np.float64)[::-1]}),
    Case("stencil_in_place", RACE, "cells", lambda r: {"x": f32(r, 128), "y": nan(128)},
         lambda a: {"y": around(a["x"])[::-1]}, 128, 128),
    Case("plain_histogram", RACE, "bins", lambda r: {"x": u8(r, 64), "y": junk(16)},
         lambda a: {"y": np.bincount(a["x"] & 15, minlength=16)}, lines=FIRST),
    Case("atomic_then_plain", RACE, "count", lambda r: {"x": f32(r, 64), "y": junk(1)},
         lambda a: {"y": np.array([(a["x"] > 0).sum()])}),
    Case("simdgroups_exchange", RACE, "shared", lambda r: {"x": f32(r, 64), "y": nan(32)},
         lambda a: {"y": a["x"][:32]}),
    Case("lanes_exchange", RACE, "shared", lambda r: {"x": f32(r, 32), "y": nan(32)},
         lambda a: {"y": a["x"][::-1]}, 32, 32),
    Case("byte_neighbours", RACE, "bytes", lambda r: {"x": u8(r, 64), "y": junk(64, dtype=np.uint8)},
         lambda a: {"y": (a["x"] + np.uint8(1))[::-1]}, element_size=1),
    Case("scan_in_place", RACE, "sums", lambda r: {"x": u32(r, 64, 1000), "y": junk(64)},
         lambda a: {"y": np.cumsum(a["x"])}),
    Case("shared_pivot", RACE, "pivot", lambda r: {"x": f32(r, 64), "y": nan(64), "steps": 6},
         lambda a: {"y": eliminated(a["x"], 6)}),
    Case("tile_store", RACE, "tile", lambda r: {"x": f32(r, 64), "y": nan(64)}, lambda a: {"y": a["x"]}),
    # Races in device memory.
    Case("one_word_of_all", DEVICE_RACE, "y", lambda r: {"x": f32(r, 128), "y": nan(4)},
         lambda a: {"y": a["x"].reshape(4, 32).max(1)}, 128, 32, lines=FIRST),
    Case("lanes_of_one_word", DEVICE_RACE, "y", lambda r: {"x": f32(r, 64), "y": nan(32)},
         lambda a: {"y": a["x"][::2]}, lines=FIRST),
    Case("plain_sum", DEVICE_RACE, "y", lambda r: {"x": u32(r, 128, 1000), "y": np.zeros(1, np.uint32)},
         lambda a: {"y": a["x"].sum(keepdims=True)}, 128, 64, lines=FIRST),
    Case("colliding_scatter", DEVICE_RACE, "y",
         lambda r: {"x": f32(r, 12, 16), "token": u32(r, 12, 4), "y": np.zeros((4, 16), np.float32)},
         lambda a: {"y": scattered(a)}, (16, 12), (16, 2), lines=FIRST),
    Case("plain_look", DEVICE_RACE, "count", lambda r: {"count": np.zeros(1, np.uint32), "y": junk(3)},
         lambda a: {"count": np.array([3]), "y": np.zeros(3)}, 96, 32),
    Case("last_without_fence", DEVICE_RACE, "partial",
         lambda r: {"x": f32(r, 160), "partial": nan(5), "done": np.zeros(1, np.uint32), "y": nan(1)},
         lambda a: {"y": a["x"].sum(dtype=np.float64, keepdims=True), "done": np.array([5])}, 160, 32),
    Case("halo_in_place", DEVICE_RACE, "y", lambda r: {"y": f32(r, 192), "n": 192},
         lambda a: {"y": windows(a["y"])}, 192, 64, lines=(("first", "second"), ("third", "second"))),
    Case("shifted_alias", DEVICE_RACE, ("x", "y"), overlapping(64), lambda a: {"y": 2 * a["x"]},
         mended_inputs=lambda r: {"x": f32(r, 64), "y": nan(64)}),
    Case("vector_overlap", DEVICE_RACE, "y", lambda r: {"x": f32(r, 32), "y": nan(128)},
         lambda a: {"y": np.repeat(a["x"], 4)}, 32, 32, lines=FIRST, element_size=16),
    # Barriers.
    Case("flags_none", FLAGS, "shared", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"y": a["x"][::-1]}),
    Case("flags_device", FLAGS, "shared", lambda r: {"x": f32(r, 64), "y": nan(64), "shared": memory(256)},
         lambda a: {"y": a["x"][::-1]}),
    Case("flags_threadgroup", FLAGS, "between",
         lambda r: {"x": f32(r, 128), "between": nan(128), "y": nan(128)},
         lambda a: {"y": (a["x"] ** 2).reshape(2, 64)[:, ::-1].ravel()}, 128, 64),
    Case("simdgroup_flags_none", FLAGS, "shared", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"y": a["x"].reshape(2, 32)[:, ::-1].ravel()}),
    Case("simdgroup_flags_threadgroup", FLAGS, "between", lambda r: {"between": nan(64), "y": nan(64)},
         lambda a: {"y": np.arange(64) ^ 1}, 64, 32),
    Case("early_return", DIVERGENT, "", lambda r: {"x": f32(r, 40), "y": nan(40), "n": 40},
         lambda a: {"y": a["x"][::-1]}, lines=FIRST),
    Case("two_branches", DIVERGENT, "", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"y": (a["x"].reshape(32, 2)[:, ::-1] * np.float32([1, -1])).ravel()}),
    Case("trip_counts", DIVERGENT, "",
         lambda r: {"trips": np.arange(64, dtype=np.uint32) % 3 + 1, "y": junk(1)},
         lambda a: {"y": a["trips"].sum(keepdims=True)}),
    Case("one_simdgroup_waits", DIVERGENT, "", lambda r: {"x": f32(r, 32), "y": nan(32)},
         lambda a: {"y": a["x"][::-1]}, lines=FIRST),
    # Bounds and alignment.
    Case("past_the_end", BOUNDS, "x", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"y": np.diff(a["x"], append=a["x"][-1:])}, lines=FIRST, offset=range(256, 257)),
    Case("rounded_grid", BOUNDS, "y", lambda r: {"x": f32(r, 50), "y": nan(50), "n": 50},
         lambda a: {"y": a["x"]}, lines=FIRST, offset=range(200, 256, 4)),
    Case("before_the_start", BOUNDS, "x", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"y": np.diff(a["x"], prepend=a["x"][:1])}, lines=FIRST, offset=range(-4, -3)),
    Case("wrapped_index", BOUNDS, "x", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"y": np.diff(a["x"], prepend=a["x"][:1])}, lines=FIRST,
         offset=range(0xFFFFFFFF * 4, 0xFFFFFFFF * 4 + 1)),
    Case("wrapped_product", BOUNDS, "x", lambda r: {"x": f32(r, 64), "y": nan(64), "stride": 0x40000001},
         lambda a: {"y": a["x"]}, lines=FIRST),
    Case("past_the_view", BOUNDS, "x",
         lambda r: {"x": part(np.ones(2 * VIEW, np.float32), 4, 4 + VIEW), "y": nan(8), "n": VIEW},
         lambda a: {"y": np.full(8, VIEW)}, 8, 8, lines=FIRST, offset=range(4 * VIEW, 4 * VIEW + 1)),
    Case("before_the_view", BOUNDS, "y",
         lambda r: {"x": f32(r, VIEW), "y": part(np.ones(2 * VIEW, np.float32), 8, 8 + VIEW)},
         lambda a: {"y": np.concatenate([a["x"][4:], np.ones(4)])}, VIEW, VIEW, lines=FIRST,
         offset=range(-16, 0, 4)),
    Case("small_threadgroup_argument", BOUNDS, "scratch",
         lambda r: {"x": f32(r, 64), "y": nan(64), "scratch": memory(256)}, lambda a: {"y": a["x"][::-1]},
         lines=FIRST, offset=range(256, 512, 8)),
    Case("two_arguments", BOUNDS, "keys",
         lambda r: {"x": f32(r, 32), "y": nan(32), "keys": memory(128), "values": memory(128)},
         lambda a: {"y": 2 * a["x"][::-1]}, 32, 32, lines=FIRST, offset=range(128, 129)),
    Case("array_into_neighbour", BOUNDS, "rows", lambda r: {"x": f32(r, 32), "y": nan(32)},
         lambda a: {"y": a["x"].reshape(4, 8).T.ravel()}, 32, 32, lines=FIRST, offset=range(128, 160, 4)),
    Case("before_the_array", BOUNDS, "cells", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"y": a["x"][np.maximum(np.arange(64) - 1, 0)]}, lines=FIRST, offset=range(-4, -3)),
    Case("struct_array", BOUNDS, "particles", lambda r: {"particles": particles(r), "n": 10},
         lambda a: {"particles": heavier(a["particles"])}, 16, 16, lines=FIRST, offset=range(336, 337),
         element_size=32),
    Case("straddling_vector", BOUNDS, "x", lambda r: {"x": f32(r, 62), "y": nan(16), "n": 62},
         lambda a: {"y": np.pad(a["x"], (0, 2)).reshape(16, 4).sum(1, dtype=np.float64)}, 16, 16, lines=FIRST,
         offset=range(240, 252, 4)),
    Case("constant_table", BOUNDS, "table",
         lambda r: {"table": f32(r, 16), "x": np.r_[u8(r, 30, 16), np.uint8([200, 3])], "y": nan(32)},
         lambda a: {"y": a["table"][a["x"] & 15]}, 32, 32, lines=FIRST, offset=range(800, 801)),
    Case("past_inline_bytes", BOUNDS, "shape",
         lambda r: {"shape": lambda dev: np.arange(5, 9, dtype=np.uint32), "y": junk(8)},
         lambda a: {"y": np.arange(8) % 4 + 5}, 8, 8, lines=FIRST, offset=range(16, 32, 4), element_size=16),
    Case("matrix_edge", BOUNDS, "x", lambda r: {"x": f32(r, 48), "y": nan(64)},
         lambda a: {"y": np.pad(a["x"], (0, 16)).reshape(8, 8).T.ravel()}, 32, 32, lines=FIRST,
         offset=range(192, 256, 4)),
    Case("atomic_bin", BOUNDS, "bins",
         lambda r: {"x": np.r_[u32(r, 31, 8), np.uint32([12])], "bins": np.zeros(8, np.uint32)},
         lambda a: {"bins": np.bincount(np.minimum(a["x"], 7), minlength=8)}, 32, 32, lines=FIRST,
         offset=range(48, 49)),
    Case("misaligned_vector", MISALIGNED, "x", lambda r: {"x": f32(r, 65), "y": nan(64)},
         lambda a: {"y": a["x"][1:]}, 16, 16, lines=FIRST, offset=range(4, 260, 16)),
    Case("misaligned_word", MISALIGNED, "x", lambda r: {"x": u8(r, 18 * 16), "y": junk(16)},
         lambda a: {"y": blocks(a["x"])}, 16, 16, lines=FIRST, offset=range(2, 288, 36), element_size=1),
    # Uninitialised memory.
    Case("fresh_scratch", UNINITIALIZED, "sums", lambda r: {"x": f32(r, 3, 64), "y": nan(64), "steps": 3},
         lambda a: {"y": a["x"].sum(0, dtype=np.float64)}, lines=FIRST, offset=range(0, 256, 4)),
    Case("fresh_output", UNINITIALIZED, "y", lambda r: {"x": f32(r, 64), "y": empty(64)},
         lambda a: {"y": a["x"]}, lines=FIRST, offset=range(0, 256, 4)),
    Case("few_partials", UNINITIALIZED, "partial", lambda r: {"x": f32(r, 64), "y": nan(1)},
         lambda a: {"y": a["x"].sum(dtype=np.float64, keepdims=True)}, lines=FIRST, offset=range(8, 128, 4)),
    Case("ragged_tile", UNINITIALIZED, "tile",
         lambda r: {"x": r.integers(-4, 5, (6, 5)).astype(np.float16), "y": nan(6, 5), "shape": [5, 6]},
         lambda a: {"y": square(a["x"])}, (8, 8), (8, 8), lines=FIRST, element_size=2),
    Case("left_by_another", UNINITIALIZED, "table",
         lambda r: {"x": f32(r, 32), "y": nan(96), "table": memory(128)},
         lambda a: {"y": np.tile(a["x"][::-1], 3)}, 96, 32, lines=FIRST),
    Case("forgotten_member", UNINITIALIZED, "entries", lambda r: {"x": f32(r, 32), "y": nan(32)},
         lambda a: {"y": ((a["x"].astype(np.float64) + 1) * np.arange(32))[::-1]}, 32, 32, lines=FIRST,
         element_size=12),
    Case("skipped_vectors", UNINITIALIZED, "points", lambda r: {"x": f32(r, 32), "y": nan(32)},
         lambda a: {"y": a["x"][::-1] + 3}, 32, 32, lines=FIRST, element_size=16),
    # SIMD-groups.
    Case("shuffle_from_returned", LANE, "", lambda r: {"x": f32(r, 21), "y": nan(21), "n": 21},
         lambda a: {"y": np.append(a["x"], 0.0)[np.arange(21) ^ 1]}, 32, 32, lines=FIRST),
    Case("broadcast_from_missing", LANE, "", lambda r: {"x": f32(r, 40), "y": nan(40)},
         lambda a: {"y": a["x"][np.arange(40) // 32 * 32]}, 40, 40, lines=FIRST),
    Case("shuffle_in_branch", LANE, "", lambda r: {"x": some_negative(64), "y": nan(64)},
         lambda a: {"y": np.where(a["x"] < 0, -np.roll(a["x"].reshape(2, 32), -1, 1).ravel(), a["x"])},
         lines=FIRST),
    Case("shuffle_down_in_loop", LANE, "", lambda r: {"x": f32(r, 42), "y": nan(32), "n": 42},
         lambda a: {"y": (v := np.r_[a["x"][32:], a["x"][10:32]]) + np.r_[v[16:], v[16:]]}, 32, 32,
         lines=FIRST),
    Case("quad_of_three", LANE, "", lambda r: {"x": f32(r, 32), "y": np.zeros(32, np.float32)},
         lambda a: {"y": np.repeat(a["x"][2::4], 4) * (np.arange(32) % 4 != 2)}, 32, 32, lines=FIRST),
    Case("half_of_the_lanes", MATRIX, "", lambda r: {"x": f32(r, 128), "y": nan(64)},
         lambda a: {"y": (x := a["x"].astype(np.float64).reshape(2, 8, 8))[0] @ x[1]}, 32, 32, lines=FIRST),
    Case("short_simdgroup", MATRIX, "", lambda r: {"x": f32(r, 128), "y": np.zeros(128, np.float32)},
         lambda a: {"y": a["x"] * (np.arange(128) < 64)}, 48, 48, lines=(("first",), ("second",))),
    # Bindings.
    Case("write_to_const", READ_ONLY, "x", lambda r: {"x": f32(r, 64), "y": nan(64)},
         lambda a: {"x": 2 * a["x"], "y": 2 * a["x"] + 1}, lines=FIRST, offset=range(0, 256, 4)),
    Case("switched_off", NULL, "bias", lambda r: {"x": f32(r, 64), "y": nan(64)}, lambda a: {"y": a["x"]},
         lines=FIRST, constants={"has_bias": False}),
    # NaN and infinity.
    Case("root_of_negative", NON_FINITE, "y",
         lambda r: {"x": some_negative(32), "y": nan(32), "z": nan(32)},
         lambda a: {"y": (v := np.sqrt(np.maximum(a["x"], 0))), "z": v + 1}, 32, 32, lines=FIRST,
         non_finite=True),
    Case("half_overflow", NON_FINITE, "squares",
         lambda r: {"x": np.float16([1, 2, 300, 4] * 8), "y": np.zeros(32, np.float16)},
         lambda a: {"y": np.minimum(a["x"].astype(np.float64) ** 2, 65504)[::-1]}, 32, 32, lines=FIRST,
         non_finite=True, element_size=2),
    Case("zero_row", NON_FINITE, "y", lambda r: {"x": np.zeros(32, np.float32), "y": nan(32)},
         lambda a: {"y": a["x"]}, 32, 32, lines=FIRST, non_finite=True),
    # Integer divisions.
    Case("empty_bucket", DIVISION, "",
         lambda r: {"sum": np.arange(64, dtype=np.int32) - 9, "count": np.arange(64, dtype=np.int32) % 5,
                    "y": np.zeros(64, np.int32)},
         lambda a: {"y": np.trunc(a["sum"] / np.where(c := a["count"], c, np.inf))}, lines=FIRST),
    Case("no_columns", DIVISION, "", lambda r: {"columns": np.uint64(0), "y": np.ones(32, np.uint64)},
         lambda a: {"y": np.zeros(32)}, 32, 32, lines=FIRST),
    Case("sign_of_least", DIVISION, "",
         lambda r: {"x": np.full(64, -(2**31), np.int32), "sign": np.tile(np.int32([1, -1]), 32),
                    "y": np.zeros(64, np.int32)},
         lambda a: {"y": -(2**31 - 1) * a["sign"].astype(np.int64)}, lines=FIRST),
    # Kernels that do not end.
    Case("no_progress", RUNAWAY, "", lambda r: {"x": np.arange(32, dtype=np.uint32), "y": junk(32)},
         lambda a: {"y": collatz_steps(a["x"])}, 32, 32, lines=FIRST),
    Case("flag_nobody_sets", RUNAWAY, "", lambda r: {"flag": np.zeros(1, np.uint32), "y": junk(32)},
         lambda a: {"y": np.full(32, 100)}, 32, 32, lines=FIRST),
    Case("lock_of_lanes", RUNAWAY, "",
         lambda r: {"lock": np.zeros(1, np.uint32), "y": np.zeros(1, np.uint32)},
         lambda a: {"y": np.array([32])}, 32, 32, lines=FIRST),
]
# fmt: on


def prepare(case: Case) -> None:
    if case.kind == RUNAWAY:
        ml.set_check_settings(time_limit=0.2)
    ml.set_check_settings(non_finite=case.non_finite)


# Other processors do not tell of them.
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.kind != DIVISION or platform.machine() == "x86_64"], ids=str
)
def test_faulty(case, dev, rng, seed):
    prepare(case)
    section = sections()[case.name]
    faults = faults_of(lambda: run_case(case, dev, "faulty", case.inputs(rng)))
    variables = (case.variable,) if isinstance(case.variable, str) else case.variable
    for variable in {fault.variable for fault in faults}:
        assert variable in variables, faults
        named = [fault for fault in faults if fault.variable == variable]
        assert_faults(named, section, case.kind, case.lines, seed)
    for fault in faults:
        report = str(fault)
        assert fault.kernel == f"{case.name}_faulty", report
        assert not fault.variable or fault.variable in report
        if case.offset is not None:
            assert fault.offset in case.offset, report
        if fault.variable:
            assert fault.element == fault.offset // case.element_size, report


@pytest.mark.parametrize("case", CASES, ids=str)
def test_mended(case, dev, rng, seed):
    prepare(case)
    arguments = (case.mended_inputs or case.inputs)(rng)
    want = case.outputs(arguments)
    args = run_case(case, dev, "mended", arguments)
    for name, reference in want.items():
        got = args[name].numpy()
        np.testing.assert_allclose(
            got, reference.reshape(got.shape), rtol=1e-5, atol=1e-4, err_msg=f"{case.name}: {name}"
        )


# What the two dispatches of each pair get: buffers by argument.
HAZARDS = {
    "read_after_write": ({"x": "a", "y": "b"}, {"x": "b", "y": "c"}),
    "write_after_read": ({"x": "a", "y": "b"}, {"y": "a"}),
    "write_after_write": ({"y": "a"}, {"y": "a"}),
}


def hazard(name: str, dev: ml.Device, start: np.ndarray, barrier: bool, concurrent: bool = True) -> Numbers:
    n = start.size
    section = sections()[name]
    buffers = {"a": dev.array(start), "b": dev.array(nan(n)), "c": dev.array(nan(n))}
    with dev.commands(name, concurrent=concurrent, hazards="manual") as cmd:
        for step, arguments in zip(("first", "second"), HAZARDS[name], strict=True):
            kernel = library(section.file).kernel(f"{name}_{step}")
            args = {argument: buffers[buffer] for argument, buffer in arguments.items()}
            halves = name == "write_after_write" and step == "second"
            cmd.dispatch(kernel, threads=n // 2 if halves else n, threadgroup=32, args=args)
            if barrier and step == "first":
                cmd.barrier()
    return {buffer: array.numpy().copy() for buffer, array in buffers.items()}


@pytest.mark.parametrize("name", HAZARDS)
def test_hazard(name, dev, rng, seed):
    faults = faults_of(lambda: hazard(name, dev, f32(rng, 64), barrier=False))
    assert_faults(faults, sections()[name], HAZARD, [("first", "second")], seed)
    (fault,) = faults
    assert {side.dispatch for side in fault.threads} == {0, 1}
    assert fault.variable in ("x", "y")


@pytest.mark.parametrize("serial", [False, True], ids=["barrier", "serial"])
@pytest.mark.parametrize("name", HAZARDS)
def test_hazard_mended(name, serial, dev, rng, seed):
    start = f32(rng, 64)
    got = hazard(name, dev, start, barrier=not serial, concurrent=not serial)
    if name == "read_after_write":
        np.testing.assert_array_equal(got["b"], start + 1)
        np.testing.assert_array_equal(got["c"], 2 * got["b"][::-1])
    elif name == "write_after_read":
        np.testing.assert_array_equal(got["b"], 2 * start[::-1])
        np.testing.assert_array_equal(got["a"], np.arange(64))
    else:
        np.testing.assert_array_equal(got["a"], np.where(np.arange(64) % 2, -1, np.arange(64) // 2))


def test_every_case_of_the_files_is_in_the_table():
    names = [case.name for case in CASES] + list(HAZARDS)
    assert sorted(names) == sorted(sections())
    assert len(names) >= 40
    for name, section in sections().items():
        used = {
            mark
            for lines in [case.lines for case in CASES if case.name == name] or [[("first", "second")]]
            for marks in lines
            for mark in marks
        }
        assert set(section.marks) == used, name
