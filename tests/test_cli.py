from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import metalloid as ml
import numpy as np
import pytest
from metalloid import _jit
from metalloid.cli import bench
from support import skip_if_lacking

README = Path(__file__).resolve().parents[1] / "README.md"


def metalloid(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "metalloid", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "160", **environment},
    )
    if done.returncode:
        skip_if_lacking(done.stderr)
    return done


def test_info_says_what_runs_where(dev):
    done = metalloid("info")
    assert done.returncode == 0, done.stderr
    for word in (dev.name, dev.kernel_variant, ml.__version__, np.__version__):
        assert word in done.stdout, done.stdout


def test_info_says_what_compiles_kernels_and_where_they_are_kept(tmp_path):
    said = metalloid("info", METALLOID_CACHE_DIR=str(tmp_path / "kept")).stdout
    assert all(f"Device {name}" in said for name in ml.devices())
    assert str(tmp_path / "kept") in said.replace("\n", "")
    if "cpu" in ml.devices():
        assert _jit.find_toolchain().compiler[0] in said


@pytest.mark.skipif("simt" not in ml.devices(), reason="no checked device")
def test_bench_measures_the_costs_of_lanes_checks_and_compilation(tmp_path):
    done = metalloid("bench", "--suite", "simt", "--rounds", "1", "--json", str(tmp_path / "bench.json"))
    assert done.returncode in (0, 1), done.stdout + done.stderr  # a busy machine misses targets
    rows = {row["what"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    for what in ("32 lanes over metalloid.ops", "checked over unchecked", "a barrier", "from the cache"):
        assert [row for name, row in rows.items() if what in name and row["best"] > 0], rows


def test_bench_measures_what_a_dispatch_costs(tmp_path):
    for name in ("torch", "mlx"):  # their part takes long, and this is what it looks like without them
        (tmp_path / f"{name}.py").write_text("raise ImportError('left out')")
    results = tmp_path / "bench.json"
    arguments = ["bench", "--suite", "dispatch", "--rounds", "1", "--json", str(results)]
    picture = tmp_path / "dispatch.png"
    if importlib.util.find_spec("matplotlib"):
        arguments += ["--picture", str(picture)]
    done = metalloid(*arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode in (0, 1), done.stdout + done.stderr  # a busy machine misses targets
    assert "torch (left out)" in done.stdout and "mlx (left out)" in done.stdout, done.stdout
    rows = {(row["who"], row["what"]): row for row in json.loads(results.read_text())["rows"]}
    for what, target in (
        ("rms_norm(out=)", 300),
        ("rms_norm, from the pool", None),
        ("own kernel, 4 arguments", 500),
        ("rms_norm(out=), hazards automatic", None),
        ("rms_norm(out=), hazards manual", None),
        ("hazard tracking in rms_norm(out=)", 60),
        ("rms_norm(out=), 8 threads at once", None),
        ("graph of 1000 add, replayed", 30),
        ("graph of 1000 add, optimised, replayed", 30),
        ("one dispatch", 3000),
        ("1000 dependent add(out=)", None),
        ("1000 independent add(out=)", None),
        ("graph of 1000 add", None),
        ("graph of 1000 add, optimised", None),
    ):
        row = rows.pop(("metalloid", what))
        assert row["target"] == target and row["how"] and f" {what} " in done.stdout, (row, done.stdout)
        assert row["error"] is None and len(row["values"]) >= 2, row
        assert what.startswith("hazard tracking") or row["best"] > 0, row
    assert {who for who, _ in rows} == {"numpy"} and len(rows) == 2, rows
    growth = json.loads(results.read_text())["growth"]
    assert [size["nodes"] for size in growth][::8] == [10, 100_000], growth
    assert all(size["median"] > 0 and (size["per_doubling"] or i == 0) for i, size in enumerate(growth))
    if "--picture" in arguments:
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not README.exists(), reason="needs the sources of the package")
def test_the_readme_has_a_row_for_everything_that_bench_measures():
    found = re.findall(r"^\| ([\w =]+) \| \S+ \| (f32|bf16) \|", README.read_text(), re.MULTILINE)
    types = {"float32": "f32", "bfloat16": "bf16"}
    assert found == [
        (f"{case.operation} {case.form}".strip(), types[str(case.dtype)]) for case in bench.cases()
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--suite", "simt", "--picture", "x.png"], "only --suite dispatch"),
        (["--suite", "dispatch", "--picture", "x.abacus"], "abacus"),
        (["--suite", "dispatch", "--device", "abacus"], "abacus"),
    ],
)
def test_bench_refuses_what_it_cannot_do(arguments, says):
    if "x.abacus" in arguments:
        pytest.importorskip("matplotlib")
    done = metalloid("bench", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in " ".join(done.stderr.split()) and "Traceback" not in done.stderr, done.stderr


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
