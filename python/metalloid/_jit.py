"""Where run-time compilation finds its compiler, headers and cache. Asked once, at the first compilation."""

from __future__ import annotations

import os
import sys

# Only what the interpreter has loaded anyway: a kernel from the cache is there in less time than it takes to
# import pathlib or subprocess.

MISSING = (
    "compiling shaders takes a C++ compiler, and there is none on this machine; needs clang++ >= 16, "
    "`pip install 'metalloid[jit]'` (which brings one), or g++ >= 12; METALLOID_SHADER_CXX names another one"
)
CLANG, GXX = 16, 12  # the oldest that will do


class Toolchain:
    """How shaders are compiled at run time."""

    def __init__(self, compiler: list[str], missing: str, headers: str, cache: str) -> None:
        self.compiler = compiler  # the command; empty if there is none
        self.missing = missing  # then: why, and what to install
        self.headers = headers
        self.cache = cache  # "" keeps nothing


def cache_folder() -> str:
    """The folder of compiled shaders; "" if there is to be none."""
    chosen = os.environ.get("METALLOID_CACHE_DIR")
    if chosen is not None:
        return os.path.abspath(chosen) if chosen else ""
    if sys.platform == "linux":  # what platformdirs says too, which takes three times as long as all the rest
        caches = os.environ.get("XDG_CACHE_HOME", "")
        return os.path.join(caches if caches.strip() else os.path.expanduser("~/.cache"), "metalloid")
    import platformdirs

    return platformdirs.user_cache_dir("metalloid", appauthor=False)


def headers() -> str:
    """The folder of what compiled shaders include."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def find_toolchain() -> Toolchain:
    compiler, missing = _compiler()
    return Toolchain(compiler, missing, headers(), cache_folder())


def _compiler() -> tuple[list[str], str]:
    chosen = os.environ.get("METALLOID_SHADER_CXX")
    if chosen:
        import shlex
        import shutil

        command = shlex.split(chosen)
        if command and shutil.which(command[0]):
            return command, ""
        return [], f"METALLOID_SHADER_CXX is {chosen!r}, which is not a command on this machine"
    if path := _newest("clang++", CLANG):
        return [path], ""
    import importlib.util

    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"], ""
    if path := _newest("g++", GXX):
        return [path], ""
    return [], MISSING


def _newest(name: str, oldest: int) -> str:
    """The path of a compiler that is new enough: `name` itself if it is, else the newest `name-N`."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for candidate in (name, *(f"{name}-{version}" for version in range(40, oldest - 1, -1))):
        for folder in folders:
            path = os.path.join(folder, candidate)
            if os.access(path, os.X_OK) and os.path.isfile(path) and _version(path) >= oldest:
                return path
    return ""


def _version(path: str) -> int:
    """The major version; 0 if it does not run. Most say it in their name, which saves a process."""
    real = os.path.realpath(path)
    for said in (real.rpartition("++-")[2], real.partition("/llvm-")[2].partition("/")[0]):
        if said.isdigit():
            return int(said)
    import re
    import subprocess

    try:
        done = subprocess.run([path, "-dumpversion"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = re.match(r"\d+", done.stdout)
    return int(number[0]) if done.returncode == 0 and number else 0
