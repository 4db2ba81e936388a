"""What ml.trace() writes, ml.profile() prints and `metalloid trace` runs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter

import metalloid as ml
import numpy as np
import pytest
from support import bits, open_device
from test_process import in_child, needs_fork, survives_forks

SOURCE = """
#include <metal_stdlib>
using namespace metal;
kernel void affine(device uint* x [[buffer(0)]], constant uint& a [[buffer(1)]],
                   constant uint& b [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  x[i] = a * x[i] + b;
}
kernel void past(device uint* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i + 1] = i; }
"""


@pytest.fixture(scope="module")
def affine(dev) -> ml.Kernel:
    return dev.compile(SOURCE).kernel("affine")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.json"


def step(cmd, kernel, x, a=3, b=1, label=None):
    cmd.dispatch(kernel, threads=x.size, threadgroup=64, args=[x, a, b], label=label)


class Read:
    """The events of a file, which must be as the Trace Event Format wants them."""

    def __init__(self, path) -> None:
        data = json.loads(path.read_text())
        self.notes = data["otherData"]["notes"]
        self.events = data["traceEvents"]
        self.names = {}
        for event in self.events:
            assert event["ph"] in ("X", "i", "M"), event
            assert isinstance(event["pid"], int) and isinstance(event["tid"], int), event
            assert event["name"] and isinstance(event["args"], dict), event
            if event["ph"] == "M":
                self.names[event["name"], event["pid"], event["tid"]] = event["args"]["name"]
                continue
            assert event["ts"] >= 0, event
            assert ("process_name", event["pid"], 0) in self.names
            if event["ph"] == "X":
                assert event["dur"] >= 0, event
                assert ("thread_name", event["pid"], event["tid"]) in self.names
            else:
                assert event["s"] in ("t", "g"), event
        self.check_nesting()

    def check_nesting(self) -> None:
        """Spans of one track lie side by side or in each other."""
        tracks = {}
        for event in self.events:
            if event["ph"] == "X":
                tracks.setdefault((event["pid"], event["tid"]), []).append(event)
        for spans in tracks.values():
            open_until = []
            for event in sorted(spans, key=lambda each: (each["ts"], -each["dur"])):
                end = event["ts"] + event["dur"]
                while open_until and open_until[-1] <= event["ts"] + 1e-3:
                    open_until.pop()
                assert not open_until or end <= open_until[-1] + 1e-3, event
                open_until.append(end)

    def of(self, category: str) -> list[dict]:
        return sorted((e for e in self.events if e.get("cat") == category), key=lambda each: each["ts"])

    def track(self, event: dict) -> str:
        return self.names["thread_name", event["pid"], event["tid"]]

    def process(self, event: dict) -> str:
        return self.names["process_name", event["pid"], 0]


def end(event: dict) -> float:
    return event["ts"] + event["dur"]


def test_every_dispatch_runs_inside_its_command_buffer(dev, affine, path):
    x, u = dev.array(np.ones((64, 256), np.float32)), dev.zeros(1000, "uint32")
    with ml.trace(path):
        for label in ("one", "two"):
            with dev.commands(label) as cmd:
                y = ml.ops.rms_norm(cmd, x)
                step(cmd, affine, u, label="named")
                with cmd.group("outer"), cmd.group("inner"):
                    ml.ops.rms_norm(cmd, y, out=y)
    read = Read(path)
    buffers = {e["args"]["serial"]: e for e in read.of("command buffer")}
    assert [e["name"] for e in read.of("command buffer")] == ["one", "two"]
    assert {e["args"]["status"] for e in buffers.values()} == {"completed"}
    ran, encoded = read.of("dispatch"), read.of("encode")
    assert [e["name"] for e in ran] == ["rms_norm", "named", "rms_norm"] * 2
    assert [e["name"] for e in encoded] == [f"encode {e['name']}" for e in ran]
    for each in ran:
        buffer = buffers[each["args"]["command buffer"]]
        assert buffer["ts"] <= each["ts"] and end(each) <= end(buffer) + 1e-3
        assert (each["pid"], each["tid"]) == (buffer["pid"], buffer["tid"])
        assert dev.name in read.process(each) and read.track(each) == "queue"
    for before, after in zip(encoded, ran, strict=True):
        assert end(before) <= after["ts"], "it ran before it was encoded"
    first, named, last = (e["args"] for e in ran[:3])
    assert (named["kernel"], named["label"]) == ("affine", "named")
    assert (named["threads"], named["threadgroup"]) == ([1000, 1, 1], [64, 1, 1])
    assert named["bytes written"] == 4000
    assert first["kernel"].startswith("rms_norm_f32")
    assert (first["bytes read"], first["bytes written"]) == (64 * 256 * 4, 64 * 256 * 4)
    assert last["group"] == "outer/inner" and "group" not in first
    assert {read.track(e) for e in encoded} == {threading.current_thread().name}
    assert {e["name"] for e in read.of("commit")} == {"commit one", "commit two"}
    assert read.notes == []


def test_barriers_are_where_they_are_without_a_trace(dev, affine, path):
    def encode(cmd):
        u, v = dev.zeros(100, "uint32"), dev.zeros(100, "uint32")
        for each in (u, v, u, v):
            step(cmd, affine, each)
        cmd.signal(dev.event(), 1)
        step(cmd, affine, u)
        cmd.barrier()
        step(cmd, affine, v)

    plain, traced = dev.commands(), dev.commands()
    encode(plain)
    with ml.trace(path):
        encode(traced)
        traced.commit_and_wait()
    assert traced.barrier_count == plain.barrier_count >= 2
    assert traced.conflict_count == plain.conflict_count
    assert traced.dispatch_count == plain.dispatch_count == 6
    read = Read(path)
    assert [e["args"].get("barrier", False) for e in read.of("dispatch")] == [
        False, False, True, False, False, True,
    ]  # fmt: skip
    assert len(read.of("barrier")) == traced.barrier_count
    assert [e["name"] for e in read.of("event")] == ["signal"]
    ran = read.of("dispatch")
    for before, after in itertools.pairwise(ran):
        assert end(before) <= after["ts"] + 1e-3


def work(dev, affine, rng) -> list[np.ndarray]:
    x = dev.array(rng.standard_normal((32, 128)).astype(np.float32))
    u = dev.zeros(100, "uint32")
    with dev.record() as graph:
        y = ml.ops.rms_norm(graph, ml.ops.rms_norm(graph, x))
        step(graph, affine, u, 3, 1)
        step(graph, affine, u, 5, 2)
    graph.optimize()
    with dev.commands() as cmd:
        step(cmd, affine, u, 7, 1)
        graph.encode(cmd)
        step(cmd, affine, u, 9, 1)
    graph.run()
    return [np.array(y), np.array(u)]


def test_results_are_the_same_bit_for_bit(dev, affine, path):
    plain = work(dev, affine, np.random.default_rng(1))
    with ml.trace(path):
        traced = work(dev, affine, np.random.default_rng(1))
    for a, b in zip(plain, traced, strict=True):
        assert (bits(a) == bits(b)).all()
    assert len(Read(path).of("dispatch")) == 2 + 4 + 4


def test_graphs_show_their_steps(dev, affine, path):
    x, u = dev.array(np.ones((8, 64), np.float32)), dev.zeros(100, "uint32")
    with dev.record("replayed") as graph:
        with graph.group("layer"):
            ml.ops.rms_norm(graph, x, out=dev.empty((8, 64)))
        step(graph, affine, u, label="a step")
        step(graph, affine, u)
    graph.run()
    with ml.trace(path):
        graph.run()
        with dev.commands() as cmd, cmd.group("around"):
            graph.encode(cmd)
    read = Read(path)
    assert [e["name"] for e in read.of("dispatch")] == ["rms_norm", "a step", "affine"] * 2
    groups = [e["args"].get("group", "") for e in read.of("dispatch")]
    assert groups == ["layer", "", "", "around/layer", "around", "around"]
    assert read.of("command buffer")[0]["name"] == "replayed"
    written = [e["args"]["bytes written"] for e in read.of("dispatch")]
    assert written[:3] == [8 * 64 * 4, 400, 400]
    assert [e["args"].get("barrier", False) for e in read.of("dispatch")[:3]] == [False, False, True]
    graph.run()
    assert np.asarray(u)[0] == ((3**8 - 1) // 2) % 2**32


def test_queues_and_threads_have_tracks_of_their_own(dev, affine, path):
    event = dev.event()

    def work(name):
        u = dev.zeros(100, "uint32")
        cmd = dev.commands(name, queue=dev.queue(name))
        if name == "b":
            cmd.wait_for(event, 1)
        step(cmd, affine, u)
        if name == "a":
            cmd.signal(event, 1)
        cmd.commit_and_wait()

    with ml.trace(path):
        threads = [threading.Thread(target=work, args=(n,), name=f"thread {n}") for n in "ba"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    read = Read(path)
    assert {read.track(e): e["name"] for e in read.of("command buffer")} == {"queue a": "a", "queue b": "b"}
    ran = {read.track(e): e for e in read.of("dispatch")}
    assert end(ran["queue a"]) <= ran["queue b"]["ts"], "the event orders them"
    assert {read.track(e) for e in read.of("encode")} == {"thread a", "thread b"}
    assert Counter(e["name"] for e in read.of("event")) == {"signal": 1, "wait_for": 1}
    assert "thread b" in {read.track(e) for e in read.of("wait")}


def test_waits_of_the_host_are_spans(dev, affine, path):
    event = dev.event()
    with ml.trace(path):
        cmd = dev.commands()
        cmd.wait_for(event, 1)
        u = dev.zeros(100, "uint32")
        step(cmd, affine, u)
        cmd.commit()
        threading.Timer(0.05, lambda: event.signal(1)).start()
        np.asarray(u)
        event.wait(1)
    (waited, at_once) = Read(path).of("wait")
    assert waited["name"] == "wait" and waited["dur"] > 20_000
    assert at_once["name"] == "Event.wait"


def test_nothing_is_recorded_outside(dev, affine, path):
    u = dev.zeros(100, "uint32")
    early = dev.commands("early")
    step(early, affine, u)
    late = None
    with ml.trace(path):
        early.commit_and_wait()
        late = dev.commands("late")
        step(late, affine, u)
        dropped = dev.commands("dropped")
        step(dropped, affine, u)
        del dropped
        with dev.commands("inside") as cmd:
            step(cmd, affine, u)
    late.commit_and_wait()
    with dev.commands("after") as cmd:
        step(cmd, affine, u)
    read = Read(path)
    assert [e["name"] for e in read.of("command buffer")] == ["inside"]
    assert len(read.of("dispatch")) == len(read.of("encode")) == 1
    assert np.asarray(u)[0] == 40
    with ml.trace(path):
        pass
    assert not Read(path).of("dispatch")


def test_an_exception_still_writes_the_file(dev, affine, path):
    u = dev.zeros(100, "uint32")
    with pytest.raises(ZeroDivisionError), ml.trace(path):
        with dev.commands() as cmd:
            step(cmd, affine, u)
        raise ZeroDivisionError
    assert len(Read(path).of("dispatch")) == 1
    assert os.listdir(path.parent) == ["out.json"]


def test_the_end_waits_for_what_is_in_flight(dev, affine, path):
    u = dev.zeros(100, "uint32")
    with ml.trace(path):
        for _ in range(5):
            cmd = dev.commands()
            step(cmd, affine, u)
            cmd.commit()
    assert len(Read(path).of("dispatch")) == 5


def test_what_never_ends_is_unfinished(dev, affine, path, monkeypatch):
    monkeypatch.setattr("metalloid._trace._PATIENCE", 0.2)
    event = dev.event()
    with ml.trace(path):
        cmd = dev.commands("parked")
        cmd.wait_for(event, 1)
        step(cmd, affine, dev.zeros(100, "uint32"))
        cmd.commit()
    event.signal(1)
    cmd.wait()
    read = Read(path)
    assert read.notes == ["1 command buffers had not ended"]
    assert (len(read.of("encode")), len(read.of("dispatch"))) == (1, 0)


def test_traces_do_not_nest(dev, path):
    with ml.trace(path):
        for inner in (ml.trace(path.parent / "inner.json"), ml.profile()):
            with pytest.raises(ml.Error, match="another trace or profile is on"), inner:
                pass
    assert path.exists() and not (path.parent / "inner.json").exists()
    with pytest.raises(ml.Error, match="no/such"), ml.trace("/no/such/folder/out.json"):
        pass
    with ml.trace(path):
        pass


def test_what_has_no_room_is_counted(dev, affine, path, monkeypatch):
    monkeypatch.setenv("METALLOID_TRACE_LIMIT", "20")
    u = dev.zeros(100, "uint32")
    with ml.trace(path) as traced:
        for _ in range(5):
            with dev.commands() as cmd:
                for _ in range(8):
                    step(cmd, affine, u, 1, 1)
    read = Read(path)
    (note,) = read.notes
    assert "events were dropped" in note and note in traced.table()
    assert 0 < len([e for e in read.events if e["ph"] != "M" and e["cat"] != "note"]) <= 20
    assert any(note in e["name"] for e in read.of("note"))
    assert np.asarray(u)[0] == 40


@needs_fork
@survives_forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_does_not_write_its_parents_trace(dev, affine, path):
    def child(traced):
        traced.__exit__(None, None, None)
        assert not path.exists()
        with dev.commands() as cmd:
            step(cmd, affine, dev.zeros(100, "uint32"))
        with ml.trace(path.parent / "child.json"), dev.commands("of the child") as cmd:
            step(cmd, affine, dev.zeros(100, "uint32"))

    with ml.trace(path) as traced:
        with dev.commands("of the parent") as cmd:
            step(cmd, affine, dev.zeros(100, "uint32"))
        in_child(lambda: child(traced))
        assert not path.exists()
    assert [e["name"] for e in Read(path).of("command buffer")] == ["of the parent"]
    assert [e["name"] for e in Read(path.parent / "child.json").of("command buffer")] == ["of the child"]


def test_a_profile_sums_by_kernel(dev, affine, capsys):
    x, u = dev.array(np.ones((64, 1024), np.float32)), dev.zeros(100, "uint32")
    with ml.profile() as p:
        for _ in range(3):
            with dev.commands() as cmd:
                step(cmd, affine, u)
                ml.ops.rms_norm(cmd, x)
    rows = {row.kernel: row for row in p.rows}
    assert {name: row.count for name, row in rows.items()} == {"affine": 3, "rms_norm_f32": 3}
    row = rows["rms_norm_f32"]
    assert row.nbytes == 3 * 2 * 64 * 1024 * 4
    assert row.mean == pytest.approx(row.total / 3) and row.total > 0
    assert row.gb_per_s == pytest.approx(row.nbytes / row.total / 1e9)
    assert sum(each.share for each in p.rows) == pytest.approx(1)
    assert [each.total for each in p.rows] == sorted((each.total for each in p.rows), reverse=True)
    printed = capsys.readouterr().out
    assert printed.strip() == p.table() == str(p)
    for word in ("kernel", "count", "GB/s", "share", "affine", "rms_norm_f32"):
        assert word in printed
    with ml.profile(print=False) as quiet, pytest.raises(ml.Error, match="has not ended"):
        quiet.rows  # noqa: B018
    assert capsys.readouterr().out == "" and quiet.rows == [] and "nothing ran" in quiet.table()


def test_the_times_of_the_checker_are_not_a_gpus(path):
    simt = open_device("simt")
    with ml.trace(path) as traced, simt.commands() as cmd:
        ml.ops.rms_norm(cmd, simt.zeros((4, 64)))
    read = Read(path)
    assert "checker" in traced.table() and "checker" in read.process(read.of("dispatch")[0])


@pytest.mark.parametrize("traced", [False, True])
def test_a_fault_names_command_buffer_group_and_dispatch(path, traced):
    simt = open_device("simt")
    library = simt.compile(SOURCE)
    x = simt.zeros(64, "uint32")

    def run():
        cmd = simt.commands("the buffer")
        step(cmd, library.kernel("affine"), x, label="innocent")
        with cmd.group("the group"):
            cmd.dispatch(library.kernel("past"), threads=64, threadgroup=32, args=[x], label="guilty")
        with pytest.raises(ml.KernelFault) as raised:
            cmd.commit().wait()
        return raised.value

    if traced:
        with ml.trace(path):
            fault = run()
        read = Read(path)
        assert read.notes[0] == "1 command buffers failed"
        (buffer,) = read.of("command buffer")
        assert buffer["args"]["status"] == "error" and "guilty" in buffer["args"]["error"]
    else:
        fault = run()
    assert fault.label == "the buffer/the group/guilty"
    assert '("the buffer/the group/guilty")' in str(fault)
    assert "innocent" not in str(fault)


def test_a_fault_in_a_graph_names_the_step():
    simt = open_device("simt")
    library = simt.compile(SOURCE)
    x = simt.zeros(64, "uint32")
    with simt.record("the graph") as graph, graph.group("the group"):
        graph.dispatch(library.kernel("past"), threads=64, threadgroup=32, args=[x], label="guilty")
    with pytest.raises(ml.KernelFault) as raised:
        graph.run()
    assert raised.value.label == "the graph/the group/guilty"


# --- metalloid trace ----------------------------------------------------------------------------


SCRIPT = """
import sys, pathlib
import helper
import metalloid as ml

def main():
    dev = ml.Device()
    with dev.commands("of the script") as cmd:
        ml.ops.rms_norm(cmd, dev.zeros((4, 64)))
    print(__name__, sys.argv, helper.VALUE)
    {ending}

if __name__ == "__main__":
    main()
"""


def run_cli(folder, ending: str, *arguments: str) -> subprocess.CompletedProcess:
    (folder / "scripts").mkdir(exist_ok=True)
    (folder / "scripts" / "helper.py").write_text("VALUE = 42\n")
    script = folder / "scripts" / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(ending=ending))
    arguments = [str(script) if each == "SCRIPT" else each for each in arguments]
    return subprocess.run(
        [sys.executable, "-m", "metalloid", "trace", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
    )


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no way')", 1, "no way"),
        ("raise KeyError('gone')", 1, "KeyError: 'gone'"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
    ],
)
def test_a_script_runs_as_it_would_without(tmp_path, path, ending, status, said):
    done = run_cli(tmp_path, ending, "SCRIPT", "one", "--two", "-o", "out.json", "--profile")
    assert done.returncode == status, done.stderr
    script = str(tmp_path / "scripts" / "script.py")
    assert done.stdout.strip() == f"__main__ {[script, 'one', '--two']} 42"
    assert said in done.stderr and "runpy" not in done.stderr and "cli/trace.py" not in done.stderr
    assert "rms_norm_f32" in done.stderr and "out.json" in done.stderr
    assert [e["name"] for e in Read(path).of("command buffer")] == ["of the script"]


def test_arguments_after_dashes_are_the_scripts(tmp_path, path):
    done = run_cli(tmp_path, "", "-o", "out.json", "SCRIPT", "--", "-o", "other", "--profile", "--help")
    assert done.returncode == 0, done.stderr
    assert "'-o', 'other', '--profile', '--help']" in done.stdout
    assert path.exists() and not (tmp_path / "other").exists()
    assert "GB/s" not in done.stderr


def test_mistakes_of_the_command_are_named(tmp_path):
    for arguments, said in (
        (["nothing.py"], "nothing.py"),
        (["SCRIPT", "-o", "/no/such/folder/out.json"], "/no/such/folder"),
    ):
        done = run_cli(tmp_path, "print('it ran')", *arguments)
        assert done.returncode == 2 and said in done.stderr.replace("\n", ""), done.stderr
        assert "Traceback" not in done.stderr and "it ran" not in done.stdout
    shown = run_cli(tmp_path, "", "--help").stdout
    assert "SCRIPT" in shown and "--profile" in shown and "ui.perfetto.dev" in shown
