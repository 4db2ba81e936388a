"""Random programs give the same bits run at once, as a graph, and through every pass.

A model runs the same steps one after the other, on memory of its own and as often as the graph does. Where a
graph has fused two dispatches, the model encodes the fused operation in their place: the graph must match it
bit for bit, and that operation must match float64 to one rounding of the type, which bounds what
fusion changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools

import metalloid as ml
import numpy as np
import pytest
from conftest import SEED
from metalloid import reference
from support import BF16, F16, F32, FLOATS, assert_close, bits, needs_compiler, open_device
from test_ops import fused_error, norm_error

pytestmark = needs_compiler

HEADS, DIM = 2, 16
TOKEN = HEADS * DIM  # elements; memory is used in whole tokens
MOST = 6  # tokens of a buffer

SOURCE = """#include <metal_stdlib>
using namespace metal;
kernel void blend(device const T* x [[buffer(0)]], device T* y [[buffer(1)]],
                  constant float& shift [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = T(float(x[i]) * 0.5f + shift);
}
kernel void gather(device const T* x [[buffer(0)]], device T* y [[buffer(1)]],
                   uint i [[thread_position_in_grid]]) { y[i] = T(float(y[i]) * 0.5f + float(x[i]) * 0.25f); }
"""
METAL_TYPES = {F32: "float", F16: "half", BF16: "bfloat"}
OPERATIONS = (
    *("rms_norm", "rms_norm", "rms_norm", "rms_norm_mul", "fused_head_norm_rope", "rope_neox"),
    *("vision_2d_rope", "add", "mul", "silu_mul", "gelu_mul", "blend"),
)
PASSES = ("remove_dead", "fuse", "reorder", "plan_memory")


@pytest.fixture(scope="module")
def simt() -> ml.Device:
    return open_device("simt")


@pytest.fixture(scope="module")
def kernels():
    made = {}

    def get(device, dtype, name):
        key = device.name, dtype
        if key not in made:
            made[key] = device.compile(SOURCE, macros={"T": METAL_TYPES[dtype]}, fast_math=False)
        return made[key].kernel(name)

    return get


@dataclasses.dataclass(frozen=True)
class Ref:
    """Tokens of a buffer."""

    buffer: int
    start: int
    count: int

    def within(self, other: Ref) -> bool:
        same = self.buffer == other.buffer
        return same and other.start <= self.start and self.start + self.count <= other.start + other.count

    def meets(self, other: Ref) -> bool:
        same = self.buffer == other.buffer
        return same and self.start < other.start + other.count and other.start < self.start + self.count


@dataclasses.dataclass
class Step:
    op: str
    inputs: list[Ref]
    out: Ref
    makes: bool = False  # out is new memory, made by the operation
    weight: Ref | None = None  # its first elements
    by_head: bool = False
    eps: float = 1e-5
    shift: float = 0.25
    cached: bool = False
    group: str = ""
    barrier: bool = False

    @property
    def refs(self) -> list[Ref]:
        return [*self.inputs, self.out, *([self.weight] if self.weight else [])]


class Program:
    """Steps over numbered buffers; those before `given` exist before it."""

    def __init__(self, rng: np.random.Generator, length: int) -> None:
        self.dtype = FLOATS[rng.integers(3)]
        self.given = int(rng.integers(2, 5))
        self.sizes = [int(rng.integers(2, MOST + 1)) for _ in range(self.given)]
        self.initial = [self.data(rng, size) for size in self.sizes]
        self.steps: list[Step] = []
        self.rng = rng
        declared = 0.3 if rng.random() < 0.5 else 0.0
        for _ in range(length):
            self.add(declared)
        # Who keeps what: the others belong to nobody but the graph.
        keep = rng.choice((0.1, 0.4))
        self.kept = {i for i in range(len(self.sizes)) if rng.random() < keep or (i < self.given and i < 2)}
        self.kept.add(self.steps[-1].out.buffer)

    def data(self, rng, tokens):
        return rng.uniform(-1, 1, tokens * TOKEN).astype(self.dtype)

    def some(self, count: int | None = None) -> Ref:
        rng = self.rng
        # Late buffers more often than early ones.
        buffers = [i for i, size in enumerate(self.sizes) if size >= (count or 1)]
        buffer = buffers[max(rng.integers(len(buffers)), rng.integers(len(buffers)))]
        if count is None:
            count = self.sizes[buffer] if rng.random() < 0.6 else int(rng.integers(1, self.sizes[buffer] + 1))
        return Ref(buffer, int(rng.integers(0, self.sizes[buffer] - count + 1)), count)

    def add(self, undeclared: float) -> None:
        rng = self.rng
        last = self.steps[-1] if self.steps else None
        follow = last and last.op == "rms_norm" and last.makes and rng.random() < 0.7
        if follow:
            first, op = last.out, str(rng.choice(("mul", "rope_neox")))
        else:
            first = self.some()
            op = str(rng.choice(OPERATIONS))
            if rng.random() < undeclared:
                op = "gather"
        inputs = [first]
        if op in ("rms_norm_mul", "add", "mul", "silu_mul", "gelu_mul"):
            inputs.append(self.some(first.count))
            if op in ("add", "mul") and rng.random() < 0.5:
                inputs.reverse()
        step = Step(op, inputs, first)
        step.by_head = bool(rng.random() < 0.5)
        step.cached = bool(rng.random() < 0.5)
        step.group = str(rng.choice(("", "a", "b")))
        step.barrier = bool(rng.random() < 0.05)
        if op == "rms_norm_mul" or (op in ("rms_norm", "fused_head_norm_rope") and rng.random() < 0.8):
            step.weight = dataclasses.replace(self.some(1), count=1)
        where = rng.random()
        taken = [*inputs, *([step.weight] if step.weight else [])]
        if op != "gather" and where < 0.55:
            step.makes = True
            self.sizes.append(first.count)
            step.out = Ref(len(self.sizes) - 1, 0, first.count)
        else:
            for _ in range(20):
                out = inputs[int(rng.integers(len(inputs)))] if where < 0.75 else self.some(first.count)
                alias = op not in ("blend", "gather") and out in inputs
                if not any(
                    out.meets(ref) for ref in taken if not (alias and ref == out and ref is not step.weight)
                ):
                    step.out = out
                    break
                where = 1.0
            else:
                step.makes, step.op = True, op if op != "gather" else "blend"
                self.sizes.append(first.count)
                step.out = Ref(len(self.sizes) - 1, 0, first.count)
        self.steps.append(step)


class Machine:
    """Encodes steps on one device, with buffers of one's own."""

    def __init__(self, device, kernels, program: Program) -> None:
        self.device, self.program, self.kernels = device, program, kernels
        self.buffers = {i: device.array(a) for i, a in enumerate(program.initial)}
        self.places: dict[
            Ref, tuple[ml.Buffer, int]
        ] = {}  # what is bound elsewhere, and the token it begins at
        self.positions = device.array(np.arange(3, 3 + MOST, dtype=np.int32))
        angles = np.linspace(0.1, 2, DIM // 2)
        self.cos, self.sin = (device.array(f(angles).astype(np.float32)) for f in (np.cos, np.sin))

    def view(self, ref: Ref, shape) -> ml.Buffer:
        buffer, begin = self.buffers.get(ref.buffer), ref.start
        for region, (elsewhere, start) in self.places.items():
            if ref.within(region):
                buffer, begin = elsewhere, start + ref.start - region.start
        return buffer[begin * TOKEN : (begin + ref.count) * TOKEN].reshape(shape)

    def shape(self, step: Step):
        count = step.inputs[0].count
        if step.op in ("rope_neox", "vision_2d_rope", "fused_head_norm_rope"):
            return (count, HEADS, DIM)
        if step.op in ("rms_norm", "rms_norm_mul"):
            return (count * HEADS, DIM) if step.by_head else (count, TOKEN)
        return (count * TOKEN,)

    def turn(self, step: Step, count: int):
        return {"cos": self.cos, "sin": self.sin} if step.cached else {"positions": self.positions[:count]}

    def encode(self, cmd, step: Step, label: str, first: Step | None = None) -> None:
        """first: the norm that is one with this step."""
        shape = self.shape(first) if first and step.op == "mul" else self.shape(step)
        weight = (first or step).weight
        if weight:
            by_head = step.op in ("rope_neox", "fused_head_norm_rope") or (first or step).by_head
            weight = self.view(weight, (TOKEN,))[: DIM if by_head else TOKEN]
        new = step.makes and step.out.buffer not in self.buffers
        inputs = [self.view(ref, shape) for ref in step.inputs]
        count = step.inputs[0].count
        if step.op in ("blend", "gather"):
            if new:
                self.buffers[step.out.buffer] = self.device.empty(shape, self.program.dtype)
            out = self.view(step.out, shape)
            kernel = self.kernels(self.device, self.program.dtype, step.op)
            arguments = [*inputs, out, *([step.shift] if step.op == "blend" else [])]
            more = {"reads": inputs, "writes": [out]} if step.op == "blend" else {}
            cmd.dispatch(kernel, threads=out.size, threadgroup=TOKEN, args=arguments, label=label, **more)
            return
        options = {} if new else {"out": self.view(step.out, shape)}
        if first and step.op == "mul":
            scale = next(ref for ref in step.inputs if ref != first.out)
            x = self.view(first.inputs[0], shape)
            made = ml.ops.rms_norm_mul(cmd, x, weight, self.view(scale, shape), eps=first.eps, **options)
        elif first:
            x = self.view(first.inputs[0], shape)
            made = ml.ops.fused_head_norm_rope(
                cmd, x, weight=weight, eps=first.eps, **self.turn(step, count), **options
            )
        elif step.op == "rms_norm":
            made = ml.ops.rms_norm(cmd, *inputs, weight, eps=step.eps, **options)
        elif step.op == "rms_norm_mul":
            made = ml.ops.rms_norm_mul(cmd, inputs[0], weight, inputs[1], eps=step.eps, **options)
        elif step.op == "fused_head_norm_rope":
            options |= self.turn(step, count)
            made = ml.ops.fused_head_norm_rope(cmd, *inputs, weight=weight, eps=step.eps, **options)
        elif step.op == "rope_neox":
            made = ml.ops.rope_neox(cmd, *inputs, **self.turn(step, count), **options)
        elif step.op == "vision_2d_rope":
            at = self.positions[:count]
            made = ml.ops.vision_2d_rope(cmd, *inputs, at, at, **options)
        else:
            made = getattr(ml.ops, step.op)(cmd, *inputs, **options)
        if new:
            self.buffers[step.out.buffer] = made.reshape((-1,))

    def record(self) -> ml.Graph:
        with self.device.record() as graph:
            for i, step in enumerate(self.program.steps):
                if step.barrier:
                    graph.barrier()
                with graph.group(step.group) if step.group else contextlib.nullcontext():
                    self.encode(graph, step, f"step {i}")
        return graph

    def run(self, live: set[int], fused: dict[int, int], *, check: bool = False) -> None:
        """Every live step by itself, in order. fused: consumers and the producers that are one with them.

        What is dead may write over what a producer reads, which then runs later.
        """
        producers = set(fused.values())
        read = {}
        cmd = self.device.commands(concurrent=False)
        for i, step in enumerate(self.program.steps):
            if i in producers and check:
                # It runs later than it was recorded, when what it reads has to be the same.
                cmd.commit_and_wait()
                cmd = self.device.commands(concurrent=False)
                consumer = next(c for c, producer in fused.items() if producer == i)
                read[i] = self.inputs_of(self.program.steps[consumer], step)
            if i in producers or i not in live:
                continue
            first = self.program.steps[fused[i]] if i in fused else None
            if not (first and check):
                self.encode(cmd, step, "", first)
                continue
            # What comes in, before the step may write over it.
            cmd.commit_and_wait()
            before = self.inputs_of(step, first)
            for name in {"x", "weight"} & set(before):
                earlier = read[fused[i]][name]
                np.testing.assert_array_equal(
                    bits(before[name]), bits(earlier), err_msg=f"{name} of step {fused[i]} changed before {i}"
                )
            cmd = self.device.commands(concurrent=False)
            self.encode(cmd, step, "", first)
            cmd.commit_and_wait()
            self.check(step, first, before)
            cmd = self.device.commands(concurrent=False)
        cmd.commit_and_wait()

    def inputs_of(self, step, first):
        shape = self.shape(first) if step.op == "mul" else self.shape(step)
        arrays = {"x": np.array(self.view(first.inputs[0], shape))}
        if first.weight:
            arrays["weight"] = np.array(self.view(first.weight, (TOKEN,))[: shape[-1]])
        if step.op == "mul":
            scale = next(ref for ref in step.inputs if ref != first.out)
            arrays["scale"] = np.array(self.view(scale, shape))
        else:
            turn = self.turn(step, step.inputs[0].count)
            arrays |= {name: np.array(buffer) for name, buffer in turn.items()}
        return arrays

    def check(self, step, first, arrays):
        # Squares beyond the range of f32 have no bound.
        if not all((np.abs(a.astype(np.float64)) < 1e15).all() for a in arrays.values()):
            return
        got = np.asarray(self.view(step.out, arrays["x"].shape))
        if step.op == "mul":
            expected = reference.rms_norm_mul(**arrays, eps=first.eps)
            error = norm_error(**arrays, eps=first.eps)
        else:
            expected = reference.fused_head_norm_rope(**arrays, eps=first.eps)
            error = fused_error(**arrays, eps=first.eps)
        assert_close(got, expected, error, "a fused operation")


def fused_steps(graph: ml.Graph) -> dict[int, int]:
    pairs = {}
    for node in graph.nodes:
        assert len(node.origins) in (1, 2)
        if len(node.origins) == 2:
            producer, consumer = node.origins
            pairs[consumer] = producer
    return pairs


class Run:
    """One program: the graph and its model, kept in step."""

    def __init__(self, rng, device, kernels, length) -> None:
        self.rng = rng
        self.program = Program(rng, length)
        self.own = Machine(device, kernels, self.program)
        self.model = Machine(device, kernels, self.program)
        self.named: dict[str, Ref] = {}
        self.graph = self.own.record()
        for buffer in [i for i in range(self.program.given) if i in self.program.kept and rng.random() < 0.7]:
            size = self.program.sizes[buffer]
            count = size if rng.random() < 0.5 else int(rng.integers(1, size))
            ref = Ref(buffer, int(rng.integers(0, size - count + 1)), count)
            self.named[f"n{buffer}"] = ref
            self.graph.name(f"n{buffer}", self.own.view(ref, (count * TOKEN,)))
        # All else is dropped here.
        self.own.buffers = {i: b for i, b in self.own.buffers.items() if i in self.program.kept}
        self.finite = self.all = 0

    def reset(self) -> None:
        for machine in (self.own, self.model):
            for i in range(self.program.given):
                if i in machine.buffers and i in self.program.kept:
                    np.asarray(machine.buffers[i])[...] = self.program.initial[i]

    def compare(self, what: str, graph: ml.Graph | None = None, parts: int = 1, check: bool = False) -> None:
        graph = graph or self.graph
        live = {origin for node in graph.nodes for origin in node.origins}
        self.model.run(live, fused_steps(graph), check=check)
        cuts = [0, *sorted(self.rng.integers(0, len(graph) + 1, parts - 1).tolist()), len(graph)]
        cmd = self.model.device.commands()
        for first, last in itertools.pairwise(cuts):
            graph.encode(cmd, first, last)
        cmd.commit_and_wait()
        for i in sorted(self.program.kept):
            got, want = np.asarray(self.own.buffers[i]), np.asarray(self.model.buffers[i])
            self.finite += np.isfinite(want.astype(np.float64)).sum()
            self.all += want.size
            np.testing.assert_array_equal(bits(got), bits(want), err_msg=f"{what}: buffer {i}")
        for (place, _), (wanted, _) in zip(self.own.places.values(), self.model.places.values(), strict=True):
            np.testing.assert_array_equal(
                bits(np.asarray(place)), bits(np.asarray(wanted)), err_msg=f"{what}: what is bound"
            )

    def rebind(self, graph: ml.Graph) -> None:
        """Every name somewhere else, in any order, with what was there before."""
        names = list(self.named)
        self.rng.shuffle(names)
        for name in names:
            ref = self.named[name]
            size = ref.count + int(self.rng.integers(0, 3))
            start = int(self.rng.integers(0, size - ref.count + 1))
            data = self.program.data(self.rng, size)
            for machine in (self.own, self.model):
                machine.places.pop(ref, None)
                machine.places[ref] = machine.device.array(data), start
            graph.rebind(name, self.own.view(ref, (ref.count * TOKEN,)))

    def swap(self, graph: ml.Graph) -> bool:
        """Two names of one size at the same memory, which orders nodes that were independent."""
        pairs = [
            (a, b)
            for a, b in itertools.permutations(self.named, 2)
            if self.named[a].count == self.named[b].count
        ]
        if not pairs:
            return False
        a, b = pairs[self.rng.integers(len(pairs))]
        a, b = self.named[a], self.named[b]
        # A step that has both would read and write the same memory in a way that may not be allowed.
        for step in self.program.steps:
            inside = {region for region in (a, b) for ref in step.refs if ref.meets(region)}
            if len(inside) == 2:
                return False
        for machine in (self.own, self.model):
            machine.places[a] = machine.places[b]
        name = next(name for name, ref in self.named.items() if ref == a)
        graph.rebind(name, self.own.view(a, (a.count * TOKEN,)))
        return True

    def update(self, graph: ml.Graph) -> None:
        for i, step in enumerate(self.program.steps):
            if self.rng.random() < 0.5:
                continue
            if step.op == "blend":
                step.shift = float(self.rng.choice((-0.5, 0.125, 0.75)))
                graph.update(f"step {i}", shift=step.shift)
            elif step.op in ("rms_norm", "rms_norm_mul", "fused_head_norm_rope"):
                step.eps = float(self.rng.choice((1e-3, 0.5)))
                graph.update(i, eps=step.eps)


def check_program(seed, device, kernels, length) -> Run:
    rng = np.random.default_rng(seed)
    run = Run(rng, device, kernels, length)
    graph = run.graph
    run.compare("as recorded")
    run.reset()
    run.compare("as recorded, again", parts=3)
    for on in (*((name,) for name in PASSES), PASSES):
        run.reset()
        copy = graph if rng.random() < 0.7 else graph.clone()
        if copy is not graph:
            # Memory that lives from run to run and belongs to nobody is shared by both.
            assert set(copy.names) == set(run.named)
        more = {} if rng.random() < 0.6 else {"depth": int(rng.integers(1, 8)), "max_live_bytes": 1}
        before = copy.barrier_count
        copy.optimize(**{**dict.fromkeys(PASSES, False), **dict.fromkeys(on, True)}, **more)
        assert (copy.fused_count > 0) <= ("fuse" in on)
        if on == ("reorder",) and not graph.optimized:
            assert copy.barrier_count <= before
        run.compare(f"optimised: {', '.join(on)}", copy, check=True)
        run.reset()
        run.compare(f"optimised: {', '.join(on)}, again", copy, parts=3)
    for i in range(2):
        run.rebind(graph)
        run.compare(f"bound {i}", graph)
        run.update(graph)
        run.compare(f"updated {i}", graph)
    if run.named and run.swap(graph):
        run.compare("two names at one place", graph)
        run.rebind(graph)
        run.compare("two names apart again", graph)
    return run


def check_programs(seeds, device, kernels, length):
    """All of them, so that one seed can be repeated by itself."""
    runs = []
    for seed in seeds:
        try:
            runs.append(check_program(seed, device, kernels, length))
        except BaseException as e:
            e.add_note(f"check_program({seed}, ..., {length})") if hasattr(e, "add_note") else None
            print(f"check_program({seed}, device {device.name}, length {length})")
            raise
    return runs


@pytest.mark.parametrize("length", [3, 8, 20, 50])
def test_random_programs(dev, kernels, length):
    count = {3: 120, 8: 120, 20: 60, 50: 20}[length]
    runs = check_programs([[SEED, length, i] for i in range(count)], dev, kernels, length)
    # NaN compares with NaN, so there had better be few of them.
    finite = sum(run.finite for run in runs) / sum(run.all for run in runs)
    assert finite > 0.8, finite


@pytest.mark.parametrize("length", [4, 12, 24])
def test_random_programs_lack_no_barrier(simt, kernels, length):
    """The checker of this device finds dispatches that touch the same memory and may overlap."""
    count = {4: 12, 12: 10, 24: 4}[length]
    check_programs([[SEED, 1, length, i] for i in range(count)], simt, kernels, length)
