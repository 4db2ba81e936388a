#!/usr/bin/env python3
"""Builds the wheel for macOS 14 on arm64 with scikit-build-core, as a Mac does, and looks at what is inside.

    check_wheel.py [--tree DIRECTORY] [--out DIRECTORY] [--against WHEEL]

Name and tags, abi3audit --strict, the extension's layout (as check_link.py), the Python files, stubs,
licence and entry points, and the shaders: the one source that is compiled where there is no Metal compiler,
with every kernel that shaders/ has. --against compares the list of files with a wheel for Linux. What
check_link.py compiled comes out of the compiler's cache. Exits with 1 and what is wrong.
"""

import argparse
import email
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import crossbuild
import layout
import sysroot
from crossbuild import Build, Failure, shortened

PLATFORM = "macosx-14.0-arm64"
TAG = "cp312-abi3-macosx_14_0_arm64"
MODULE = "metalloid/_core.abi3.so"
SHADERS = "metalloid/metalloid.metal"


def check(options: argparse.Namespace) -> str:
    build = Build(options)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build_wheel(build, options.out or Path(scratch))
        found = problems(build, wheel, options.against)
        if found:
            raise Failure(f"{wheel.name}: " + f"\n{wheel.name}: ".join(found))
        return f"{wheel.name} has what a Mac needs, {wheel.stat().st_size // 1024} KiB"


def build_wheel(build: Build, out: Path) -> Path:
    build.directory.mkdir(parents=True, exist_ok=True)
    build.environment["_PYTHON_HOST_PLATFORM"] = PLATFORM
    out.mkdir(parents=True, exist_ok=True)
    before = set(out.glob("*.whl"))
    # As deep in the tree as the other build, so that the compiler's cache knows the paths.
    settings = {"build-dir": build.directory.with_name(build.directory.name + "-wheel")}
    settings |= {f"cmake.define.{name}": value for name, value in build.options.items()}
    done = build.run(build.python, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check",
                     "--outdir", out.resolve(), *(f"-C{name}={value}" for name, value in settings.items()),
                     build.tree)  # fmt: skip
    if done.returncode:
        raise Failure(f"{build.tree} gives no wheel for macOS:\n{shortened(done.stdout)}")
    wheels = set(out.glob("*.whl"))
    return max(wheels - before or wheels, key=lambda path: path.stat().st_mtime)


def problems(build: Build, wheel: Path, against: Path | None) -> list[str]:
    found = []
    name, version, tag = re.fullmatch(r"(.+?)-(.+?)-(.+)\.whl", wheel.name).groups()
    if (name, tag) != ("metalloid", TAG):
        found.append(f"the name needs to be metalloid-{version}-{TAG}.whl")
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as scratch:
        files = {file for file in archive.namelist() if not file.endswith("/")}
        expected = expected_files(build.tree, f"metalloid-{version}.dist-info")
        found += [f"{file} is missing" for file in sorted(expected - files)]
        found += [f"{file} is more than is needed" for file in sorted(files - expected)]
        if found:
            return found
        archive.extractall(scratch)
        root = Path(scratch)
        info = root / f"metalloid-{version}.dist-info"
        fields = email.message_from_string((info / "WHEEL").read_text())
        if fields.get_all("Tag") != [TAG] or fields["Root-Is-Purelib"] != "false":
            found.append(f"WHEEL says {fields.items()}, needs the tag {TAG} and Root-Is-Purelib false")
        required = email.message_from_string((info / "METADATA").read_text())["Requires-Python"]
        if required != ">=3.10":
            found.append(f"METADATA requires Python {required}, needs >=3.10")
        found += [
            f"{MODULE}: {what}" for what in layout.problems(root / MODULE, build.sysroot / "MacOSX.sdk")
        ]
        found += compare_shaders(build.tree, root / SHADERS)
        for stub in ("_core.pyi", "ops.pyi"):
            if (root / "metalloid" / stub).read_bytes() != (build.tree / "tests/golden" / stub).read_bytes():
                found.append(f"metalloid/{stub} differs from tests/golden/{stub}")
    found += audit(wheel)
    if against:
        found += compare_wheels(files, against)
    return found


def expected_files(tree: Path, info: str) -> set[str]:
    package = tree / "python/metalloid"
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    files = {path.relative_to(package.parent).as_posix() for path in files}
    files |= {MODULE, SHADERS, "metalloid/_core.pyi", "metalloid/ops.pyi"}
    return files | {
        f"{info}/{file}" for file in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }


def kernels(source: Path, include: Path | None = None) -> set[str]:
    """The names of the kernels in a shader, after its macros."""
    with tempfile.TemporaryDirectory() as empty:
        headers = include.rglob("*.h") if include else ()
        texts = [source.read_text(), *(path.read_text() for path in headers)]
        for header in re.findall(r"^\s*#\s*include\s*<(.+?)>", "\n".join(texts), re.M):
            Path(empty, header).touch()
        places = [f"-I{place}" for place in (include, empty) if place]
        flags = ["-E", "-P", "-x", "c++", "-std=c++17", "-nostdinc", "-w", *places]
        text = sysroot.run(sysroot.LLVM / "bin/clang", *flags, source)
    named = re.findall(r'host_name\(\s*((?:"[^"]*"\s*)+)\)', text)
    names = {"".join(re.findall(r'"([^"]*)"', literals)) for literals in named}
    text = re.sub(r"\btemplate\s*<[^;{]*?>\s*(?:\[\[kernel\]\]|kernel)\s+void\s+\w+", "", text)
    return names | set(re.findall(r"(?:\[\[kernel\]\]|\bkernel)\s+void\s+(\w+)", text))


def compare_shaders(tree: Path, shipped: Path) -> list[str]:
    shaders = tree / "shaders"
    needed = {name: path for path in sorted(shaders.glob("*.metal")) for name in kernels(path, shaders)}
    got = kernels(shipped)
    found = [
        f"{SHADERS} lacks the kernel {name} of shaders/{needed[name].name}"
        for name in sorted(needed.keys() - got)
    ]
    found += [
        f"{SHADERS} has the kernel {name}, which shaders/ has not" for name in sorted(got - needed.keys())
    ]
    ours = re.findall(r'^\s*#\s*include\s*"(.+?)"', shipped.read_text(), re.M)
    return found + [f"{SHADERS} includes {header}, which is not there to be found" for header in ours]


def audit(wheel: Path) -> list[str]:
    command = [sys.executable, "-m", "abi3audit", "--strict", "--verbose", str(wheel)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [f"abi3audit --strict says\n{done.stdout}"] if done.returncode else []


def compare_wheels(files: set[str], against: Path) -> list[str]:
    """What is not in both. Extension and shaders have other names; softmetal has files to compile with."""
    with zipfile.ZipFile(against) as archive:
        others = {name for name in archive.namelist() if not name.endswith("/")}
    ours = re.compile(r"metalloid/(_core[.\w-]*\.so|metalloid\.metal(lib/.*)?|include/softmetal/.*)")
    mine, theirs = ({name for name in names if not ours.fullmatch(name)} for names in (files, others))
    found = [f"{name} is not in {against.name}" for name in sorted(mine - theirs)]
    return found + [f"{name} is only in {against.name}" for name in sorted(theirs - mine)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="keeps the wheel there")
    parser.add_argument("--against", type=Path, metavar="WHEEL", help="a wheel for Linux to compare with")
    raise SystemExit(crossbuild.main(check, parser))
