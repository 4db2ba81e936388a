#!/usr/bin/env python3
"""Links the extension for macOS 14 on arm64 against stub libraries, and looks at the result.

    check_link.py [--tree DIRECTORY]

A symbol that no library has is an error of the linker; kind of file, oldest macOS, libraries, exports and
the origin of every symbol are then read from the file. That errors are errors is shown each time: the link
must fail, and say why, with tests/macos/misspelt_metal.cpp, with tests/macos/misspelt_python.cpp, and with
any framework left out. Compiles what check_sources.py has not. Exits with 1 and what is wrong.
"""

import argparse
import shlex
import tempfile
from pathlib import Path

import crossbuild
import layout
import sysroot
from crossbuild import MODULE, Build, Failure, shortened

MISSPELT = {
    "tests/macos/misspelt_metal.cpp": "undefined symbol: MTLCreateSystemDefaultDevic\n",
    "tests/macos/misspelt_python.cpp": "undefined symbol: PyLong_FromLon\n",
}


def check(options: argparse.Namespace) -> str:
    build = Build(options)
    build.configure()
    build.ninja(MODULE)
    sdk = build.sysroot / "MacOSX.sdk"
    if found := layout.problems(build.directory / MODULE, sdk):
        raise Failure(f"{MODULE}: " + f"\n{MODULE}: ".join(found))

    last = build.run("ninja", "-t", "commands", MODULE).stdout.splitlines()[-1]
    link = shlex.split(last)
    link = link[link.index("&&") + 1 :]
    link = link[: link.index("&&")]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "_core.so")
        link[link.index("-o") + 1] = str(output)
        if (done := build.run(*link)).returncode:
            raise Failure(
                f"the command that linked {MODULE} fails the second time:\n{shortened(done.stdout)}"
            )
        for source, reason in MISSPELT.items():
            must_fail(build, [*link, str(compiled(build, source, Path(scratch)))], f"with {source}", reason)
        for framework in sysroot.FRAMEWORKS:
            without = leave_out(link, framework)
            if framework == "QuartzCore":  # has none of the symbols, but is needed at run time
                done = build.run(*without)
                if done.returncode or not any(framework in line for line in layout.problems(output, sdk)):
                    raise Failure(f"without -framework {framework} the extension passes for complete")
            else:
                prefix = {"Metal": "MTL", "Foundation": "NS"}[framework]
                must_fail(build, without, f"without -framework {framework}", f"undefined symbol: {prefix}")
    wrong = len(MISSPELT) + len(sysroot.FRAMEWORKS)
    return f"{MODULE} links and has what macOS needs; {wrong} wrong links rejected"


def compiled(build: Build, source: str, scratch: Path) -> Path:
    command = shlex.split(build.compile_commands()["csrc/bindings/module.cpp"]["command"])
    output = scratch / Path(source).with_suffix(".o").name
    command = command[command.index("--target=arm64-apple-macos") - 1 : command.index("-o")]
    done = build.run(*command, "-o", output, "-c", build.tree / source)
    if done.returncode:
        raise Failure(f"{source} does not compile:\n{done.stdout}")
    return output


def leave_out(link: list[str], framework: str) -> list[str]:
    kept, skip = [], False
    for word, following in zip(link, [*link[1:], ""], strict=True):
        if skip:
            skip = False
        elif (word, following) == ("-framework", framework):
            skip = True
        else:
            kept.append(word)
    if len(kept) == len(link):
        raise Failure(f"the extension is linked without -framework {framework}")
    return kept


def must_fail(build: Build, link: list[str], how: str, reason: str) -> None:
    done = build.run(*link)
    if not done.returncode:
        raise Failure(f"the extension links {how}")
    if reason not in done.stdout:
        raise Failure(f"linking {how} needs to fail with `{reason.strip()}`, got:\n{shortened(done.stdout)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    raise SystemExit(crossbuild.main(check, parser))
