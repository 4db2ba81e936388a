from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import metalloid as ml
import numpy as np
import pytest
from metalloid.cli import cases
from metalloid.cli.cases import Array, CaseError, File, Plain, ThreadgroupMemory, parse_value, sizes_of
from metalloid.cli.check import annotation

pytestmark = pytest.mark.skipif("simt" not in ml.devices(), reason="no checked device")

EXAMPLES = Path(__file__).parent.parent / "examples"
needs_tomllib = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")

KERNELS = """
#include <metal_stdlib>
using namespace metal;

struct Params {
  uint n;
  float factor;
};

[[kernel]] void scaled(const device float* x [[buffer(0)]], device float* y [[buffer(1)]],
                       constant Params& params [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i < params.n) y[i] = params.factor * x[i];
}

[[kernel]] void reversed(const device uint* x [[buffer(0)]], device uint* y [[buffer(1)]],
                         threadgroup uint* scratch [[threadgroup(0)]],
                         uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  scratch[i] = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  scratch[i] = x[i];
#ifndef RACE
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  y[i] = scratch[n - 1 - i];
}
"""
WRITE_LINE, READ_LINE = 20, 24  # of the race
REVERSE = ["--kernel", "reversed", "--threads", "64", "--threadgroup", "64"]
REVERSE += ["--args", "x=u32[64]:arange y=u32[64] scratch=threadgroup[256]"]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def check(cache_dir, tmp_path):
    """Runs `metalloid check` in a folder that has kernels.metal in it."""
    (tmp_path / "kernels.metal").write_text(KERNELS)

    def run(*arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("METALLOID_SEED", "METALLOID_CHECK"))
        }
        done = subprocess.run(
            [sys.executable, "-m", "metalloid", "check", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**kept, "COLUMNS": "160", "METALLOID_CACHE_DIR": str(cache_dir), **environment},
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert status == 2 or "Traceback" not in done.stderr, done.stderr
        return done

    return run


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1024", Plain(1024)),
        ("0x10", Plain(16)),
        ("-2.5", Plain(-2.5)),
        ("true", Plain(True)),
        ("f32[1024]", Array(np.dtype(np.float32), (1024,))),
        ("half[2,3]:ones", Array(np.dtype(np.float16), (2, 3), "ones")),
        ("uint64[4]:random(0,9)", Array(np.dtype(np.uint64), (4,), "random(0,9)")),
        ("f32[8]:in.npy", Array(np.dtype(np.float32), (8,), "in.npy")),
        ("in.npy", File(Path("in.npy"))),
        ("threadgroup[256]", ThreadgroupMemory(256)),
    ],
)
def test_a_word_is_an_argument(word, value):
    assert parse_value(word) == value


def test_a_struct_is_laid_out_as_c_does():
    value = parse_value("{u8:3,f32:0.5,u64:9}").make(None, None, None)
    assert value.dtype.itemsize == 16
    assert value.tobytes()[4:8] == np.float32(0.5).tobytes()
    assert value.tobytes()[8:] == np.uint64(9).tobytes()


@pytest.mark.parametrize(
    ("word", "needs"),
    [
        ("f33[4]", "unknown element type 'f33'"),
        ("f32[4", "cannot make an argument"),
        ("f32[]", "cannot make an argument"),
        ("threadgroup[4,4]", "threadgroup[BYTES]"),
        ("{u32}", "needs {TYPE:NUMBER,...}"),
        ("{u8:256}", "no struct"),
        ("seven", "cannot make an argument of 'seven'"),
    ],
)
def test_a_wrong_word_is_named(word, needs):
    with pytest.raises(CaseError) as error:
        parse_value(word)
    assert needs in str(error.value)


class Memory:
    """Stands in for a device: what would be put into a buffer."""

    array = staticmethod(lambda values: values)
    empty = staticmethod(lambda shape, dtype: (shape, dtype))


def made(word: str, seed: int = 1, **reads: str):
    argument = type("Argument", (), reads) if reads else None
    return parse_value(word).make(Memory, np.random.default_rng(seed), argument)


def test_contents():
    assert made("f32[2,2]:ones").tolist() == [[1, 1], [1, 1]]
    assert made("i32[3]:arange").tolist() == [0, 1, 2]
    assert made("i16[3]:4,-5,6").tolist() == [4, -5, 6]
    assert made("bf16[2]:1.5").astype(float).tolist() == [1.5, 1.5]
    values = made("u32[1000]:random(5,8)")
    assert values.dtype == np.uint32 and set(values.tolist()) == {5, 6, 7}
    assert np.array_equal(made("f32[9]:random"), made("f32[9]:random"))
    assert not np.array_equal(made("f32[9]:random"), made("f32[9]:random", seed=2))
    assert made("f32[9]:empty") == ((9,), np.dtype(np.float32))
    # What a kernel reads has to have something in it; what it writes must not.
    assert made("f32[9]", access="read").shape == (9,)
    assert made("f32[9]", access="read-write") == ((9,), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("word", "needs"),
    [
        ("f32[4]:1,2,3", "has 3 elements, needs 4 or 1"),
        ("f32[4]:lots", "unknown content 'lots'"),
        ("f32[4]:random(2,1)", "empty range"),
        ("f32[4]:/no/such.npy", "cannot read '/no/such.npy'"),
    ],
)
def test_wrong_contents_are_named(word, needs):
    with pytest.raises(CaseError) as error:
        made(word)
    assert needs in str(error.value)


def test_sizes():
    assert sizes_of(256, "threads") == sizes_of("256", "threads") == (256,)
    assert (
        sizes_of("16x8", "threads") == sizes_of("16,8", "threads") == sizes_of([16, 8], "threads") == (16, 8)
    )
    for wrong in ("", "a", "-1", [1.5j], None):
        with pytest.raises(CaseError, match="threads"):
            sizes_of(wrong, "threads")


# --- compiling and describing -----------------------------------------------------------------------


def test_a_file_is_compiled_and_described(check):
    said = check("kernels.metal").stdout
    for word in ("scaled", "reversed", "params", "scratch", "thread_index_in_threadgroup"):
        assert word in said, said


def test_reflection_as_json(check):
    report = json.loads(check("kernels.metal", "--format", "json").stdout)
    assert report["status"] == 0
    kernels = {kernel["name"]: kernel for kernel in report["sources"][0]["kernels"]}
    assert set(kernels) == {"scaled", "reversed"}
    x, y, params = kernels["scaled"]["arguments"]
    assert (x["index"], x["name"], x["dtype"], x["access"]) == (0, "x", "float32", "read")
    assert y["access"] in ("write", "read-write")
    assert (params["address_space"], params["size"], params["dtype"]) == ("constant", 8, None)
    assert kernels["reversed"]["arguments"][2]["kind"] == "threadgroup"
    # Metal does not tell.
    assert kernels["scaled"]["builtins"] == ([] if "metal" in ml.devices() else ["thread_position_in_grid"])


def test_one_kernel_of_a_file(check):
    report = json.loads(check("kernels.metal", "-k", "scaled", "-f", "json").stdout)
    assert [kernel["name"] for kernel in report["sources"][0]["kernels"]] == ["scaled"]
    assert "reversed" in check("kernels.metal", "-k", "missing", status=2).stdout


def test_compile_errors_have_file_and_line(check, tmp_path):
    (tmp_path / "broken.metal").write_text(KERNELS.replace("params.factor", "params.fctor"))
    assert "broken.metal:12" in check("broken.metal", status=2).stdout
    said = check("broken.metal", "--format", "github", status=2).stdout
    assert said.startswith("::error file=broken.metal,line=12,"), said
    assert "fctor" in said
    report = json.loads(check("broken.metal", "kernels.metal", "--format", "json", status=2).stdout)
    assert "fctor" in report["sources"][0]["failure"]["log"]
    assert len(report["sources"][1]["kernels"]) == 2


def test_macros_and_includes(check, tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "more.h").write_text("constant float three = 3.0f;\n")
    source = '#include "more.h"\n[[kernel]] void k(device float* y) { y[0] = three * FACTOR; }\n'
    (tmp_path / "including.metal").write_text(source)
    check("including.metal", "-I", "include", "-D", "FACTOR=2.0f")
    check("including.metal", "-I", "include", status=2)
    check("including.metal", "-D", "FACTOR", status=2)


# --- running -----------------------------------------------------------------------------------------


def test_a_clean_kernel(check):
    said = check("kernels.metal", *REVERSE, "--seed", "0", "--seed", "3").stdout
    assert "clean" in said and "seeds 0, 3" in said


def test_a_race_is_reported(check):
    said = check("kernels.metal", *REVERSE, "-D", "RACE", status=1).stdout
    assert "threadgroup-race" in said
    assert f"kernels.metal:{READ_LINE}" in said and f"kernels.metal:{WRITE_LINE}" in said
    assert "scratch[i] = x[i];" in said


def test_a_race_as_json(check):
    done = check(
        "kernels.metal", *REVERSE, "-D", "RACE", "--seed", "1", "--seed", "2", "-f", "json", status=1
    )
    report = json.loads(done.stdout)
    assert (report["status"], report["device"], report["checked"]) == (1, "simt", True)
    (case,) = report["cases"]
    assert case["seeds"] == [1, 2]
    (fault,) = case["faults"]
    assert (fault["kind"], fault["kernel"], fault["variable"]) == ("threadgroup-race", "reversed", "scratch")
    assert {fault["line"], fault["second_line"]} == {WRITE_LINE, READ_LINE}
    assert fault["seeds"] == [1, 2] and len(fault["threads"]) == 2


def test_a_race_as_an_annotation(check, tmp_path):
    done = check(
        "kernels.metal", *REVERSE, "-D", "RACE", "-f", "github", status=1, GITHUB_WORKSPACE=str(tmp_path)
    )
    (line,) = done.stdout.splitlines()
    # Either side may be the later one, which the annotation is at.
    first, second = (WRITE_LINE, READ_LINE) if f"line={WRITE_LINE}," in line else (READ_LINE, WRITE_LINE)
    assert line.startswith(f"::error file=kernels.metal,line={first},title=threadgroup-race in reversed::")
    assert f"kernels.metal:{second}" in line


def test_out_of_bounds(check):
    scaled = ["--kernel", "scaled", "--threads", "64", "--threadgroup", "32", "--arg", "x=f32[64]"]
    check("kernels.metal", *scaled, "--arg", "y=f32[64]", "--arg", "params={u32:64,f32:0.5}")
    done = check("kernels.metal", *scaled, "--arg", "y=f32[60]", "--arg", "params={u32:64,f32:0.5}", status=1)
    assert "out-of-bounds" in done.stdout and "kernels.metal:12" in done.stdout


def test_a_device_without_checks(check):
    said = check("kernels.metal", *REVERSE, "-D", "RACE", "--device", "cpu").stdout
    assert "unchecked" in said


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        (["missing.metal"], "missing.metal"),
        (["kernels.txt"], "neither .metal nor a description"),
        (["kernels.metal", "--threads", "64", "--threadgroup", "64"], "which kernel?"),
        (["kernels.metal", "-k", "scaled", "--threads", "64"], "needs threadgroup"),
        (["kernels.metal", "-k", "scaled", "--threadgroup", "64"], "either threads or threadgroups"),
        (["kernels.metal", "-k", "scaled", "--arg", "x"], "needs NAME=VALUE"),
        (["kernels.metal", *REVERSE, "--arg", "x=3"], "x is given twice"),
        (["kernels.metal", *REVERSE, "--arg", "z=3"], "z"),
        (["kernels.metal", *REVERSE[:-1], "x=f32[64]:random"], "float32"),
        (["kernels.metal", "--device", "abacus"], "abacus"),
    ],
)
@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_what_cannot_be_run_is_said(check, arguments, needs, form):
    done = check(*arguments, "--format", form, status=2)
    assert needs in (done.stdout + done.stderr).replace("\n", " "), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if form == "json":
        assert json.loads(done.stdout)["status"] == 2
    if form == "github":
        assert done.stdout.startswith("::error ")


# --- descriptions ------------------------------------------------------------------------------------

CASES = """
source = "kernels.metal"
seeds = [4, 5]

[[case]]
name = "three quarters"
kernel = "scaled"
threads = 96
threadgroup = [32]
args = { x = "f32[128]", y = "f32[128]", params = "{u32:96,f32:2}" }

[[case]]
kernel = "reversed"
macros = { RACE = RACED }
threadgroups = 1
threadgroup = 64
[case.args]
x = { dtype = "uint32", shape = [64], init = "arange" }
y = { dtype = "uint32", shape = 64 }
scratch = { threadgroup = 256 }
"""


@needs_tomllib
def test_cases_in_toml(check, tmp_path):
    (tmp_path / "cases.toml").write_text(CASES.replace("{ RACE = RACED }", "{}"))
    said = check("cases.toml").stdout
    assert said.count("clean") == 2 and "three quarters" in said and "seeds 4, 5" in said
    (tmp_path / "cases.toml").write_text(CASES.replace("RACED", "1"))
    report = json.loads(check("cases.toml", "--seed", "7", "-f", "json", status=1).stdout)
    assert [case["status"] for case in report["cases"]] == [0, 1]
    assert report["cases"][1]["seeds"] == [7]
    assert report["cases"][1]["faults"][0]["kind"] == "threadgroup-race"


@needs_tomllib
@pytest.mark.parametrize(
    ("old", "new", "needs"),
    [
        ("seeds", "sseeds", "no setting 'sseeds'"),
        ("threadgroup = 64", "threadgroup = 64\nthread = 1", "no setting 'thread'"),
        ("shape = 64", "shapes = 64", "no setting 'shapes'"),
        ('source = "kernels.metal"', "", "needs source"),
        ("threads = 96", "", "either threads or threadgroups"),
        ("[[case]]", "[case]", "case"),
        ("f32[128]", "f31[128]", "unknown element type"),
        ("seeds = [4, 5]", "seeds = [", "cannot read"),
    ],
)
def test_mistakes_in_toml_are_named(tmp_path, old, new, needs):
    (tmp_path / "cases.toml").write_text(CASES.replace("RACED", "1").replace(old, new))
    with pytest.raises(CaseError) as error:
        cases.from_toml(tmp_path / "cases.toml")
    assert needs in str(error.value)


def test_without_tomllib_it_says_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    with pytest.raises(CaseError, match=r"needs Python 3\.11"):
        cases.from_toml(tmp_path / "cases.toml")


PYTHON = """
from pathlib import Path
import numpy as np
import metalloid as ml

def library(device):
    return device.compile(Path(__file__).parent / "kernels.metal")

def check_scaled(device, rng):
    x = rng.standard_normal(100, dtype=np.float32)
    y = device.empty(x.shape, np.float32)
    params = np.array((100, FACTOR), np.dtype([("n", np.uint32), ("factor", np.float32)], align=True))
    with device.commands() as cmd:
        args = [device.array(x), y, params]
        cmd.dispatch(library(device).kernel("scaled"), threads=100, threadgroup=32, args=args)
    np.testing.assert_allclose(y.numpy(), 2 * x)

def check_nothing():
    pass
"""


def test_cases_in_python(check, tmp_path):
    (tmp_path / "checks.py").write_text(PYTHON.replace("FACTOR", "2.0"))
    assert check("checks.py").stdout.count("clean") == 2
    (tmp_path / "checks.py").write_text(PYTHON.replace("FACTOR", "2.5"))
    line = PYTHON[: PYTHON.index("    np.testing")].count("\n") + 1
    said = check("checks.py", "-f", "github", "--seed", "1", status=1).stdout
    assert said.startswith(f"::error file=checks.py,line={line},title=wrong result of check_scaled::"), said
    (tmp_path / "checks.py").write_text(PYTHON)  # FACTOR is no name
    assert "NameError" in check("checks.py", status=2).stdout
    (tmp_path / "checks.py").write_text("import nothing_of_that_name\n")
    assert "nothing_of_that_name" in check("checks.py", status=2).stderr
    (tmp_path / "checks.py").write_text("x = 1\n")
    assert "check_" in check("checks.py", status=2).stderr


# --- the rest ----------------------------------------------------------------------------------------


def test_annotations_are_escaped():
    line = annotation("50% of\nall", "a: b, c", "f,g.metal", 3)
    assert line == "::error file=f%2Cg.metal,line=3,title=a%3A b%2C c::50%25 of%0Aall"


@needs_tomllib
def test_the_race_of_the_examples(check):
    report = json.loads(check(str(EXAMPLES / "race" / "softmax.toml"), "-f", "json", status=1).stdout)
    written, mended = report["cases"]
    assert {(fault["kind"], fault["variable"]) for fault in written["faults"]} == {
        ("threadgroup-race", "scratch")
    }
    assert all(fault["seeds"] == [0, 1, 2] for fault in written["faults"])
    assert mended["status"] == 0


def test_the_settings_of_the_process_are_left_alone(tmp_path):
    from metalloid.cli import check as work

    (tmp_path / "checks.py").write_text("def check_nothing(): pass\n")
    before = ml.check_settings().seed
    options = {"compile_options": {}, "kernel": None, "constants": {}, "dispatch": None}
    report = work.run([tmp_path / "checks.py"], **options, seeds=[before + 1], device=None)
    assert report.cases[0].seeds == [before + 1]
    assert ml.check_settings().seed == before
