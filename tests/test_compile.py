"""Kernels compiled at run time: sources, includes, macros, constants, reflection and messages."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys
import threading

import metalloid as ml
import numpy as np
import platformdirs
import pytest
from metalloid import _jit
from support import needs_compiler, needs_software, open_device, run_python

pytestmark = needs_compiler

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"


@pytest.fixture(params=["cpu", "simt"])  # Apple's compiler has words of its own
def device(request) -> ml.Device:
    return open_device(request.param)


def source(body: str) -> str:
    return (
        f"{HEAD}kernel void k(device int* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {{ {body} }}\n"
    )


def value(dev: ml.Device, library: ml.Library, constants=None) -> int:
    """What the kernel k of the library writes to y[0]."""
    y = dev.zeros(1, "int32")
    with dev.commands() as cmd:
        cmd.dispatch(library.kernel("k", constants), threads=1, threadgroup=1, args=[y])
    return y.item()


# --- where the source comes from ----------------------------------------------------------------


def test_a_library_from_text(device):
    library = device.compile(source("y[i] = 7;"))
    assert isinstance(library, ml.Library)
    assert library.kernels == ["k"]
    assert library.device is device
    assert value(device, library) == 7
    assert library.kernel("k") is not None and "k" in repr(library.kernel("k"))


def test_a_library_from_a_file(dev, tmp_path):
    file = tmp_path / "seven.metal"
    file.write_text(source("y[i] = 7;"))
    for spelling in (file, str(file)):
        library = dev.compile(spelling)
        assert value(dev, library) == 7
        assert library.label == str(file)
    assert dev.compile(file, name="mine").label == "mine"


@pytest.mark.parametrize(
    "bad, says",
    [
        ("kernel", "path of a .metal file"),
        ("", "path of a .metal file"),
        ("/no/such/file.metal", "/no/such/file.metal"),
        (pathlib.Path("/no/such/file"), "/no/such/file"),
        (pathlib.Path("/"), "cannot read"),
        (None, "source"),
        (b"kernel void k() {}", "source"),
        (7, "source"),
        ("kernel void k() {}\n\0", "null character"),
    ],
)
def test_what_is_no_source_is_refused(dev, bad, says):
    with pytest.raises(ml.ValidationError, match=r"Device\.compile") as raised:
        dev.compile(bad)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"macros": {"1X": 1}}, "1X"),
        ({"macros": {"X Y": 1}}, "X Y"),
        ({"macros": {"X": "a\nb"}}, "more than one line"),
        ({"macros": {"X": object()}}, "macros"),
        ({"macros": 7}, "macros"),
        ({"headers": {"x.h": 7}}, "headers"),
        ({"include_dirs": "folder"}, "include_dirs"),
        ({"include_dirs": [7]}, "include_dirs"),
        ({"language_version": "9.9"}, "9.9"),
        ({"language_version": 3}, "language_version"),
        ({"simd_width": 7}, "simd_width"),
        ({"name": 7}, "name"),
    ],
)
def test_options_are_checked(dev, options, says):
    with pytest.raises(ml.ValidationError) as raised:
        dev.compile(source("y[i] = 7;"), **options)
    assert says in str(raised.value)


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "macro, expected", [(3, 3), ("1 + 2", 3), (True, 1), (False, 0), (-4, -4), ("(i ? 1 : 5)", 5)]
)
def test_macros(dev, macro, expected):
    assert value(dev, dev.compile(source("y[i] = X;"), macros={"X": macro})) == expected


def test_a_macro_of_nothing(dev):
    library = dev.compile(source("y[i] = 7 EMPTY;\n#ifndef EMPTY\n#error\n#endif\n"), macros={"EMPTY": None})
    assert value(dev, library) == 7


VERSION = source("y[i] = __METAL_VERSION__;")


def test_language_versions(dev):
    newest = value(dev, dev.compile(VERSION))
    for version in ("2.4", "3.0", "3.1", "3.2", "4.0"):
        number = int(version.replace(".", "")) * 10
        if number <= newest:
            assert value(dev, dev.compile(VERSION, language_version=version)) == number
        else:
            with pytest.raises(ml.ValidationError, match="knows no newer one"):
                dev.compile(VERSION, language_version=version)


@needs_software
@pytest.mark.parametrize("newest", ["3.1", "3.2", "4.0", ""])
def test_the_newest_language_that_the_system_knows_is_taken_and_none_newer(newest):
    code = """
        import metalloid as ml
        import numpy as np
        from test_compile import VERSION, value
        dev = ml.Device()
        print(value(dev, dev.compile(VERSION)))
        for version in ("3.1", "3.2", "4.0", "4.1"):
            try:
                print(value(dev, dev.compile(VERSION, language_version=version)))
            except ml.ValidationError as error:
                print(error)
        with dev.commands() as cmd:
            y = ml.ops.add(cmd, dev.array(np.float32([1])), dev.array(np.float32([2])))
        print(y.item())
    """
    done = run_python(code, METALLOID_LANGUAGE_VERSION=newest)
    assert done.returncode == 0, done.stderr
    first, *others, sum_of_built_in = done.stdout.splitlines()
    all_versions = ["3.1", "3.2", "4.0", "4.1"]
    known = all_versions[: all_versions.index(newest or "4.0") + 1]
    assert first == known[-1].replace(".", "") + "0"
    older = ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "3.0"]
    for version, line in zip(all_versions, others, strict=True):
        if version in known:
            assert line == version.replace(".", "") + "0"
        else:
            assert line == (
                f'Device.compile: language_version is "{version}", needs one of: '
                + ", ".join(older + known)
                + " (softmetal knows no newer one)"
            )
    assert sum_of_built_in == "3.0"


@needs_software
def test_a_newest_language_that_there_is_not_is_refused():
    done = run_python("import metalloid as ml; ml.Device()", METALLOID_LANGUAGE_VERSION="3.0")
    assert (
        'Device: METALLOID_LANGUAGE_VERSION is "3.0", needs one of: 3.1, 3.2, 4.0 (or not to be set)'
        in done.stderr
    )


def test_fast_math_is_an_option(dev):
    """Without it the sum of a small and a large number keeps its rounding error to be found."""
    text = (
        HEAD
        + """kernel void k(device const float* x [[buffer(0)]], device float* y [[buffer(1)]]) {
          float big = x[0], small = x[1];
          y[0] = (big + small) - big;
        }"""
    )
    x = dev.array(np.float32([1e8, 1.0]))
    y = dev.zeros(1)
    with dev.commands() as cmd:
        cmd.dispatch(dev.compile(text, fast_math=False).kernel("k"), threads=1, threadgroup=1, args=[x, y])
    assert y.item() == 0


def test_a_kernel_that_does_not_depend_on_the_width(dev):
    text = HEAD + (
        "kernel void k(device int* y [[buffer(0)]], uint n [[threads_per_simdgroup]]) { y[0] = int(n); }"
    )
    assert value(dev, dev.compile(text)) == 32
    wide = dev.compile(text, simd_width="any")
    assert value(dev, wide) == wide.kernel("k").thread_execution_width == (1 if dev.name == "cpu" else 32)


# --- includes -----------------------------------------------------------------------------------


def test_headers_in_memory(dev):
    library = dev.compile(
        '#include "a/one.h"\n#include <two.h>\n' + source("y[i] = ONE + TWO + THREE;"),
        headers={
            "a/one.h": '#include "three.h"\n#define ONE 1',
            "two.h": "#define TWO 20",
            "a/three.h": "#define THREE 300",  # beside the file that includes it
            "three.h": "#define THREE 4000",
        },
    )
    assert value(dev, library) == 321


def test_headers_on_disk(dev, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "own" / "near.h").write_text("#define NEAR 1\n")
    (tmp_path / "other" / "near.h").write_text("#define NEAR 10\n")
    (tmp_path / "other" / "far.h").write_text('#include "farther.h"\n')
    (tmp_path / "other" / "farther.h").write_text("#define FAR 100\n")
    main = tmp_path / "own" / "main.metal"
    main.write_text('#include "near.h"\n#include <far.h>\n' + source("y[i] = NEAR + FAR;"))
    assert value(dev, dev.compile(main, include_dirs=[tmp_path / "other"])) == 101
    # Without a file of its own there is no place beside it.
    assert value(dev, dev.compile(main.read_text(), include_dirs=[str(tmp_path / "other")])) == 110
    # What is in memory comes first.
    given = dev.compile(main, include_dirs=[tmp_path / "other"], headers={"near.h": "#define NEAR 5"})
    assert value(dev, given) == 105


ONCE = "#pragma once\nconstant int number = 7;\n"
GUARDED = "// a comment\n#ifndef N_H\n#define N_H\nconstant int number = 7;\n#endif  // N_H\n"
NOT_DEFINED = "#if !defined(N_H)\n#define N_H 1\nconstant int number = 7;\n#endif\n"


@pytest.mark.parametrize("header", [ONCE, GUARDED, NOT_DEFINED], ids=["once", "ifndef", "not defined"])
@pytest.mark.parametrize(
    "main",
    [
        '#include "n.h"\n#include "n.h"\n',
        '#include "n.h"\n#include "m.h"\n',
        '#include "m.h"\n#include "n.h"\n#include "m.h"\n',
        '#if 0\n#include "n.h"\n#endif\n#include "n.h"\n',
        '#if 0\n#include "m.h"\n#endif\n#include "n.h"\n',
        '#ifdef NOT\n#include "m.h"\n#else\n#include "n.h"\n#endif\n#include "m.h"\n',
        '#import "n.h"\n#import "n.h"\n',
        '#  include "n.h" // twice\n/* a\n */ #include "n.h"\n',
        '#inc\\\nlude \\\n"n.h"\n',
        '#include "loop.h"\n#include "n.h"\n',
    ],
)
def test_a_header_is_there_exactly_once(dev, header, main):
    headers = {"n.h": header, "m.h": '#include "n.h"\n', "loop.h": '#pragma once\n#include "loop.h"\n'}
    assert value(dev, dev.compile(main + source("y[i] = number;"), headers=headers)) == 7


def test_a_header_without_a_guard_is_there_as_often_as_it_is_included(dev):
    main = "constant int n = 0\n" + '#include "plus.h"\n' * 3 + ";\n"
    assert value(dev, dev.compile(main + source("y[i] = n;"), headers={"plus.h": "+ 2"})) == 6


def test_a_guard_that_somebody_else_defined(dev):
    """The header is empty then, and so is what it would have included."""
    main = '#define A_H\n#include "a.h"\n#include "b.h"\n'
    headers = {
        "a.h": '#ifndef A_H\n#define A_H\n#include "b.h"\n#endif\n',
        "b.h": "#pragma once\nconstant int b = 7;\n",
    }
    assert value(dev, dev.compile(main + source("y[i] = b;"), headers=headers)) == 7
    by_option = dev.compile(
        main.replace("#define A_H\n", "") + source("y[i] = b;"), headers=headers, macros={"A_H": 1}
    )
    assert value(dev, by_option) == 7


def test_a_guard_that_is_taken_back(dev):
    main = '#define N 1\n#include "n.h"\n#undef N\n#undef N_H\n#define N 2\n#include "n.h"\n'
    headers = {"n.h": "#ifndef N_H\n#define N_H\nconstant int NAME(N) = N;\n#endif\n"}
    names = "#define CAT(a, b) a##b\n#define CAT2(a, b) CAT(a, b)\n#define NAME(n) CAT2(number, n)\n"
    assert (
        value(dev, dev.compile(names + main + source("y[i] = number1 + 10 * number2;"), headers=headers))
        == 21
    )


def test_includes_in_strings_and_comments_are_none(dev):
    main = (
        '// #include "n.h"\n/*\n#include "n.h"\n*/\n#define TEXT "\\\n#include \'n.h\' /*"\n#include "n.h"\n'
    )
    assert value(dev, dev.compile(main + source("y[i] = number;"), headers={"n.h": ONCE})) == 7


def test_many_headers_that_include_each_other_stay_small(dev):
    """With guards the text grows with the number of files, not with the number of ways to them."""
    headers = {}
    for i in range(40):
        inner = "".join(f'#include "h{j}.h"\n' for j in range(i))
        guard = f"#ifndef H{i}\n#define H{i}\n{{}}#endif\n" if i % 2 else "#pragma once\n{}"
        headers[f"h{i}.h"] = guard.format(inner + f"constant int c{i} = {i};\n")
    library = dev.compile('#include "h39.h"\n' + source("y[i] = c0 + c7 + c39;"), headers=headers)
    assert value(dev, library) == 46


@pytest.mark.parametrize(
    "headers",
    [
        {"a.h": '#include "a.h"\n'},
        {"a.h": '#include "b.h"\n', "b.h": '#include "a.h"\n'},
        {"a.h": '#include "a.h"\n' * 2 + "x" * 100_000},
    ],
)
def test_includes_without_end_are_an_error(dev, headers):
    with pytest.raises(ml.CompileError) as raised:
        dev.compile('\n#include "a.h"\n' + source("y[i] = 0;"), headers=headers)
    assert "a.h:1" in raised.value.log


# --- messages -----------------------------------------------------------------------------------


def log_of(dev, *args, **options) -> str:
    with pytest.raises(ml.CompileError) as raised:
        dev.compile(*args, **options)
    assert raised.value.log and raised.value.log in str(raised.value)
    return raised.value.log


def test_messages_name_the_line(device):
    log = log_of(device, source("\n\ny[i] = nowhere;"), name="mine.metal")
    assert "mine.metal:5:" in log and "nowhere" in log


@pytest.mark.parametrize(
    "before, line",
    [
        ("", 3),
        ('#include "n.h"\n', 4),
        ('\n#include "n.h"\n\n#include "n.h"\n', 7),
        ('#if 0\n#include "n.h"\n#endif\n', 6),
        ('#if 0\n#if 1\n#include "n.h"\n#endif\n#else\n#endif\n', 9),
        ('#if 1\n#include "n.h"\n#elif 1\n#include "n.h"\n#endif\n', 8),
        ('#\\\ninclude \\\n  "n.h"\n', 6),
        ('/*\n*/ #include /*\n*/ "n.h"\n', 6),
        ('#line 100\n#include "n.h"\n', 103),
    ],
)
def test_includes_do_not_shift_lines(dev, before, line):
    text = before + source("y[i] = nowhere;")
    log = log_of(dev, text, name="mine.metal", headers={"n.h": "// one\n// two\n#pragma once\n// four\n"})
    assert f"mine.metal:{line}:" in log, log


def test_messages_name_the_header(dev, tmp_path):
    log = log_of(dev, '#include "n.h"\n' + source("f();"), headers={"n.h": "\n#pragma once\nnowhere f();\n"})
    assert "n.h:3:" in log and "nowhere" in log
    (tmp_path / "n.h").write_text("\n\n\nnowhere f();")
    (tmp_path / "main.metal").write_text('#include "n.h"\n' + source("f();"))
    assert f"{tmp_path}/n.h:4:" in log_of(dev, tmp_path / "main.metal")


def test_a_header_that_is_not_there_is_reported_where_it_is_included(dev):
    log = log_of(dev, '\n#include "nowhere.h"\n' + source("y[i] = 7;"), name="mine.metal")
    assert "mine.metal:2:" in log and "nowhere.h" in log
    # Where nobody asks for it, it need not be there.
    skipped = dev.compile('#if 0\n#include "nowhere.h"\n#endif\n' + source("y[i] = 7;"))
    assert value(dev, skipped) == 7


@pytest.mark.skipif("cpu" not in ml.devices(), reason="Metal compiles by itself")
def test_without_a_compiler_the_error_says_what_to_install(tmp_path):
    done = run_python(
        """
        import metalloid as ml
        dev = ml.Device("cpu")
        with dev.commands() as cmd:
            ml.ops.rms_norm(cmd, dev.zeros((2, 2)))
        try:
            dev.compile("kernel void k(device int* y [[buffer(0)]]) { y[0] = 1; }")
        except ml.CompileError as e:
            print(e.log)
        """,
        METALLOID_SHADER_CXX="/no/such/compiler",
        METALLOID_CACHE_DIR=str(tmp_path),
    )
    assert "/no/such/compiler" in done.stdout, done.stderr


def test_the_search_for_a_compiler(monkeypatch, tmp_path):
    def tool(name, version):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho {version}\n")
        path.chmod(0o755)

    monkeypatch.delenv("METALLOID_SHADER_CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    nothing = _jit.find_toolchain()
    assert nothing.compiler == [] and "metalloid[jit]" in nothing.missing
    tool("g++", "11.4.0")
    assert _jit.find_toolchain().compiler == []
    tool("g++", "12.2.0")
    assert _jit.find_toolchain().compiler == [str(tmp_path / "g++")]
    tool("clang++", "15.0.7")
    assert _jit.find_toolchain().compiler == [str(tmp_path / "g++")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert _jit.find_toolchain().compiler[1:] == ["-m", "ziglang", "c++"]
    tool("clang++-17", "17.0.1")
    assert _jit.find_toolchain().compiler == [str(tmp_path / "clang++-17")]
    monkeypatch.setenv("METALLOID_SHADER_CXX", f"{tmp_path}/g++ -pipe")
    assert _jit.find_toolchain().compiler == [f"{tmp_path}/g++", "-pipe"]
    monkeypatch.setenv("METALLOID_CACHE_DIR", str(tmp_path))
    assert _jit.find_toolchain().cache == str(tmp_path)
    monkeypatch.setenv("METALLOID_CACHE_DIR", "")
    assert _jit.find_toolchain().cache == ""
    monkeypatch.delenv("METALLOID_CACHE_DIR")
    assert os.path.isabs(_jit.find_toolchain().cache)


def test_importing_looks_for_no_compiler():
    loaded = run_python(
        "import sys, metalloid; print([m for m in ('metalloid._jit', 'platformdirs', 'subprocess') "
        "if m in sys.modules])"
    )
    assert loaded.stdout == "[]\n", loaded.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is platformdirs that says")
@pytest.mark.parametrize("home", ["", " ", "/tmp/somewhere"])
def test_the_cache_is_where_the_system_wants_caches(monkeypatch, home):
    monkeypatch.delenv("METALLOID_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert _jit.cache_folder() == platformdirs.user_cache_dir("metalloid", appauthor=False)


# --- kernels and constants ----------------------------------------------------------------------

CONSTANTS = (
    HEAD
    + """
constant bool flag [[function_constant(0)]];
constant int number [[function_constant(3)]];
constant uint maybe [[function_constant(5)]];
constant uint maybe_value = is_function_constant_defined(maybe) ? maybe : 9u;
constant float factor [[function_constant(7)]];
constant bool has_z [[function_constant(8)]];
kernel void k(device int* y [[buffer(0)]], device int* z [[buffer(1), function_constant(has_z)]]) {
  y[0] = flag ? number : int(maybe_value) * int(factor);
  if (has_z) z[0] = 5;
}
"""
)
ALL = {"flag": True, "number": -3, "factor": 2.0, "has_z": False}


@pytest.fixture(scope="module")
def constants_library():
    return ml.Device().compile(CONSTANTS, name="constants.metal")


@pytest.mark.parametrize(
    "constants, expected",
    [
        (ALL, -3),
        ({**ALL, "flag": False}, 18),
        ({**ALL, "flag": False, "maybe": 4}, 8),
        ({0: False, 3: 1, 5: 7, "factor": np.float32(3), 8: 0}, 21),
        ({"flag": np.bool_(True), "number": np.int8(-8), "factor": 1, "has_z": False}, -8),
        ({"flag": 1, "number": np.uint64(8), "factor": float("inf"), "has_z": False}, 8),
    ],
)
def test_constants(dev, constants_library, constants, expected):
    assert value(dev, constants_library, constants) == expected


@pytest.mark.parametrize(
    "change, says",
    [
        ({"number": None}, "number"),
        ({"number": 1 << 31}, "2147483648"),
        ({"number": -(1 << 31) - 1}, "integer"),
        ({"number": 1.0}, "integer"),
        ({"number": "3"}, "number"),
        ({"number": [1, 2]}, "needs 1"),
        ({"maybe": -1}, "from 0 to 2^32 - 1"),
        ({"maybe": 1 << 100}, "from 0 to 2^32 - 1"),
        ({"flag": 2}, "True, False"),
        ({"flag": 1.0}, "True, False"),
        ({"factor": 1e39}, "3.4e38"),
        ({"factor": 1j}, "number"),
        ({"nobody": 1}, "nobody"),
        ({4: 1}, "index 4"),
        ({-1: 1}, "-1"),
        ({1.5: 1}, "1.5"),
        ({3: 1}, "twice"),
    ],
)
def test_constants_are_checked(constants_library, change, says):
    with pytest.raises(ml.ValidationError) as raised:
        constants_library.kernel("k", {**ALL, **change})
    assert says in str(raised.value), raised.value


def test_a_required_constant_is_named(constants_library):
    for missing in ALL:
        given = {k: v for k, v in ALL.items() if k != missing}
        with pytest.raises(ml.ValidationError, match=f"function constant {missing} "):
            constants_library.kernel("k", given)
    with pytest.raises(ml.ValidationError, match="flag"):
        constants_library.kernel("k")


def test_the_same_constants_give_the_same_kernel(constants_library):
    first = constants_library.kernel("k", ALL)
    assert first is constants_library.kernel("k", {**ALL, "number": np.int64(-3)})
    assert first is not constants_library.kernel("k", {**ALL, "number": 4})


def test_constants_are_listed(constants_library):
    listed = {c.name: (c.index, c.type, c.required) for c in constants_library.constants("k")}
    assert listed == {
        "flag": (0, "bool", True),
        "number": (3, "int", True),
        "maybe": (5, "uint", False),
        "factor": (7, "float", True),
        "has_z": (8, "bool", True),
    }
    assert [c.name for c in constants_library.kernel("k", ALL).constants] == list(listed)


@pytest.mark.parametrize(
    "type, value_given, expected",
    [
        ("bool", True, 1),
        ("char", -128, -128),
        ("uchar", 255, 255),
        ("short", -32768, -32768),
        ("ushort", 65535, 65535),
        ("int", -(1 << 31), -(1 << 31)),
        ("uint", 1 << 30, 1 << 30),
        ("long", -(1 << 30), -(1 << 30)),
        ("ulong", 1 << 30, 1 << 30),
        ("half", 1.5, 1),
        ("float", -2.5, -2),
    ],
)
def test_constants_of_every_type(dev, type, value_given, expected):
    text = HEAD + f"constant {type} c [[function_constant(0)]];\n"
    text += "kernel void k(device int* y [[buffer(0)]]) { y[0] = int(c); }"
    assert value(dev, dev.compile(text), {"c": value_given}) == expected


def test_host_names_and_templates(dev):
    library = dev.compile(
        HEAD
        + """
template <typename T, int N>
kernel void add(device T* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] += T(N); }
template [[host_name("add_int_3")]] kernel void add<int, 3>(device int*, uint);
template [[host_name("add_half_5")]] kernel void add<half, 5>(device half*, uint);
"""
    )
    assert sorted(library.kernels) == ["add_half_5", "add_int_3"]
    y = dev.zeros(4, "float16")
    with dev.commands() as cmd:
        cmd.dispatch(library.kernel("add_half_5"), threads=4, threadgroup=4, args=[y])
    assert y.tolist() == [5, 5, 5, 5]


def test_traits_that_metal_lacks_can_be_defined_in_its_namespace(device):
    """As MLX's type_traits.h does."""
    source = """
        #include <metal_stdlib>
        namespace metal {
        template <typename T> struct is_empty : metal::bool_constant<__is_empty(T)> {};
        template <typename T> constexpr constant bool is_empty_v = is_empty<T>::value;
        template <typename... Ts> struct make_void { typedef void type; };
        template <typename... Ts> using void_t = typename make_void<Ts...>::type;
        template <typename T> struct pointer_element {};
        }
        struct Nothing {};
        kernel void k(device int* y [[buffer(0)]]) {
          y[0] = metal::is_empty_v<Nothing> + 2 * metal::is_empty_v<int>;
        }
    """
    y = device.zeros(1, "int32")
    with device.commands() as cmd:
        cmd.dispatch(device.compile(source).kernel("k"), threads=1, threadgroup=1, args=[y])
    assert y.item() == 1


def test_a_kernel_that_is_not_there(dev):
    library = dev.compile(source("y[i] = 7;"))
    for wanted in ("nobody", "", "k "):
        with pytest.raises(ml.ValidationError, match="needs one of: k"):
            library.kernel(wanted)
    with pytest.raises(ml.ValidationError, match="nobody"):
        dev.kernel("nobody")


# --- reflection ---------------------------------------------------------------------------------

REFLECTED = (
    HEAD
    + """
struct Params { float4 a; uint b; };
kernel void k(device const float* x [[buffer(0)]], device half4* y [[buffer(2)]],
              constant Params& params [[buffer(5)]], constant uint* sizes [[buffer(4)]],
              threadgroup float* scratch [[threadgroup(1)]], threadgroup int& count [[threadgroup(0)]],
              device const uchar* bytes [[buffer(30)]], device atomic_uint* counter [[buffer(7)]],
              uint2 place [[thread_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float fixed[64];
  fixed[lane] = x[lane];
  scratch[lane] = fixed[lane] + params.a.x + sizes[0] + bytes[0];
  count = 1;
  y[place.x] = half4(scratch[lane]);
  atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);
}
"""
)


def test_reflection(device):
    kernel = device.compile(REFLECTED).kernel("k")
    assert (kernel.name, kernel.device) == ("k", device)
    shown = [
        (a.kind, a.index, a.name, a.address_space, a.element_type, a.dtype, a.access, a.size, a.alignment)
        for a in kernel.arguments
    ]
    assert shown == [
        ("buffer", 0, "x", "device", "float", ml.float32, "read", 4, 4),
        ("buffer", 2, "y", "device", "half4", ml.float16, "read-write", 8, 8),
        ("buffer", 4, "sizes", "constant", "uint", ml.uint32, "read", 4, 4),
        ("buffer", 5, "params", "constant", "struct", None, "read", 32, 16),
        ("buffer", 7, "counter", "device", "uint", ml.uint32, "read-write", 4, 4),
        ("buffer", 30, "bytes", "device", "uchar", ml.uint8, "read", 1, 1),
        ("threadgroup", 0, "count", "threadgroup", "int", ml.int32, "read-write", 4, 4),
        ("threadgroup", 1, "scratch", "threadgroup", "float", ml.float32, "read-write", 4, 4),
    ]
    assert all(a.active and a.name in repr(a) for a in kernel.arguments)
    assert kernel.builtins == ("thread_position_in_grid", "thread_index_in_simdgroup")
    assert kernel.thread_execution_width == 32
    assert kernel.max_total_threads_per_threadgroup == 1024
    assert kernel.static_threadgroup_memory_length >= 256
    assert kernel.constants == ()


def test_an_argument_that_is_switched_off(dev, constants_library):
    off, on = (constants_library.kernel("k", {**ALL, "has_z": on}) for on in (False, True))
    assert [a.active for a in off.arguments] == [True, False]
    assert [a.active for a in on.arguments] == [True, True]
    y, z = dev.zeros(1, "int32"), dev.zeros(1, "int32")
    with dev.commands() as cmd:
        cmd.dispatch(off, threads=1, threadgroup=1, args=[y])
        cmd.dispatch(off, threads=1, threadgroup=1, args=[y, None])
        cmd.dispatch(off, threads=1, threadgroup=1, args={"y": y})
        cmd.dispatch(off, threads=1, threadgroup=1, args={"y": y, "z": None})
        cmd.dispatch(off, threads=1, threadgroup=1, args=[y, z])
        cmd.dispatch(off, threads=1, threadgroup=1, args={"y": y, "z": z})
        for wrong in ([], [None], [None, None], [y, z, z], {"y": y, "zz": None}, {"y": y, "zz": z}):
            with pytest.raises(ml.ValidationError):
                cmd.dispatch(off, threads=1, threadgroup=1, args=wrong)
        with pytest.raises(ml.ValidationError, match="z"):
            cmd.dispatch(on, threads=1, threadgroup=1, args=[y, None])
        cmd.dispatch(on, threads=1, threadgroup=1, args=[y, z])
    assert (y.item(), z.item()) == (-3, 5)


HOST_NAMED = (
    HEAD
    + """
constant bool has_z [[function_constant(0)]];
template <typename T>
kernel void adds(device T* z [[buffer(0), function_constant(has_z)]], device const T* x [[buffer(1)]],
                 device T* y [[buffer(2)]], threadgroup T* t [[threadgroup(0), function_constant(has_z)]]) {
  y[0] += x[0];
  if (has_z) { t[0] = 5; z[0] = t[0]; }
}
template [[host_name("adds_int")]] kernel void
adds<int>(device int*, device const int*, device int*, threadgroup int*);
"""
)


def test_none_stands_for_what_metal_may_not_tell_of(dev):
    library = dev.compile(HOST_NAMED)
    off, on = (library.kernel("adds_int", {"has_z": on}) for on in (False, True))
    assert [a.name for a in off.arguments if a.active] == ["x", "y"]
    x, y, z = dev.array([1], "int32"), dev.zeros(1, "int32"), dev.zeros(1, "int32")
    right = ([x, y], [None, x, y, None], {"x": x, "y": y}, {"x": x, "y": y, "z": None, "t": None})
    with dev.commands() as cmd:
        for args in right:
            cmd.dispatch(off, threads=1, threadgroup=1, args=args)
        for wrong in ([x], [x, None], [None, x, None, None], {"x": x, "z": None}, {"x": None, "y": y}):
            with pytest.raises(ml.ValidationError):
                cmd.dispatch(off, threads=1, threadgroup=1, args=wrong)
        memory = ml.threadgroup_memory(16)
        for wrong in ([None, x, y, memory], [z, x, y, None], {"x": x, "y": y, "z": None, "t": memory}):
            with pytest.raises(ml.ValidationError):
                cmd.dispatch(on, threads=1, threadgroup=1, args=wrong)
        cmd.dispatch(on, threads=1, threadgroup=1, args=[z, x, y, memory])
    assert (y.item(), z.item()) == (len(right) + 1, 5)


def test_an_argument_that_is_not_used(dev):
    text = """
kernel void k(device int* y [[buffer(0)]], device const float* unused [[buffer(1)]],
              constant int& n [[buffer(2)]], constant int& also_unused [[buffer(3)]],
              threadgroup int* scratch [[threadgroup(0)]]) {
  y[0] += n;
}
"""
    kernel = dev.compile(HEAD + text).kernel("k")
    assert [a.active for a in kernel.arguments] == [True, False, True, False, False]
    assert "not active" in repr(kernel.arguments[1])
    y, x = dev.zeros(1, "int32"), dev.zeros(4)
    memory = ml.threadgroup_memory(64)
    right = (
        [y, x, 1, 2, memory],
        [y, None, 1, None, None],
        [y, 1],
        {"y": y, "n": 1},
        {"y": y, "unused": x, "n": 1, "also_unused": 2, "scratch": memory},
        {"y": y, "unused": None, "n": 1},
    )
    with dev.commands() as cmd:
        for args in right:
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=args)
        for wrong in (
            [y, x, None, 2, memory],
            [y],
            [y, x, 1],
            {"y": y, "unused": x},
            {"y": y, "n": 1, "m": x},
        ):
            with pytest.raises(ml.ValidationError):
                cmd.dispatch(kernel, threads=1, threadgroup=1, args=wrong)
    assert y.item() == len(right)


# --- atomics and structs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "type, dtype", [("uint", ml.uint32), ("int", ml.int32), ("float", ml.float32), ("bool", ml.bool_)]
)
def test_atomics_take_buffers_of_what_they_hold(dev, type, dtype):
    stored = "true" if type == "bool" else f"{type}(3)"
    text = f"""
kernel void k(device atomic_{type}* y [[buffer(0)]], device const atomic<{type}>* x [[buffer(1)]]) {{
  atomic_store_explicit(y, {stored}, memory_order_relaxed);
  atomic_store_explicit(y + 1, atomic_load_explicit(x, memory_order_relaxed), memory_order_relaxed);
}}
"""
    kernel = dev.compile(HEAD + text).kernel("k")
    for argument in kernel.arguments:
        assert (argument.element_type, argument.dtype) == (type, dtype)
        assert argument.size == (1 if type == "bool" else 4)
    x, y = dev.array([1], dtype), dev.zeros(2, dtype)
    with dev.commands() as cmd:
        cmd.dispatch(kernel, threads=1, threadgroup=1, args=[y, x])
        with pytest.raises(ml.ValidationError, match=rf"y \(buffer 0\) is uint16, needs {type}"):
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=[dev.zeros(8, "uint16"), x])
    assert y.numpy().tolist() == ([True, True] if type == "bool" else [3, 1])


def test_atomics_of_64_bits_take_uint64(device):  # not every GPU of a Mac has them
    text = (
        "kernel void k(device atomic_ulong* y) { atomic_max_explicit(y, 1ul << 40, memory_order_relaxed); }\n"
    )
    kernel = device.compile(HEAD + text).kernel("k")
    y = device.zeros(1, "uint64")
    with device.commands() as cmd:
        cmd.dispatch(kernel, threads=1, threadgroup=1, args=[y])
    assert y.item() == 1 << 40


def test_structs_stay_structs(dev):
    text = """
struct One { float value; };
struct Counter { atomic_uint count; };
kernel void k(constant One& one [[buffer(0)]], device Counter* counter [[buffer(1)]],
              device float* y [[buffer(2)]]) {
  y[0] = one.value;
  atomic_fetch_add_explicit(&counter->count, 1u, memory_order_relaxed);
}
"""
    kernel = dev.compile(HEAD + text).kernel("k")
    assert [a.element_type for a in kernel.arguments] == ["struct", "struct", "float"]
    one, y = np.array([(2.5,)], np.dtype([("value", np.float32)], align=True)), dev.zeros(1)
    counter = dev.zeros(4, "uint8")
    with dev.commands() as cmd:
        cmd.dispatch(kernel, threads=1, threadgroup=1, args=[one, counter, y])
        with pytest.raises(ml.ValidationError, match="needs uint8"):
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=[one, dev.zeros(1, "uint32"), y])
        with pytest.raises(ml.ValidationError, match="one"):
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=[2.5, counter, y])
    assert y.item() == 2.5
    np.testing.assert_array_equal(counter, [1, 0, 0, 0])


# --- constant memory ----------------------------------------------------------------------------

ODD = (
    HEAD
    + """
template <typename T>
kernel void reads(device const T* near [[buffer(0)]], constant T* far [[buffer(1)]],
                  device T* y [[buffer(2)]]) {
  y[0] = near[0];
  y[1] = far[0];
}
template [[host_name("reads_uchar")]] kernel void
reads<uchar>(device const uchar*, constant uchar*, device uchar*);

#define SAME device const
kernel void hidden(SAME uchar* x [[buffer(0)]], device uchar* y [[buffer(1)]]) { y[0] = x[0]; }
kernel void shown(device const uchar* x [[buffer(0)]], device uchar* y [[buffer(1)]]) { y[0] = x[0]; }
"""
)


def test_constant_memory_is_on_four_bytes(dev):
    library = dev.compile(ODD)
    x, y = dev.array(np.arange(16, dtype=np.uint8)), dev.zeros(4, "uint8")
    with dev.commands() as cmd:
        kernel = library.kernel("reads_uchar")
        assert [a.address_space for a in kernel.arguments] == ["device", "constant", "device"]
        assert [a.alignment for a in kernel.arguments] == [1, 4, 1]
        for far in (x[1:], ml.reinterpret(x[2:])):
            with pytest.raises(ml.ValidationError, match=r"far \(buffer 1\) starts . bytes .* multiple of 4"):
                cmd.dispatch(kernel, threads=1, threadgroup=1, args=[x, far, y])
        cmd.dispatch(kernel, threads=1, threadgroup=1, args=[x[3:], x[4:], y[1:]])
    assert y.numpy().tolist() == [0, 3, 4, 0]


def test_where_nobody_knows_the_space_the_caller_says_it(dev):
    library = dev.compile(ODD)
    x, y = dev.array(np.arange(16, dtype=np.uint8)), dev.zeros(4, "uint8")
    with dev.commands() as cmd:
        cmd.dispatch(library.kernel("shown"), threads=1, threadgroup=1, args=[x[1:], y])
        kernel = library.kernel("hidden")
        if kernel.arguments[0].address_space == "":
            with pytest.raises(
                ml.ValidationError, match=r"x \(buffer 0\) starts 3 .* unless it is in device memory"
            ):
                cmd.dispatch(kernel, threads=1, threadgroup=1, args=[x[3:], y[1:]])
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=[ml.reinterpret(x[3:]), y[1:]])
        else:
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=[x[3:], y[1:]])
        cmd.dispatch(kernel, threads=1, threadgroup=1, args=[x[4:], y[2:]])
    assert y.numpy().tolist() == [1, 3, 4, 0]


@pytest.mark.parametrize("name", ["rms_norm_f32", "gated_delta_net_chunk_o_k64"])
def test_built_in_kernels_have_it_too(dev, name):
    kernel = dev.kernel(name)
    assert kernel.arguments[0].element_type == "struct"
    assert {a.kind for a in kernel.arguments} <= {"buffer", "threadgroup"}


# --- threads and lifetimes ----------------------------------------------------------------------


def test_threads_may_compile_at_once(dev):
    results: dict[int, int] = {}

    def work(i):
        library = dev.compile(source(f"y[i] = {i % 2};"))
        results[i] = value(dev, library)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {0: 0, 1: 1, 2: 0, 3: 1}


def test_a_kernel_outlives_its_library_and_its_dispatch_both(dev):
    y = dev.zeros(1, "int32")
    cmd = dev.commands()
    cmd.dispatch(dev.compile(source("y[i] = 8;")).kernel("k"), threads=1, threadgroup=1, args=[y])
    cmd.commit_and_wait()
    assert y.item() == 8
