from __future__ import annotations

import threading
import time

import metalloid as ml
import numpy as np
import pytest
from metalloid import reference
from support import F32, U, assert_close, slow
from test_ops import norm_error


def run_threads(count, target):
    errors = []

    def guarded(i):
        try:
            target(i)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
        assert not t.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_eight_threads_share_a_device(dev, rng):
    """Each encodes, commits and checks on its own; sizes differ so that pool and pipelines are contended."""
    seeds = rng.integers(0, 1 << 32, 8)

    def work(i):
        mine = np.random.default_rng(seeds[i])
        for turn in range(25):
            shape = tuple(mine.integers(1, 200, 2))
            x = mine.standard_normal(shape).astype(F32)
            weight = mine.standard_normal(shape[1]).astype(F32)
            cmd = dev.commands()
            y = ml.ops.rms_norm(cmd, dev.array(x), dev.array(weight))
            z = ml.ops.rms_norm(cmd, y)
            cmd.commit()
            if turn % 2:
                cmd.wait()
            assert_close(y, reference.rms_norm(x, weight), norm_error(x, weight), f"thread {i}")
            host = np.asarray(y)
            assert_close(z, reference.rms_norm(host), norm_error(host), f"thread {i}, second step")

    run_threads(8, work)


def test_a_fresh_device_object_per_thread_is_the_same_device():
    outputs = [None] * 8

    def work(i):
        device = ml.Device()
        x = device.array(np.full((4, 64), i + 1, np.float32))
        with device.commands() as cmd:
            outputs[i] = ml.ops.rms_norm(cmd, x)

    run_threads(8, work)
    for y in outputs:
        np.testing.assert_allclose(np.asarray(y), 1, rtol=32 * U)


def test_one_buffer_may_be_read_by_many_threads(dev, rng):
    x = rng.standard_normal((256, 256)).astype(F32)
    shared = dev.array(x)
    expected = reference.rms_norm(x)

    def work(i):
        for _ in range(10):
            with dev.commands() as cmd:
                y = ml.ops.rms_norm(cmd, shared)
            assert_close(y, expected, norm_error(x))

    run_threads(8, work)


def ticks_during(work) -> tuple[int, float]:
    """How often another Python thread gets to run while `work` does, and how long that took."""
    ticks, stop = 0, threading.Event()

    def tick():
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.002)

    ticker = threading.Thread(target=tick)
    ticker.start()
    before, start = ticks, time.perf_counter()
    work()
    elapsed, after = time.perf_counter() - start, ticks
    stop.set()
    ticker.join()
    return after - before, elapsed


@pytest.mark.parametrize("wait", ["wait", "numpy", "synchronize", "exit of the with block"])
def test_waiting_releases_the_gil(dev, wait):
    cmd = slow(dev, 0.5)
    y = ml.ops.rms_norm(cmd, dev.array(np.ones((4, 4), np.float32)))
    if wait == "exit of the with block":

        def work():
            with cmd:
                pass
    else:
        cmd.commit()
        work = {"wait": cmd.wait, "numpy": y.numpy, "synchronize": dev.synchronize}[wait]
    ticks, elapsed = ticks_during(work)
    assert elapsed > 0.1, "the work was too short to tell"
    assert ticks > elapsed / 0.002 / 20, f"{ticks} turns in {elapsed:.2f} s"


def test_copying_releases_the_gil(dev):
    a = np.ones(100_000_000, np.float32)
    buffer = dev.empty(a.shape)
    ticks, elapsed = ticks_during(lambda: [buffer.copy_from(a) for _ in range(3)])
    assert ticks > elapsed / 0.002 / 20, f"{ticks} turns in {elapsed:.2f} s"
