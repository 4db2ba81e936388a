"""Plants defects, one at a time, and demands that the check that is there for them finds each.

A check that cannot fail is worth nothing. Each defect of the table is a small edit of one file. The check
named beside it passes without the edits, and has to fail with it and say the words given. Checks that compile
do so in the folders that .ci/run has built, so that only what the edit touches is built again.

    python tools/planted_defects.py --tree COPY --work DIRECTORY [NAME...]

COPY is edited while this runs and put back: a copy, not where somebody works. DIRECTORY is METALLOID_CI_DIR
of the .ci/run that built it. Checks that build nothing run at the same time, in another copy. Exit status 1
means that a defect was not found, or that a check failed without.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple


class Defect(NamedTuple):
    name: str
    check: str
    file: str
    old: str  # occurs once
    new: str
    said: str  # regular expression


# The commands of each check; {file} is the file with the defect.
CHECKS = {
    "macos-sources": [["{python}", "tools/macos/check_sources.py", "{file}"]],
    "macos-wrong-calls": [["{python}", "tools/macos/check_sources.py"]],
    "macos-link": [["{python}", "tools/macos/check_link.py"]],
    "macos-wheel": [["{python}", "tools/macos/check_wheel.py"]],
    "macos-availability": [
        ["{python}", "tools/macos_availability.py", "--cache", "{work}/headers", "{tree}/{file}"]
    ],
    "api-equality": [["{python}", "tools/api_equality.py", "--cache", "{work}/headers"]],
    "shader-lint": [["{python}", "tools/shader_lint.py", "--shaders"]],
    "objects": [
        ["cmake", "--build", "{work}/gcc", "--target", "core_objects_test"],
        ["ctest", "--test-dir", "{work}/gcc", "-R", "^core_objects_test$", "--output-on-failure"],
    ],
    "differences": [["{python}", "-m", "pytest", "-q", "--noconftest", "tests/test_docs.py"]],
    "workflow": [["{python}", "tools/check_workflows.py", "schema", "actionlint", "settings"]],
}

# Those that share what was built for COPY, one after another.
BUILDING = ("macos-sources", "macos-wrong-calls", "macos-link", "macos-wheel", "objects")

_APPLE = "csrc/metalloid/apple"
_HEADERS = "csrc/softmetal/include/Metal"
_SHADER = "shaders/vision_2d_rope.metal"
_ENCODER = "csrc/metalloid/command_encoder.cpp"
_END = "  encoder_->endEncoding();\n  encoder_->release();\n"
_UNISTD = "#include <unistd.h>\n"
_STRING = 'extern "C" const char* PyUnicode_AsUTF8(PyObject*);\n'
_TRAP = 'extern "C" __attribute__((used)) const char* trap(PyObject* o) { return PyUnicode_AsUTF8(o); }\n'
_LEAK = 'extern "C" __attribute__((visibility("default"), used)) void leak() {}\n'

DEFECTS = [
    Defect(
        *("an argument is missing in a Metal call", "macos-sources", _ENCODER),
        *("encoder_->setBytes(bytes, length, index);", "encoder_->setBytes(bytes, index);"),
        "no matching member function",
    ),
    Defect(
        *("an argument of a Metal call has the wrong type", "macos-sources", _ENCODER),
        *("encoder_->dispatchThreads(grid, threads);", "encoder_->dispatchThreads(grid, 32);"),
        "no viable conversion",
    ),
    Defect(
        *("a header of Linux", "macos-sources", "csrc/metalloid/storage.cpp"),
        *(_UNISTD, "#include <sys/sysinfo.h>\n" + _UNISTD),
        "sys/sysinfo.h' file not found",
    ),
    Defect(
        *("a wrong call is right", "macos-wrong-calls", "tests/macos/wrong_call.cpp"),
        *("encoder->setBuffer(buffer, 0);  ", "encoder->setBuffer(buffer, 0, 0);"),
        "needs to be rejected",
    ),
    Defect(
        *("a framework is missing", "macos-link", "cmake/FindMetalCpp.cmake"),
        *('"-framework Foundation" ', ""),
        "undefined symbol: objc_msgSend",
    ),
    Defect(
        *("another framework is missing", "macos-link", "cmake/FindMetalCpp.cmake"),
        *(' "-framework QuartzCore"', ""),
        "not among the libraries",
    ),
    Defect(
        *("nothing defines metal-cpp's selectors", "macos-link", f"{_APPLE}/metal_cpp.cpp"),
        *("#define MTL_PRIVATE_IMPLEMENTATION\n", ""),
        "undefined symbol: MTL::Private",
    ),
    Defect(
        *("a symbol is exported", "macos-link", "csrc/bindings/module.cpp"),
        *(_UNISTD, _UNISTD + _LEAK),
        "it exports _leak",
    ),
    Defect(
        *("a function of Python that later ones may lack", "macos-link", "csrc/bindings/module.cpp"),
        *(_UNISTD, _UNISTD + _STRING + _TRAP),
        "not of the stable ABI",
    ),
    Defect(
        *("the wheel is for another Python", "macos-wheel", "pyproject.toml"),
        *('wheel.py-api = "cp312"', 'wheel.py-api = "cp313"'),
        "the name needs to be",
    ),
    Defect(
        *("the wheel has no shaders", "macos-wheel", "cmake/CompileShaders.cmake"),
        *("    install(FILES ${source} DESTINATION metalloid)\n", ""),
        "metalloid.metal is missing",
    ),
    Defect(
        *("the wheel lacks some shaders", "macos-wheel", "cmake/FlattenShaders.cmake"),
        *("${ROOT}/shaders/*.metal", "${ROOT}/shaders/r*.metal"),
        "lacks the kernel",
    ),
    Defect(
        *("a call of macOS 15", "macos-availability", "csrc/metalloid/queue.cpp"),
        "newCommandQueue(kCommandBuffers)",
        "newCommandQueue(MTL::CommandQueueDescriptor::alloc()->init())",
        "CommandQueueDescriptor::alloc is of macOS 15.0 and is not guarded",
    ),
    Defect(
        *("a guard is gone", "macos-availability", "csrc/metalloid/residency.cpp"),
        "  if (!set_) return;\n  queue->addResidencySet",
        "  queue->addResidencySet",
        "addResidencySet is of macOS 15.0 and is not guarded",
    ),
    Defect(
        *("a guard asks for what no system has", "macos-availability", f"{_APPLE}/availability.cpp"),
        *("newResidencySetWithDescriptor:error:", "newResidencySetWithDescriptor:"),
        "which Apple's headers do not have",
    ),
    Defect(
        *("a number becomes an enumerator", "macos-availability", "csrc/metalloid/compile.cpp"),
        *("setMathMode(MTL::MathModeRelaxed)", "setMathMode(static_cast<MTL::MathMode>(1))"),
        "a number becomes MTL::MathMode",
    ),
    Defect(
        *("an enumerator has another value", "api-equality", f"{_HEADERS}/MTLResource.hpp"),
        *("    StorageModePrivate = 2,", "    StorageModePrivate = 3,"),
        "StorageModePrivate: is 3 of",
    ),
    Defect(
        *("a method is not const", "api-equality", f"{_HEADERS}/MTLBuffer.hpp"),
        *("  NS::UInteger length() const;", "  NS::UInteger length();"),
        "MTL::Buffer::length: is",
    ),
    Defect(
        *("a class has another base", "api-equality", f"{_HEADERS}/MTLBuffer.hpp"),
        *("Referencing<Buffer, Resource>", "Referencing<Buffer>"),
        "MTL::Buffer: derives from",
    ),
    Defect(
        *("two arguments have one index", "shader-lint", _SHADER),
        *("const device uint* pos_y [[buffer(4)]]", "const device uint* pos_y [[buffer(3)]]"),
        "buffer-duplicate",
    ),
    Defect(
        *("double", "shader-lint", _SHADER),
        *("const float position_x =", "const double position_x ="),
        r"\bdouble:",
    ),
    Defect(
        *("a pointer into another address space", "shader-lint", "shaders/include/head_rope.h"),
        *("  threadgroup float* own;", "  device float* own;"),
        "address-space",
    ),
    Defect(
        *("more threadgroup memory than there is", "shader-lint", "shaders/include/rows.h"),
        *("constant constexpr uint max_simdgroups = 64;", "constant constexpr uint max_simdgroups = 9000;"),
        "threadgroup-memory",
    ),
    Defect(
        *("an attribute is misspelt", "shader-lint", "shaders/include/rows.h"),
        *("uint lane [[thread_index_in_simdgroup]]", "uint lane [[thread_index_in_simd_group]]"),
        "attribute-unknown",
    ),
    Defect(
        *("a global variable that is not constant", "shader-lint", "shaders/include/rows.h"),
        *("constant constexpr uint max_simdgroups = 64;", "constexpr uint max_simdgroups = 64;"),
        "program-scope-space",
    ),
    Defect(
        *("two kernels have one name", "shader-lint", _SHADER),
        *('INSTANTIATE("f16", half)', 'INSTANTIATE("f32", half)'),
        "host-name-clash",
    ),
    Defect(
        *("something is released twice", "objects", _ENCODER),
        *(_END, _END + "  encoder_->release();\n"),
        "MTL::ComputeCommandEncoder",
    ),
    Defect(
        *("something is retained for ever", "objects", "csrc/metalloid/program.cpp"),
        "auto made = NS::TransferPtr(device_.metal()->newIndirectCommandBuffer(",
        "auto made = NS::RetainPtr(device_.metal()->newIndirectCommandBuffer(",
        r"living\(\) == before",
    ),
    Defect(
        *("something is autoreleased without a pool", "objects", "csrc/metalloid/program.cpp"),
        "  if (commands_.empty()) return;\n  AutoreleaseScope scope;\n",
        "  if (commands_.empty()) return;\n",
        "MTL::IndirectComputeCommand",
    ),
    Defect(
        *("a row names a test that is not there", "differences", "docs/differences.md"),
        *("test_buffers_past_the_longest_are_refused", "test_buffers_past_the_longest_are_taken"),
        "test_buffers_past_the_longest_are_taken",
    ),
    Defect(
        *("a job needs one that is not there", "workflow", ".github/workflows/wheels.yml"),
        *("needs: [wheels, sdist, checks]", "needs: [wheels, sdits, checks]"),
        "sdits",
    ),
]


def run(check: str, tree: Path, work: Path, files: list[str]) -> tuple[int, str]:
    output = ""
    names = {"python": sys.executable, "work": work, "tree": tree}
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "METALLOID_MACOS_SYSROOT": str(work / "macos-sysroot"),
    }
    for command in CHECKS[check]:
        words = [
            word.format(file=file, **names)
            for word in command
            for file in (files if "{file}" in word else files[:1])
        ]
        done = subprocess.run(
            words,
            cwd=tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        output += done.stdout
        if done.returncode:
            return done.returncode, output
    return 0, output


def tail(output: str, lines: int = 12) -> str:
    return "".join(f"\n    {line}" for line in output.rstrip().splitlines()[-lines:])


def plant(defect: Defect, tree: Path, work: Path) -> str:
    """What is wrong, or nothing."""
    file = tree / defect.file
    before = file.read_text()
    if before.count(defect.old) != 1:
        return f"the text to be replaced occurs {before.count(defect.old)} times in {defect.file}"
    file.write_text(before.replace(defect.old, defect.new))
    try:
        status, output = run(defect.check, tree, work, [defect.file])
    finally:
        file.write_text(before)
    if status == 0:
        return f"the check {defect.check} passed"
    if not re.search(defect.said, output):
        return f"the check {defect.check} failed without saying {defect.said!r}:{tail(output)}"
    return ""


def plant_all(check: str, defects: list[Defect], tree: Path, work: Path) -> int:
    """Those of one check, which has to pass first; returns how much went wrong."""
    status, output = run(check, tree, work, sorted({defect.file for defect in defects}))
    if status:
        print(f"{check}: FAILED before anything was planted{tail(output)}", flush=True)
        return 1
    failed = 0
    for defect in defects:
        start = time.monotonic()
        wrong = plant(defect, tree, work)
        failed += bool(wrong)
        verdict = f"NOT FOUND: {wrong}" if wrong else "found"
        print(f"{check}: {defect.name}: {verdict} ({time.monotonic() - start:.1f} s)", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of defects or checks; all unless given")
    options = parser.parse_args()
    if unknown := set(options.names) - {d.name for d in DEFECTS} - CHECKS.keys():
        parser.error(f"no defect and no check is called {', '.join(sorted(unknown))}")
    chosen = [d for d in DEFECTS if not options.names or {d.name, d.check} & set(options.names)]
    tree, work = options.tree.resolve(), options.work.resolve()

    def plant_those(checks: list[str], tree: Path) -> int:
        planted = {check: [d for d in chosen if d.check == check] for check in checks}
        return sum(plant_all(check, defects, tree, work) for check, defects in planted.items() if defects)

    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
        copy = Path(scratch) / "tree"
        shutil.copytree(tree, copy, ignore=shutil.ignore_patterns(".git", ".venv", "build"))
        lanes = [
            pool.submit(plant_those, [c for c in CHECKS if c in BUILDING], tree),
            pool.submit(plant_those, [c for c in CHECKS if c not in BUILDING], copy),
        ]
        failed = sum(lane.result() for lane in lanes)
    print(f"{len(chosen)} defects planted, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
