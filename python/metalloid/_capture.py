"""Metal's own captures, for Xcode."""

from __future__ import annotations

import os

from ._core import Device, _capture_start, _capture_stop


class capture:
    """A context manager: has Metal record what a device runs in its block, for Xcode to open.

        with ml.capture("x.gputrace"):
            ...

    ``path`` ends in ``.gputrace``, is not there yet, and its folder is. ``device`` is the one to record, else
    the default one. The recording has the command buffers that are begun and committed in the block, and is
    ended when an exception ends the block as well, but not by the child of a fork.

    macOS lets a process be captured that was started with ``MTL_CAPTURE_ENABLED=1`` in its environment, or
    whose application says MetalCaptureEnabled in its Info.plist. Off the Mac there is nothing to capture;
    trace() tells there what ran when.

    Raises ValidationError for such a path, Error if another capture is on, and DeviceError where Metal makes
    no captures.
    """

    def __init__(self, path: str | os.PathLike[str], device: Device | None = None) -> None:
        self._path = os.fspath(path)
        self._device = device
        self._pid = 0

    def __enter__(self) -> capture:
        _capture_start(Device() if self._device is None else self._device, self._path)
        self._pid = os.getpid()
        return self

    def __exit__(self, *exception: object) -> None:
        if os.getpid() == self._pid:
            _capture_stop()
        self._pid = 0
