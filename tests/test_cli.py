from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import metalloid as ml
import numpy as np
import pytest
from metalloid import _jit


def metalloid(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "metalloid", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


def test_info_says_what_runs_where(dev):
    done = metalloid("info")
    assert done.returncode == 0, done.stderr
    for word in (dev.name, dev.kernel_variant, ml.__version__, np.__version__):
        assert word in done.stdout, done.stdout


def test_info_says_what_compiles_kernels_and_where_they_are_kept(tmp_path):
    said = metalloid("info", METALLOID_CACHE_DIR=str(tmp_path / "kept")).stdout
    assert "Device simt" in said and str(tmp_path / "kept") in said.replace("\n", "")
    assert _jit.find_toolchain().compiler[0] in said


def test_bench_measures_the_costs_of_lanes_checks_and_compilation(tmp_path):
    done = metalloid("bench", "--suite", "simt", "--rounds", "1", "--json", str(tmp_path / "bench.json"))
    assert done.returncode in (0, 1), done.stdout + done.stderr  # a busy machine misses targets
    rows = {row["what"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    for what in ("32 lanes over metalloid.ops", "checked over unchecked", "a barrier", "from the cache"):
        assert [row for name, row in rows.items() if what in name and row["best"] > 0], rows


def test_the_command_is_installed():
    command = shutil.which("metalloid", path=os.path.dirname(sys.executable))
    if command is None:
        pytest.skip("the scripts of this environment are not beside its Python")
    done = subprocess.run([command, "info"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments", [["demo", "/no/such/picture.jpg"], ["demo", "--device", "abacus"], ["frobnicate"]]
)
def test_mistakes_are_named_without_a_traceback(arguments):
    if arguments[0] == "demo":
        pytest.importorskip("matplotlib")
    done = metalloid(*arguments)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert arguments[-1] in said.replace("\n", ""), said
    assert "Traceback" not in said, said


def test_demo_on_a_small_picture(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    source, picture = tmp_path / "in.png", tmp_path / "out.png"
    image.imsave(source, np.random.default_rng(3).random((230, 260, 3)))
    done = metalloid("demo", str(source), "--out", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    for op in ("im2col_2d", "rms_norm", "fused_head_norm_rope", "vision_2d_rope", "gated_delta_net_chunk_o"):
        assert op in done.stdout, done.stdout
    assert image.imread(picture).shape[0] > 100
