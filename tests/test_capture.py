"""Captures, where there is nothing to capture, and the codes of what a device says."""

from __future__ import annotations

import os
import subprocess
import sys

import metalloid as ml
import numpy as np
import pytest
from metalloid import _core
from support import open_device

CAPTURE = """
import sys, numpy as np, metalloid as ml
dev = ml.Device("metal")
x = dev.array(np.ones(8, np.float32))
try:
    with ml.capture(sys.argv[1], device=dev):
        with dev.commands() as cmd:
            y = ml.ops.add(cmd, x, x)
    print(np.asarray(y).sum())
except ml.DeviceError as error:
    print(error)
"""


@pytest.mark.skipif("metal" not in ml.devices(), reason="needs a Mac")
def test_a_capture_is_written(tmp_path):
    path = tmp_path / "x.gputrace"
    done = subprocess.run(
        [sys.executable, "-c", CAPTURE, str(path)],
        env={**os.environ, "MTL_CAPTURE_ENABLED": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    if "capture: Metal does not let" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.stdout == "16.0\n" and path.exists()


@pytest.fixture
def dev():
    return open_device("cpu")


def test_captures_are_refused_off_the_mac(tmp_path, dev):
    with (
        pytest.raises(ml.DeviceError, match=r"device is \"cpu\".*trace\(\)"),
        ml.capture(tmp_path / "x.gputrace", device=dev),
    ):
        pytest.fail("the block does not run")
    with pytest.raises(ml.Error, match="none to stop"):
        _core._capture_stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.txt", "ends in .gputrace"),
        ("none/x.gputrace", "is not there"),
        ("old.gputrace", "is there already"),
    ],
)
def test_paths_are_checked_first(tmp_path, dev, name, said):
    (tmp_path / "old.gputrace").mkdir()
    with pytest.raises(ml.ValidationError, match=f"capture: .*{said}"), ml.capture(tmp_path / name, dev):
        pytest.fail("the block does not run")


def work(dev):
    x = dev.array(np.ones(8, np.float32))
    with dev.commands() as cmd:
        ml.ops.add(cmd, x, x)


@pytest.mark.parametrize(("code", "name"), [(2, "timeout"), (8, "out_of_memory"), (3, "page_fault")])
def test_errors_of_the_device_have_codes(dev, code, name):
    _core._fail_next_command_buffer(code)
    with pytest.raises(ml.DeviceError, match=name) as caught:
        work(dev)
    assert caught.value.code == name
    work(dev)


def test_other_errors_have_none():
    with pytest.raises(ml.DeviceError) as caught:
        ml.Device("none")
    assert caught.value.code == ""
    assert ml.DeviceError("made by hand").code == ""


LOST = """
import numpy as np, metalloid as ml
from metalloid import _core
dev = ml.Device("cpu")
x = dev.array(np.ones(8, np.float32))
def work():
    with dev.commands() as cmd:
        ml.ops.add(cmd, x, x)
work()
_core._fail_next_command_buffer(11)
for attempt in range(3):
    try:
        work()
    except ml.DeviceError as error:
        print(error.code, "|", error)
"""


def test_a_device_that_is_lost_stays_lost(dev):
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, *later = done.stdout.splitlines()
    assert first.startswith("device_removed |")
    assert len(later) == 2
    assert all("the device was lost when an earlier command buffer failed" in line for line in later)
