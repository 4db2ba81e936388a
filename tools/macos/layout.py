"""What a Mac demands of the extension's file, read with lief and llvm-nm."""

import re
from pathlib import Path

import abi3info
import lief
import sysroot
from abi3info.models import PyVersion

EXPORTS = {"_PyInit__core"}
OLDEST_PYTHON = PyVersion(3, 12)
# Foundation stands for Core Foundation too, so the linker adds it where a string literal needs it.
BY_ITSELF = {sysroot.INSTALL_NAMES["CoreFoundation"]}
LIBRARIES = {*(sysroot.INSTALL_NAMES.values()), "/usr/lib/libSystem.B.dylib"} - BY_ITSELF


def stable_abi() -> set[str]:
    items = [*abi3info.FUNCTIONS.values(), *abi3info.DATAS.values()]
    return {f"_{item.symbol.name}" for item in items if item.added <= OLDEST_PYTHON}


def stub_symbols(sdk: Path) -> dict[str, set[str]]:
    """The symbols of the stub libraries, by the name that llvm-nm gives the library."""
    stubs = {}
    for path in sdk.rglob("*.tbd"):
        names = re.findall(
            r"[^\s,\[\]']+", " ".join(re.findall(r"symbols: +\[(.*?)\]", path.read_text(), re.S))
        )
        stubs[path.stem.split(".")[0]] = set(names)
    return stubs


def problems(module: Path, sdk: Path) -> list[str]:
    """What is wrong with the Mach-O file `module`; nothing is as it should be."""
    fat = lief.MachO.parse(str(module))
    if fat is None or fat.size != 1:
        return ["needs to be a Mach-O file of one architecture"]
    binary = fat.at(0)
    found = []

    def needs(what: str, got: object, needed: object) -> None:
        if got != needed:
            found.append(f"{what} is {got}, needs {needed}")

    needs("the architecture", binary.header.cpu_type.name, "ARM64")
    needs("the kind of file", binary.header.file_type.name, "BUNDLE")
    version = binary.build_version
    if version is None:
        found.append("there is no LC_BUILD_VERSION")
    else:
        needs("the platform", version.platform.name, "MACOS")
        needs("the oldest macOS", ".".join(map(str, version.minos)), "14.0.0")
    libraries = {library.name for library in binary.libraries}
    found += [f"{name} is not among the libraries that it loads" for name in sorted(LIBRARIES - libraries)]
    found += [f"it loads {name}, needs no such library" for name in sorted(libraries - LIBRARIES - BY_ITSELF)]
    found += [f"it has the rpath {rpath.path}, needs none" for rpath in binary.rpaths]
    if not binary.has_code_signature:
        found.append("it has no code signature, without which arm64 does not load it")

    nm = sysroot.LLVM / "bin/llvm-nm"
    defined = sysroot.run(nm, "--defined-only", "--extern-only", "--format=just-symbols", module).split()
    found += [f"{name} is not exported" for name in sorted(EXPORTS - set(defined))]
    found += [
        f"it exports {name}, needs {', '.join(EXPORTS)} only" for name in sorted(set(defined) - EXPORTS)
    ]

    stubs = stub_symbols(sdk)
    python = stable_abi()
    for line in sysroot.run(nm, "-m", "-u", module).splitlines():
        match = re.search(r" (\S+) \((?:from (\S+)|dynamically looked up)\)$", line)
        if not match:
            found.append(f"llvm-nm says `{line.strip()}` of a symbol")
        elif not match[2] and match[1] not in python:
            found.append(f"{match[1]} is not of the stable ABI of Python {OLDEST_PYTHON}")
        elif match[2] and match[1] not in stubs.get(match[2], ()):
            found.append(f"{match[1]} is not in {match[2]}")
    return found
