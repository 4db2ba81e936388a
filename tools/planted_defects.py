"""Plants defects, one at a time, and demands that the check that is there for them finds each.

A check that cannot fail is worth nothing. Each defect of the table is a small edit of one file. The check
named beside it passes without the edit, and has to fail with it and say the words given. Checks that compile
do so in the folders that .ci/run has built, so that only what the edit touches is built again.

    python tools/planted_defects.py --tree COPY --work DIRECTORY [NAME...]

COPY is edited while this runs and put back: a copy, not where somebody works. DIRECTORY is METALLOID_CI_DIR
of the .ci/run that built it. Exit status 1 means that a defect was not found, or that a check failed without.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Defect(NamedTuple):
    name: str
    check: str
    file: str
    old: str  # occurs once
    new: str
    said: str  # regular expression


# The commands of each check; {file} is the file with the defect. One after another, as they share folders.
CHECKS = {
    "sources": [["{python}", "tools/macos/check_sources.py", "--build", "{work}/macos", "{file}"]],
    "link": [["{python}", "tools/macos/check_link.py", "--build", "{work}/macos"]],
    "api": [["{python}", "tools/api_equality.py"]],
    "availability": [["{python}", "tools/macos_availability.py"]],
    "lint": [["{python}", "tools/shader_lint.py", "--shaders"]],
    "objects": [
        ["cmake", "--build", "{work}/gcc", "--target", "core_objects_test"],
        ["ctest", "--test-dir", "{work}/gcc", "-R", "core_objects", "--output-on-failure"],
    ],
    "workflow": [["{python}", "tools/check_workflows.py"]],
}

DEFECTS: list[Defect] = []


def run(check: str, tree: Path, work: Path, file: str) -> tuple[int, str]:
    output = ""
    for command in CHECKS[check]:
        words = [word.format(python=sys.executable, work=work, file=file) for word in command]
        done = subprocess.run(
            words, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
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
        status, output = run(defect.check, tree, work, defect.file)
    finally:
        file.write_text(before)
    if status == 0:
        return f"the check {defect.check} passed"
    if not re.search(defect.said, output):
        return f"the check {defect.check} failed without saying {defect.said!r}:{tail(output)}"
    return ""


def plant_all(check: str, defects: list[Defect], tree: Path, work: Path) -> int:
    """Those of one check, between two runs of it that have to pass."""
    failed = 0

    def control(when: str) -> None:
        nonlocal failed
        for file in sorted({defect.file for defect in defects}):
            status, output = run(check, tree, work, file)
            if status:
                failed += 1
                print(f"{check}: FAILED {when}{tail(output)}", flush=True)
            if not any("{file}" in word for command in CHECKS[check] for word in command):
                return

    control("before anything was planted")
    for defect in defects:
        start = time.monotonic()
        wrong = plant(defect, tree, work)
        failed += bool(wrong)
        verdict = f"NOT FOUND: {wrong}" if wrong else "found"
        print(f"{check}: {defect.name}: {verdict} ({time.monotonic() - start:.1f} s)", flush=True)
    control("after all was put back")
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
    failed = 0
    for check in CHECKS:
        if defects := [d for d in chosen if d.check == check]:
            failed += plant_all(check, defects, options.tree.resolve(), options.work.resolve())
    print(f"{len(chosen)} defects planted, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
