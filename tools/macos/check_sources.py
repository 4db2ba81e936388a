#!/usr/bin/env python3
"""Compiles the sources of the extension against Apple's metal-cpp for macOS 14 on arm64, without a warning.

    check_sources.py [--tree DIRECTORY] [FILE...]

FILE is a path in the tree; without any, all of csrc/metalloid, csrc/ops and csrc/bindings, and then
tests/macos/wrong_call.cpp, whose every wrong call must be rejected for the reason beside it. The objects
are those that check_link.py links. Exits with 1 and the compiler's message where something does not
compile.
"""

import argparse
import re
import shlex

import crossbuild
from crossbuild import Build, Failure

WRONG = "tests/macos/wrong_call.cpp"


def check(options: argparse.Namespace) -> str:
    build = Build(options)
    build.configure()
    commands = build.compile_commands()
    sources = {
        path.relative_to(build.tree).as_posix()
        for directory in crossbuild.SOURCES
        for path in (build.tree / directory).glob("*.cpp")
    }
    if left_out := sorted(sources - commands.keys()):
        raise Failure(f"the build for macOS leaves out {', '.join(left_out)}")
    wanted = options.files or sorted(sources)
    if unknown := sorted(set(wanted) - sources):
        raise Failure(f"{', '.join(unknown)}: no source of the extension")
    build.ninja(*(commands[source]["output"] for source in wanted))
    if options.files:
        return f"{', '.join(wanted)}: no warning"
    count = check_wrong_calls(build, commands["csrc/metalloid/device.cpp"])
    return f"{len(wanted)} sources without a warning, {count} wrong calls rejected"


def check_wrong_calls(build: Build, like: dict) -> int:
    source = build.tree / WRONG
    words = shlex.split(like["command"])
    words = words[words.index("--target=arm64-apple-macos") - 1 : words.index("-o")]
    command = [word for word in words if not word.startswith(("-MD", "-MT", "-MF"))]
    command += ["-fsyntax-only", "-ferror-limit=0", "-Wno-unused-command-line-argument", source]

    right = build.run(*command)
    if right.returncode:
        raise Failure(f"{WRONG} does not compile without its wrong calls:\n{right.stdout}")
    wrong = build.run(*command, "-DMETALLOID_WRONG_CALLS")
    found = {
        int(line): text
        for line, text in re.findall(rf"{re.escape(WRONG)}:(\d+):\d+: error: (.*)", wrong.stdout)
    }
    expected = {
        number: match[1]
        for number, line in enumerate(source.read_text().splitlines(), 1)
        if (match := re.search(r"// error: (.*)", line))
    }
    for number, reason in expected.items():
        if reason not in found.get(number, ""):
            got = found.get(number, "nothing")
            raise Failure(f"{WRONG}:{number}: needs to be rejected with `{reason}`, got `{got}`")
    if others := sorted(found.keys() - expected.keys()):
        raise Failure(f"{WRONG}:{others[0]}: rejected without being wrong: {found[others[0]]}")
    return len(expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE")
    raise SystemExit(crossbuild.main(check, parser))
