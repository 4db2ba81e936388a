"""Signals, forks and the end of the interpreter, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import metalloid as ml
import numpy as np
import pytest
from support import run_python

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
survives_forks = pytest.mark.skipif("metal" in ml.devices(), reason="Metal does not survive a fork")


def normalise(value: float) -> float:
    """One operation from the device object to the result, in whatever process calls it."""
    dev = ml.Device()
    x = dev.array(np.full((300, 1000), value, np.float32))
    with dev.commands() as cmd:
        y = ml.ops.rms_norm(cmd, x)
    return float(np.abs(np.asarray(y)).mean())


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["cmd.wait()", "y.numpy()", "dev.synchronize()", "y.tolist()"])
def test_ctrl_c_ends_a_wait(wait):
    script = f"""
        import signal, sys, time
        import metalloid as ml
        from support import slow
        signal.signal(signal.SIGINT, signal.default_int_handler)
        dev = ml.Device()
        cmd = slow(dev, 30)
        y = ml.ops.rms_norm(cmd, dev.zeros((4, 4)))
        cmd.commit()
        print("waiting", flush=True)
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted", cmd.status, flush=True)
            raise
        print("completed", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "waiting\n", process.stderr.read()
        time.sleep(0.3)
        sent = time.perf_counter()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert out == "interrupted committed\n", (out, err)
    assert "KeyboardInterrupt" in err
    assert process.returncode in (1, 130, -signal.SIGINT)
    assert time.perf_counter() - sent < 10, "the process took as long as the work"


def test_after_ctrl_c_the_device_still_works():
    done = run_python(
        """
        import _thread, signal, threading
        import numpy as np
        import metalloid as ml
        from support import slow
        signal.signal(signal.SIGINT, signal.default_int_handler)
        dev = ml.Device()
        cmd = slow(dev, 1.5)
        cmd.commit()
        threading.Timer(0.2, _thread.interrupt_main).start()
        try:
            cmd.wait()
            print("not interrupted")
        except KeyboardInterrupt:
            pass
        cmd.wait()
        print(cmd.status)
        with dev.commands() as cmd:
            y = ml.ops.rms_norm(cmd, dev.array(np.full((4, 64), 3, np.float32)))
        print(round(float(np.asarray(y).mean()), 4))
        """
    )
    assert done.stdout == "completed\n1.0\n", done.stderr


# --- forks --------------------------------------------------------------------------------------


def in_child(work) -> None:
    """Runs work in a forked child and fails if it fails, or hangs."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"


@needs_fork
@survives_forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
class TestFork:
    def test_child_and_parent_both_use_the_device(self, dev):
        assert normalise(3.0) == pytest.approx(1, rel=1e-5)
        for _ in range(3):
            in_child(lambda: _check(normalise(7.0)))
            assert normalise(5.0) == pytest.approx(1, rel=1e-5)

    def test_a_child_may_read_buffers_of_its_parent(self, dev):
        x = dev.array(np.full((300, 1000), 2, np.float32))
        with dev.commands() as cmd:
            y = ml.ops.rms_norm(cmd, x)

        def work():
            np.testing.assert_allclose(np.asarray(y), 1, rtol=1e-5)
            with dev.commands() as cmd:
                z = ml.ops.rms_norm(cmd, y, out=y)
            np.testing.assert_allclose(np.asarray(z), 1, rtol=1e-5)

        in_child(work)
        np.testing.assert_allclose(np.asarray(x), 2)

    def test_a_fork_while_work_is_in_flight(self, dev):
        from support import slow

        cmd = slow(dev, 0.5)
        cmd.commit()
        in_child(lambda: _check(normalise(7.0)))
        cmd.wait()
        assert cmd.status == "completed"

    def test_a_grandchild(self):
        in_child(lambda: in_child(lambda: _check(normalise(2.0))))

    def test_multiprocessing(self):
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            results = pool.map_async(normalise, [1.0, 2.0, 3.0, 4.0]).get(60)
        assert results == pytest.approx([1] * 4, rel=1e-5)


def on_a_mac(code: str) -> list[str]:
    """What a program says on a Mac, or on what behaves like one."""
    begin = """
        import os, signal, sys, time
        import numpy as np
        import metalloid as ml

        def child(work):
            begin, pid = time.monotonic(), os.fork()
            if pid == 0:
                signal.alarm(60)
                work()
                sys.exit(0)  # with what Python does at its end
            _, status = os.waitpid(pid, 0)
            print("ended", os.waitstatus_to_exitcode(status), time.monotonic() - begin < 2)

        def say(call):
            try:
                print("passed", call())
            except ml.DeviceError as error:
                print(error)
            sys.stdout.flush()
    """
    environment = {"METALLOID_IMITATE_MAC": "1", "METALLOID_CHECK": "off", "METALLOID_DEVICE": ""}
    done = run_python(textwrap.dedent(begin) + textwrap.dedent(code), **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


REFUSED = "used in a forked child, which Metal does not survive; start workers with spawn"


@needs_fork
class TestForkOnMac:
    def test_a_child_is_refused_whatever_it_asks_of_the_device(self):
        lines = on_a_mac(
            """
            dev = ml.Device()
            x = dev.array(np.full((4, 64), 3, np.float32))
            event, encoder = dev.event(), dev.commands()
            y = ml.ops.add(encoder, x, x)

            def work():
                for call in (
                    ml.Device,
                    ml.devices,
                    lambda: dev.empty(4),
                    lambda: dev.array([1.0]),
                    lambda: dev.queue("another"),
                    lambda: dev.event(),
                    lambda: event.signal(1),
                    lambda: event.wait(1),
                    lambda: event.value,
                    lambda: dev.compile("kernel void k() {}"),
                    lambda: dev.empty_cache(),
                    lambda: ml.ops.add(dev.commands(), x, x),
                    lambda: ml.ops.add(encoder, x, x),
                    lambda: encoder.commit(),
                ):
                    say(call)

            child(work)
            encoder.commit_and_wait()
            print(y.numpy().mean())
            """
        )
        *refused, ended, mean = lines
        assert len(refused) == 14
        for line in refused:
            assert line.endswith(": " + REFUSED), line
        assert refused[0] == "Device: " + REFUSED
        assert ended == "ended 0 True"
        assert mean == "6.0"

    def test_a_child_may_read_what_was_there(self):
        lines = on_a_mac(
            """
            dev = ml.Device()
            x = dev.array(np.full((4, 64), 3, np.float32))
            with dev.commands() as cmd:
                y = ml.ops.add(cmd, x, x)
            cmd.wait()

            def work():
                view = x[1:3]
                print(view.numpy().mean(), np.asarray(y).mean(), y.tolist()[0][0], flush=True)

            child(work)
            """
        )
        assert lines == ["3.0 6.0 6.0", "ended 0 True"]

    def test_a_child_does_not_wait_for_work_of_its_parent(self):
        lines = on_a_mac(
            """
            dev = ml.Device()
            x = dev.array(np.full((4, 64), 3, np.float32))
            event, cmd = dev.event(), dev.commands()
            cmd.wait_for(event, 1)
            y = ml.ops.add(cmd, x, x)
            submission = cmd.commit()

            def work():
                say(y.numpy)
                say(submission.wait)
                say(dev.synchronize)
                say(lambda: submission.add_done_callback(print))
                print(submission.done(), submission.status, flush=True)

            child(work)
            event.signal(1)
            print(y.numpy().mean())
            """
        )
        *refused, state, ended, mean = lines
        assert len(refused) == 4
        assert all(line.endswith(": " + REFUSED) for line in refused), refused
        assert state == "False committed"
        assert ended == "ended 0 True"
        assert mean == "6.0"

    @pytest.mark.parametrize("asked", ["ml.Device()", "ml.devices()"])
    def test_asking_for_a_device_is_enough(self, asked):
        assert on_a_mac(f"{asked}\nchild(lambda: say(ml.Device))") == ["Device: " + REFUSED, "ended 0 True"]

    def test_a_child_of_who_asked_for_none_opens_its_own(self):
        lines = on_a_mac(
            """
            def work():
                dev = ml.Device()
                x = dev.array(np.full((4, 64), 3, np.float32))
                with dev.commands() as cmd:
                    y = ml.ops.add(cmd, x, x)
                print(y.numpy().mean(), flush=True)
                child(lambda: say(ml.Device))

            child(work)
            """
        )
        assert lines == ["6.0", "Device: " + REFUSED, "ended 0 True", "ended 0 True"]

    def test_the_parent_hears_of_it_through_multiprocessing(self):
        lines = on_a_mac(
            """
            import multiprocessing
            ml.Device()

            def work(_):
                return ml.Device().name

            with multiprocessing.get_context("fork").Pool(1) as pool:
                say(lambda: pool.map_async(work, [1]).get(60))
            """
        )
        assert lines == ["Device: " + REFUSED]


def _check(mean: float) -> None:
    assert abs(mean - 1) < 1e-5, mean


def test_multiprocessing_spawn():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(normalise, [3.0]).get(60) == pytest.approx([1], rel=1e-5)


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(4))
def test_the_interpreter_may_end_with_work_in_flight(turn):
    """Committed, encoded but not committed, wrapped and viewed: nothing may hang or crash at the end."""
    start = time.perf_counter()
    done = run_python(
        f"""
        import sys, threading
        import numpy as np
        import metalloid as ml
        from support import page_aligned, slow
        dev = ml.Device()
        wrapped = dev.wrap(page_aligned((512, 1024), np.float32))
        host = np.asarray(dev.zeros(100))
        cmd = slow(dev, {0.1 * turn})
        y = ml.ops.rms_norm(cmd, wrapped)
        pending = dev.commands()
        ml.ops.rms_norm(pending, wrapped)
        cmd.commit()
        if {turn} == 3:
            threading.Thread(target=cmd.wait, daemon=True).start()
        print("end", flush=True)
        """
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert not done.stderr, done.stderr
    assert time.perf_counter() - start < 30


def test_objects_in_a_cycle_at_the_end():
    done = run_python(
        """
        import metalloid as ml
        class Holder: pass
        h = Holder()
        h.me, h.dev = h, ml.Device()
        h.buffer = h.dev.zeros((4, 4))
        h.cmd = h.dev.commands()
        h.out = ml.ops.rms_norm(h.cmd, h.buffer)
        h.cmd.commit()
        import sys
        sys.modules["keep"] = h
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
