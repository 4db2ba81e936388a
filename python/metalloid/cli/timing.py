"""Clocks and the memcpy that everything is compared with."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np

import metalloid as ml


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Memcpy:
    """A memcpy by several OS threads, between two touched buffers of the device that is being measured.

    An operation that reads and writes N bytes in all is compared with the copy of N/2 bytes, which reads and
    writes as much. The calling thread copies one part itself, so that a small copy is not charged for waking
    more threads than it must; `ctypes.memmove` lets go of the GIL.
    """

    def __init__(self, device: ml.Device, max_bytes: int, threads: int) -> None:
        words = -(-max_bytes // 4)
        self._buffers = device.zeros((words,)), device.zeros((words,))
        for buffer in self._buffers:  # written once, so that every page is there
            buffer.numpy().fill(1.0)
        self.capacity = 4 * words
        self.threads = threads
        self._work: SimpleQueue[tuple[int, int, int] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._helpers = [threading.Thread(target=self._help, daemon=True) for _ in range(threads - 1)]
        for helper in self._helpers:
            helper.start()

    def __enter__(self) -> Memcpy:
        return self

    def __exit__(self, *exception: object) -> None:
        for _ in self._helpers:
            self._work.put(None)
        for helper in self._helpers:
            helper.join()

    def _help(self) -> None:
        while (part := self._work.get()) is not None:
            ctypes.memmove(*part)
            self._done.put(None)

    def run(self, count: int | None = None) -> None:
        """Copies `count` bytes, or all of them."""
        count = self.capacity if count is None else count
        if count > self.capacity:
            raise ValueError(f"Memcpy: {count} bytes asked for, the buffers hold {self.capacity}")
        target, source = (buffer.address for buffer in self._buffers)
        part = -(-count // self.threads // 4096) * 4096
        parts = [(target + at, source + at, min(part, count - at)) for at in range(0, count, part)]
        for piece in parts[1:]:
            self._work.put(piece)
        ctypes.memmove(*parts[0])
        for _ in parts[1:]:
            self._done.get()

    def check(self) -> bool:
        """Whether the copy copies: fills the source, runs, and looks at the target."""
        target, source = (buffer.numpy() for buffer in self._buffers)
        source[:] = np.arange(len(source), dtype=np.float32)
        self.run(self.capacity)
        return bool(np.array_equal(target, source))
