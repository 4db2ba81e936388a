"""Several queues of a device, the events that order them, and how much may be in flight."""

from __future__ import annotations

import threading
import time

import metalloid as ml
import pytest
from support import another_device, run_python
from test_threads import run_threads

SOURCE = """
#include <metal_stdlib>
using namespace metal;
kernel void affine(device uint* x [[buffer(0)]], constant uint& a [[buffer(1)]],
                   constant uint& b [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  x[i] = a * x[i] + b;
}
"""
HUGE = 1 << 64


@pytest.fixture(scope="module")
def affine(dev) -> ml.Kernel:
    return dev.compile(SOURCE).kernel("affine")


@pytest.fixture
def event(dev):
    """An event, raised at the end so that a test that fails leaves nothing parked."""
    event = dev.event()
    yield event
    event.signal(HUGE - 1)
    dev.synchronize()


def step(cmd, kernel, x, a, b):
    cmd.dispatch(kernel, threads=x.size, threadgroup=64, args=[x, a, b])


def test_a_queue_is_opened_by_its_label(dev):
    a, b = dev.queue("a"), dev.queue("b")
    assert a is dev.queue("a") and a is not b
    assert (a.label, a.device) == ("a", dev)
    assert dev.queue().label == ""
    assert dev.queue("") is dev.queue()
    assert dev.commands().queue is dev.queue()
    assert dev.commands(queue=a).queue is a
    assert "'a'" in repr(a)


def test_there_are_at_most_eight_queues():
    done = run_python(
        """
        import metalloid as ml
        dev = ml.Device()
        queues = [dev.queue(f"q{i}") for i in range(7)]
        try:
            dev.queue("one too many")
        except ml.Error as e:
            print(e)
        print(dev.queue("q6") is queues[6], dev.queue() is not None)
        for q in (*queues, dev.queue()):
            with dev.commands(queue=q) as cmd:
                ml.ops.rms_norm(cmd, dev.zeros((4, 64)))
        """
    )
    assert done.stdout.splitlines()[1:] == ["True True"], done.stderr
    assert "one too many" in done.stdout and "at most 8" in done.stdout


def test_a_queue_of_another_device_is_refused(dev):
    other = another_device(dev)
    with pytest.raises(ml.ValidationError, match="queue"):
        dev.commands(queue=other.queue())
    with pytest.raises(TypeError):
        dev.commands(queue="a")


def test_an_event_has_a_value(dev):
    event = dev.event()
    assert (event.value, event.device) == (0, dev)
    event.signal(3)
    assert event.value == 3
    event.wait(2)
    event.wait(3, timeout=0)
    with pytest.raises(ml.DeviceError, match="4"):
        event.wait(4, timeout=0.02)
    assert "3" in repr(event)


@pytest.mark.parametrize("value", [0, -1, HUGE])
def test_values_that_no_event_has(dev, value):
    event, cmd = dev.event(), dev.commands()
    for call in (event.signal, event.wait, lambda v: cmd.signal(event, v), lambda v: cmd.wait_for(event, v)):
        with pytest.raises(ml.ValidationError, match=str(value)):
            call(value)
    for call in (event.signal, event.wait):
        with pytest.raises(TypeError):
            call(1.0)
    cmd.commit_and_wait()
    assert event.value == 0


def test_an_event_of_another_device_is_refused(dev):
    other = another_device(dev).event()
    cmd = dev.commands()
    for call in (cmd.signal, cmd.wait_for):
        with pytest.raises(ml.ValidationError, match="event"):
            call(other, 1)


def test_after_commit_no_event_is_encoded(dev):
    event, cmd = dev.event(), dev.commands()
    cmd.commit()
    for call in (cmd.signal, cmd.wait_for):
        with pytest.raises(ml.Error, match="still encoding"):
            call(event, 1)


def test_a_discarded_encoder_signals_nothing(dev, affine):
    event, x = dev.event(), dev.zeros(8, "uint32")
    with pytest.raises(KeyError), dev.commands() as cmd:
        step(cmd, affine, x, 1, 1)
        cmd.signal(event, 1)
        raise KeyError
    cmd = dev.commands()
    cmd.signal(event, 1)
    del cmd
    dev.synchronize()
    assert event.value == 0


def test_what_follows_a_wait_waits_and_what_precedes_it_does_not(dev, affine, event):
    done, x, y = dev.event(), dev.zeros(100, "uint32"), dev.zeros(100, "uint32")
    cmd = dev.commands()
    with cmd.group("a group that spans encoders"):
        step(cmd, affine, x, 1, 5)
        cmd.signal(done, 1)
        cmd.wait_for(event, 1)
        step(cmd, affine, x, 3, 1)
    step(cmd, affine, y, 1, 2)
    cmd.signal(done, 2)
    submission = cmd.commit()
    done.wait(1, timeout=60)
    time.sleep(0.05)
    assert done.value == 1
    assert not submission.done()
    event.signal(1)
    done.wait(2, timeout=60)
    assert (x.numpy() == 16).all() and (y.numpy() == 2).all()
    assert cmd.dispatch_count == 3


def test_bindings_survive_a_split(dev, affine):
    """Dispatches after an event bind everything anew, also what is the same as before it."""
    event, x = dev.event(), dev.zeros(300, "uint32")
    with dev.commands() as cmd:
        for i in range(1, 30):
            step(cmd, affine, x, 3, 1)
            cmd.signal(event, i)
    want = 0
    for _ in range(29):
        want = (3 * want + 1) % (1 << 32)
    assert (x.numpy() == want).all()


def test_two_queues_hand_data_back_and_forth(dev, affine):
    event, x, turns = dev.event(), dev.zeros(4000, "uint32"), 500
    ping, pong = dev.queue("a"), dev.queue("b")
    want = 0
    for turn in range(turns):
        a, b = dev.commands(queue=ping), dev.commands(queue=pong)
        if turn:
            a.wait_for(event, 2 * turn)
        step(a, affine, x, 3, 1)
        a.signal(event, 2 * turn + 1)
        b.wait_for(event, 2 * turn + 1)
        step(b, affine, x, 5, 7)
        b.signal(event, 2 * turn + 2)
        # The later one first: only the event can order them.
        b.commit()
        a.commit()
        want = (5 * (3 * want + 1) + 7) % (1 << 32)
    event.wait(2 * turns, timeout=60)
    assert (x.numpy() == want).all()


@pytest.mark.parametrize("parked", ["a", "b", None])
def test_reading_waits_for_every_queue_that_used_the_memory(dev, affine, event, parked):
    x = dev.zeros(64, "uint32")
    for label in ("a", "b", None):
        cmd = dev.commands(queue=dev.queue(label))
        if label == parked:
            cmd.wait_for(event, 1)
        step(cmd, affine, x, 1, 1)
        submission = cmd.commit()
        if label != parked:
            submission.wait(60)
    start = time.perf_counter()
    timer = threading.Timer(0.2, event.signal, [1])
    timer.start()
    assert (x.numpy() == 3).all()
    assert time.perf_counter() - start > 0.1
    timer.join()


@pytest.mark.parametrize("label", ["a", None])
def test_synchronize_waits_for_every_queue(dev, event, affine, label):
    cmd = dev.commands(queue=dev.queue(label))
    cmd.wait_for(event, 1)
    step(cmd, affine, dev.zeros(64, "uint32"), 1, 1)
    submission = cmd.commit()
    timer = threading.Timer(0.1, event.signal, [1])
    timer.start()
    dev.synchronize()
    assert submission.done()
    timer.join()


def test_memory_that_another_queue_uses_is_not_handed_out(dev, affine, event):
    dev.empty_cache()
    x = dev.zeros(300_000, "uint32")
    address = x.address
    for label in ("a", "b", None):
        cmd = dev.commands(queue=dev.queue(label))
        if label == "b":
            cmd.wait_for(event, 1)
        step(cmd, affine, x, 1, 1)
        submission = cmd.commit()
        if label != "b":
            submission.wait(60)
    del x, cmd
    for _ in range(3):
        assert dev.empty(300_000, "uint32").address != address
    event.signal(1)
    dev.synchronize()
    assert address in {buffer.address for buffer in [dev.empty(300_000, "uint32") for _ in range(3)]}


def test_a_parked_queue_holds_up_no_memory_but_its_own(dev, affine, event):
    cmd = dev.commands(queue=dev.queue("a"))
    cmd.wait_for(event, 1)
    step(cmd, affine, dev.zeros(300_000, "uint32"), 1, 1)
    cmd.commit()
    before = dev.allocated_size
    for _ in range(20):
        cmd = dev.commands(queue=dev.queue("b"))
        step(cmd, affine, dev.zeros(300_000, "uint32"), 1, 1)
        cmd.commit_and_wait()
    assert dev.allocated_size == before


def test_eight_threads_on_three_queues(dev, affine):
    queues = [dev.queue("a"), dev.queue("b"), dev.queue()]

    def work(i):
        x = dev.zeros(100 + i, "uint32")
        for turn in range(60):
            cmd = dev.commands(queue=queues[(i + turn) % 3])
            step(cmd, affine, x, 1, turn)
            submission = cmd.commit()
            if turn % 3:
                submission.wait(60)
            assert (x.numpy() == sum(range(turn + 1))).all()

    run_threads(8, work)


# --- how much may be in flight ------------------------------------------------------------------


def test_hundreds_of_command_buffers_without_a_wait(dev, affine):
    x = dev.zeros(64, "uint32")
    submissions = []
    for _ in range(300):
        cmd = dev.commands()
        step(cmd, affine, x, 1, 1)
        submissions.append(cmd.commit())
    assert (x.numpy() == 300).all()
    assert all(s.done() for s in submissions)


def test_open_encoders_are_limited_per_queue(dev, affine):
    x = dev.zeros(64, "uint32")

    def encoded(label):
        cmd = dev.commands(queue=dev.queue(label))
        step(cmd, affine, x, 1, 1)
        return cmd

    held = [encoded("a") for _ in range(48)]
    with pytest.raises(ml.Error, match="48"):
        encoded("a")
    encoded("b").commit_and_wait()
    held.pop()
    held.append(encoded("a"))
    with pytest.raises(ml.Error, match="48"):
        encoded("a")
    held.clear()
    encoded("a").commit_and_wait()
    assert (x.numpy() == 2).all()


PARKED = """
    import _thread, signal, threading, time
    import metalloid as ml
    signal.signal(signal.SIGINT, signal.default_int_handler)
    dev = ml.Device()
    event, x = dev.event(), dev.zeros((4, 64))
    held = [dev.commands() for _ in range({held})]
    for cmd in held:
        ml.ops.rms_norm(cmd, x)
    for _ in range(64 - {held}):
        cmd = dev.commands()
        cmd.wait_for(event, 1)
        ml.ops.rms_norm(cmd, x)
        cmd.commit()
    cmd = dev.commands()
"""


@pytest.mark.parametrize("held", [0, 40])
def test_when_all_are_parked_another_thread_can_signal(held):
    done = run_python(
        PARKED.format(held=held)
        + """
    ticks = 0
    def wake():
        global ticks
        for ticks in range(100):
            time.sleep(0.002)
        event.signal(1)
    threading.Thread(target=wake).start()
    ml.ops.rms_norm(cmd, x)
    print(ticks, flush=True)
    cmd.commit_and_wait()
    for cmd in held:
        cmd.commit()
    dev.synchronize()
    print(cmd.status)
    """
    )
    assert done.stdout.split() == ["99", "completed"], done.stderr


@pytest.mark.parametrize(
    "call", ["ml.ops.rms_norm(cmd, x)", "cmd.signal(event, 9)", "cmd.wait_for(event, 1)"]
)
def test_when_all_are_parked_ctrl_c_ends_the_wait(call):
    done = run_python(
        PARKED.format(held=0)
        + f"""
    threading.Timer(0.2, _thread.interrupt_main).start()
    try:
        {call}
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted", cmd.status)
    event.signal(1)
    ml.ops.rms_norm(cmd, x)
    cmd.commit_and_wait()
    print(cmd.status, event.value)
    """
    )
    assert done.stdout.split("\n") == ["interrupted encoding", "completed 1", ""], done.stderr


def test_a_signal_handler_may_encode_while_a_wait_is_on():
    """It runs inside a wait that has let go of the GIL, and has to let go of it again."""
    done = run_python(
        PARKED.format(held=0)
        + """
    def handler(*_):
        threading.Timer(0.2, event.signal, [1]).start()
        inner = dev.commands()
        ml.ops.rms_norm(inner, x)
        inner.commit_and_wait()
        print("handled", flush=True)
    signal.signal(signal.SIGINT, handler)
    threading.Timer(0.1, _thread.interrupt_main).start()
    event.wait(1)
    ml.ops.rms_norm(cmd, x)
    cmd.commit_and_wait()
    print(cmd.status)
    """
    )
    assert done.stdout.split() == ["handled", "completed"], done.stderr
