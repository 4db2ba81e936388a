"""What becomes of operations, and of the tests, on a GPU that cannot run every kernel."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import metalloid as ml
import pytest
import support
from support import needs_software, run_python

TESTS = pathlib.Path(__file__).parent
OLD = "gated_*,*bf16*"  # what a GPU that is older than Apple6 and Apple7 has not


def run_tests(*arguments: str, **environment: str) -> tuple[int, int, str]:
    """How many tests passed and were skipped; none may fail."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments],
        env={**os.environ, **environment},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [re.search(rf"(\d+) {what}", done.stdout) for what in ("passed", "skipped")]
    passed, skipped = (int(found[1]) if found else 0 for found in counts)
    return passed, skipped, done.stdout


@needs_software
def test_an_operation_names_the_kernel_that_the_device_cannot_run():
    done = run_python(
        """
        import metalloid as ml
        import ml_dtypes
        import numpy as np
        dev = ml.Device()
        print(dev.thread_execution_width == (1 if dev.name == "cpu" else 32))
        x = dev.zeros((4, 64), ml_dtypes.bfloat16)
        y = dev.zeros((4, 64))
        cmd = dev.commands()
        for call in (lambda: ml.ops.add(cmd, x, x), lambda: ml.ops.rms_norm(cmd, x)):
            try:
                call()
            except ml.DeviceError as error:
                print(error)
        z = ml.ops.add(cmd, y, y)
        cmd.commit_and_wait()
        print(cmd.dispatch_count, z.numpy().sum())
        """,
        METALLOID_NO_PIPELINE=OLD,
    )
    assert done.returncode == 0, done.stderr
    width, add, rms_norm, after = done.stdout.splitlines()
    assert width == "True"
    why = 'newComputePipelineState: kernel "{0}" needs what the device does not have'
    for line, operation, kernel in ((add, "add", "add_bf16"), (rms_norm, "rms_norm", "rms_norm_bf16")):
        assert line.startswith(f"{operation}: kernel {kernel}: no pipeline: {why.format(kernel)}")
    assert after == "1 0.0"


@needs_software
@pytest.mark.parametrize("lacking, error", [("add_f32,mul_f32,gated_*", ""), ("*", "no pipeline")])
def test_the_width_is_that_of_any_kernel_that_runs(lacking, error):
    done = run_python(
        "import metalloid as ml; print(ml.Device().thread_execution_width)", METALLOID_NO_PIPELINE=lacking
    )
    assert (done.returncode == 0) == (not error)
    assert error in done.stderr
    if not error:
        assert int(done.stdout) in (1, 32)


@needs_software
def test_cases_that_the_device_cannot_run_are_skipped_and_no_others():
    cases = ("tests/test_ops.py", "-k", "elementwise or gated_delta_never")
    passed, skipped, _ = run_tests(*cases, METALLOID_NO_PIPELINE="")
    assert passed and not skipped
    still, lacking, said = run_tests(*cases, METALLOID_NO_PIPELINE=OLD)
    assert still and lacking
    assert still + lacking == passed
    assert "the device cannot run it: add: kernel add_bf16: no pipeline: " in said
    assert "gated_delta_net_chunk_o: kernel gated_delta_net_chunk_o_k" in said


def test_only_a_device_that_may_lack_kernels_skips(monkeypatch):
    lacking = ml.DeviceError("add: kernel add_bf16: no pipeline: no reason")
    for may in (False, True):
        monkeypatch.setattr(support, "may_lack_kernels", lambda may=may: may)
        for said in (lacking, f"Traceback:\nmetalloid.DeviceError: {lacking}\n"):
            skipped = False
            try:
                support.skip_if_lacking(said)
            except pytest.skip.Exception:
                skipped = True
            assert skipped == may
        support.skip_if_lacking(ml.DeviceError("wait: the device was lost"))
