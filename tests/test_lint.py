"""Kernels that break one rule each, valid ones that break none, and the command around the lint."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from metalloid import lint
from metalloid.cli.lint import show_rules
from metalloid.lint import clang, rules
from metalloid.lint.syntax import Syntax
from metalloid.lint.tokens import Tokens
from rich.console import Console

TESTS = Path(__file__).parent
TREE = TESTS.parent
INVALID = sorted((TESTS / "lint/invalid").glob("*.metal"))
CORPUS = runpy.run_path(str(TREE / "tools/shader_lint.py"))["CORPUS"]
VALID = sorted(path for pattern in CORPUS for path in TREE.glob(pattern))


def _clang_missing() -> str:
    try:
        clang.find()
    except lint.ClangError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_clang_missing()), reason=_clang_missing() or "there is a clang")


def expectation(path: Path) -> tuple[list[tuple[str, int]], lint.Options]:
    """The rules and lines of the first line of a file, and the options that it asks for."""
    first = path.read_text().splitlines()[0]
    match = re.fullmatch(r"// expect: ([^;]+?)(?:; --language-version (\S+))?", first)
    assert match, f"{path} starts with {first!r}"
    wanted = [(rule, int(line)) for rule, line in (pair.split() for pair in match[1].split(", "))]
    return wanted, lint.Options(language_version=match[2]) if match[2] else lint.Options()


@pytest.fixture(scope="module")
def findings() -> dict[Path, list[lint.Finding]]:
    """What is found in every file, by files: linted together, which is quicker."""
    options = {path: expectation(path)[1] for path in INVALID}
    options |= {path: lint.Options(include_dirs=(TREE / "shaders",)) for path in VALID}
    found: dict[Path, list[lint.Finding]] = {}
    for chosen in dict.fromkeys(options.values()):
        files = [path for path, its in options.items() if its == chosen]
        found |= {path: [] for path in files}
        for path, its in zip(files, lint.lint_each(files, chosen), strict=True):
            found[path] = its
    return found


def show(found: list[lint.Finding]) -> str:
    return "\n".join(f"{f.file}:{f.line}:{f.column}: {f.rule}: {f.message}" for f in found)


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_kernel_breaks_its_rule_and_no_other(path, findings):
    wanted, _ = expectation(path)
    assert {rule for rule, _ in wanted} == {path.stem}
    assert sorted((f.rule, f.line) for f in findings[path]) == sorted(wanted), show(findings[path])
    for finding in findings[path]:
        assert Path(finding.file) == path
        assert finding.section
        assert not re.search(
            r"__(global|local|constant|private|generic)\b|OpenCL|lint_|lint:(?! allow)|\b(sw|event_t)\b",
            finding.message,
        )


def test_a_message_says_what_helps(findings):
    messages = {path.stem: [f.message for f in findings[path]] for path in INVALID}
    assert messages["inline-size"] == [
        "what argument 'table' of kernel 'k' refers to has 8192 bytes, more than the 4096 bytes that "
        "setBytes takes: bind a buffer and allow it with `// lint: allow inline-size`, or take a pointer"
    ]
    assert "needs the address space after its arguments" in messages["address-space"][1]
    assert messages["unsupported"][0].startswith(
        "argument buffers with [[id]] are not supported by metalloid"
    )
    assert messages["unsupported"][1] == "'raytracing' is beyond kernels on buffers, which is what is linted"
    assert messages["unsupported"][-1].endswith("a kernel takes any threadgroup size up to its maximum")
    assert messages["call"][-1].startswith("call to 'median3' is ambiguous")


@pytest.mark.parametrize("path", VALID, ids=lambda path: str(path.relative_to(TREE)))
def test_a_valid_kernel_breaks_no_rule(path, findings):
    assert not findings[path], show(findings[path])


def test_each_rule_has_a_kernel_that_breaks_it():
    assert {path.stem for path in INVALID} == set(lint.RULES)
    assert len(VALID) > 50 and all(any(TREE.glob(pattern)) for pattern in CORPUS)


def test_the_documentation_has_the_rules():
    documented = re.findall(
        r"^\| `([\w-]+)` \| (.*?) \| (.*?) \|$", (TREE / "docs/lint.md").read_text(), re.M
    )
    assert documented == [(rule.name, rule.summary, rule.section) for rule in lint.RULES.values()]


def test_the_attributes_are_those_of_the_shader_compiler():
    source = (TREE / "csrc/softmetal/msl/builtins.cpp").read_text()
    builtins = dict(
        re.findall(r'^    \{"(\w+)", (true|false), (?:true|false), (?:true|false)\},$', source, re.M)
    )
    assert {name for name, position in builtins.items() if position == "true"} == rules.POSITIONS
    assert {name for name, position in builtins.items() if position == "false"} == rules.INDICES
    table = source[source.index("attributes() {") : source.index("types() {")]
    assert set(re.findall(r'^      \{"(\w+)", ', table, re.M)) == rules.OTHER_ATTRIBUTES
    types = re.findall(r'^      \{"(\w+)", ', source[source.index("types() {") :], re.M)
    assert len(types) > 30
    # Logging is declared in the lint's own metal_stdlib.
    assert [name for name in types if not rules.OTHER_TYPES.fullmatch(name)] == ["os_log"]


def preprocessed(*arguments: str) -> str:
    done = subprocess.run([*clang.find(), "-E", "-P", "-nostdinc", "-w", *arguments], capture_output=True)
    return done.stdout.decode()  # what softmetal takes from the C++ library is not found, nor needed


def test_the_library_has_what_that_of_the_shader_compiler_has():
    folder = TREE / "csrc/softmetal/msl/stdlib"
    text = preprocessed("-x", "c++", "-std=c++20", str(folder / "softmetal_stdlib.h"))
    syntax = Syntax(Tokens(text, ""))
    t = syntax.tokens
    inside = [
        (i, t.match[i + 2])
        for i in range(len(t))
        if [t.text(j) for j in range(i, i + 3)] == ["namespace", "metal", "{"]
    ]
    declarations = [
        d for d in syntax.declarations if not d.record and any(a < d.begin < b for a, b in inside)
    ]
    names = {d.name for d in declarations if d.name and d.name != "operator"}
    for d in declarations:
        if d.kind == "record" and t.text(d.specifiers) == "enum":
            names |= {t.text(i) for i in range(*d.body) if t.is_word(i)}
    names |= set(
        re.findall(r"^#define (?!SOFTMETAL)(\w+)", (folder / "softmetal_constants.h").read_text(), re.M)
    )
    assert len(names) > 500 and {"thread_scope_system", "simd_shuffle_xor", "FLT_MAX"} <= names

    include = ["-I", str(clang.INCLUDE), "-include", "lint_functions.h"]
    library = preprocessed("-x", "cl", "-cl-std=clc++2021", "-DLINT_ATOMICS_64=1", *include, "/dev/null")
    library += (clang.INCLUDE / "metal/metal_stdlib").read_text()
    known = {word.removeprefix("lint_") for word in re.findall(r"\w+", library)}
    own = {
        "decay_value",
        "invoke_result_base",
        "is_floating_point_base",
        "is_integral_base",
        "void_of",
    }
    assert names - known == own


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        # Macros and headers: what is wrong is where it is written, or where the macro is used.
        ("#define N 2\n#define BAD double\nBAD x() { return N; }", [(3, 1, "double")]),
        ("/* */ float  f(float x)  {  return   y; }", [(1, 38, "undeclared")]),
        ("\tfloat f(thread float2& v) { return v.z; }", [(1, 39, "undeclared")]),
        # Names that the rewriting makes use of are the user's own.
        ("float f(float local) { float global = local; return global + lane; }", [(1, 62, "undeclared")]),
        ("float f(bool b, float2 v, float2 w) { return (b ? v : w).z; }", [(1, 58, "undeclared")]),
        # Slips between address spaces in all their forms.
        ("float f(device float* p) { thread float* q = p; return *q; }", [(1, 42, "address-space")]),
        ("float f(device float* p) { return *(thread float*)p; }", [(1, 36, "address-space")]),
        (
            "float g(thread float& x); float f(device float* p) { return g(p[0]); }",
            [(1, 61, "address-space")],
        ),
        (
            "template <typename T> T g(const device T* x); float f(constant float* p) { return g(p); }",
            [(1, 83, "address-space")],
        ),
        (
            "struct S { threadgroup float* p; }; S f(device float* p) { return S{p}; }",
            [(1, 69, "address-space")],
        ),
        ("struct S { int n; }; void f(constant S& s) { s.n = 1; }", [(1, 50, "constant-write")]),
        ("void f(constant float4* v) { v[0].x = 1; }", [(1, 37, "constant-write")]),
        ("void f(device atomic_float* x) { atomic_fetch_or_explicit(x, 1, memory_order_relaxed); }", None),
        (
            "template <typename T> T f(device atomic<T>* x) { return sizeof(*x); }\n"
            "void g(device atomic_int* x) { f(x); f<int64_t>(nullptr); }",
            None,
        ),
        # Wrong without clang and with templates.
        (
            "template <typename T> T f(T x) { return f(x, 1); }\nfloat g() { return f(1.0f); }",
            [(1, 41, "recursion")],
        ),
        ("float f() { return 1; ", [(1, 11, "syntax")]),
        ("constant float x[2] = {1, 2, 3};", [(1, 30, "type")]),
        # What is taken for MSL's own goes no further than that.
        ("template <typename T> T f(T x) { return x * double(0.5); }", [(1, 45, "double")]),
        ("constant float3 v = {1, 2};", [(1, 17, "type")]),
        ("constant float2x2 m = {{1, 2}, {3, 4}, {5, 6}};", [(1, 23, "matrix")]),
        ("void f(constant float* p) { p[0] = 1; }", [(1, 34, "constant-write")]),
        ("void g(device float* p); void f(constant float* p) { g(p); }", [(1, 54, "address-space")]),
        (
            "kernel void k(device float* x, uint i); kernel void k(device float* x, uint i) {}",
            [(1, 77, "argument-attribute")],
        ),
        (
            "kernel void k [[max_total_threads_per_threadgroup(64)]] (device float* x, uint i) {}",
            [(1, 80, "argument-attribute")],
        ),
        ("float f(coherent(device) float* x) { return x[0]; }", [(1, 9, "pointer-space")]),
        (
            "struct sampler { int n; };\nfloat f(texture2d<float> t, sampler s) { return t.x + s.n; }",
            [(2, 9, "unsupported")],
        ),
    ],
)
def test_findings_are_where_they_are_written(tmp_path, source, wanted):
    path = tmp_path / "k.metal"
    path.write_text(f"#include <metal_stdlib>\nusing namespace metal;\n{source}\n")
    found = lint.lint([path], lint.Options())
    if wanted is None:
        assert [f.rule for f in found] == ["atomic-type"], show(found)
    else:
        assert [(f.line - 2, f.column, f.rule) for f in found] == wanted, show(found)


def test_a_finding_in_a_header_is_reported_once(tmp_path):
    (tmp_path / "common.h").write_text("#pragma once\ninline float half_of(float* p) { return p[0] / 2; }\n")
    files = []
    for name in "ab":
        files.append(tmp_path / f"{name}.metal")
        files[-1].write_text(
            '#include <metal_stdlib>\n#include "common.h"\n'
            f"kernel void {name}(device float* x) {{ x[0] = 1; }}\n"
        )
    found = lint.lint(files, lint.Options())
    assert [(Path(f.file).name, f.line, f.rule) for f in found] == [("common.h", 2, "pointer-space")]


def test_limits_of_every_family(tmp_path):
    path = tmp_path / "k.metal"
    for family in lint.FAMILIES:
        limit = rules.FAMILIES[family].threadgroup_memory
        for size, wanted in ((limit, []), (limit + 1, ["threadgroup-memory"])):
            path.write_text(
                "#include <metal_stdlib>\nkernel void k(device char* x) "
                f"{{ threadgroup char t[{size}]; t[0] = x[0]; x[0] = t[0]; }}\n"
            )
            found = lint.lint([path], lint.Options(gpu_family=family))
            assert [f.rule for f in found] == wanted


def test_atomics_of_64_bits_are_for_families_that_have_them(tmp_path):
    path = tmp_path / "k.metal"
    call = "_explicit(x, 1, memory_order_relaxed)"
    for name, allowed in {"max": True, "fetch_add": False, "fetch_or": False}.items():
        for prefix in ("", "metal::"):
            path.write_text(
                "#include <metal_stdlib>\nusing namespace metal;\n"
                f"kernel void k(device atomic_ulong* x) {{\n  {prefix}atomic_{name}{call};\n}}\n"
            )
            for family, its in lint.FAMILIES.items():
                found = lint.lint([path], lint.Options(gpu_family=family))
                wanted = [] if allowed and its.atomics_64 else [("atomic-type", 4)]
                assert [(f.rule, f.line) for f in found] == wanted, show(found)
                if wanted and allowed:
                    assert "family apple8 or newer; --gpu-family apple8" in found[0].message
    assert [name for name, its in lint.FAMILIES.items() if not its.atomics_64] == ["apple7"]


@pytest.mark.parametrize(
    "text", ["", "\0", "kernel", "[[", "template <", "((((", "'", '"', "#", "?:", "struct {", "}"]
)
def test_nonsense_is_reported_and_nothing_worse(tmp_path, text):
    path = tmp_path / "k.metal"
    path.write_text(text)
    for finding in lint.lint([path], lint.Options()):
        assert finding.line >= 1


# --- the command -------------------------------------------------------------------------------------


def run(*arguments: object, status: int, cwd: Path | None = None, **environment: str):
    import os

    done = subprocess.run(
        [sys.executable, "-m", "metalloid", "lint", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", **environment},
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


BROKEN = TESTS / "lint/invalid/double.metal"


def test_text_shows_the_line_and_the_section():
    out = run(BROKEN, status=1).stdout
    assert f"{BROKEN}:7:3: double: double is not supported; needs float" in out
    assert "      double sum = x[i];\n      ^\n" in out
    assert "see 2 Data Types, Scalar Data Types" in out
    assert "1 found in 1 file" in out


def test_json_has_all_of_a_finding():
    report = json.loads(run(BROKEN, "--format", "json", status=1).stdout)
    assert report["status"] == 1
    assert report["findings"] == [
        {
            "file": str(BROKEN),
            "line": 7,
            "column": 3,
            "rule": "double",
            "message": "double is not supported; needs float",
            "section": "2 Data Types, Scalar Data Types",
        }
    ]


def test_github_annotates_the_file():
    out = run(
        "tests/lint/invalid/double.metal", "-f", "github", status=1, cwd=TREE, GITHUB_WORKSPACE=""
    ).stdout
    assert out.startswith("::error file=tests/lint/invalid/double.metal,line=7,title=double::double is not")


def test_options_reach_the_preprocessor(tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include/widths.h").write_text("#pragma once\n#define WIDTH 4\n")
    path = tmp_path / "k.metal"
    path.write_text(
        '#include <metal_stdlib>\n#include "widths.h"\n#ifdef BAD\ndouble x;\n#endif\n'
        "kernel void k(device float* x) { threadgroup float t[WIDTH * COUNT]; t[0] = x[0]; }\n"
    )
    arguments = (path, "-I", tmp_path / "include", "-D", "COUNT=2")
    assert "clean: 1 linted" in run(*arguments, status=0).stdout
    assert "double" in run(*arguments, "-D", "BAD", status=1).stdout
    assert "threadgroup-memory" in run(path, "-I", tmp_path / "include", "-D", "COUNT=4000", status=1).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.metal",), "there is no file 'missing.metal'"),
        ((), "no files; needs at least one .metal file"),
        ((BROKEN, "--language-version", "9.9"), '--language-version is "9.9", needs one of: 1.0'),
        ((BROKEN, "--gpu-family", "apple3"), '--gpu-family is "apple3", needs one of: apple7'),
    ],
)
def test_mistakes_of_the_command_line(arguments, message):
    assert message in run(*arguments, status=2).stderr


def test_without_a_clang_it_says_what_to_install():
    assert "is not a command" in run(BROKEN, status=2, METALLOID_LINT_CLANG="/nonexistent/clang").stderr
    assert "did not preprocess" in run(BROKEN, status=2, METALLOID_LINT_CLANG="false").stderr
    assert "pip install 'metalloid[lint]'" in clang.MISSING


def test_the_rules_can_be_listed():
    console = Console(width=200, record=True)
    show_rules(console)
    assert set(re.findall(r"^ *([a-z-]+)  ", console.export_text(), re.M)) >= set(lint.RULES) - {"rule"}


def test_the_script_lints_a_tree(tmp_path):
    script = [sys.executable, str(TREE / "tools/shader_lint.py"), "--shaders", str(tmp_path)]
    (tmp_path / "shaders").mkdir()
    (tmp_path / "python").symlink_to(TREE / "python")
    broken = tmp_path / "shaders/x.metal"
    broken.write_text(BROKEN.read_text())
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert f"{broken}:7:3: double:" in done.stdout
    broken.write_text(BROKEN.read_text().replace("double", "float"))
    assert subprocess.run(script, capture_output=True, timeout=120).returncode == 0
    whole = [*script[:2], str(tmp_path)]
    for pattern in CORPUS[1:]:  # what no pattern may do is match nothing
        done = subprocess.run(whole, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert pattern in done.stderr and CORPUS[0] not in done.stderr
        other = tmp_path / pattern.replace("**", "x").replace("*", "x")
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("#include <metal_stdlib>\n")
    assert "6 files linted" in subprocess.run(whole, capture_output=True, text=True, timeout=120).stdout
    broken.unlink()
    assert subprocess.run(script, capture_output=True, timeout=120).returncode == 2


@pytest.mark.parametrize(
    "comment, passes",
    [
        ("// lint: allow inline-size", True),
        ("// a buffer, always; lint: allow inline-size", True),
        ("// lint: allow inline", False),
        ("// lint: allow inline-sizes", False),
        ("// lint: allow double", False),
        ("// inline-size", False),
    ],
)
@pytest.mark.parametrize("above", [True, False])
def test_a_comment_lets_a_finding_pass(tmp_path, comment, passes, above):
    lines = (TESTS / "lint/invalid/inline-size.metal").read_text().splitlines()
    where = next(i for i, line in enumerate(lines) if "constant Table&" in line)
    lines[where : where + 1] = [comment, lines[where]] if above else [f"{lines[where]} {comment}"]
    file = tmp_path / "k.metal"
    file.write_text("\n".join(lines))
    assert [f.rule for f in lint.lint([file], lint.Options())] == ([] if passes else ["inline-size"])


def test_a_comment_lets_nothing_of_the_next_line_pass(tmp_path):
    file = tmp_path / "k.metal"
    file.write_text("constant double a = 1;  // lint: allow double\nconstant double b = 1;\n")
    assert [(f.rule, f.line) for f in lint.lint([file], lint.Options())] == [("double", 2)]
