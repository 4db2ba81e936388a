"""`metalloid bench`: the operations, memcpy and other libraries, taking turns in one process."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ml_dtypes import bfloat16
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

import metalloid as ml
from metalloid.cli import machine, tables
from metalloid.cli.machine import short_type
from metalloid.cli.peers import CHUNK, Inputs
from metalloid.cli.tables import Column
from metalloid.cli.timing import Memcpy, seconds

PEER_SECONDS = 2.0  # a slow peer stops after this long, but not before two runs
IMPORT_TARGET_MS = 80.0
F32, BF16 = np.dtype(np.float32), np.dtype(bfloat16)


class BenchError(Exception):
    """The benchmark cannot run as asked."""


@dataclass(frozen=True)
class Case:
    """One row of the table: an operation on one set of inputs."""

    operation: str
    shape: str
    dtype: np.dtype
    form: str = ""
    target: float | None = None  # times memcpy, at most; None: faster than every PyTorch run
    make: Callable[[np.random.Generator, np.dtype], Inputs] = field(repr=False, kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.operation} {self.form}".strip()


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype = F32) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)


def _rms_norm(rng: np.random.Generator, dtype: np.dtype, *, scaled: bool = False) -> Inputs:
    inputs = {"x": _normal(rng, (4096, 4096), dtype), "weight": _normal(rng, (4096,), dtype)}
    return inputs | ({"scale": _normal(rng, (4096, 4096), dtype)} if scaled else {})


def _head_norm_rope(rng: np.random.Generator, dtype: np.dtype, *, cached: bool) -> Inputs:
    tokens, dim = 4096, 128
    inputs: Inputs = {"x": _normal(rng, (tokens, 32, dim), dtype), "weight": _normal(rng, (dim,), dtype)}
    if not cached:
        return inputs | {"positions": np.arange(tokens, dtype=np.int32)}
    angles = np.arange(tokens)[:, None] * 10000.0 ** (-2 * np.arange(dim // 2) / dim)
    return inputs | {"cos": np.cos(angles).astype(F32), "sin": np.sin(angles).astype(F32)}


def _head_rope(rng: np.random.Generator, dtype: np.dtype, *, cached: bool) -> Inputs:
    inputs = _head_norm_rope(rng, dtype, cached=cached)
    del inputs["weight"]
    return inputs


def _vision_rope(rng: np.random.Generator, dtype: np.dtype, *, dim: int) -> Inputs:
    token = np.arange(4096, dtype=np.int32)
    return {"x": _normal(rng, (4096, 16, dim), dtype), "pos_x": token % 64, "pos_y": token // 64}


def _im2col(rng: np.random.Generator, dtype: np.dtype, *, patch: int) -> Inputs:
    return {"pixels": _normal(rng, (3, 1792, 1792), dtype), "patch": patch}


def _gated_delta(rng: np.random.Generator, dtype: np.dtype) -> Inputs:
    batch, tokens, key_heads, heads, dim = 1, 4096, 16, 32, 128
    steps = -0.1 * rng.random((batch, tokens // CHUNK, CHUNK, heads), dtype=np.float32)
    return {
        "q": _normal(rng, (batch, tokens, key_heads, dim), dtype),
        "k": _normal(rng, (batch, tokens, key_heads, dim), dtype),
        "v": _normal(rng, (batch, tokens, heads, dim), dtype),
        "state": _normal(rng, (batch, tokens // CHUNK, heads, dim, dim), dtype),
        "g": np.cumsum(steps, axis=2).reshape(batch, tokens, heads),
    }


def _two_arrays(rng: np.random.Generator, dtype: np.dtype, *, names: tuple[str, str]) -> Inputs:
    return {name: _normal(rng, (4096, 4096), dtype) for name in names}


def cases() -> Iterator[Case]:
    """Every row, in the order of the table."""
    for dtype in (F32, BF16):
        yield Case("rms_norm", "4096x4096", dtype, target=1.25, make=_rms_norm)
    yield Case(
        "rms_norm_mul",
        "4096x4096",
        BF16,
        target=1.35,
        make=lambda rng, dtype: _rms_norm(rng, dtype, scaled=True),
    )
    for dtype in (F32, BF16):
        for cached in (True, False):
            yield Case(
                "fused_head_norm_rope",
                "4096x32x128",
                dtype,
                "cached" if cached else "positional",
                target=1.6,
                make=lambda rng, dtype, cached=cached: _head_norm_rope(rng, dtype, cached=cached),
            )
    for dtype in (F32, BF16):
        for cached in (True, False):
            yield Case(
                "rope_neox",
                "4096x32x128",
                dtype,
                "cached" if cached else "positional",
                target=1.4,
                make=lambda rng, dtype, cached=cached: _head_rope(rng, dtype, cached=cached),
            )
    for dim in (72, 128):
        for dtype in (F32, BF16):
            yield Case(
                "vision_2d_rope",
                f"4096x16x{dim}",
                dtype,
                f"d={dim}",
                target=1.4,
                make=lambda rng, dtype, dim=dim: _vision_rope(rng, dtype, dim=dim),
            )
    for patch in (14, 16):
        for dtype in (F32, BF16):
            yield Case(
                "im2col_2d",
                "3x1792x1792",
                dtype,
                f"p={patch}",
                target=1.25,
                make=lambda rng, dtype, patch=patch: _im2col(rng, dtype, patch=patch),
            )
    yield Case("gated_delta_net_chunk_o", "1x4096x16/32x128", BF16, make=_gated_delta)
    for operation in ("add", "mul", "silu_mul", "gelu_mul"):
        names = ("a", "b") if operation in ("add", "mul") else ("gate", "up")
        for dtype in (F32, BF16):
            yield Case(
                operation,
                "4096x4096",
                dtype,
                # An exponential takes longer than the memory of a bf16 element, though not of an f32.
                target=None if names == ("gate", "up") and dtype == BF16 else 1.25,
                make=lambda rng, dtype, names=names: _two_arrays(rng, dtype, names=names),
            )


@dataclass
class Runs:
    """The times of one contestant, in seconds."""

    seconds: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Row:
    """What one case measured."""

    case: Case
    traffic: int  # bytes read and written by the operation
    ours: Runs
    memcpy: Runs
    peers: dict[str, Runs]

    @property
    def ratio(self) -> float:
        return self.ours.best / self.memcpy.best

    @property
    def median_ratio(self) -> float:
        """The median over the pairs of runs that followed each other."""
        pairs = zip(self.ours.seconds, self.memcpy.seconds, strict=True)
        return statistics.median(ours / copy for ours, copy in pairs)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there was nothing to compare with."""
        if self.case.target is not None:
            return self.median_ratio <= self.case.target
        rivals = [runs.best for name, runs in self.peers.items() if name.startswith("torch") and runs.seconds]
        return self.ours.best < min(rivals) if rivals else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "operation": self.case.operation,
            "form": self.case.form,
            "shape": self.case.shape,
            "dtype": self.case.dtype.name,
            "traffic_bytes": self.traffic,
            "target": self.case.target,
            "met": self.met,
            "ratio_best": self.ratio,
            "ratio_median": self.median_ratio,
            "seconds": self.ours.seconds,
            "memcpy_seconds": self.memcpy.seconds,
            "peers": {name: asdict(runs) for name, runs in self.peers.items()},
        }


def our_run(device: ml.Device, operation: str, inputs: Inputs) -> tuple[Callable[[], None], ml.Buffer, int]:
    """A command buffer of one dispatch with `out=`: the call, its output, the bytes it moves."""
    function = getattr(ml.ops, operation)
    arguments = {
        name: device.array(value) if isinstance(value, np.ndarray) else value
        for name, value in inputs.items()
    }
    with device.commands() as cmd:
        out = function(cmd, **arguments)

    def run() -> None:
        cmd = device.commands()
        function(cmd, **arguments, out=out)
        cmd.commit_and_wait()

    read = sum(value.nbytes for value in inputs.values() if isinstance(value, np.ndarray))
    return run, out, read + out.nbytes


@dataclass
class Peer:
    """A library to compare with, and how its results come back to NumPy."""

    name: str
    build: Callable[[str, Inputs], Callable[[], Any] | None]
    to_numpy: Callable[[Any], np.ndarray]


def find_peers() -> tuple[list[Peer], list[str]]:
    """The peers that are installed, and the names of those that are not."""
    # torch.compile would start a pool of compiler processes, which outlive the row that they compiled for.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    found, missing = [], []
    for library in ("numpy", "torch", "mlx"):
        try:
            module = importlib.import_module(f"metalloid.cli.peers.with_{library}")
        except ImportError as error:
            missing.append(f"{library} ({error})")
            continue
        to_numpy = getattr(module, "to_numpy", lambda result: np.asarray(result, dtype=np.float32))
        for suffix, reuse in (("", False), (" out=", True)):

            def build(operation: str, inputs: Inputs, table=module.OPERATIONS, reuse=reuse):
                return table[operation](inputs, reuse)

            if not (library == "mlx" and reuse):
                found.append(Peer(library + suffix, build, to_numpy))
        if library == "torch":
            found.append(Peer("torch.compile", module.compiled, to_numpy))
    return found, missing


def _agree(got: np.ndarray, want: np.ndarray) -> bool:
    """Whether a peer computed the same thing, to the accuracy of bfloat16; the tests check the last bits."""
    got = got.reshape(want.shape)
    return bool(np.abs(got - want).max() <= 0.02 * max(1.0, np.abs(want).max()))


class _Contestant:
    """A peer taking part in one row. Whatever goes wrong in it is noted and does not end the benchmark."""

    def __init__(self, peer: Peer, case: Case, inputs: Inputs, want: np.ndarray) -> None:
        self.runs = Runs()
        self.run: Callable[[], Any] | None = None
        try:
            run = peer.build(case.operation, inputs)
            if run is not None and not _agree(peer.to_numpy(run()), want):
                self.runs.error = "its result differs from ours"
                return
        except Exception as error:
            self.runs.error = f"{type(error).__name__}: {error}".splitlines()[0]
            return
        self.run = run

    def turn(self) -> None:
        if self.run is None or (len(self.runs.seconds) >= 2 and sum(self.runs.seconds) > PEER_SECONDS):
            return
        self.runs.seconds.append(seconds(self.run))


def measure(
    device: ml.Device,
    case: Case,
    peers: list[Peer],
    *,
    rounds: int,
    threads: int,
    tell: Callable[[str], None] = lambda text: None,
) -> Row:
    """One row: set up, compare results, then let everyone run in turn, round after round."""
    tell("preparing")
    inputs = case.make(np.random.default_rng(1), case.dtype)
    ours, out, traffic = our_run(device, case.operation, inputs)
    want = out.numpy().astype(np.float32)
    contestants: dict[str, _Contestant] = {}
    for peer in peers:
        tell(f"preparing {peer.name}")
        contestants[peer.name] = _Contestant(peer, case, inputs, want)
    row = Row(case, traffic, Runs(), Runs(), {name: c.runs for name, c in contestants.items()})
    with Memcpy(device, traffic // 2, threads) as memcpy:
        if not memcpy.check():
            raise BenchError("the memcpy compared with did not copy")
        ours()
        for turn in range(rounds):
            tell(f"round {turn + 1} of {rounds}")
            for _ in range(3):
                row.ours.seconds.append(seconds(ours))
                row.memcpy.seconds.append(seconds(memcpy.run))
            for contestant in contestants.values():
                contestant.turn()
    return row


@dataclass
class Overheads:
    """Costs that have nothing to do with the size of the data."""

    import_ms: float  # median, beyond importing NumPy
    import_runs_ms: list[float]
    commit_and_wait_us: float  # best, one dispatch of one row of 64 elements
    commit_and_wait_median_us: float
    encode_us: float  # best, per rms_norm(out=) encoded


_IMPORT = "import time, numpy; t = time.perf_counter(); import metalloid; print(time.perf_counter() - t)"


def measure_overheads(device: ml.Device, *, imports: int = 7) -> Overheads:
    # Not isolated (-I): the subprocess must find the same package as this process did.
    times = []
    for _ in range(imports + 1):
        done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True)
        times.append(1e3 * float(done.stdout))
    times = times[1:]  # the first one may have had to read the files from disk

    x, w = device.array(np.ones((1, 64), F32)), device.array(np.ones(64, F32))
    y = device.empty((1, 64))

    def tiny() -> None:
        cmd = device.commands()
        ml.ops.rms_norm(cmd, x, w, out=y)
        cmd.commit_and_wait()

    def encode(count: int) -> float:
        cmd = device.commands()
        rms_norm = ml.ops.rms_norm

        def loop() -> None:
            for _ in range(count):
                rms_norm(cmd, x, w, out=y)

        taken = seconds(loop)
        cmd.commit_and_wait()
        return taken / count

    tiny()
    waits = [seconds(tiny) for _ in range(500)]
    return Overheads(
        import_ms=statistics.median(times),
        import_runs_ms=times,
        commit_and_wait_us=1e6 * min(waits),
        commit_and_wait_median_us=1e6 * statistics.median(waits),
        encode_us=1e6 * min(encode(500) for _ in range(10)),
    )


def environment(device: ml.Device, threads: int) -> dict[str, Any]:
    return {
        "machine": machine.describe(),
        "device": f"{device.name}: {device.description}",
        "kernel_variant": device.kernel_variant,
        "shader_compiler": device.shader_compiler,
        "memcpy_threads": threads,
        "variables": machine.variables(),
        "versions": machine.versions(),
    }


def verdict(met: bool | None) -> str:
    return {True: "[green]pass[/]", False: "[bold red]miss[/]", None: "[dim]-[/]"}[met]


CASE_COLUMNS = (
    Column("operation", "left", fold=True),
    Column("shape", "left", wide=True),
    Column("type", "left"),
)


def _case_cells(case: Case) -> list[str]:
    return [case.name, case.shape, short_type(case.dtype)]


def show_targets(console: Console, rows: list[Row], threads: int) -> None:
    wide = [Column("ms", wide=True), Column("memcpy\nms", wide=True), Column("GB/s", wide=True)]
    measured = [Column("best"), Column("median", style="bold"), Column("target"), Column("verdict", "center")]
    tables.show(
        console,
        "Time relative to memcpy of the same bytes",
        [*CASE_COLUMNS, *wide, *measured],
        [
            [
                *_case_cells(row.case),
                f"{1e3 * row.ours.best:.2f}",
                f"{1e3 * row.memcpy.best:.2f}",
                f"{row.traffic / row.ours.best / 1e9:.1f}",
                f"{row.ratio:.2f}",
                f"{row.median_ratio:.2f}",
                "< torch" if row.case.target is None else f"{row.case.target:.2f}",
                verdict(row.met),
            ]
            for row in rows
        ],
        caption=(
            f"Best of alternating runs: ours with out=, commit and wait included, over a {threads}-thread "
            "memcpy that reads and writes as many bytes in all as the operation. The median is that of the "
            "ratios of neighbouring runs, and the verdict goes by it: a memcpy that once found its data in "
            "the cache makes a poor yardstick. The delta rule, and silu_mul and gelu_mul in bf16, are bound "
            "by arithmetic: their target is to beat every PyTorch run."
        ),
    )


def show_peers(console: Console, rows: list[Row], names: list[str]) -> None:
    def cell(row: Row, name: str) -> str:
        runs = row.peers[name]
        if runs.error:
            return "[red]failed[/]"
        return f"{runs.best / row.memcpy.best:.1f}" if runs.seconds else "[dim]-[/]"

    peers = [Column(name.replace(" ", "\n").replace(".", "\n.")) for name in names]
    tables.show(
        console,
        "The peers, relative to the same memcpy",
        [*CASE_COLUMNS, Column("metalloid", style="bold"), *peers],
        [[*_case_cells(row.case), f"{row.ratio:.2f}", *(cell(row, name) for name in names)] for row in rows],
        caption=(
            "Best run of each. 'out=': into memory allocated beforehand, where the library allows it; a dash "
            "means that there is no such form. For the delta rule the peers get float32 inputs."
        ),
    )


def show_overheads(console: Console, o: Overheads) -> None:
    waits = f"{o.commit_and_wait_us:.1f} us ({o.commit_and_wait_median_us:.1f} us)"
    tables.show(
        console,
        "Overheads",
        [
            Column("what", "left", fold=True),
            Column("measured"),
            Column("target"),
            Column("verdict", "center"),
        ],
        [
            [
                "import metalloid, beyond importing NumPy (median)",
                f"{o.import_ms:.1f} ms",
                f"{IMPORT_TARGET_MS:.0f} ms",
                verdict(o.import_ms <= IMPORT_TARGET_MS),
            ],
            ["one tiny dispatch: encode, commit, wait; best (median)", waits, "", ""],
            ["encode one rms_norm(out=)", f"{o.encode_us:.2f} us", "", ""],
        ],
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise BenchError(f"cannot write '{path}': {error.strerror}") from error


def run(
    console: Console,
    *,
    operations: list[str] | None = None,
    peers: bool = True,
    rounds: int = 9,
    threads: int = 2,
    json_file: Path | None = None,
    device: str | None = None,
) -> bool:
    """Runs the benchmark and prints its tables; returns whether every target was met."""
    known = list(dict.fromkeys(case.operation for case in cases()))
    if unknown := set(operations or ()) - set(known):
        raise BenchError(f"no operation named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = [case for case in cases() if not operations or case.operation in operations]
    dev = ml.Device(device)
    about = environment(dev, threads)
    found, missing = find_peers() if peers else ([], [])
    if json_file is not None:  # fail before minutes of work, not after
        _write(json_file, {})

    console.print(f"[bold]{about['machine']}[/]")
    console.print(
        f"{about['device']}, kernels {about['kernel_variant']}, shader compiler {about['shader_compiler']}"
    )
    console.print(", ".join(f"{name} {v}" for name, v in about["versions"].items() if v))
    if about["variables"]:
        console.print(
            ", ".join(f"{name}={value}" for name, value in about["variables"].items()), markup=False
        )
    for note in missing:
        console.print(f"[yellow]Peer not installed:[/] {escape(note)}")
    console.print()

    rows: list[Row] = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(chosen))
        for case in chosen:
            title = f"{case.name} {case.shape} {short_type(case.dtype)}"
            rows.append(
                measure(
                    dev,
                    case,
                    found,
                    rounds=rounds,
                    threads=threads,
                    tell=lambda text, title=title: progress.update(task, description=f"{title}: {text}"),
                )
            )
            dev.empty_cache()
            progress.advance(task)
        progress.update(task, description="overheads")
        overheads = measure_overheads(dev)

    show_targets(console, rows, threads)
    if found:
        show_peers(console, rows, [peer.name for peer in found])
        for row in rows:
            for name, runs in row.peers.items():
                if runs.error:
                    console.print(
                        f"[red]{row.case.name} {row.case.dtype.name}, {name}:[/] {escape(runs.error)}"
                    )
    show_overheads(console, overheads)
    if json_file is not None:
        results = {"rows": [row.as_dict() for row in rows], "overheads": asdict(overheads)}
        _write(json_file, {"environment": about, **results})
    return all(row.met is not False for row in rows) and overheads.import_ms <= IMPORT_TARGET_MS
