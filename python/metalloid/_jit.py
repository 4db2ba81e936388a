"""Where run-time compilation finds its compiler, headers and cache. Asked once, at the first compilation."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

MISSING = (
    "compiling shaders takes a C++ compiler, and there is none on this machine; needs clang++ >= 16, "
    "`pip install 'metalloid[jit]'` (which brings one), or g++ >= 12; METALLOID_SHADER_CXX names another one"
)
CLANG, GXX = 16, 12  # the oldest that will do


class Toolchain(NamedTuple):
    """How shaders are compiled at run time."""

    compiler: list[str]  # the command; empty if there is none
    missing: str  # then: why, and what to install
    headers: str
    cache: str  # "" keeps nothing


def cache_folder() -> str:
    """The folder of compiled shaders; "" if there is to be none."""
    chosen = os.environ.get("METALLOID_CACHE_DIR")
    if chosen is not None:
        return os.path.abspath(chosen) if chosen else ""
    import platformdirs

    return platformdirs.user_cache_dir("metalloid", appauthor=False)


def headers() -> str:
    """The folder of what compiled shaders include."""
    return str(Path(__file__).parent / "include")


def find_toolchain() -> Toolchain:
    compiler, missing = _compiler()
    return Toolchain(compiler, missing, headers(), cache_folder())


def _compiler() -> tuple[list[str], str]:
    chosen = os.environ.get("METALLOID_SHADER_CXX")
    if chosen:
        command = shlex.split(chosen)
        if command and shutil.which(command[0]):
            return command, ""
        return [], f"METALLOID_SHADER_CXX is {chosen!r}, which is not a command on this machine"
    for name in ("clang++", *(f"clang++-{version}" for version in range(40, CLANG - 1, -1))):
        path = shutil.which(name)
        if path and _version(path) >= CLANG:
            return [path], ""
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"], ""
    for name in ("g++", *(f"g++-{version}" for version in range(40, GXX - 1, -1))):
        path = shutil.which(name)
        if path and _version(path) >= GXX:
            return [path], ""
    return [], MISSING


def _version(path: str) -> int:
    """The major version; 0 if it does not run. Most say it in their name, which saves a process."""
    found = re.search(r"(?:llvm-(\d+)/bin/clang|\+\+-(\d+))", os.path.realpath(path))
    if found:
        return int(found[1] or found[2])
    try:
        done = subprocess.run([path, "-dumpversion"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = re.match(r"\d+", done.stdout)
    return int(number[0]) if done.returncode == 0 and number else 0
