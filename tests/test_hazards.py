"""Where automatic hazards put barriers: exactly between dispatches that touch the same memory."""

from __future__ import annotations

import metalloid as ml
import numpy as np
import pytest

SOURCE = """
#include <metal_stdlib>
using namespace metal;
kernel void copy(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
  y[i] = x[i];
}
kernel void add_one(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] += 1; }
// Both may be written as far as their types tell.
kernel void copy_mutable(device float* x [[buffer(0)]], device float* y [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
  y[i] = x[i];
}
"""
N = 1000


@pytest.fixture(scope="module")
def kernels(dev):
    library = dev.compile(SOURCE)
    return {name: library.kernel(name) for name in ("copy", "add_one", "copy_mutable")}


@pytest.fixture
def memory(dev):
    """Four buffers, and views of the first: its halves, its middle and all of it as something else."""
    buffers = {name: dev.array(np.full(N, i, np.float32)) for i, name in enumerate("abcd")}
    a = buffers["a"]
    views = {"low": a[: N // 2], "high": a[N // 2 :], "middle": a[N // 4 : 3 * N // 4]}
    return buffers | views | {"row": a.reshape(10, 100)[3], "edge": a[N // 2 - 1 :]}


# Copies from one buffer to another, in order, and the conflicts of each step that had any.
SEQUENCES = {
    "read after write": (["a>b", "b>c"], {1: 1}),
    "write after read": (["a>b", "c>a"], {1: 1}),
    "write after write": (["a>b", "c>b"], {1: 1}),
    "read after read": (["a>b", "a>c", "a>d"], {}),
    "nothing in common": (["a>b", "c>d"], {}),
    "two at once": (["a>b", "b>a"], {1: 2}),
    "a chain": (["a>b", "b>c", "c>d"], {1: 1, 2: 1}),
    "a barrier settles all before it": (["a>b", "a>c", "b>d", "a>c"], {2: 1}),
    "but nothing after it": (["a>b", "b>c", "c>d", "a>b"], {1: 1, 2: 1}),
    "reads gather": (["a>b", "a>c", "d>a"], {2: 1}),
    "halves": (["b>low", "c>high"], {}),
    "half and half read": (["low>b", "b>low"], {1: 2}),
    "half written, other read": (["b>low", "high>c"], {}),
    "a whole over its half": (["b>low", "a>c"], {1: 1}),
    "a half of a whole": (["b>a", "high>c"], {1: 1}),
    "overlapping views": (["b>low", "c>middle"], {1: 1}),
    "by one element": (["b>low", "edge>c"], {1: 1}),
    "a row of another shape": (["b>low", "row>c"], {1: 1}),
    "a row that was not touched": (["b>high", "row>c"], {}),
}


def run_sequence(dev, memory, kernel, steps, **options):
    """The conflicts of each step that had any."""
    found = {}
    cmd = dev.commands(**options)
    for i, step in enumerate(steps):
        source, target = (memory[name] for name in step.split(">"))
        n = min(source.size, target.size)
        conflicts, barriers = cmd.conflict_count, cmd.barrier_count
        cmd.dispatch(kernel, threads=n, threadgroup=64, args=[source, target])
        if cmd.conflict_count > conflicts:
            found[i] = cmd.conflict_count - conflicts
        assert cmd.barrier_count - barriers == (i in found)
    if options.get("hazards") != "manual":  # a checked device would tell that barriers are missing
        cmd.commit_and_wait()
    return found


@pytest.mark.parametrize("name", SEQUENCES)
def test_barriers_go_where_memory_is_shared(dev, memory, kernels, name):
    steps, expected = SEQUENCES[name]
    assert run_sequence(dev, memory, kernels["copy"], steps) == expected


@pytest.mark.parametrize("options", [{"hazards": "manual"}, {"concurrent": False}], ids=["manual", "serial"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_no_barriers_where_none_are_asked_for(dev, memory, kernels, name, options):
    assert run_sequence(dev, memory, kernels["copy"], SEQUENCES[name][0], **options) == {}


def test_a_barrier_by_hand_settles_what_came_before(dev, memory, kernels):
    with dev.commands() as cmd:
        for source, target in ("ab", "bc"):
            cmd.dispatch(kernels["copy"], threads=N, threadgroup=64, args=[memory[source], memory[target]])
            cmd.barrier()
    assert (cmd.barrier_count, cmd.conflict_count) == (2, 0)


def test_an_event_settles_what_came_before(dev, memory, kernels):
    event = dev.event()
    with dev.commands() as cmd:
        for value, (source, target) in enumerate(("ab", "bc", "cd"), 1):
            cmd.dispatch(kernels["copy"], threads=N, threadgroup=64, args=[memory[source], memory[target]])
            cmd.signal(event, value)
    assert (cmd.barrier_count, cmd.conflict_count) == (0, 0)
    assert (memory["d"].numpy() == 0).all()


def test_what_a_kernel_may_write_counts_as_written(dev, memory, kernels):
    """Reflection tells that both pointers of this kernel are mutable: reads conflict with reads."""
    assert run_sequence(dev, memory, kernels["copy_mutable"], ["a>b", "a>c"]) == {1: 1}
    assert run_sequence(dev, memory, kernels["copy_mutable"], ["a>b", "c>d"]) == {}


def test_reads_and_writes_say_it_better(dev, memory, kernels):
    a, b, c = (memory[name] for name in "abc")
    kernel = kernels["copy_mutable"]

    def conflicts(*declared):
        with dev.commands() as cmd:
            for (source, target), options in zip(((a, b), (a, c)), declared, strict=True):
                cmd.dispatch(kernel, threads=N, threadgroup=64, args=[source, target], **options)
        return cmd.conflict_count

    assert conflicts({"reads": [a], "writes": [b]}, {"reads": [a], "writes": [c]}) == 0
    assert conflicts({"writes": [b]}, {"writes": [c]}) == 0
    assert conflicts({}, {"writes": [c]}) == 1
    assert conflicts({"reads": [a], "writes": [b]}, {"reads": [a, b], "writes": [c]}) == 1
    assert conflicts({"reads": [a], "writes": [b, a]}, {"reads": [a], "writes": [c]}) == 1


def test_a_chain_in_place_runs_in_order(dev, kernels):
    x = dev.zeros(100_000)
    with dev.commands() as cmd:
        for _ in range(200):
            cmd.dispatch(kernels["add_one"], threads=x.size, threadgroup=64, args=[x])
    assert cmd.barrier_count == cmd.conflict_count == 199
    assert (x.numpy() == 200).all()


def test_operations_are_ordered_too(dev, rng):
    x = dev.array(rng.standard_normal((64, 256), np.float32))
    with dev.commands() as cmd:
        y = ml.ops.rms_norm(cmd, x)
        ml.ops.rms_norm(cmd, x)
        assert (cmd.barrier_count, cmd.conflict_count) == (0, 0)
        ml.ops.rms_norm(cmd, y)
        assert (cmd.barrier_count, cmd.conflict_count) == (1, 1)
        ml.ops.rms_norm(cmd, x, out=x)
        assert (cmd.barrier_count, cmd.conflict_count) == (1, 1)
        ml.ops.rms_norm(cmd, x)
        assert (cmd.barrier_count, cmd.conflict_count) == (2, 2)
