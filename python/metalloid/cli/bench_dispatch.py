"""`metalloid bench --suite dispatch`: what a dispatch costs apart from its work, here and elsewhere."""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

import metalloid as ml
from metalloid.cli import machine, tables
from metalloid.cli.bench import BenchError, environment, verdict
from metalloid.cli.tables import Column

SIZE, EPS = 64, 1e-6
BATCH, CHAIN, ALONE, THREADS, THREAD_BATCH = 500, 1000, 100, 8, 5000
COMPILED_CHAIN = 100  # long enough for the cost of the call to be spread, short enough to be compiled soon
TURNS = 20  # of a round
SECONDS = 2.0  # what is slow stops after this long, but not before two runs
NODES = (10, 100, 1000, 3125, 6250, 12_500, 25_000, 50_000, 100_000)
RECORD_SECONDS, GROWTH = 1.0, 1.3
ENCODING, RUNNING = "encode or call", "run"
OURS = "metalloid"

KERNEL = """
#include <metal_stdlib>
using namespace metal;
[[kernel]] void axpy(const device float* x [[buffer(0)]], const device float* b [[buffer(1)]],
                     device float* y [[buffer(2)]], constant float& a [[buffer(3)]],
                     uint i [[thread_position_in_grid]]) {
  y[i] = a * x[i] + b[i];
}
"""


@dataclass
class Row:
    """One line of the table: nanoseconds of one operation."""

    group: str
    who: str
    what: str
    how: str
    target: float | None = None
    values: list[float] = field(default_factory=list)  # of each turn
    best: float | None = None
    error: str | None = None

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        return None if self.target is None or self.median is None else self.median <= self.target

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"median": self.median, "met": self.met}


@dataclass
class Growth:
    """Recording and optimising a graph of so many nodes."""

    nodes: int
    seconds: list[float] = field(default_factory=list)
    # The time of a node over that in the graph before, for each doubling in between.
    per_doubling: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def met(self) -> bool | None:
        if self.per_doubling is None:
            return None
        slow = self.nodes == NODES[-1] and self.median > RECORD_SECONDS
        return self.per_doubling <= GROWTH and not slow

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"best": min(self.seconds), "median": self.median, "met": self.met}


Turn = Callable[[], float]  # nanoseconds of one operation


@dataclass
class Contestant:
    row: Row
    make: Callable[[], Turn]
    turn: Turn | None = None


def _clock(count: int, run: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / count


def _calls(count: int, call: Callable[[], object]) -> Turn:
    """Calls one after another; the loop itself counts, as it does for everyone."""

    def loop() -> None:
        for _ in repeat(None, count):
            call()

    return lambda: _clock(count, loop)


# Ours ----------------------------------------------------------------------------------------------


class Ours:
    """The buffers, and what is done with them."""

    def __init__(self, device: ml.Device) -> None:
        self.device = device
        self.x, self.w = device.array(np.ones((1, SIZE), np.float32)), device.zeros((SIZE,))
        self.b = device.zeros((1, SIZE))
        self.y = device.empty((1, SIZE))
        self.outputs = [device.empty((1, SIZE)) for _ in range(CHAIN)]

    def encode(
        self, *, independent: bool = False, hazards: str = "automatic", count: int = BATCH
    ) -> Callable[[], Turn]:
        """rms_norm(out=) into an open command buffer, which is thrown away."""
        outputs = self.outputs[:count] if independent else [self.y] * count

        def turn() -> float:
            rms_norm, x, w = ml.ops.rms_norm, self.x, self.w
            cmd = self.device.commands(hazards=hazards)

            def loop() -> None:
                for out in outputs:
                    rms_norm(cmd, x, w, out=out)

            return _clock(count, loop)

        return lambda: turn

    def encode_from_pool(self) -> Turn:
        rms_norm, x, w = ml.ops.rms_norm, self.x, self.w

        def turn() -> float:
            cmd = self.device.commands()
            return _calls(BATCH, lambda: rms_norm(cmd, x, w))()

        return turn

    def encode_kernel(self) -> Turn:
        kernel = self.device.compile(KERNEL, simd_width="any").kernel("axpy")
        arguments = [self.x, self.b, self.y, 2.0]

        def turn() -> float:
            dispatch = self.device.commands().dispatch

            def loop() -> None:
                for _ in repeat(None, BATCH):
                    dispatch(kernel, threads=SIZE, threadgroup=SIZE, args=arguments)

            return _clock(BATCH, loop)

        return turn

    def encode_by_threads(self) -> Turn:
        x, w = self.x, self.w

        def turn() -> float:
            start, end = threading.Barrier(THREADS + 1), threading.Barrier(THREADS + 1)

            def work(out: ml.Buffer) -> None:
                cmd, rms_norm = self.device.commands(), ml.ops.rms_norm
                start.wait()
                for _ in repeat(None, THREAD_BATCH):
                    rms_norm(cmd, x, w, out=out)
                end.wait()

            threads = [threading.Thread(target=work, args=(self.outputs[i],)) for i in range(THREADS)]
            for thread in threads:
                thread.start()
            start.wait()
            taken = _clock(THREADS * THREAD_BATCH, end.wait)
            for thread in threads:
                thread.join()
            return taken

        return turn

    def run_alone(self) -> Turn:
        rms_norm, x, w, y = ml.ops.rms_norm, self.x, self.w, self.y

        def tiny() -> None:
            cmd = self.device.commands()
            rms_norm(cmd, x, w, out=y)
            cmd.commit_and_wait()

        return _calls(ALONE, tiny)

    def run_many(self, independent: bool) -> Turn:
        outputs = self.outputs[:CHAIN] if independent else [self.y] * CHAIN

        def batch() -> None:
            add, x, b = ml.ops.add, self.y if not independent else self.x, self.b
            cmd = self.device.commands()
            for out in outputs:
                add(cmd, x, b, out=out)
            cmd.commit_and_wait()

        return lambda: _clock(CHAIN, batch)

    def chain(self, optimized: bool) -> ml.Graph:
        """Sums that each need the one before, with results that nobody else keeps."""
        with self.device.record() as graph:
            h = self.x
            for _ in range(CHAIN - 1):
                h = ml.ops.add(graph, h, self.b)
            ml.ops.add(graph, h, self.b, out=self.y)
        del h
        if optimized:
            graph.optimize()
        graph.run()
        if len(graph) != CHAIN:
            raise BenchError(f"the graph has {len(graph)} nodes, needs {CHAIN}")
        return graph

    def replay_host(self, optimized: bool) -> Turn:
        graph = self.chain(optimized)

        def turn() -> float:
            start = time.perf_counter_ns()
            cmd = self.device.commands()
            graph.encode(cmd)
            cmd.commit()
            taken = time.perf_counter_ns() - start
            cmd.wait()
            return taken / CHAIN

        return turn

    def replay(self, optimized: bool) -> Turn:
        graph = self.chain(optimized)
        return lambda: _clock(CHAIN, graph.run)

    def record_and_optimize(self, nodes: int) -> float:
        """Seconds. Layers of three nodes, so that every pass has something to do."""
        ops, x, w, b, y = ml.ops, self.x, self.w, self.b, self.y
        start = time.perf_counter_ns()
        with self.device.record() as graph:
            h = x
            for _ in range((nodes - 1) // 3):
                h = ops.add(graph, h, ops.mul(graph, ops.rms_norm(graph, h, w), b))
            for _ in range((nodes - 1) % 3):
                h = ops.add(graph, h, b)
            ops.add(graph, h, b, out=y)
        del h
        graph.optimize()
        taken = time.perf_counter_ns() - start
        if len(graph) < nodes * 2 // 3:  # two of three are left
            raise BenchError(f"optimising left {len(graph)} of {nodes} nodes")
        return 1e-9 * taken


def our_contestants(ours: Ours) -> Iterator[Contestant]:
    def one(group: str, what: str, make: Callable[[], Turn], how: str, target: float | None = None):
        return Contestant(Row(group, OURS, what, how, target), make)

    encoded = f"{BATCH} into one command buffer, which is then dropped"
    yield one(ENCODING, "rms_norm(out=)", ours.encode(), f"{encoded}; each needs the one before", 300)
    yield one(
        ENCODING, "rms_norm, from the pool", ours.encode_from_pool, f"{encoded}; every result is dropped"
    )
    yield one(ENCODING, "own kernel, 4 arguments", ours.encode_kernel, f"{encoded}; 3 buffers, 1 float", 500)
    yield one(
        ENCODING,
        "rms_norm(out=), hazards automatic",
        ours.encode(independent=True),
        f"{encoded}; {BATCH} outputs",
    )
    yield one(
        ENCODING,
        "rms_norm(out=), hazards manual",
        ours.encode(independent=True, hazards="manual"),
        f"{encoded}; {BATCH} outputs",
    )
    yield one(
        ENCODING,
        f"rms_norm(out=), {THREADS} threads at once",
        ours.encode_by_threads,
        f"wall time over {THREADS} x {THREAD_BATCH}; each thread has an encoder, all share the GIL",
    )
    yield one(RUNNING, "one dispatch", ours.run_alone, "encode rms_norm(out=), commit and wait, alone", 3000)
    for name, independent in (("dependent", False), ("independent", True)):
        yield one(
            RUNNING,
            f"{CHAIN} {name} add(out=)",
            lambda independent=independent: ours.run_many(independent),
            "encode into one command buffer, commit and wait, over their number",
        )
    for name, optimized in (("", False), (", optimised", True)):
        yield one(
            ENCODING,
            f"graph of {CHAIN} add{name}, replayed",
            lambda optimized=optimized: ours.replay_host(optimized),
            "Graph.encode() and commit, without the wait, over the nodes",
            30,
        )
        yield one(
            RUNNING,
            f"graph of {CHAIN} add{name}",
            lambda optimized=optimized: ours.replay(optimized),
            "Graph.run(), over the nodes; each needs the one before",
        )


def hazard_share(rows: list[Row]) -> Row:
    """What automatic hazards add, from turns that followed each other."""
    by_name = {row.what: row for row in rows if row.who == OURS}
    automatic = by_name["rms_norm(out=), hazards automatic"]
    manual = by_name["rms_norm(out=), hazards manual"]
    return Row(
        ENCODING,
        OURS,
        "hazard tracking in rms_norm(out=)",
        "the difference of the two, turn by turn; no dispatch needs another",
        60,
        [a - m for a, m in zip(automatic.values, manual.values, strict=True)],
        automatic.best - manual.best,
    )


# Peers ---------------------------------------------------------------------------------------------


def numpy_contestants() -> Iterator[Contestant]:
    x, b, y = (np.ones((1, SIZE), np.float32) for _ in range(3))
    yield Contestant(
        Row(ENCODING, "numpy", "add(out=), work included", f"{BATCH} calls"),
        lambda: _calls(BATCH, lambda: np.add(x, b, out=y)),
    )
    yield Contestant(
        Row(RUNNING, "numpy", f"{CHAIN} dependent add(out=)", "calls one after another"),
        lambda: _calls(CHAIN, lambda: np.add(y, b, out=y)),
    )


def torch_contestants() -> Iterator[Contestant]:
    # torch.compile would start a pool of compiler processes.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch = importlib.import_module("torch")
    functional = torch.nn.functional
    x, b, y = (torch.ones(1, SIZE) for _ in range(3))
    w = torch.ones(SIZE)

    def without_grad(turn: Turn) -> Turn:
        def inside() -> float:
            with torch.inference_mode():
                return turn()

        return inside

    def compiled() -> Turn:
        def chain(x, b):
            for _ in range(COMPILED_CHAIN):
                x = x + b
            return x

        torch._dynamo.reset()
        fast = torch.compile(chain, dynamic=False)

        def several() -> None:
            for _ in repeat(None, CHAIN // COMPILED_CHAIN):
                fast(x, b)

        turn = without_grad(lambda: _clock(CHAIN, several))
        turn()
        return turn

    mode = "under inference_mode"
    yield Contestant(
        Row(ENCODING, "torch", "add(out=), work included", f"{BATCH} calls {mode}"),
        lambda: without_grad(_calls(BATCH, lambda: torch.add(x, b, out=y))),
    )
    yield Contestant(
        Row(ENCODING, "torch", "F.rms_norm, work included", f"{BATCH} calls {mode}"),
        lambda: without_grad(_calls(BATCH, lambda: functional.rms_norm(x, (SIZE,), w, EPS))),
    )
    yield Contestant(
        Row(RUNNING, "torch", f"{CHAIN} dependent add(out=)", f"calls one after another {mode}"),
        lambda: without_grad(_calls(CHAIN, lambda: torch.add(y, b, out=y))),
    )
    yield Contestant(
        Row(
            RUNNING,
            "torch.compile",
            f"chain of {COMPILED_CHAIN} add, fused",
            "call over its adds, which are one kernel",
        ),
        compiled,
    )


def mlx_contestants() -> Iterator[Contestant]:
    mx = importlib.import_module("mlx.core")
    x, b, w = mx.ones((1, SIZE)), mx.ones((1, SIZE)), mx.ones((SIZE,))
    mx.eval(x, b, w)

    def built(x, b):
        for _ in repeat(None, CHAIN):
            x = mx.add(x, b)
        return x

    def compiled() -> Turn:
        def chain(x, b):
            for _ in range(COMPILED_CHAIN):
                x = mx.add(x, b)
            return x

        fast = mx.compile(chain)

        def several() -> None:
            for _ in repeat(None, CHAIN // COMPILED_CHAIN):
                mx.eval(fast(x, b))

        several()
        return lambda: _clock(CHAIN, several)

    lazy = f"{BATCH} calls that build only; every result is dropped"
    yield Contestant(Row(ENCODING, "mlx", "add, lazy", lazy), lambda: _calls(BATCH, lambda: mx.add(x, b)))
    yield Contestant(
        Row(ENCODING, "mlx", "fast.rms_norm, lazy", lazy),
        lambda: _calls(BATCH, lambda: mx.fast.rms_norm(x, w, EPS)),
    )
    yield Contestant(
        Row(RUNNING, "mlx", "one add", "build and eval, alone"),
        lambda: _calls(ALONE, lambda: mx.eval(mx.add(x, b))),
    )
    yield Contestant(
        Row(RUNNING, "mlx", "one fast.rms_norm", "build and eval, alone"),
        lambda: _calls(ALONE, lambda: mx.eval(mx.fast.rms_norm(x, w, EPS))),
    )
    yield Contestant(
        Row(RUNNING, "mlx", f"{CHAIN} dependent add", "build and one eval, over their number"),
        lambda: lambda: _clock(CHAIN, lambda: mx.eval(built(x, b))),
    )
    yield Contestant(
        Row(
            RUNNING,
            "mx.compile",
            f"chain of {COMPILED_CHAIN} add, fused",
            "call and eval over its adds, fused as far as MLX does",
        ),
        compiled,
    )


def peer_contestants() -> tuple[list[Contestant], list[str]]:
    """Those that are installed, and the names of the others with the reason."""
    found: list[Contestant] = []
    missing: list[str] = []
    for library, make in (
        ("numpy", numpy_contestants),
        ("torch", torch_contestants),
        ("mlx", mlx_contestants),
    ):
        try:
            found += make()
        except ImportError as error:
            missing.append(f"{library} ({error})")
    return found, missing


# Measuring -----------------------------------------------------------------------------------------


def _prepare(contestant: Contestant) -> None:
    """Sets up and warms up. What goes wrong with somebody else's library does not end the benchmark, nor does
    a machine without a compiler."""
    try:
        turn = contestant.make()
        turn()
    except Exception as error:
        if contestant.row.who == OURS and not isinstance(error, ml.CompileError):
            raise
        contestant.row.error = (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0]
    else:
        contestant.turn = turn


def take_turns(
    contestants: list[Contestant], turns: int, tell: Callable[[str], None] = lambda text: None
) -> list[Row]:
    for contestant in contestants:
        tell(f"preparing {contestant.row.who} {contestant.row.what}")
        _prepare(contestant)
    spent = [0.0] * len(contestants)
    for turn in range(turns):
        tell(f"turn {turn + 1} of {turns}")
        for i, contestant in enumerate(contestants):
            if contestant.turn is None or (turn >= 2 and spent[i] > SECONDS):
                continue
            start = time.perf_counter()
            contestant.turn()  # what the one before left in the caches is not its own doing
            contestant.row.values.append(contestant.turn())
            spent[i] += time.perf_counter() - start
    for contestant in contestants:
        contestant.row.best = min(contestant.row.values, default=None)
    return [contestant.row for contestant in contestants]


def time_growth(turns: int, device: str | None) -> list[list[float]]:
    """Seconds for each of NODES. The small ones come first: a heap that a large graph has left is slower."""
    ours = Ours(ml.Device(device))
    gc.disable()
    ours.record_and_optimize(NODES[2])
    every = []
    for nodes in NODES:
        times = max(1, 1000 // nodes)
        every.append(
            [statistics.fmean(ours.record_and_optimize(nodes) for _ in range(times)) for _ in range(turns)]
        )
    return every


def measure_growth(turns: int, device: str | None) -> list[Growth]:
    """In a process of its own, whose heap is as it would be in a program that does this alone."""
    code = (
        "import json; from metalloid.cli.bench_dispatch import time_growth; "
        f"print(json.dumps(time_growth({turns}, {device!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"recording and optimising graphs failed:\n{done.stderr.rstrip()}")
    sizes = [Growth(nodes, seconds) for nodes, seconds in zip(NODES, json.loads(done.stdout), strict=True)]
    for before, size in pairwise(sizes):
        ratio = (size.median / size.nodes) / (before.median / before.nodes)
        size.per_doubling = ratio ** (1 / math.log2(size.nodes / before.nodes))
    return sizes


def run(
    console: Console,
    *,
    peers: bool = True,
    rounds: int = 9,
    json_file: Path | None = None,
    picture: Path | None = None,
    device: str | None = None,
) -> bool:
    """Measures, prints the tables and returns whether every target was met."""
    opened = ml.Device(device)
    console.print(f"[bold]{machine.describe()}[/]")
    ours = Ours(opened)
    others, missing = peer_contestants() if peers else ([], [])
    if missing:
        console.print(f"[dim]not compared with {escape(', '.join(missing))}[/]")
    collects = gc.isenabled()
    gc.disable()  # it would strike whoever's turn it is
    try:
        with console.status("preparing") as status:
            rows = take_turns([*our_contestants(ours), *others], TURNS * rounds, status.update)
            status.update("recording and optimising graphs")
            growth = measure_growth(min(rounds, 5), device)
    finally:
        if collects:
            gc.enable()
    share = hazard_share(rows)
    rows.insert(1 + next(i for i, row in enumerate(rows) if row.what.endswith("hazards manual")), share)
    rows.sort(key=lambda row: row.group != ENCODING)
    show(console, rows, growth)
    about = environment(opened, 1)
    del about["memcpy_threads"]
    results = {
        "environment": about,
        "rows": [row.as_dict() for row in rows],
        "growth": [size.as_dict() for size in growth],
    }
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(results, indent=1) + "\n")
        except OSError as error:
            raise BenchError(f"cannot write '{json_file}': {error.strerror}") from error
    if picture is not None:
        from metalloid.cli.picture import draw_dispatch

        try:
            draw_dispatch(picture, results)
        except OSError as error:
            raise BenchError(f"cannot write '{picture}': {error.strerror}") from error
    return all(each.met is not False for each in (*rows, *growth))


def show(console: Console, rows: list[Row], growth: list[Growth]) -> None:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.0f}"

    for group in (ENCODING, RUNNING):
        tables.show(
            console,
            f"Nanoseconds to {group} one operation on {SIZE} elements",
            [
                Column("library", "left"),
                Column("what", "left", fold=True),
                Column("best"),
                Column("median", style="bold"),
                Column("target"),
                Column("verdict", "center"),
                Column("how it is measured", "left", fold=True),
            ],
            [
                [
                    row.who,
                    row.what,
                    number(row.best),
                    number(row.median),
                    number(row.target),
                    verdict(row.met),
                    f"[red]failed:[/] {escape(row.error)}" if row.error else row.how,
                ]
                for row in rows
                if row.group == group
            ],
        )
    tables.show(
        console,
        "Recording and optimising a graph",
        [
            Column("nodes"),
            Column("best"),
            Column("median", style="bold"),
            Column("a node"),
            Column("growth"),
            Column("target"),
            Column("verdict", "center"),
        ],
        [
            [
                f"{size.nodes}",
                f"{1e3 * min(size.seconds):.2f} ms",
                f"{1e3 * size.median:.2f} ms",
                f"{1e9 * size.median / size.nodes:.0f} ns",
                "" if size.per_doubling is None else f"{size.per_doubling:.2f}",
                ""
                if size.per_doubling is None
                else f"{GROWTH}" + (f", {RECORD_SECONDS:g} s" if size.nodes == NODES[-1] else ""),
                verdict(size.met),
            ]
            for size in growth
        ],
        caption=(
            "Everything above runs in one process and takes turns. A number is the mean of a turn's calls, "
            "after as many that do not count; best and median are over the turns, and verdicts go by the "
            "median. A Python loop around each call is included. The graphs are layers of rms_norm, mul and "
            "add, with results from the pool. Growth is the time of a node over that in the graph before, "
            "for each doubling in between: 1 is linear."
        ),
    )
