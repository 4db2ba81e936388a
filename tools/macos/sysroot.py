#!/usr/bin/env python3
"""Makes what Linux needs to build for macOS on Apple silicon, out of packages of PyPI and Debian.

    sysroot.py DIRECTORY

DIRECTORY gets
  MacOSX.sdk/  headers: the C library's from ziglang, libc++'s from Debian (with the annotations of what macOS
               lacks), and the few lines of Core Foundation and IOSurface that metal-cpp needs (stubs/ here);
               libraries: stubs (.tbd) that hold the names of symbols only, so that a misspelt one is an error
  wheel/       Apple's metal-cpp, as in the wheel mlx-metal
  venv/        Python >= 3.12, whose stable ABI the extension uses, with the tools of the build

The names of symbols are facts found elsewhere: what mlx's own library imports from Metal and Foundation,
ziglang's libSystem, Debian's libc++ of the same release, and what the headers of libobjc declare. Nothing
is made twice. Needs clang-16, lld-16, llvm-16 and libc++-16-dev of Debian (ccache too, if builds are to be
quick), ziglang in the Python that runs it, and a Python >= 3.12 with headers: METALLOID_MACOS_PYTHON, or
found in PATH or pyenv; else uv fetches one from GitHub, which is the one thing from elsewhere.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import wheels

BUILD_TOOLS = ["scikit-build-core>=0.11", "nanobind>=2.9", "build", "cmake>=3.24", "ninja"]
LLVM = Path("/usr/lib/llvm-16")
FRAMEWORKS = ("Metal", "Foundation", "QuartzCore")
INSTALL_NAMES = {
    "Metal": "/System/Library/Frameworks/Metal.framework/Versions/A/Metal",
    "Foundation": "/System/Library/Frameworks/Foundation.framework/Versions/C/Foundation",
    "QuartzCore": "/System/Library/Frameworks/QuartzCore.framework/Versions/A/QuartzCore",
    "CoreFoundation": "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
    "libc++": "/usr/lib/libc++.1.dylib",
    "libobjc": "/usr/lib/libobjc.A.dylib",
}


class Missing(Exception):
    """Something that has to be installed first."""


def run(*command: object, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env)
    if done.returncode:
        raise Missing(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def pip(python: object, *arguments: object) -> None:
    run(python, "-m", "pip", "--disable-pip-version-check", *arguments)


def zig_library() -> Path:
    spec = importlib.util.find_spec("ziglang")
    if not spec or not spec.submodule_search_locations:
        raise Missing(f"no ziglang in {sys.executable}, needs `pip install ziglang`")
    return Path(spec.submodule_search_locations[0], "lib")


def python_of_stable_abi(fetched: Path) -> str:
    """A Python whose headers have the stable ABI of 3.12; where there is none, uv fetches one."""
    program = (
        "import os, sys, sysconfig as s\n"
        "print(sys.version_info >= (3, 12) and not s.get_config_var('Py_GIL_DISABLED') and"
        " os.path.exists(os.path.join(s.get_path('include'), 'Python.h')))"
    )

    def first(names: Iterable[str]) -> str | None:
        for path in filter(None, map(shutil.which, names)):
            said = subprocess.run([path, "-c", program], capture_output=True, text=True).stdout
            if said.strip() == "True":
                return path
        return None

    if named := os.environ.get("METALLOID_MACOS_PYTHON"):
        names = [named]
    else:  # those of pyenv are beside each other, whatever PATH and HOME say
        folders = {Path(sys.base_prefix).parent, Path("~/.pyenv/versions").expanduser()}
        names = [f"python3.{minor}" for minor in range(12, 16)] + ["python3"]
        names += sorted({str(path) for f in folders for path in f.glob("3.1[2-9]*/bin/python3")})
    if path := first(names):
        return path
    if not named:
        uv = [sys.executable, "-m", "uv", "python", "install", "--no-bin", "--install-dir", fetched, "3.12"]
        subprocess.run(uv, stdout=subprocess.DEVNULL)
        if path := first(map(str, fetched.glob("cpython-3.12*/bin/python3"))):
            return path
    raise Missing(
        f"no CPython >= 3.12 with headers among {', '.join(names)}, and uv fetches none; "
        "METALLOID_MACOS_PYTHON names one elsewhere"
    )


def exported(library: Path) -> set[str]:
    """The C++ symbols that an ELF library of this machine exports, as Mach-O names them."""
    listing = run(LLVM / "bin/llvm-nm", "-D", "--defined-only", "--format=posix", library)
    names = {line.split()[0].split("@")[0] for line in listing.splitlines()}
    return {f"_{name}" for name in names if name.startswith(("_Z", "__cxa", "__gxx", "__dynamic"))}


def imported(library: Path) -> dict[str, set[str]]:
    """The symbols that a Mach-O library imports, by the library or framework that has them."""
    found: dict[str, set[str]] = {}
    for line in run(LLVM / "bin/llvm-nm", "-m", "-u", library).splitlines():
        match = re.search(r" (\S+) \(from (\S+)\)$", line)
        if match:
            found.setdefault(match[2], set()).add(match[1])
    return found


def declared_by_objc(headers: Path) -> set[str]:
    text = "".join(path.read_text(errors="replace") for path in sorted(headers.glob("*.h")))
    return {
        f"_{name}"
        for name in re.findall(r"\b((?:objc|object|class|sel|method|protocol|ivar|imp)_\w+)\(", text)
    }


def write_stub(sdk: Path, name: str, symbols: set[str], reexports: tuple[str, ...] = ()) -> None:
    """Where the library is on a Mac, with a link where the linker looks for `name`."""
    path = sdk / (INSTALL_NAMES[name].removesuffix(".dylib").removeprefix("/") + ".tbd")
    path.parent.mkdir(parents=True, exist_ok=True)
    link = (path.parents[2] if name in INSTALL_NAMES[name].split("/") else path.parent) / f"{name}.tbd"
    link.symlink_to(os.path.relpath(path, link.parent))

    def section(title: str, key: str, items: list[str]) -> str:
        text = ", ".join(f"'{item}'" for item in items)
        return f"{title}:\n  - targets: [ arm64-macos ]\n    {key}: [ {text} ]\n" if items else ""

    path.write_text(
        f"--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\ninstall-name: '{INSTALL_NAMES[name]}'\n"
        + "current-version: 1\n"
        + section("reexported-libraries", "libraries", [INSTALL_NAMES[other] for other in reexports])
        + section("exports", "symbols", sorted(symbols))
        + "...\n"
    )


def make_sdk(sdk: Path, zig: Path, mlx: Path) -> None:
    stubs = Path(__file__).parent / "stubs"
    include = sdk / "usr/include"
    shutil.copytree(zig / "libc/include/any-darwin-any", include)
    shutil.copytree(LLVM / "include/c++/v1", include / "c++/v1")
    site = include / "c++/v1/__config_site"
    off = "#define _LIBCPP_HAS_NO_VENDOR_AVAILABILITY_ANNOTATIONS\n"
    text = site.read_text()
    if off not in text:
        raise Missing(f"{site} does not turn availability annotations off as libc++ 16 does")
    site.write_text(text.replace(off, ""))
    # Apple's newest headers leave INFINITY and NAN to the float.h of a newer compiler.
    math = include / "math.h"
    math.write_text(math.read_text().replace("__has_feature(modules)", "0"))
    frameworks = sdk / "System/Library/Frameworks"
    for framework in stubs.iterdir():
        shutil.copytree(framework, frameworks / f"{framework.name}.framework/Headers")

    imports = imported(mlx)
    for name in FRAMEWORKS:
        reexports = ("CoreFoundation", "libobjc") if name == "Foundation" else ()
        write_stub(sdk, name, imports.get(name, set()), reexports)
    # Of Core Foundation the compiler itself wants the class of its string literals, which MTLSTR makes.
    write_stub(sdk, "CoreFoundation", {"___CFConstantStringClassReference"})
    write_stub(sdk, "libobjc", imports["libobjc"] | declared_by_objc(include / "objc"))
    cxx = imports["libc++"] | exported(LLVM / "lib/libc++.so.1.0") | exported(LLVM / "lib/libc++abi.so.1.0")
    write_stub(sdk, "libc++", cxx)
    # lld knows no arm64e.x1, and links arm64 with what is for arm64 alone.
    system = re.sub(r",\s*arm64e\.x1-\w+", "", (zig / "libc/darwin/libSystem.tbd").read_text())
    (sdk / "usr/lib/libSystem.tbd").write_text(re.sub(r"\barm64e-", "arm64-", system))
    # The version goes into the extension as that of the SDK it was made with.
    settings = {"CanonicalName": "macosx14.0", "Version": "14.0", "MaximumDeploymentTarget": "14.0.99"}
    (sdk / "SDKSettings.json").write_text(json.dumps(settings))


def make_wheel(wheel: Path, scratch: Path) -> Path:
    """Unpacks metal-cpp as Python would find it, and returns mlx's library."""
    library = "mlx/lib/libmlx.dylib"
    parts = ("mlx/include/metal_cpp/", "mlx_metal-", library)  # the second is what Python knows it by
    try:
        found = wheels.part(scratch, *wheels.MLX_METAL, wheels.MACOS, {part: part for part in parts})
    except wheels.Unavailable as error:
        raise Missing(str(error)) from None
    shutil.copytree(found, wheel, ignore=shutil.ignore_patterns("lib"))
    return found / library


def stamp() -> str:
    """What the contents depend on."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(f"{metadata.version('ziglang')} {wheels.MLX_METAL}".encode())
    for path in sorted((Path(__file__).parent / "stubs").rglob("*.h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make(directory: Path) -> None:
    """Raises Missing where something is not installed."""
    done = directory / "stamp"
    if done.exists() and done.read_text() == stamp():
        return
    packages = {"bin/clang++": "clang-16", "bin/ld64.lld": "lld-16", "bin/llvm-nm": "llvm-16",
                "include/c++/v1/__config_site": "libc++-16-dev"}  # fmt: skip
    missing = [package for file, package in packages.items() if not (LLVM / file).exists()]
    if missing:
        raise Missing(
            f"no {', '.join(missing)}, needs `apt-get install {' '.join(packages.values())} ccache`"
        )
    zig = zig_library()
    python = python_of_stable_abi(directory / "python")

    directory.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    for part in ("MacOSX.sdk", "wheel", "venv"):
        shutil.rmtree(directory / part, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        make_sdk(directory / "MacOSX.sdk", zig, make_wheel(directory / "wheel", Path(scratch)))
    run(python, "-m", "venv", directory / "venv")
    pip(directory / "venv/bin/python", "install", "-q", *BUILD_TOOLS)
    done.write_text(stamp())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory.resolve()
    try:
        make(directory)
    except Missing as error:
        print(f"sysroot.py: {error}", file=sys.stderr)
        return 1
    print(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
