"""Graphs: recording, running in parts, changing what is recorded, and whose memory is whose."""

from __future__ import annotations

import gc
import itertools
import threading
import xml.etree.ElementTree as ElementTree

import metalloid as ml
import numpy as np
import pytest
from support import another_device, bits, needs_compiler, page_aligned, poisoned, slow

SOURCE = """#include <metal_stdlib>
using namespace metal;
kernel void scale(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                  constant float& factor [[buffer(2)]], constant uint& add [[buffer(3)]],
                  uint i [[thread_position_in_grid]]) {
  y[i] = x[i] * factor + float(add);
}
kernel void count(device uint* n [[buffer(0)]], uint i [[thread_position_in_grid]]) { n[i] += 1; }
kernel void both(device const float* x [[buffer(0)]], device const float* more [[buffer(1)]],
                 device float* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = x[i] + more[i];
}
"""

SHAPE = (8, 64)


@pytest.fixture(scope="module")
def library(dev):
    return dev.compile(SOURCE, fast_math=False)


def values(rng, shape=SHAPE, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def assert_same(got, expected, what="result"):
    np.testing.assert_array_equal(bits(np.asarray(got)), bits(np.asarray(expected)), err_msg=what)


def eager(dev, function, *args):
    """What a function of an encoder returns, run at once."""
    with dev.commands() as cmd:
        result = function(cmd, *args)
    return result


def fill(buffer, value=np.nan):
    np.asarray(buffer)[...] = value


def scale(cmd, library, x, y, factor=2.0, add=1, declare=True, **more):
    if declare:
        more.update(reads=[x], writes=[y])
    cmd.dispatch(library.kernel("scale"), threads=x.size, threadgroup=32, args=[x, y, factor, add], **more)
    return y


def layers(cmd, x, weights, count):
    """A chain with what every pass is for: norm and mul to fuse, intermediates to share, and a dead end."""
    for i in range(count):
        normed = ml.ops.rms_norm(cmd, x, weights[i])
        product = ml.ops.mul(cmd, normed, x)
        gate = ml.ops.silu_mul(cmd, x, product)
        other = ml.ops.gelu_mul(cmd, x, x)
        other = ml.ops.add(cmd, ml.ops.add(cmd, other, other), x)
        ml.ops.add(cmd, other, other)
        x = ml.ops.add(cmd, ml.ops.add(cmd, gate, other), x)
    return x


# --- Recording --------------------------------------------------------------------------------------


def test_nothing_runs_while_recording_and_every_run_gives_the_eager_result(dev, rng):
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(4)]
    expected = eager(dev, layers, x, weights, 4)
    with dev.record(label="layers") as graph:
        assert graph.recording
        y = layers(graph, x, weights, 4)
        assert len(graph) == 4 * 9
    assert not graph.recording
    assert graph.label == "layers"
    assert graph.device.name == dev.name
    for _ in range(3):
        fill(y)
        graph.run()
        assert_same(y, expected)
    new = values(rng)
    np.asarray(x)[...] = new
    graph.run()
    assert_same(y, eager(dev, layers, x, weights, 4), "after its input changed")


@pytest.mark.parametrize("name", ["remove_dead", "reorder", "plan_memory"])
def test_each_pass_keeps_the_bits(dev, rng, name):
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(4)]
    expected = eager(dev, layers, x, weights, 4)
    with dev.record() as graph:
        y = layers(graph, x, weights, 4)
    passes = dict.fromkeys(("remove_dead", "fuse", "reorder", "plan_memory"), False)
    barriers, nodes = graph.barrier_count, len(graph)
    assert graph.optimize(**{**passes, name: True}) is graph
    assert graph.optimized
    if name == "remove_dead":
        assert (graph.removed_count, len(graph)) == (4, nodes - 4)
    elif name == "reorder":
        assert (graph.removed_count, len(graph)) == (0, nodes)
        assert graph.barrier_count < barriers
    else:
        # The last sum is kept, all else is the graph's own; two waves at least are live at any time.
        assert graph.memory.buffers == nodes - 1
        assert graph.memory.unshared == (nodes - 1) * 8 * 64 * 4
        assert graph.memory.peak <= graph.memory.unshared // 2
    for _ in range(2):
        fill(y)
        graph.run()
        assert_same(y, expected)


def test_all_passes_together(dev, rng):
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(4)]
    expected = np.asarray(eager(dev, layers, x, weights, 4))
    with dev.record() as graph:
        y = layers(graph, x, weights, 4)
    graph.optimize()
    assert (graph.removed_count, graph.fused_count, len(graph)) == (4, 4, 28)
    results = []
    for _ in range(3):
        fill(y)
        graph.run()
        results.append(np.array(y))
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-5)
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])
    graph.optimize(fuse=False)
    fill(y)
    graph.run()
    assert_same(y, expected, "optimised again, without fusion")


@needs_compiler
def test_kernels_of_ones_own_groups_labels_and_empty_grids(dev, rng, library):
    x, y, z = dev.array(values(rng)), dev.empty(SHAPE), dev.empty(SHAPE)
    with dev.record() as graph:
        with graph.group("outer"):
            scale(graph, library, x, y, label="first")
            with graph.group("inner"):
                scale(graph, library, y, z, declare=False, label="second")
        graph.dispatch(library.kernel("scale"), threads=0, threadgroup=32, args=[x, y, 1.0, 0], label="none")
        ml.ops.add(graph, z, z, out=z)
    first, second, third = graph.nodes
    assert (first.name, first.label, first.group, first.pure) == ("scale", "first", "outer", True)
    assert (second.label, second.group, second.pure) == ("second", "outer/inner", False)
    assert (third.name, third.label, third.group, third.pure) == ("add", "", "", True)
    assert first.grid == (512, 1, 1) and first.by_threads and first.threadgroup == (32, 1, 1)
    assert [node.origins for node in graph.nodes] == [[0], [1], [2]]
    assert [node.barrier for node in graph.nodes] == [False, True, True]
    assert graph.edges == [(0, 1), (1, 2)]
    graph.run()
    assert_same(z, 2 * ((np.asarray(x) * np.float32(2) + 1) * np.float32(2) + 1))
    with pytest.raises(ml.ValidationError, match="none"):
        graph.update("none", factor=1.0)


@needs_compiler
def test_a_label_names_one_node_and_a_refused_one_changes_nothing(dev, rng, library):
    x, y, z = dev.array(values(rng)), dev.empty(SHAPE), dev.empty(SHAPE)
    with dev.record() as graph:
        scale(graph, library, x, y, label="a")
        graph.barrier()
        with pytest.raises(ml.ValidationError, match='"a" names another node'):
            scale(graph, library, x, z, label="a")
        scale(graph, library, x, z)
    assert len(graph) == 2
    # The barrier was for what came next, whatever was refused in between.
    assert [node.barrier for node in graph.nodes] == [False, True]


def test_explicit_barriers_stay(dev, rng):
    a, b = dev.array(values(rng)), dev.array(values(rng))
    with dev.record() as graph:
        graph.barrier()  # before everything: orders nothing
        y = ml.ops.add(graph, a, b)
        graph.barrier()
        graph.barrier()
        z = ml.ops.mul(graph, a, b)
        w = ml.ops.add(graph, b, b)
        graph.barrier()
    for optimized in (False, True):
        if optimized:
            graph.optimize()
        assert graph.barrier_count == 1
        assert [node.barrier for node in graph.nodes] == [False, True, False]
        graph.run()
        assert_same(y, np.asarray(a) + np.asarray(b))
        assert_same(z, np.asarray(a) * np.asarray(b))
        assert_same(w, np.asarray(b) + np.asarray(b))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda graph, x: ml.ops.rms_norm(graph, x),
        lambda graph, x: graph.barrier(),
        lambda graph, x: graph.finish(),
        lambda graph, x: graph.__enter__(),
        lambda graph, x: graph.group("g").__enter__(),
    ],
    ids=["encode", "barrier", "finish", "with", "group"],
)
def test_a_finished_graph_records_no_more(dev, rng, misuse):
    x = dev.array(values(rng))
    with dev.record() as graph:
        ml.ops.rms_norm(graph, x)
    with pytest.raises(ml.Error, match="finished"):
        misuse(graph, x)
    assert len(graph) == 1
    graph.run()


@pytest.mark.parametrize(
    "misuse",
    [
        lambda graph, x: graph.run(),
        lambda graph, x: graph.encode(graph.device.commands()),
        lambda graph, x: graph.optimize(),
        lambda graph, x: graph.clone(),
        lambda graph, x: graph.rebind("x", x),
        lambda graph, x: graph.update(0, eps=1.0),
        lambda graph, x: graph.barrier_count,
        lambda graph, x: graph.memory,
        lambda graph, x: graph.removed_count,
    ],
    ids=["run", "encode", "optimize", "clone", "rebind", "update", "barriers", "memory", "counts"],
)
def test_a_graph_that_still_records_cannot_be_used(dev, rng, misuse):
    x = dev.array(values(rng))
    graph = dev.record()
    ml.ops.rms_norm(graph, x)
    graph.name("x", x)
    with pytest.raises(ml.Error, match="still records"):
        misuse(graph, x)
    graph.finish()
    misuse(graph, x)


@needs_compiler
def test_an_exception_discards_the_recording(dev, rng, library):
    x, y = dev.array(values(rng)), dev.empty(SHAPE)
    with pytest.raises(KeyError), dev.record() as graph:
        scale(graph, library, x, y, label="a")
        graph.name("x", x)
        raise KeyError("stop")
    assert not graph.recording
    assert graph.names == {}
    for misuse in (
        lambda: ml.ops.rms_norm(graph, x),
        lambda: graph.run(),
        lambda: len(graph),
        lambda: graph.nodes,
        lambda: graph.edges,
        lambda: graph.nbytes,
        lambda: graph.barrier_count,
        lambda: graph.optimize(),
        lambda: graph.clone(),
        lambda: graph.finish(),
        lambda: graph.name("y", y),
        lambda: graph.rebind("x", x),
        lambda: graph.update("a", factor=1.0),
        lambda: graph.to_svg(),
        lambda: graph.encode(dev.commands()),
    ):
        with pytest.raises(ml.Error):
            misuse()
    with pytest.raises((ml.Error, IndexError)):
        graph.update(0, factor=1.0)
    assert repr(graph)


def test_devices_do_not_mix(dev, rng):
    other = another_device(dev)
    x, foreign = dev.array(values(rng)), other.array(values(rng))
    with dev.record() as graph:
        with pytest.raises(ml.ValidationError, match="device"):
            ml.ops.rms_norm(graph, foreign)
        with pytest.raises(ml.ValidationError, match="device"):
            graph.name("x", foreign)
        ml.ops.rms_norm(graph, x)
        graph.name("x", x)
    with pytest.raises(ml.ValidationError, match="device"):
        graph.rebind("x", foreign)
    with pytest.raises(ml.ValidationError, match="device"):
        graph.encode(other.commands())
    for wrong in (None, graph, x, dev):
        with pytest.raises(TypeError, match="CommandEncoder"):
            graph.encode(wrong)
    graph.run()


def test_a_refused_operation_records_nothing(dev, rng):
    x = dev.array(values(rng))
    with dev.record() as graph:
        with pytest.raises(ml.ValidationError):
            ml.ops.rms_norm(graph, x, dev.empty(63))
        assert len(graph) == 0
    graph.run()
    assert graph.optimize().barrier_count == 0


def test_a_graph_belongs_to_one_thread_at_a_time(dev, rng):
    """Threads that use one graph at once get an Error or take turns; nothing breaks."""
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(4)]
    expected = eager(dev, layers, x, weights, 4)
    with dev.record() as graph:
        y = layers(graph, x, weights, 4)
    graph.name("x", x)
    uses = [
        lambda: graph.run(),
        lambda: graph.optimize(fuse=False),
        lambda: graph.nodes,
        lambda: (graph.edges, graph.nbytes, graph.memory, repr(graph)),
        lambda: graph.clone(),
        lambda: graph.rebind("x", x),
        lambda: graph.update(0, eps=1e-6),
    ]
    done, unexpected = [0] * len(uses), []

    def work(i):
        for _ in range(40):
            try:
                uses[i]()
                done[i] += 1
            except ml.Error:
                pass
            except BaseException as e:
                unexpected.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(uses))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not unexpected
    assert any(done)
    fill(y)
    graph.run()
    assert_same(y, expected)


# --- Running in parts -------------------------------------------------------------------------------


def test_slices_are_those_of_a_list(dev, rng):
    x = dev.array(values(rng))
    with dev.record() as graph:
        outs = [ml.ops.add(graph, x, x) for _ in range(6)]
    expected = 2 * np.asarray(x)
    for start in (None, 0, 2, 5, 6, 9, -1, -3, -6, -9):
        for stop in (None, 0, 1, 4, 6, 9, -1, -2, -6, -9):
            for out in outs:
                fill(out, -1)
            graph.run(start, stop)
            ran = [not (np.asarray(out) == -1).all() for out in outs]
            assert ran == [i in range(6)[start:stop] for i in range(6)], (start, stop)
            assert all((np.asarray(out) == expected).all() for out, r in zip(outs, ran, strict=True) if r)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("mode", ["automatic", "manual", "serial"])
def test_parts_in_one_command_buffer_between_other_work(dev, rng, mode, optimized):
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(3)]
    start = dev.empty(SHAPE)
    with dev.record() as graph:
        y = layers(graph, start, weights, 3)
    if optimized:
        graph.optimize(fuse=False)
    count = len(graph)
    after = dev.empty(SHAPE)

    def between(cmd, encode):
        barrier = cmd.barrier if mode == "manual" else lambda: None
        ml.ops.add(cmd, x, x, out=start)
        barrier()
        encode(cmd)
        barrier()
        ml.ops.add(cmd, y, x, out=after)
        barrier()
        ml.ops.mul(cmd, after, x, out=start)
        barrier()
        encode(cmd)
        barrier()
        return ml.ops.add(cmd, y, after)

    def in_parts(cmd):
        cuts = sorted({0, count, *rng.integers(0, count + 1, 4)})
        for first, last in itertools.pairwise(cuts):
            if mode == "manual":
                cmd.barrier()
            graph.encode(cmd, int(first), int(last))
        graph.encode(cmd, 3, 3)

    def at_once(cmd):
        end = layers(cmd, start, weights, 3)
        ml.ops.mul(cmd, end, dev.array(np.ones(SHAPE, np.float32)), out=y)

    with dev.commands() as cmd:
        ml.ops.add(cmd, x, x, out=start)
        at_once(cmd)
        ml.ops.add(cmd, y, x, out=after)
        ml.ops.mul(cmd, after, x, out=start)
        at_once(cmd)
        expected = ml.ops.add(cmd, y, after)
    for encode in (graph.encode, in_parts):
        options = {"concurrent": False} if mode == "serial" else {"hazards": mode}
        for buffer in (start, y, after):
            fill(buffer)
        with dev.commands(**options) as cmd:
            result = between(cmd, encode)
        assert cmd.dispatch_count == 4 + 2 * count
        assert_same(result, expected)


def test_encoding_counts_what_it_encodes(dev, rng):
    x = dev.array(values(rng))
    with dev.record() as graph:
        y = x
        for _ in range(5):
            y = ml.ops.add(graph, y, x)
    assert graph.barrier_count == 4
    with dev.commands() as cmd:
        graph.encode(cmd)
        assert (cmd.dispatch_count, cmd.barrier_count) == (5, 4)
        graph.encode(cmd, 0, 2)
        assert (cmd.dispatch_count, cmd.barrier_count) == (7, 6)
        ml.ops.add(cmd, x, x)
        assert (cmd.dispatch_count, cmd.barrier_count) == (8, 7)
    with pytest.raises(ml.Error, match="completed"):
        graph.encode(cmd)


def test_an_empty_graph(dev):
    with dev.record() as graph:
        pass
    for _ in range(2):
        graph.run()
        graph.run(-3, 5)
        with dev.commands() as cmd:
            graph.encode(cmd)
        assert cmd.dispatch_count == 0
        assert (len(graph), graph.nodes, graph.edges, graph.nbytes) == (0, [], [], 0)
        assert graph.barrier_count == graph.memory.buffers == 0
        graph.clone().run()
        graph.optimize()


# --- Rebinding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimized", [False, True])
def test_named_inputs_and_outputs(dev, rng, optimized):
    a, b, weight = dev.array(values(rng)), dev.array(values(rng)), dev.array(values(rng, 64))

    def work(cmd, a, b, out):
        return ml.ops.add(cmd, ml.ops.mul(cmd, ml.ops.rms_norm(cmd, a, weight), b), a, out=out)

    y = dev.empty(SHAPE)
    with dev.record() as graph:
        work(graph, a, b, y)
    for name, buffer in {"a": a, "b": b, "y": y}.items():
        graph.name(name, buffer)
    if optimized:
        graph.optimize()
    assert set(graph.names) == {"a", "b", "y"}
    sources = [dev.array(values(rng)) for _ in range(4)]
    for _ in range(12):
        i, j = rng.integers(0, 4, 2)
        out = poisoned(dev, SHAPE, ml.float32)
        for name, buffer in rng.permutation(np.array([("a", i), ("b", j), ("y", -1)], object)):
            graph.rebind(name, out if buffer < 0 else sources[buffer])
        with dev.record() as anew:
            again = work(anew, sources[i], sources[j], dev.empty(SHAPE))
        if optimized:
            anew.optimize()
        graph.run()
        anew.run()
        assert_same(out, again)
        named = {name: buffer.offset for name, buffer in graph.names.items()}
        assert set(named) == {"a", "b", "y"}


def test_names_are_checked(dev, rng):
    x = dev.array(values(rng))
    with dev.record() as graph:
        y = ml.ops.add(graph, x, x)
        graph.name("x", x)
        with pytest.raises(ml.ValidationError, match="is a name already"):
            graph.name("x", y)
        with pytest.raises(ml.ValidationError, match="shares memory"):
            graph.name("row", x[3])
        with pytest.raises(ml.ValidationError, match="empty"):
            graph.name("", y)
    with pytest.raises(ml.ValidationError, match='no buffer named "z"'):
        graph.rebind("z", x)
    for wrong, what in (
        (dev.empty(SHAPE, ml.float16), "is float16, needs float32"),
        (dev.empty((64, 8)), "shape"),
        (dev.empty(513)[1:].reshape(SHAPE), "multiple of 16"),
    ):
        with pytest.raises(ml.ValidationError, match=what):
            graph.rebind("x", wrong)
    graph.name("y", y)
    frozen = page_aligned(SHAPE, np.float32)
    frozen.flags.writeable = False
    graph.rebind("x", dev.wrap(frozen))
    with pytest.raises(ml.ValidationError, match="read-only"):
        graph.rebind("y", dev.wrap(frozen))
    graph.run()
    assert_same(y, np.zeros(SHAPE, np.float32), "of the buffer bound last")


def test_a_name_for_what_no_node_uses(dev, rng):
    x, unused = dev.array(values(rng)), [dev.empty(SHAPE) for _ in range(3)]
    with dev.record() as graph:
        y = ml.ops.add(graph, x, x)
        graph.name("unused", unused[0])
        graph.name("x", x)
    for other in unused:
        graph.rebind("unused", other)
        graph.rebind("x", other)
        graph.run()
        graph.optimize()
    assert_same(y, 2 * np.asarray(unused[2]))


def test_a_slot_of_a_cache_that_a_later_node_reads_as_a_whole(dev, rng):
    slots = 6
    cache, x = dev.zeros((slots, *SHAPE)), dev.array(values(rng))
    with dev.record() as graph:
        ml.ops.add(graph, x, x, out=cache[0])
        whole = ml.ops.add(graph, cache, cache)
        graph.name("slot", cache[0])
        graph.name("x", x)
    expected = np.zeros((slots, *SHAPE), np.float32)
    for turn in range(2):
        for slot in (0, 3, 5, 3, 1):
            new = values(rng)
            graph.rebind("slot", cache[slot])
            graph.rebind("x", dev.array(new))
            assert graph.barrier_count == 1, "the whole is read after the slot is written"
            graph.run()
            expected[slot] = 2 * new
            assert_same(cache, expected)
            assert_same(whole, 2 * expected)
        if turn == 0:
            graph.optimize()


def test_a_slot_that_moves_by_less_than_its_size(dev, rng):
    """The views inside a named buffer go along once, although where they go is named still."""
    memory = dev.array(values(rng, 512))
    named = memory[0:64]
    out = dev.empty(16)
    with dev.record() as graph:
        ml.ops.add(graph, named[0:16], named[32:48], out=out)
        graph.name("window", named)
    uses = None
    for start in (16, 32, 4, 100, 0, 16):
        graph.rebind("window", memory[start : start + 64])
        (node,) = graph.nodes
        uses = [(begin, end) for _, begin, end in node.reads]
        assert uses == [(4 * start, 4 * start + 64), (4 * start + 128, 4 * start + 192)]
        graph.run()
        data = np.asarray(memory)
        assert_same(out, data[start : start + 16] + data[start + 32 : start + 48])


@pytest.mark.parametrize("optimized", [False, True])
def test_an_overlap_that_orders_other_nodes(dev, rng, optimized):
    """Two chains that were independent are not any more once the second reads what the first writes."""
    a, b = dev.array(values(rng)), dev.array(values(rng))
    y, z = dev.empty(SHAPE), dev.empty(SHAPE)
    with dev.record() as graph:
        first = ml.ops.mul(graph, a, a)
        ml.ops.add(graph, first, a, out=y)
        second = ml.ops.mul(graph, b, b)
        ml.ops.add(graph, second, b, out=z)
        del first, second
        graph.name("b", b)
        graph.name("z", z)
    if optimized:
        graph.optimize(fuse=False)
        assert graph.barrier_count == 1
    graph.run()
    one = np.asarray(a) * np.asarray(a) + np.asarray(a)
    other = np.asarray(b) * np.asarray(b) + np.asarray(b)
    assert_same(z, other)
    graph.rebind("b", y)
    assert graph.barrier_count == 3
    fill(y)
    graph.run()
    assert_same(y, one)
    assert_same(z, one * one + one)
    graph.rebind("b", b)
    graph.rebind("z", y)  # write after write: the last in the recording stays
    graph.run()
    assert_same(y, other)
    graph.rebind("z", z)
    graph.run()
    assert_same(y, one)
    assert_same(z, other)


def test_an_overlap_inside_one_node_is_refused_when_it_runs(dev, rng):
    memory = dev.array(values(rng, 256))
    x, y = memory[0:64], memory[128:192]
    with dev.record() as graph:
        ml.ops.add(graph, x, x, out=y)
        graph.name("x", x)
        graph.name("y", y)
    before = np.array(memory)
    graph.rebind("y", memory[32:96])
    for _ in range(2):
        with pytest.raises(ml.ValidationError, match="partly"):
            graph.run()
    assert_same(memory, before)
    graph.rebind("y", memory[0:64])  # in place
    graph.run()
    before[0:64] *= 2
    assert_same(memory, before)
    # Buffers that trade places overlap in between.
    graph.rebind("y", memory[96:160])
    graph.rebind("x", memory[32:96])
    graph.run()
    before[96:160] = 2 * before[32:96]
    assert_same(memory, before)


def test_rebinding_while_earlier_runs_are_in_flight(dev, rng):
    inputs = [dev.array(values(rng)) for _ in range(8)]
    outputs = [poisoned(dev, SHAPE, ml.float32) for _ in range(8)]
    with dev.record() as graph:
        y = ml.ops.add(graph, inputs[0], inputs[0], out=outputs[0])
        graph.name("x", inputs[0])
        graph.name("y", y)
    busy = slow(dev, 0.2)
    busy.commit()
    pending = []
    for x, y in zip(inputs, outputs, strict=True):
        graph.rebind("x", x)
        graph.rebind("y", y)
        cmd = dev.commands()
        graph.encode(cmd)
        cmd.commit()
        pending.append(cmd)
    held = dev.commands()
    graph.encode(held)  # not committed: what it has encoded stays all the same
    graph.rebind("y", outputs[0])
    expected = [2 * np.array(x) for x in inputs]
    for cmd in pending:
        cmd.wait()
    for y, want in zip(outputs, expected, strict=True):
        assert_same(y, want)
    fill(outputs[7])
    fill(outputs[0])
    held.commit_and_wait()
    assert_same(outputs[7], expected[7])
    assert np.isnan(np.asarray(outputs[0])).all()


@needs_compiler
def test_rebinding_forgets_the_memory_it_leaves(dev, rng, library):
    x, y = dev.array(values(rng)), dev.empty(SHAPE)
    with dev.record() as graph:
        scale(graph, library, x, y)
        graph.name("x", x)
        graph.name("y", y)
    graph.run()
    del x, y
    gc.collect()
    used = dev.allocated_size
    for _ in range(50):
        graph.rebind("x", dev.array(values(rng)))
        graph.rebind("y", dev.empty(SHAPE))
        graph.run()
    dev.synchronize()
    gc.collect()
    assert dev.allocated_size == used


@needs_compiler
def test_declared_memory_that_is_no_argument_stays(dev, rng, library):
    """A kernel that gets all of a buffer and says that it reads a part of it is not given another part."""
    memory, x = dev.array(values(rng, 256)), dev.array(values(rng, 64))
    slot, y, z = memory[0:64], dev.empty(256), dev.empty(64)
    elsewhere = dev.array(values(rng, 64))
    with dev.record() as graph:
        ml.ops.add(graph, x, x, out=slot)
        scale(graph, library, memory, y, declare=False, reads=[slot, memory[64:]], writes=[y])
        ml.ops.add(graph, x, x, out=z)
        graph.name("slot", slot)
        graph.name("z", z)
    graph.rebind("slot", elsewhere)
    assert graph.edges == []
    graph.rebind("z", slot)  # written after the kernel has read it
    assert graph.barrier_count == 1
    assert (1, 2) in graph.edges
    before = np.array(memory)
    graph.run()
    assert_same(y, before * np.float32(2) + 1)
    assert_same(elsewhere, 2 * np.asarray(x))
    assert_same(slot, 2 * np.asarray(x))


@needs_compiler
def test_memory_bound_but_not_declared_lives_as_long_as_what_runs(dev, rng, library):
    """Its last declared use goes elsewhere; the argument still needs it."""
    x, y, z = dev.array(values(rng)), dev.empty(SHAPE), dev.empty(SHAPE)
    with dev.record() as graph:
        ml.ops.add(graph, x, x, out=z)
        scale(graph, library, x.reshape((64, 8))[:32], y, declare=False, reads=[], writes=[y])
        graph.name("x", x)
    expected = np.asarray(x).reshape(-1)[:256] * np.float32(2) + 1
    graph.run()
    graph.rebind("x", dev.array(values(rng)))
    del x
    busy = slow(dev, 0.1)
    busy.commit()
    cmd = dev.commands()
    graph.encode(cmd)
    cmd.commit()
    del graph
    gc.collect()
    for _ in range(4):
        fill(dev.empty(SHAPE))
    cmd.wait()
    assert np.isfinite(expected).all()


def test_an_output_that_has_no_memory_yet_may_be_bound(dev, rng):
    x = dev.array(values(rng))
    with dev.record() as graph:
        y = ml.ops.add(graph, x, x)
        graph.name("y", y)
    with dev.record() as other:
        z = ml.ops.mul(other, x, x)
    graph.run()
    graph.rebind("y", z)
    graph.run()
    assert_same(z, 2 * np.asarray(x))
    other.run()
    assert_same(z, np.asarray(x) * np.asarray(x))


def test_memory_that_is_gone_leaves_its_address_to_other_memory(dev, rng):
    """What was bound before is freed for good, and new intermediates may be where it was."""
    ones = dev.array(np.ones(16, np.float32))
    for _ in range(40):
        x = dev.wrap(page_aligned(16, np.float32))
        fill(x, 1)
        with dev.record() as graph:
            h = ml.ops.add(graph, x, x)
            for i in range(62):
                h = ml.ops.mul(graph, h, ones if i % 2 else h)
                h = ml.ops.rms_norm(graph, h)
            y = ml.ops.add(graph, h, ones)
            del h
            graph.name("x", x)
            graph.name("y", y)
        graph.run()
        expected = np.array(y)
        graph.rebind("x", dev.array(np.ones(16, np.float32)))
        del x
        gc.collect()
        graph.run()
        graph.optimize()
        last = poisoned(dev, 16, ml.float32)
        graph.rebind("y", last)
        graph.run()
        assert_same(last, expected)


@needs_compiler
def test_a_part_of_what_a_kernel_was_declared_to_touch_is_not_rebound(dev, rng, library):
    memory, y = dev.array(values(rng, 256)), dev.empty(64)
    with dev.record() as graph:
        scale(graph, library, memory[0:64], y, declare=False, reads=[memory], writes=[y])
        graph.name("x", memory[0:64])
    with pytest.raises(ml.ValidationError, match=r'rebind.*"x".*declared to touch more'):
        graph.rebind("x", dev.array(values(rng, 64)))
    graph.optimize()
    graph.run()
    assert_same(y, np.asarray(memory)[:64] * np.float32(2) + 1)


def test_an_operation_that_cannot_work_in_place_is_not_bound_to_its_input(dev, rng):
    pixels = dev.array(values(rng, (1, 64, 64)))
    with dev.record() as graph:
        patches = ml.ops.im2col_2d(graph, pixels, 16)
        graph.name("patches", patches)
    before = np.array(pixels)
    graph.rebind("patches", pixels.reshape(patches.shape))
    with pytest.raises(ml.ValidationError, match="im2col_2d has an output that lies over"):
        graph.run()
    assert_same(pixels, before)


# --- Update -----------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("optimized", [False, True])
def test_update_of_a_value_that_is_not_used(dev, optimized):
    kernel = dev.compile(
        "kernel void k(device float* y [[buffer(0)]], constant float& value [[buffer(1)]],\n"
        "              constant float& unused [[buffer(2)]]) { y[0] = value; }\n"
    ).kernel("k")
    y = dev.empty(1)
    with dev.record() as graph:
        graph.dispatch(kernel, threads=1, threadgroup=1, args=[y, 1.0, 2.0], reads=[], writes=[y], label="k")
    if optimized:
        graph.optimize()
    graph.update("k", value=3.0, unused=4.0)
    graph.update("k", unused=5.0)
    graph.run()
    assert y.item() == 3.0


@needs_compiler
@pytest.mark.parametrize("optimized", [False, True])
def test_update_of_a_kernels_values(dev, rng, library, optimized):
    x, y = dev.array(values(rng)), dev.empty(SHAPE)
    with dev.record() as graph:
        scale(graph, library, x, y, label="s")
    if optimized:
        graph.optimize()
    for node in ("s", 0, np.int64(0)):
        for factor, add in ((3.0, 7), (-0.5, 0)):
            graph.update(node, factor=factor, add=add)
            graph.run()
            assert_same(y, np.asarray(x) * np.float32(factor) + np.float32(add))
    for wrong, what in (
        ({"factor": "a"}, "factor"),
        ({"add": -1}, "add"),
        ({"nothing": 1}, "nothing"),
        ({"x": 1.0}, "x"),
        ({"factor": 9.0, "add": 2**40}, "add"),
    ):
        with pytest.raises((ml.ValidationError, TypeError), match=what):
            graph.update("s", **wrong)
    graph.run()
    assert_same(y, np.asarray(x) * np.float32(-0.5), "after refused changes")
    for wrong in ("t", ""):
        with pytest.raises(ml.ValidationError, match="label"):
            graph.update(wrong, factor=1.0)
    for wrong in (-1, 1, 2**40):
        with pytest.raises(IndexError):
            graph.update(wrong, factor=1.0)
    for wrong in (None, 1.5, x):
        with pytest.raises(TypeError):
            graph.update(wrong, factor=1.0)
    with pytest.raises((IndexError, OverflowError, TypeError)):
        graph.update(10**30, factor=1.0)


@pytest.mark.parametrize("fuse", [False, True])
def test_update_of_eps(dev, rng, fuse):
    x, weight, scales = dev.array(values(rng)), dev.array(values(rng, 64)), dev.array(values(rng))

    def work(cmd, eps):
        dead = ml.ops.rms_norm(cmd, x, eps=eps)
        ml.ops.add(cmd, dead, dead)
        return ml.ops.mul(cmd, ml.ops.rms_norm(cmd, x, weight, eps=eps), scales)

    with dev.record() as graph:
        y = work(graph, 1e-6)
    graph.optimize(fuse=fuse)
    assert len(graph) == (1 if fuse else 2)
    for eps in (0.5, 1e-5, 2.0):
        graph.update(0, eps=eps)  # nobody reads what it computes
        graph.update(2, eps=eps)
        with dev.record() as anew:
            expected = work(anew, eps)
        anew.optimize(fuse=fuse)
        anew.run()
        graph.run()
        assert_same(y, expected)
    for wrong in (0, -1.0, float("nan"), float("inf"), 1e-60, "a", None):
        with pytest.raises((ml.ValidationError, TypeError), match="eps"):
            graph.update(2, eps=wrong)
    with pytest.raises(ml.ValidationError, match="needs one of: eps"):
        graph.update(2, factor=1.0)
    with pytest.raises(ml.ValidationError, match="needs none"):
        graph.update(3, eps=1.0)
    graph.run()
    assert_same(y, expected)
    # All passes off again: the changes were made to what was recorded.
    graph.optimize(remove_dead=False, fuse=False, reorder=False, plan_memory=False)
    graph.run()
    assert_same(y, eager(dev, work, 2.0))


@needs_compiler
def test_update_while_earlier_runs_are_in_flight(dev, rng, library):
    x, y = dev.array(values(rng)), dev.array(np.zeros(SHAPE, np.float32))
    total = dev.zeros(SHAPE)
    with dev.record() as graph:
        scale(graph, library, x, y, label="s")
        ml.ops.add(graph, total, y, out=total)
    busy = slow(dev, 0.2)
    busy.commit()
    expected = np.zeros(SHAPE, np.float32)
    pending = []
    for i in range(10):
        graph.update("s", factor=float(i), add=i)
        cmd = dev.commands()
        graph.encode(cmd)
        cmd.commit()
        pending.append(cmd)
        expected += np.array(x) * np.float32(i) + np.float32(i)
    for cmd in pending:
        cmd.wait()
    assert_same(total, expected)


# --- Clones -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["recorded", "run", "optimized"])
def test_a_clone_has_intermediates_of_its_own(dev, rng, when):
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(3)]
    y = dev.empty(SHAPE)
    with dev.record(label="it") as graph:
        ml.ops.add(graph, layers(graph, x, weights, 3), x, out=y)
        graph.name("x", x)
        graph.name("y", y)
    if when == "run":
        graph.run()
    if when == "optimized":
        graph.optimize(fuse=False, remove_dead=False)
    copy = graph.clone()
    assert (copy.label, copy.optimized, len(copy)) == ("it", graph.optimized, len(graph))
    assert set(copy.names) == {"x", "y"}

    def touched(g):
        return {use[0] for node in g.nodes for use in node.writes}

    if when != "optimized":
        assert len(touched(graph) & touched(copy)) == 1, "the output is shared, nothing else is"
    other, z = dev.array(values(rng)), dev.empty(SHAPE)
    copy.rebind("x", other)
    copy.rebind("y", z)
    with dev.commands() as cmd:  # at once: nothing orders what is independent
        cuts = np.linspace(0, len(graph), 5).astype(int)
        for first, last in itertools.pairwise(cuts):
            graph.encode(cmd, int(first), int(last))
            copy.encode(cmd, int(first), int(last))

    def work(cmd, x):
        return ml.ops.add(cmd, layers(cmd, x, weights, 3), x)

    assert_same(y, eager(dev, work, x))
    assert_same(z, eager(dev, work, other))
    # Neither depends on the other.
    del graph
    gc.collect()
    fill(z)
    copy.run()
    assert_same(z, eager(dev, work, other))
    copy.optimize(fuse=False)
    assert copy.memory.buffers > 0
    fill(z)
    copy.run()
    assert_same(z, eager(dev, work, other))


@needs_compiler
def test_a_clone_is_updated_by_itself(dev, rng, library):
    x, y = dev.array(values(rng)), dev.empty(SHAPE)
    with dev.record() as graph:
        scale(graph, library, x, y, label="s")
    copy = graph.clone()
    copy.update("s", factor=5.0)
    graph.run()
    assert_same(y, np.asarray(x) * np.float32(2) + 1)
    copy.run()
    assert_same(y, np.asarray(x) * np.float32(5) + 1)


def test_a_graph_that_has_run_or_was_cloned_is_optimised_as_well_as_any(dev, rng):
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(3)]
    with dev.record() as graph:
        y = layers(graph, x, weights, 3)
    expected = eager(dev, layers, x, weights, 3)
    busy = slow(dev, 0.1)
    busy.commit()
    cmd = dev.commands()
    graph.encode(cmd)
    cmd.commit()
    copy = graph.clone()
    for each in (graph, copy):
        each.optimize()
        assert (each.removed_count, each.fused_count) == (3, 3)
        each.optimize(fuse=False)
        fill(y)
        each.run()
        assert_same(y, expected)


# --- Inspection -------------------------------------------------------------------------------------


def test_inspection(dev, rng):
    x, weight = dev.array(values(rng)), dev.array(values(rng, 64))
    with dev.record(label="it's") as graph:
        assert "recording" in repr(graph) and "it's" in repr(graph)
        normed = ml.ops.rms_norm(graph, x, weight)
        y = ml.ops.mul(graph, normed, x)
        assert [node.name for node in graph.nodes] == ["rms_norm", "mul"]
    bytes_of = 4 * 8 * 64
    assert graph.nbytes == 2 * bytes_of + 256 + 3 * bytes_of
    assert [node.nbytes for node in graph.nodes] == [2 * bytes_of + 256, 3 * bytes_of]
    assert graph.edges == [(0, 1)]
    assert (graph.barrier_count, graph.conflict_count) == (1, 1)
    assert repr(graph.nodes[0]) == "GraphNode(rms_norm)"
    del normed
    graph.optimize()
    (node,) = graph.nodes
    assert (node.name, node.origins, node.barrier, node.pure) == ("rms_norm_mul", [0, 1], False, True)
    assert (graph.fused_count, graph.removed_count, graph.memory.buffers) == (1, 0, 0)
    assert graph.nbytes == 3 * bytes_of + 256
    assert "optimized" in repr(graph) and "MemoryPlan" in repr(graph.memory)
    assert len(node.writes) == 1 and node.writes[0][2] - node.writes[0][1] == bytes_of
    graph.run()
    assert np.isfinite(np.asarray(y)).all()


def test_options_of_optimize_are_checked(dev, rng):
    x = dev.array(values(rng))
    with dev.record() as graph:
        ml.ops.add(graph, x, x)
    for wrong in ({"depth": 0}, {"depth": -1}, {"max_live_bytes": 0}, {"max_live_bytes": -5}):
        with pytest.raises(ml.ValidationError, match="needs at least 1"):
            graph.optimize(**wrong)
    assert not graph.optimized
    graph.optimize(depth=1, max_live_bytes=1)
    graph.optimize(depth=2**62, max_live_bytes=2**62)


# --- Whose memory it is -----------------------------------------------------------------------------


def test_a_constant_that_was_made_and_dropped_keeps_its_contents(dev, rng):
    x, data, other = dev.array(values(rng)), values(rng), values(rng, 64)

    def work(cmd):
        weight = dev.array(other)
        return ml.ops.mul(cmd, ml.ops.rms_norm(cmd, x, weight), dev.array(data))

    expected = np.array(eager(dev, work))
    with dev.record() as graph:
        y = work(graph)
    gc.collect()
    for _ in range(3):
        fill(dev.empty(64))
        fill(dev.empty(SHAPE))
    graph.optimize(fuse=False)
    for _ in range(2):
        fill(y)
        graph.run()
        assert_same(y, expected)
    assert graph.memory.buffers == 1, "the norm is the graph's own; what is read first is not"


@pytest.mark.parametrize("through", ["all", "part", "view"])
def test_a_state_that_nobody_else_holds_lives_from_run_to_run(dev, rng, through):
    x, out = dev.array(values(rng)), dev.empty(SHAPE)
    with dev.record() as graph:
        state = dev.zeros((2, *SHAPE))
        if through == "all":
            ml.ops.add(graph, state[0], x, out=state[0])
            ml.ops.add(graph, state[0], x, out=out)
        elif through == "part":
            # Written in part before it is read as a whole.
            ml.ops.add(graph, x, x, out=state[0])
            both = ml.ops.add(graph, state, state)
            ml.ops.add(graph, both[1], x, out=state[1])
            ml.ops.add(graph, state[1], x, out=out)
        else:
            ml.ops.add(graph, state.reshape((-1,))[512:].reshape(SHAPE), x, out=state[1])
            ml.ops.add(graph, state[1], x, out=out)
        del state
    if through == "part":
        del both
    graph.optimize()
    expected = np.zeros(SHAPE, np.float32)
    data = np.asarray(x)
    for _ in range(4):
        graph.run()
        expected = (2 * expected if through == "part" else expected) + data
        assert_same(out, expected + data)


@needs_compiler
def test_what_a_kernel_may_read_before_it_writes_is_a_state(dev, library):
    out = dev.zeros(64, ml.uint32)
    with dev.record() as graph:
        counter = dev.zeros(64, ml.uint32)
        graph.dispatch(library.kernel("count"), threads=64, threadgroup=32, args=[counter])
        ml_copy = dev.compile("""#include <metal_stdlib>
            kernel void copy(device const uint* x [[buffer(0)]], device uint* y [[buffer(1)]],
                             uint i [[thread_position_in_grid]]) { y[i] = x[i]; }""").kernel("copy")
        graph.dispatch(
            ml_copy, threads=64, threadgroup=32, args=[counter, out], reads=[counter], writes=[out]
        )
        del counter
    graph.optimize()
    assert graph.memory.buffers == 0
    for i in range(1, 4):
        graph.run()
        assert (np.asarray(out) == i).all()


@pytest.mark.parametrize("how", ["buffer", "view", "array", "graph", "encoder", "name"])
def test_intermediates_that_something_holds_are_not_the_graphs_own(dev, rng, how):
    x, weight, scales = dev.array(values(rng)), dev.array(values(rng, 64)), dev.array(values(rng))
    held = other = None
    with dev.record() as graph:
        normed = ml.ops.rms_norm(graph, x, weight)
        product = ml.ops.mul(graph, normed, scales)
        unread = ml.ops.add(graph, x, x)
        if how == "buffer":
            held = normed, unread
        elif how == "view":
            held = normed[1], unread[0:0]
        elif how == "array":
            held = np.asarray(normed), np.asarray(unread)[::3]
        elif how == "graph":
            with dev.record() as other:
                held_result = ml.ops.add(other, normed, unread)
        elif how == "encoder":
            other = dev.commands()
            held_result = ml.ops.add(other, normed, unread)
        else:
            graph.name("normed", normed)
            graph.name("unread", unread)
        y = ml.ops.add(graph, product, x)
        del normed, product, unread
    graph.optimize()
    assert (graph.fused_count, graph.removed_count, graph.memory.buffers) == (0, 0, 1)
    graph.run()
    want = eager(dev, ml.ops.rms_norm, x, weight)
    if how == "buffer":
        assert_same(held[0], want)
    elif how == "view":
        assert_same(held[0], np.asarray(want)[1])
    elif how == "array":
        assert_same(held[0], want)
        assert_same(held[1], (2 * np.asarray(x))[::3])
    elif how in ("graph", "encoder"):
        other.run() if how == "graph" else other.commit_and_wait()
        assert_same(held_result, np.asarray(want) + 2 * np.asarray(x))
    else:
        assert_same(graph.names["normed"], want)
        assert_same(graph.names["unread"], 2 * np.asarray(x))
    assert np.isfinite(np.asarray(y)).all()


def test_wrapped_memory_is_never_the_graphs_own(dev, rng):
    x, host = dev.array(values(rng)), page_aligned(SHAPE, np.float32)
    with dev.record() as graph:
        middle = dev.wrap(host)
        ml.ops.add(graph, x, x, out=middle)
        y = ml.ops.add(graph, middle, x)
        del middle
    graph.optimize()
    assert graph.memory.buffers == 0
    graph.run()
    assert_same(host, 2 * np.asarray(x))
    assert_same(y, 2 * np.asarray(x) + np.asarray(x))


def test_results_outlive_the_graph_and_a_graph_dropped_in_flight_finishes(dev, rng):
    data = values(rng)
    y = dev.empty(SHAPE)

    def work(cmd, x):
        return ml.ops.add(cmd, layers(cmd, x, [dev.array(np.ones(64, np.float32))] * 3, 3), x, out=y)

    expected = np.array(eager(dev, work, dev.array(data)))
    for optimized in (False, True):
        fill(y)
        with dev.record() as graph:
            work(graph, dev.array(data))
        if optimized:
            graph.optimize(fuse=False)
        busy = slow(dev, 0.1)
        busy.commit()
        cmd = dev.commands()
        graph.encode(cmd)
        cmd.commit()
        del graph
        gc.collect()
        for _ in range(40):
            fill(dev.empty(SHAPE))
            fill(dev.empty((16, *SHAPE)))
        cmd.wait()
        assert_same(y, expected)


def test_graphs_leave_no_memory_behind(dev, rng):
    x, weights = dev.array(values(rng)), [dev.array(values(rng, 64)) for _ in range(3)]

    def work(i):
        with dev.record() as graph:
            layers(graph, x, weights, 3)
            graph.name("x", x)
        if i % 2:
            graph.optimize()
        graph.run()
        copy = graph.clone()
        copy.optimize(plan_memory=i % 3 > 0)
        copy.rebind("x", dev.array(values(rng)))
        copy.update(0, eps=0.5)
        cmd = dev.commands()
        copy.encode(cmd)
        cmd.commit()
        if i % 4 == 0:
            dev.record()  # dropped at once
        with pytest.raises(KeyError), dev.record() as failed:
            layers(failed, x, weights, 3)
            raise KeyError

    work(0)
    work(1)
    dev.synchronize()
    gc.collect()
    used = dev.allocated_size
    for i in range(24):
        work(i)
    dev.synchronize()
    gc.collect()
    assert dev.allocated_size == used


# --- Fusion -----------------------------------------------------------------------------------------


def fused(dev, record):
    with dev.record() as graph:
        kept = record(graph)
        del record
    graph.optimize(remove_dead=False, reorder=False, plan_memory=False)
    return graph, kept


FUSIONS = {
    "fits": lambda g, a: ml.ops.mul(g, ml.ops.rms_norm(g, a.x, a.w), a.s),
    "other order": lambda g, a: ml.ops.mul(g, a.s, ml.ops.rms_norm(g, a.x, a.w)),
    "in place": lambda g, a: ml.ops.mul(g, ml.ops.rms_norm(g, a.x, a.w), a.s, out=a.s),
    "times x": lambda g, a: ml.ops.mul(g, ml.ops.rms_norm(g, a.x, a.w), a.x),
    "rope": lambda g, a: ml.ops.rope_neox(
        g, ml.ops.rms_norm(g, a.x.reshape((8, 2, 32)), a.w[:32]), positions=a.positions
    ),
    "rope without weight": lambda g, a: ml.ops.rope_neox(
        g, ml.ops.rms_norm(g, a.x.reshape((16, 32))).reshape((8, 2, 32)), cos=a.cos, sin=a.sin
    ),
    "rope of no pairs": lambda g, a: ml.ops.rope_neox(
        g, ml.ops.rms_norm(g, a.x.reshape((8, 2, 32))), positions=a.positions, half_rope_dim=0
    ),
}


class Arguments:
    def __init__(self, dev, rng):
        self.x, self.s, self.w = dev.array(values(rng)), dev.array(values(rng)), dev.array(values(rng, 64))
        self.positions = dev.array(rng.integers(0, 100, 8).astype(np.int32))
        angles = rng.standard_normal((8, 12))
        self.cos = dev.array(np.cos(angles).astype(np.float32))
        self.sin = dev.array(np.sin(angles).astype(np.float32))


@pytest.mark.parametrize("case", FUSIONS)
def test_what_is_fused(dev, rng, case):
    args = Arguments(dev, rng)
    s = np.array(args.s)
    expected = np.array(eager(dev, FUSIONS[case], args))
    args.s = dev.array(s)
    graph, y = fused(dev, lambda g: FUSIONS[case](g, args))
    assert (graph.fused_count, len(graph)) == (1, 1)
    assert graph.nodes[0].origins == [0, 1]
    graph.run()
    np.testing.assert_allclose(np.asarray(y), expected, rtol=2e-6, atol=1e-6)


def norm_held(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    return normed, ml.ops.mul(g, normed, a.s)


def norm_read_twice(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    return ml.ops.mul(g, normed, a.s), ml.ops.add(g, normed, a.s)


def norm_read_in_part(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    return ml.ops.mul(g, normed[:4], a.s[:4])


def norm_written_again(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    ml.ops.add(g, a.x[2:4], a.x[2:4], out=normed[2:4])
    return ml.ops.mul(g, normed, a.s)


def input_overwritten(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    ml.ops.add(g, a.s, a.s, out=a.x)
    return ml.ops.mul(g, normed, a.s)


def weight_overwritten(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    ml.ops.add(g, a.s[0], a.s[0], out=a.w)
    return ml.ops.mul(g, normed, a.s)


def squared(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    return ml.ops.mul(g, normed, normed)


def partly_over_its_input(g, a):
    normed = ml.ops.rms_norm(g, a.x[:4], a.w)
    return ml.ops.mul(g, normed, a.s[:4], out=a.x[2:6])


def without_weight(g, a):
    return ml.ops.mul(g, ml.ops.rms_norm(g, a.x), a.s)


def rope_of_other_heads(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    return ml.ops.rope_neox(g, normed.reshape((8, 2, 32)), positions=a.positions)


def rope_by_its_own_values(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    return ml.ops.rope_neox(g, normed, cos=normed, sin=normed, half_rope_dim=3)


def rope_at_its_own_bits(g, a):
    normed = ml.ops.rms_norm(g, a.x, a.w)
    where = normed.view(np.uint32).reshape((512,))
    return ml.ops.rope_neox(g, normed, positions=where, half_rope_dim=0)


UNFUSED = (
    norm_held,
    norm_read_twice,
    norm_read_in_part,
    norm_written_again,
    input_overwritten,
    weight_overwritten,
    squared,
    partly_over_its_input,
    without_weight,
    rope_of_other_heads,
    rope_by_its_own_values,
    rope_at_its_own_bits,
)


@pytest.mark.parametrize("case", UNFUSED)
def test_what_is_not_fused(dev, rng, case):
    args = Arguments(dev, rng)
    before = {name: np.array(buffer) for name, buffer in vars(args).items()}
    expected = case_results(eager(dev, case, args))
    for name, data in before.items():
        np.asarray(getattr(args, name))[...] = data
    graph, kept = fused(dev, lambda g: case(g, args))
    assert graph.fused_count == 0
    graph.run()
    for got, want in zip(case_results(kept), expected, strict=True):
        assert_same(got, want)


def case_results(kept):
    return [np.array(buffer) for buffer in (kept if isinstance(kept, tuple) else (kept,))]


@needs_compiler
def test_nothing_is_fused_across_a_kernel_that_was_not_declared(dev, rng, library):
    args = Arguments(dev, rng)
    y, z = dev.empty(SHAPE), dev.empty(SHAPE)

    def record(g):
        normed = ml.ops.rms_norm(g, args.x, args.w)
        scale(g, library, args.s, y, declare=False)
        return ml.ops.mul(g, normed, args.s, out=z)

    graph, _ = fused(dev, record)
    assert graph.fused_count == 0


@needs_compiler
def test_kernels_that_were_not_declared_keep_their_place(dev, rng, library):
    """Nothing moves across one; what is declared moves."""
    x = dev.array(values(rng))
    outs = [dev.empty(SHAPE) for _ in range(9)]

    def record(declare):
        with dev.record() as graph:
            for i in range(3):
                ml.ops.add(graph, x, x, out=outs[3 * i])
                scale(graph, library, outs[3 * i], outs[3 * i + 1], declare=declare, label=f"k{i}")
                ml.ops.mul(graph, outs[3 * i + 1], x, out=outs[3 * i + 2])
        before = [node.name for node in graph.nodes], graph.barrier_count
        graph.optimize()
        return before, ([node.name for node in graph.nodes], graph.barrier_count), graph

    before, after, _ = record(declare=False)
    assert before == after
    before, after, graph = record(declare=True)
    assert after == (["add"] * 3 + ["scale"] * 3 + ["mul"] * 3, 2)
    assert [node.label for node in graph.nodes][3:6] == ["k0", "k1", "k2"]
    graph.run()
    for i in range(3):
        assert_same(outs[3 * i + 2], (np.asarray(x) * 2 * np.float32(2) + 1) * np.asarray(x))


# --- Drawing ----------------------------------------------------------------------------------------


def drawn(graph, **more):
    text = graph.to_svg(**more)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return text, " ".join(root.itertext())


@needs_compiler
def test_a_drawing_tells_names_groups_barriers_and_fusions(dev, rng, library, tmp_path):
    x, w, y = dev.array(values(rng)), dev.array(values(rng, 64)), dev.empty(SHAPE)
    with dev.record(label='<"layer" & co>') as graph:
        with graph.group("a<b>&\"c'"):
            product = ml.ops.mul(graph, ml.ops.rms_norm(graph, x, w), x)
        scale(graph, library, product, y, label="<tail> & \x07")
        del product
    text, words = drawn(graph)
    for word in ('<"layer" & co>', "rms_norm", "mul", "scale", "<tail> &", "a<b>&\"c'", "3 dispatches"):
        assert word in words, word
    assert "2 barriers" in words
    graph.optimize()
    path = tmp_path / "graph.svg"
    text, words = drawn(graph, path=path)
    assert path.read_text(encoding="utf-8") == text
    for word in ("rms_norm_mul", "rms_norm + mul", "1 barrier", "1 fused"):
        assert word in words, word
    assert drawn(graph, path=str(path))[0] == text


def test_drawings_of_nothing_and_of_very_much(dev, rng):
    with dev.record() as graph:
        pass
    assert "0 dispatches" in drawn(graph)[1]
    x = dev.array(values(rng))
    with dev.record() as graph:
        for _ in range(3000):
            ml.ops.add(graph, x, x)
    text, words = drawn(graph)
    assert "3000 dispatches" in words and "not drawn" in words
    assert len(text) < 2_000_000
    with dev.record() as graph:
        y = x
        for _ in range(3000):
            y = ml.ops.add(graph, y, x)
    text, words = drawn(graph)
    assert "not drawn" in words
    assert len(text) < 2_000_000
