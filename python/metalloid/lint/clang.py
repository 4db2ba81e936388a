"""The clang that understands C++ for OpenCL: found, asked, and its messages read."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

INCLUDE = Path(__file__).parent / "include"
OLDEST = 17  # the first whose __bf16 has arithmetic
MISSING = (
    "linting takes a clang, and there is none on this machine; needs `pip install 'metalloid[lint]'`, which "
    f"brings one, or clang >= {OLDEST}; METALLOID_LINT_CLANG names another one"
)
_EXTENSIONS = ("cl_khr_fp16", "__opencl_c_generic_address_space", "__cl_clang_function_pointers")
# For x86-64, which has half and bfloat in every clang.
_TARGET = "--target=x86_64-linux-gnu"
_DIALECT = (
    *("-x", "cl", "-cl-std=clc++2021", _TARGET, "-nostdinc", "-cl-no-stdinc"),
    *("-Xclang", f"-cl-ext=-all,{','.join('+' + name for name in (*_EXTENSIONS, '__cl_clang_bitfields'))}"),
    *(
        "-Wno-everything",
        "-Werror=implicit-float-conversion",
        "-Wno-implicit-int-float-conversion",
        "-Werror=return-type",
        "-ferror-limit=500",
        "-fno-color-diagnostics",
    ),
    *(
        "-fno-caret-diagnostics",
        "-fno-diagnostics-show-option",
        "-ftemplate-backtrace-limit=0",
        "-fno-elide-type",
    ),
)
_MESSAGE = re.compile(r"^(.*?):(\d+):(\d+): (fatal error|error|warning|note): (.*)$")


class ClangError(Exception):
    """There is no clang, or it did not do its work."""


@dataclass
class Message:
    file: str
    line: int
    column: int
    text: str
    notes: list[Message] = field(default_factory=list)


@lru_cache(maxsize=1)
def find() -> tuple[str, ...]:
    """The command that runs clang; raises ClangError if there is none."""
    if chosen := os.environ.get("METALLOID_LINT_CLANG"):
        command = shlex.split(chosen)
        if command and shutil.which(command[0]):
            return tuple(command)
        raise ClangError(f"METALLOID_LINT_CLANG is {chosen!r}, which is not a command on this machine")
    spec = importlib.util.find_spec("ziglang")
    if spec and spec.origin:
        zig = Path(spec.origin).parent / ("zig.exe" if os.name == "nt" else "zig")
        if zig.exists():  # `zig clang` is clang itself, with none of zig's own options
            return (str(zig), "clang")
    for name in ("clang", *(f"clang-{version}" for version in range(40, OLDEST - 1, -1))):
        path = shutil.which(name)
        if path and _version(path) >= OLDEST:
            return (path,)
    raise ClangError(MISSING)


def _version(path: str) -> int:
    try:
        done = subprocess.run([path, "-dumpversion"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = re.match(r"\d+", done.stdout)
    return int(number[0]) if done.returncode == 0 and number else 0


def _run(arguments: Sequence[str], text: str | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*find(), *arguments],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=120,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClangError(f"clang did not run: {error}") from error
    if done.returncode < 0 or "PLEASE submit a bug report" in done.stderr:
        raise ClangError(f"clang crashed: {done.stderr[-2000:]}")
    return done


def preprocess(
    file: Path, include: Sequence[Path], macros: Sequence[str], version: int
) -> tuple[str, list[Message]]:
    """The text of a file after macros and includes, with line markers; and what went wrong."""
    done = _run(
        [
            *("-E", "-x", "c++", "-std=c++17", _TARGET, "-nostdinc", "-ferror-limit=100"),
            *("-fno-color-diagnostics", "-fno-caret-diagnostics", "-w"),
            *("-U__cplusplus", "-D__cplusplus=201703L", "-D__METAL__=1", f"-D__METAL_VERSION__={version}"),
            *("-D__METAL_MEMORY_SCOPE_SYSTEM__=3", "-D__METAL_MACOS__=1"),
            *("-D__HAVE_SIMDGROUP_MATRIX__=1", "-D__HAVE_BFLOAT__=1"),
            *(f"-I{folder}" for folder in include),
            *(f"-D{macro}" for macro in macros),
            *("-isystem", str(INCLUDE / "metal"), str(file)),
        ]
    )
    messages = read(done.stderr)
    if done.returncode and not messages:
        raise ClangError(f"clang did not preprocess {file}: {done.stderr.strip()[-2000:]}")
    return done.stdout, messages


def check(text: str, macros: Sequence[str] = ()) -> list[Message]:
    """The errors in a text of C++ for OpenCL, which includes the lint's own declarations first."""
    defined = [f"-D{macro}" for macro in macros]
    include = ["-I", str(INCLUDE), "-include", "lint_functions.h"]
    done = _run([*_DIALECT, "-fsyntax-only", *defined, *include, "-"], text)
    messages = read(done.stderr)
    if done.returncode and not messages:
        raise ClangError(f"clang said nothing that could be read: {done.stderr.strip()[-2000:]}")
    return messages


def read(log: str) -> list[Message]:
    """The errors of a log, each with its notes."""
    messages: list[Message] = []
    before: list[Message] = []
    for row in log.splitlines():
        match = _MESSAGE.match(row)
        if not match:
            continue
        message = Message(match[1], int(match[2]), int(match[3]), match[5])
        if match[4] == "note":
            (messages[-1].notes if messages else before).append(message)
        elif match[4] != "warning":
            messages.append(message)
    return messages
