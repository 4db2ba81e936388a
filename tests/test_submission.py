"""What CommandEncoder.commit() gives: waiting, polling, callbacks and await."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import weakref

import metalloid as ml
import numpy as np
import pytest
from support import open_device, run_python
from test_process import in_child, needs_fork, survives_forks
from test_threads import run_threads


@pytest.fixture
def event(dev):
    event = dev.event()
    yield event
    event.signal((1 << 64) - 1)
    dev.synchronize()


@pytest.fixture(scope="module")
def simt() -> ml.Device:
    return open_device("simt")


def parked(dev, event, value=1, label=None, queue=None) -> ml.Submission:
    """Work that waits for the event; its encoder is gone."""
    cmd = dev.commands(label, queue=queue)
    cmd.wait_for(event, value)
    ml.ops.rms_norm(cmd, dev.zeros((4, 64)))
    return cmd.commit()


def quick(dev, label=None) -> ml.Submission:
    cmd = dev.commands(label)
    ml.ops.rms_norm(cmd, dev.zeros((4, 64)))
    return cmd.commit()


def failing(simt) -> ml.Submission:
    cmd = simt.commands("doomed")
    ml.ops.rms_norm(cmd, simt.empty((8, 64)))
    return cmd.commit()


def test_a_submission_tells_what_became_of_the_work(dev, event):
    submission = parked(dev, event, label="a label")
    gc.collect()
    assert (submission.label, submission.queue) == ("a label", dev.queue())
    assert (submission.done(), submission.status, submission.gpu_time) == (False, "committed", None)
    assert "committed" in repr(submission) and "a label" in repr(submission)
    event.signal(1)
    assert submission.wait(timeout=60) is None
    assert (submission.done(), submission.status) == (True, "completed")
    assert 0 < submission.gpu_time < 60
    assert submission.exception() is None
    submission.wait()


def test_polling_sees_the_end(dev, event):
    submission = parked(dev, event)
    event.signal(1)
    deadline = time.perf_counter() + 30
    while not submission.done():
        assert time.perf_counter() < deadline
    assert submission.status == "completed"


def test_an_empty_command_buffer_is_done_at_once(dev):
    submission = dev.commands().commit()
    assert (submission.done(), submission.status, submission.gpu_time) == (True, "completed", 0)
    called = []
    submission.add_done_callback(called.append)
    assert called == [submission]


def test_the_encoder_and_its_submission_agree(dev, event):
    cmd = dev.commands("both")
    cmd.wait_for(event, 1)
    ml.ops.rms_norm(cmd, dev.zeros((4, 64)))
    submission = cmd.commit()
    assert cmd.status == submission.status == "committed"
    event.signal(1)
    cmd.wait()
    assert cmd.status == submission.status == "completed"
    assert cmd.gpu_time == submission.gpu_time


@pytest.mark.parametrize("call", ["wait", "exception"])
def test_waits_time_out(dev, event, call):
    submission = parked(dev, event)
    start = time.perf_counter()
    with pytest.raises(ml.DeviceError, match=rf"Submission.{call}.*0\.05"):
        getattr(submission, call)(0.05)
    assert time.perf_counter() - start < 10
    with pytest.raises(ml.ValidationError, match="timeout"):
        getattr(submission, call)(-1)


def test_waiting_releases_the_gil(dev, event):
    submission = parked(dev, event)
    threading.Timer(0.1, event.signal, [1]).start()
    assert submission.exception() is None


def test_work_that_fails(simt):
    submission = failing(simt)
    with pytest.raises(ml.KernelFault) as caught:
        submission.wait()
    assert caught.value.kernel.startswith("rms_norm")
    assert (submission.done(), submission.status, submission.gpu_time) == (True, "error", None)
    error = submission.exception()
    assert type(error) is ml.KernelFault
    assert (error.kind, error.kernel) == ("uninitialized-read", caught.value.kernel)
    assert str(error) == str(caught.value)
    assert error.faults[0] is error
    assert failing(simt).exception(timeout=60).kind == "uninitialized-read"


def test_polling_never_raises(simt):
    submission = failing(simt)
    while not submission.done():
        pass
    assert submission.status == "error"
    submission.exception()


def test_an_exception_that_was_seen_is_not_raised_by_synchronize(simt):
    simt.synchronize()
    failing(simt).exception()
    simt.synchronize()
    failing(simt)
    with pytest.raises(ml.KernelFault):
        simt.synchronize()


def test_faults_that_are_collected_are_no_exception(simt):
    before = simt.check_mode
    simt.check_mode = "collect"
    try:
        submission = failing(simt)
        assert submission.exception() is None
        assert submission.status == "error"
        assert [fault.kind for fault in simt.faults] == ["uninitialized-read"]
    finally:
        simt.clear_faults()
        simt.check_mode = before


# --- callbacks ----------------------------------------------------------------------------------


class Called:
    """A callback that remembers its calls."""

    def __init__(self) -> None:
        self.calls, self.event = [], threading.Event()

    def __call__(self, submission) -> None:
        self.calls.append((submission, threading.current_thread(), submission.status))
        self.event.set()

    def wait(self) -> None:
        assert self.event.wait(30), "the callback was not called"


def test_a_callback_is_called_once_from_another_thread(dev, event):
    submission, called = parked(dev, event), Called()
    submission.add_done_callback(called)
    time.sleep(0.15)
    assert called.calls == []
    event.signal(1)
    called.wait()
    submission.wait()
    time.sleep(0.05)
    ((got, thread, status),) = called.calls
    assert got is submission
    assert thread is not threading.current_thread()
    assert status == "completed"


def test_a_callback_for_what_is_done_is_called_at_once(dev):
    submission, called = quick(dev), Called()
    submission.wait()
    submission.add_done_callback(called)
    assert called.calls == [(submission, threading.current_thread(), "completed")]


def test_a_callback_sees_failed_work(simt):
    called = Called()
    failing(simt).add_done_callback(called)
    called.wait()
    ((submission, _, status),) = called.calls
    assert status == "error"
    assert submission.exception().kind == "uninitialized-read"


def test_callbacks_are_called_in_the_order_of_the_work(dev, event):
    submissions = [parked(dev, event, i + 1) for i in range(20)]
    order, last = [], Called()
    submissions[-1].add_done_callback(last)
    for i in reversed(range(20)):
        submissions[i].add_done_callback(lambda _, i=i: order.append(i))
    event.signal(10)
    submissions[9].wait()
    while len(order) < 10:
        time.sleep(0.001)
    assert not last.calls
    event.signal(20)
    last.wait()
    while len(order) < 20:
        time.sleep(0.001)
    assert order == list(range(20))


def test_an_early_callback_does_not_wait_for_a_late_one(dev, event):
    """The thread that calls back waits for the late one already when the early one is asked for."""
    early, late = parked(dev, event, 1), parked(dev, event, 2)
    late.add_done_callback(Called())
    time.sleep(0.1)
    called = Called()
    early.add_done_callback(called)
    event.signal(1)
    called.wait()
    assert not late.done()


def test_queues_do_not_hold_up_each_others_callbacks(dev, event):
    held, called = Called(), Called()
    parked(dev, event, queue=dev.queue("a")).add_done_callback(held)
    time.sleep(0.05)
    other = dev.event()
    submission = parked(dev, other, queue=dev.queue("b"))
    submission.add_done_callback(called)
    other.signal(1)
    called.wait()
    assert not held.calls


def test_what_a_callback_raises_goes_to_the_unraisable_hook(dev, event, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append((args.exc_type, args.object)))

    def wrong(_):
        raise KeyError("wrong")

    submission, after = parked(dev, event), Called()
    submission.add_done_callback(wrong)
    submission.add_done_callback(after)
    event.signal(1)
    after.wait()
    submission.add_done_callback(wrong)
    assert seen == [(KeyError, wrong)] * 2


def test_only_what_can_be_called_is_a_callback(dev):
    with pytest.raises(TypeError, match="callable"):
        quick(dev).add_done_callback(3)


def test_thousands_of_callbacks_from_several_threads(dev, event):
    submission = parked(dev, event)
    calls, lock, all_called = [0] * 4, threading.Lock(), threading.Event()

    def one(i):
        with lock:
            calls[i] += 1
            if sum(calls) == 8000:
                all_called.set()

    def work(i):
        for turn in range(2000):
            (submission if turn % 2 else quick(dev)).add_done_callback(lambda _: one(i))

    # What is quick comes after what is parked, so all of them wait.
    thread = threading.Timer(0.3, event.signal, [1])
    thread.start()
    run_threads(4, work)
    assert all_called.wait(60)
    assert calls == [2000] * 4
    thread.join()


def test_a_callback_may_use_the_device(dev, event):
    results, done = [], threading.Event()

    def again(submission):
        with dev.commands() as cmd:
            y = ml.ops.rms_norm(cmd, dev.array(np.full((4, 64), 3, np.float32)))
        results.append(float(np.asarray(y).mean()))
        done.set()

    submission = parked(dev, event)
    submission.add_done_callback(again)
    event.signal(1)
    assert done.wait(30)
    assert results == pytest.approx([1])


def test_callbacks_that_refer_to_their_submission_leave_nothing_behind(dev, event):
    class Holder:
        pass

    def make(value):
        holder = Holder()
        holder.submission = parked(dev, event, value)
        called = Called()
        holder.submission.add_done_callback(lambda _, holder=holder: called(holder.submission))
        return called, weakref.ref(holder), weakref.ref(holder.submission)

    made = [make(i + 1) for i in range(10)]
    gc.collect()
    assert all(submission() is not None for _, _, submission in made)
    event.signal(10)
    for called, _, _ in made:
        called.wait()
        called.calls.clear()
    deadline = time.perf_counter() + 10
    while any(ref() is not None for _, *refs in made for ref in refs) and time.perf_counter() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert all(ref() is None for _, *refs in made for ref in refs)


# --- await --------------------------------------------------------------------------------------


def test_await_waits_without_holding_up_the_loop(dev, event):
    async def main():
        submission = parked(dev, event)
        ticks = 0

        async def tick():
            nonlocal ticks
            while ticks < 20:
                await asyncio.sleep(0.002)
                ticks += 1
            event.signal(1)

        ticker = asyncio.create_task(tick())
        assert await submission is None
        assert ticks == 20
        assert submission.done()
        await ticker
        await submission  # again
        await dev.commands().commit()

    asyncio.run(main())


def test_gather_of_many(dev, event):
    async def main():
        submissions = [parked(dev, event, 1 + i % 2, queue=dev.queue("ab"[i % 2])) for i in range(60)]
        asyncio.get_running_loop().call_later(0.05, event.signal, 2)
        assert await asyncio.gather(*submissions) == [None] * 60
        assert all(s.status == "completed" for s in submissions)
        await asyncio.gather(*(quick(dev) for _ in range(200)))

    asyncio.run(main())


@pytest.mark.parametrize("late", [False, True])
def test_await_raises_what_the_work_did(dev, simt, late):
    async def main():
        submission = failing(simt)
        if late:
            submission.exception()
        with pytest.raises(ml.KernelFault) as caught:
            await submission
        assert caught.value.kind == "uninitialized-read"
        results = await asyncio.gather(failing(simt), quick(dev), failing(simt), return_exceptions=True)
        assert [type(r) for r in results] == [ml.KernelFault, type(None), ml.KernelFault]

    asyncio.run(main())


def test_cancelling_what_awaits_breaks_nothing(dev, event, caplog):
    async def main():
        submission = parked(dev, event)

        async def waiter():
            await submission

        task = asyncio.create_task(waiter())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(submission, 0.02)
        assert not submission.done()
        asyncio.get_running_loop().call_later(0.02, event.signal, 1)
        await submission
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert not caplog.records


def test_a_loop_may_end_before_the_work(dev, event, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    submission, called = parked(dev, event), Called()

    async def main():
        task = asyncio.ensure_future(asyncio.wait_for(submission, 60))
        await asyncio.sleep(0.02)
        assert not task.done()

    asyncio.run(main())
    submission.add_done_callback(called)
    event.signal(1)
    called.wait()
    assert not seen


def test_several_loops_await_the_same_work(dev, event):
    submission = parked(dev, event)

    def work(i):
        async def main():
            await asyncio.gather(*(_await(submission) for _ in range(5)))

        asyncio.run(main())

    threading.Timer(0.1, event.signal, [1]).start()
    run_threads(4, work)


async def _await(submission):
    await submission
    assert submission.done()


def test_await_needs_a_loop(dev, event):
    submission = parked(dev, event)
    with pytest.raises(RuntimeError, match="loop"):
        submission.__await__()


# --- forks and the end --------------------------------------------------------------------------


@needs_fork
@survives_forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_callbacks_and_forks(dev, event):
    """The parent's are called in the parent alone; those that the child asks for are called there."""
    read, write = os.pipe()
    mine = Called()
    submission = parked(dev, event)
    submission.add_done_callback(lambda s: (os.write(write, str(os.getpid()).encode() + b" "), mine(s)))
    time.sleep(0.05)

    def work():
        called = Called()
        assert not submission.done()
        submission.add_done_callback(called)
        event.signal(1)
        called.wait()
        again = Called()
        quick(dev).add_done_callback(again)
        again.wait()

    in_child(work)
    assert not mine.calls
    event.signal(1)
    mine.wait()
    assert os.read(read, 1000).split() == [str(os.getpid()).encode()]
    os.close(read)
    os.close(write)


SCRIPT = """
    import asyncio, sys, threading, time
    import metalloid as ml
    dev = ml.Device()
    event = dev.event()
    cmd = dev.commands()
    cmd.wait_for(event, 1)
    ml.ops.rms_norm(cmd, dev.zeros((4, 64)))
    submission = cmd.commit()
"""


@pytest.mark.parametrize(
    "end",
    [
        "submission.add_done_callback(lambda s: print('called', flush=True))",
        """
    for _ in range(1000):
        submission.add_done_callback(lambda s: None)
    event.signal(1)
    """,
        """
    started = threading.Event()
    submission.add_done_callback(lambda s: (started.set(), time.sleep(100)))
    event.signal(1)
    started.wait()
    """,
        """
    started = threading.Event()
    def spin(_):
        started.set()
        while True:
            pass
    submission.add_done_callback(spin)
    event.signal(1)
    started.wait()
    """,
        """
    started = threading.Event()
    other = dev.event()
    submission.add_done_callback(lambda s: (started.set(), other.wait(1)))
    event.signal(1)
    started.wait()
    """,
    ],
    ids=["pending", "being called", "one sleeps", "one spins", "one waits for the device"],
)
def test_the_interpreter_may_end_with_callbacks(end):
    done = run_python(SCRIPT + "    " + end.strip() + "\n    print('end', flush=True)\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
