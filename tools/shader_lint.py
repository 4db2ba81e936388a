"""Lints the shaders, the examples and the valid kernels of the tests, with the lint of the same tree.

Checks that every .metal of a tree keeps the rules of Metal's language, which docs/lint.md lists. Needs a
clang, as the package ziglang brings one, and nothing that is built. Exits with 1 if a rule is broken, and
with 2 if a pattern of CORPUS matches nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

CORPUS = (
    "shaders/*.metal",
    "examples/**/*.metal",
    "tests/kernels/*.metal",
    "tests/faults/*.metal",
    "tests/lint/valid/*.metal",
    "tests/cpp/msl/breadth/*.metal",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--shaders", action="store_true", help="only those of shaders/")
    options = parser.parse_args()
    # By itself, as the package around it needs the extension to be built.
    sys.path.insert(0, str(options.tree / "python/metalloid"))
    import lint

    patterns = CORPUS[:1] if options.shaders else CORPUS
    matches = {pattern: list(options.tree.glob(pattern)) for pattern in patterns}
    if missing := [pattern for pattern, paths in matches.items() if not paths]:
        print(f"no file of {options.tree} matches {', '.join(missing)}", file=sys.stderr)
        return 2
    files = sorted(path for paths in matches.values() for path in paths)
    start = time.monotonic()
    try:
        findings = lint.lint(files, lint.Options(include_dirs=(options.tree / "shaders",)))
    except lint.ClangError as error:
        print(error, file=sys.stderr)
        return 2
    for f in findings:
        print(f"{f.file}:{f.line}:{f.column}: {f.rule}: {f.message}\n    see {f.section}")
    print(f"{len(files)} files linted in {time.monotonic() - start:.1f} s, {len(findings)} found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
