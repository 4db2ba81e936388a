"""The two forms of the built-in shaders: how the build makes them, for Macs too, and how they are loaded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import metalloid as ml
import pytest
from support import run_python

ROOT = Path(__file__).resolve().parent.parent
FLATTEN = ROOT / "cmake" / "FlattenShaders.cmake"
CMAKE = shutil.which("cmake")
# On a Mac the suite runs on one of the forms anyway, and there Metal caches what it compiles.
NO_COMPILER = pytest.param("", marks=pytest.mark.skipif(bool(shutil.which("xcrun")), reason="there is xcrun"))
software = pytest.mark.skipif("cpu" not in ml.devices(), reason="needs the software devices")
pytestmark = pytest.mark.skipif(
    not CMAKE or not FLATTEN.exists(), reason="needs cmake, and the sources of the package"
)


def cmake(*arguments: object, path: Path | None = None) -> subprocess.CompletedProcess:
    """Runs CMake, which finds the programs of one more folder first."""
    folders = [str(path)] if path else []
    environment = {**os.environ, "PATH": os.pathsep.join([*folders, os.environ["PATH"]])}
    done = subprocess.run(
        [CMAKE, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment
    )
    # Messages come with line breaks of CMake's own.
    done.said = " ".join((done.stdout + done.stderr).split())
    return done


# --- one file of all shaders -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("flat") / "metalloid.metal"
    done = cmake(f"-DOUTPUT={output}", "-P", FLATTEN)
    assert done.returncode == 0, done.said
    return output


def test_every_line_of_the_shaders_is_where_the_directives_say(flat):
    sources = sorted(ROOT.glob("shaders/**/*.metal")) + sorted(ROOT.glob("shaders/**/*.h"))
    missing = {}
    for file in sources:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if line and not re.match(r'#(pragma once|include ("|<metal_))', line):
                missing[str(file.relative_to(ROOT)), number] = line
    name, number = "", 0
    for line in flat.read_text().splitlines():
        if marker := re.fullmatch(r'#line (\d+) "([^"]+)"', line):
            name, number = marker[2], int(marker[1])
            continue
        expected = missing.pop((name, number), None)
        assert expected is None or line == expected, f"{name}:{number}"
        number += 1
    # This one is a remark that nothing includes.
    assert {name for name, _ in missing} <= {"shaders/params/rope.h"}, missing


def test_the_file_includes_headers_of_metal_only_and_each_once(flat):
    included = re.findall(r"^\s*#\s*include\s*(\S+)", flat.read_text(), re.M)
    metal = [name for name in included if name.startswith("<metal_")]
    assert sorted(metal) == ["<metal_simdgroup_matrix>", "<metal_stdlib>"]
    # The rest is for compilers that are not Metal's.
    assert {name for name in included if name not in metal} == {"<cstdint>"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "shaders holds no .metal file"),
        ({"a.metal": '\n#include "b.h"\n'}, "shaders/a.metal:2: there is no shaders/b.h"),
        ({"a.metal": '#include "b.h"\n', "b.h": "int b;\n"}, "shaders/b.h: needs #pragma once"),
        (
            {"a.metal": '#if 1\n#include "b.h"\n#endif\n', "b.h": "#pragma once\n"},
            "shaders/a.metal:2: the #include of shaders/b.h is inside an #if, needs to be outside",
        ),
    ],
    ids=["none", "missing", "not once", "conditional"],
)
def test_what_cannot_be_put_into_one_file_is_refused(tmp_path, files, said):
    (tmp_path / "shaders").mkdir()
    for name, text in files.items():
        (tmp_path / "shaders" / name).write_text(text)
    done = cmake(f"-DOUTPUT={tmp_path / 'out.metal'}", f"-DROOT={tmp_path}", "-P", FLATTEN)
    assert done.returncode != 0 and said in done.said
    assert not (tmp_path / "out.metal").exists()


# --- the build for a Mac ---------------------------------------------------------------------------

# Writes down its arguments, and an empty file for what it is to make. It may refuse the flags that Xcode 15
# does not know, be there without the compiler as in Xcode 26, or do nothing at all.
XCRUN = """#!/bin/sh
echo "$@" >>"{log}"
case "{toolchain} $*" in
  missing*" metal "*) echo "error: cannot execute tool 'metal' due to missing Metal Toolchain" >&2; exit 1 ;;
  stub*) exit 0 ;;
  15*-fmetal-math-mode=*) echo "error: unknown argument" >&2; exit 1 ;;
esac
while [ $# -gt 0 ]; do
  [ "$1" = -o ] && : >"$2"
  shift
done
exit 0
"""
VERSION = ["-std=metal3.1", "-mmacosx-version-min=14.0", "-O2"]
RELAXED = ["-fmetal-math-mode=relaxed", "-fmetal-math-fp32-functions=fast"]


class Build:
    """A build of the shaders for macOS, as far as CMake goes."""

    def __init__(self, folder: Path, toolchain: str) -> None:
        self.folder, self.log, self.tools = folder / "build", folder / "log", folder / "tools"
        self.tree = folder / "tree"
        for part in ("cmake", "shaders", "tests/cmake"):
            shutil.copytree(ROOT / part, self.tree / part)
        self.tools.mkdir()
        if toolchain:
            xcrun = self.tools / "xcrun"
            xcrun.write_text(XCRUN.format(log=self.log, toolchain=toolchain))
            xcrun.chmod(0o755)

    def configure(self, **settings: str) -> subprocess.CompletedProcess:
        options = [f"-D{name}={value}" for name, value in settings.items()]
        project = self.tree / "tests" / "cmake" / "shaders"
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        arguments = ["-S", project, "-B", self.folder, "-DCMAKE_SYSTEM_NAME=Darwin"]
        return cmake(*generator, *arguments, *options, path=self.tools)

    def run(self) -> list[list[str]]:
        """Builds and installs; what xcrun was asked for."""
        self.log.write_text("")
        for arguments in (["--build", self.folder], ["--install", self.folder, "--prefix", self.folder]):
            done = cmake(*arguments, path=self.tools)
            assert done.returncode == 0, done.said
        return [line.split() for line in self.log.read_text().splitlines()]

    def installed(self) -> list[str]:
        return sorted(file.name for file in (self.folder / "metalloid").iterdir())


@pytest.mark.parametrize(("xcode", "math"), [("16", RELAXED), ("15", ["-ffast-math"])])
def test_with_apples_compiler_the_shaders_become_one_library(tmp_path, xcode, math):
    build = Build(tmp_path, xcode)
    done = build.configure()
    assert done.returncode == 0, done.said
    calls = build.run()
    assert all(call[:2] == ["-sdk", "macosx"] for call in calls)
    *compiled, linked = sorted(calls, key=lambda call: call[2])
    shaders = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("shaders/*.metal"))
    assert sorted(call[call.index("-c") + 1] for call in compiled) == shaders
    for call in compiled:
        assert call[2:] == ["metal", *VERSION, *math, "-I", "shaders", *call[-4:]]
        assert call[-4] == "-c" and call[-2] == "-o" and call[-1].endswith(".air")
    objects = sorted(call[-1] for call in compiled)
    assert linked[2:] == ["metallib", *objects, "-o", str(build.folder / "metalloid.metallib")]
    assert build.installed() == ["metalloid.metallib"]

    assert build.run() == []
    os.utime(build.tree / "shaders" / "include" / "rope.h")
    assert len(build.run()) == len(calls)


@pytest.mark.parametrize("toolchain", [NO_COMPILER, "missing", "stub"])
def test_without_it_the_source_is_installed(tmp_path, flat, toolchain):
    build = Build(tmp_path, toolchain)
    done = build.configure()
    assert done.returncode == 0 and "compiled when they are first used" in done.said, done.said
    if toolchain == "missing":
        assert "missing Metal Toolchain" in done.said
    assert build.run() == [] and build.installed() == ["metalloid.metal"]
    assert (build.folder / "metalloid" / "metalloid.metal").read_text() == flat.read_text()


def test_each_form_can_be_asked_for(tmp_path):
    build = Build(tmp_path, "16")
    assert build.configure(METALLOID_SHADERS="source").returncode == 0
    assert build.run() == [] and build.installed() == ["metalloid.metal"]
    assert build.configure(METALLOID_SHADERS="metallib").returncode == 0
    assert build.run() and "metalloid.metallib" in build.installed()


@pytest.mark.parametrize(
    ("toolchain", "form", "said"),
    [
        pytest.param(
            *("", "metallib", "needs Apple's Metal compiler, but there is no xcrun"), marks=NO_COMPILER.marks
        ),
        ("missing", "metallib", "missing Metal Toolchain It comes with Xcode"),
        ("stub", "metallib", "`xcrun metal` compiles nothing"),
        ("16", "air", 'METALLOID_SHADERS is "air", needs auto, metallib or source'),
    ],
)
def test_what_cannot_be_built_is_refused(tmp_path, toolchain, form, said):
    done = Build(tmp_path, toolchain).configure(METALLOID_SHADERS=form)
    assert done.returncode != 0 and said in done.said, done.said


# --- kernels from source ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(flat, tmp_path_factory) -> dict[str, str]:
    """The variables that have devices compile their kernels: once, for all tests."""
    return {"METALLOID_LIBRARY": str(flat), "METALLOID_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


TELL = """
    import json, threading, time
    import metalloid as ml
    dev = ml.Device({name!r})
    told = []
    def tell():
        told.append([sorted(dev.kernels()), dev.thread_execution_width, dev.kernel_variant, dev.library_path])
    threads = [threading.Thread(target=tell) for _ in range(4)]
    start = last = time.monotonic()
    longest = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
        longest = max(longest, time.monotonic() - last)
        last = time.monotonic()
    assert len(told) == 4 and all(each == told[0] for each in told)
    assert longest < (last - start) / 2, "other threads wait while one compiles"
    print(json.dumps(told[0]))
"""


@software
@pytest.mark.parametrize("name", ["cpu", "simt"])
def test_kernels_from_source_are_those_of_the_library(flat, source, name):
    dev = ml.Device(name)
    done = run_python(TELL.format(name=name), timeout=250, **source)
    assert done.returncode == 0, done.stderr
    expected = [sorted(dev.kernels()), dev.thread_execution_width, dev.kernel_variant, str(flat)]
    assert json.loads(done.stdout) == expected
    assert dev.library_path.endswith(".metallib")


@software
def test_operations_pass_with_kernels_from_source(source):
    """One of the three types that each kernel is made for."""
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_command, "tests/test_ops.py", "-k", "matches and (bf or gated)"],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
        env={**os.environ, "METALLOID_DEVICE": "cpu", **source},
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:] + done.stderr


@software
def test_info_says_which_form_it_is_or_that_there_is_none(flat, source):
    for environment, said in (
        (source, f"compiled at first use, from {flat}"),
        ({}, "precompiled, in "),
        (
            {"METALLOID_LIBRARY": "/no/such.metal"},
            "none: Device: cannot read the kernels from /no/such.metal",
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "metalloid", "info"],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "COLUMNS": "500", **environment},
        )
        assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr


LOAD = """
    import metalloid as ml
    try:
        ml.ops.rms_norm(ml.Device("cpu").commands(), ml.Device("cpu").zeros((2, 2)))
    except ml.Error as e:
        print(type(e).__name__, e)
"""


@software
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "DeviceError Device: cannot read the kernels from {file}"),
        ("", "DeviceError Device: there are no kernels in {file}"),
        ("\0", "DeviceError Device: cannot compile the kernels from {file}: it has a null character"),
        (
            '#line 7 "ours.h"\nfloat f() { return a; }',
            "CompileError Device: the kernels from {file} do not compile:\nours.h:7:",
        ),
    ],
    ids=["missing", "empty", "null", "broken"],
)
def test_a_source_that_is_no_library_is_told(tmp_path, text, said):
    file = tmp_path / "metalloid.metal"
    if text is not None:
        file.write_text(text)
    done = run_python(LOAD, timeout=200, METALLOID_LIBRARY=str(file), METALLOID_CACHE_DIR="")
    assert done.stdout.startswith(said.format(file=file)), done.stdout + done.stderr


@software
def test_without_a_compiler_the_source_is_of_no_use(flat):
    no = {"METALLOID_SHADER_CXX": "/no/such/c++", "METALLOID_CACHE_DIR": ""}
    done = run_python(LOAD, METALLOID_LIBRARY=str(flat), **no)
    assert done.stdout.startswith(f"DeviceError Device: cannot compile the kernels from {flat}: "), (
        done.stdout
    )
    assert "/no/such/c++" in done.stdout
