"""The build for macOS that the checks of this directory share: configured once, one object or all of it."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import sysroot

ROOT = Path(__file__).resolve().parents[2]
MODULE = "python/metalloid/_core.abi3.so"
SOURCES = ("csrc/metalloid", "csrc/metalloid/apple", "csrc/ops", "csrc/bindings")


class Failure(Exception):
    """What a check found."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tree", type=Path, default=ROOT, help="what to build; this one unless given")
    parser.add_argument(
        "--build", type=Path, help="where; TREE/build/macos unless given, so that trees share a cache"
    )
    parser.add_argument(
        "--sysroot",
        type=Path,
        default=os.environ.get("METALLOID_MACOS_SYSROOT"),
        help="what sysroot.py makes, here if need be; METALLOID_MACOS_SYSROOT, else build/macos-sysroot",
    )


def main(check, parser: argparse.ArgumentParser) -> int:
    """Runs `check` with the options of `parser`; it returns what to say, or raises Failure."""
    arguments(parser)
    options = parser.parse_args()
    name = Path(sys.argv[0]).name
    try:
        print(f"{name}: {check(options)}")
        return 0
    except (Failure, sysroot.Missing) as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        return 1


class Build:
    def __init__(self, options: argparse.Namespace):
        self.tree = options.tree.resolve()
        self.directory = (options.build or self.tree / "build/macos").resolve()
        self.sysroot = Path(options.sysroot or ROOT / "build/macos-sysroot").resolve()
        sysroot.make(self.sysroot)
        self.python = self.sysroot / "venv/bin/python"
        # One cache for all trees: paths inside the tree are relative to a directory as deep in each.
        self.environment = {
            **os.environ,
            "PATH": f"{self.sysroot / 'venv/bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.sysroot / "wheel"),
            "METALLOID_MACOS_SYSROOT": str(self.sysroot),
            "CCACHE_DIR": str(self.sysroot / "ccache"),
            "CCACHE_BASEDIR": str(self.tree),
            "CCACHE_NOHASHDIR": "1",
        }
        for variable in ("METALLOID_METAL_CPP_DIR", "MACOSX_DEPLOYMENT_TARGET", "CXXFLAGS", "LDFLAGS"):
            self.environment.pop(variable, None)
        self.options = {
            "CMAKE_TOOLCHAIN_FILE": self.tree / "cmake/toolchains/macos-arm64.cmake",
            "METALLOID_WERROR": "ON",
        }
        if shutil.which("ccache"):
            self.options["CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"

    def run(self, *command: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(word) for word in command],
            cwd=cwd or self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def configure(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        program = "import sysconfig; print(sysconfig.get_path('include'))"
        include = self.run(self.python, "-c", program).stdout.strip()
        options = {
            **self.options,
            "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
            "Python_EXECUTABLE": self.python,
            "Python_INCLUDE_DIR": include,
        }
        cache = self.directory / "CMakeCache.txt"
        # Defaults of the project, which may have changed since.
        again = ["-UCMAKE_OSX_DEPLOYMENT_TARGET", "-UMETALLOID_METAL_CPP*"]
        if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={self.tree}\n" not in cache.read_text():
            again.append("--fresh")  # a copy of a tree with its build
        done = self.run("cmake", *again, "-G", "Ninja", "-S", self.tree, "-B", self.directory,
                        *(f"-D{name}={value}" for name, value in options.items()))  # fmt: skip
        if done.returncode:
            raise Failure(f"CMake cannot configure {self.tree} for macOS:\n{done.stdout}")

    def ninja(self, *targets: str) -> None:
        """Builds `targets`, files relative to the build or absolute."""
        names = [
            os.path.relpath(target, self.directory) if os.path.isabs(target) else target for target in targets
        ]
        done = self.run("ninja", "-k", "0", *names)
        if done.returncode:
            raise Failure(f"{self.tree} does not build for macOS:\n{shortened(done.stdout)}")

    def compile_commands(self) -> dict[str, dict]:
        """The entries of the compilation database, by the source's path in the tree; ours only."""
        entries = json.loads((self.directory / "compile_commands.json").read_text())
        commands = {}
        for entry in entries:
            path = Path(entry["file"])
            if path.is_relative_to(self.tree):
                commands[path.relative_to(self.tree).as_posix()] = entry
        return commands


def shortened(output: str) -> str:
    """Without ninja's progress and the command lines."""
    noise = re.compile(r"\[\d+/\d+\]|ccache |/usr/lib/llvm|: && |ninja: (Entering|build stopped)")
    return "\n".join(line for line in output.splitlines() if not noise.match(line))
