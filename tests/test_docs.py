"""The tables of docs/differences.md: every row names the tests that pin our side, and all of them exist.

Needs no device, nor the package: python -m pytest --noconftest tests/test_docs.py
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "differences.md"
COLUMNS = ["Subject", "Metal", "softmetal", "For you", "Tests"]
LIMITS = "Limits of GPU families"
MENTION = re.compile(r"`(tests/[\w./]+\.(?:py|cpp))::([^`]+)`")


def rows(text: str) -> list[tuple[int, list[str]]]:
    """The rows of all tables but those of limits, with their lines, without heads and rulers."""
    found = []
    section, head = "", True
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("## "):
            section = line[3:]
        if not line.startswith("|"):
            head = True
        elif section != LIMITS and not head and not re.fullmatch(r"[|:\- ]+", line):
            found.append((number, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]))
        else:
            head = False
    return found


def python_tests(text: str) -> set[str]:
    """Names of the test functions, and class::name of those in classes."""
    names = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return names


def cpp_tests(text: str) -> set[str]:
    """Names of doctest cases; adjacent literals are one name."""
    cases = re.findall(r'^TEST_CASE\(((?:\s*"(?:[^"\\]|\\.)*")+)\s*\)', text, re.MULTILINE)
    return {"".join(re.findall(r'"((?:[^"\\]|\\.)*)"', case)).replace('\\"', '"') for case in cases}


@functools.cache
def known_tests(path: str) -> frozenset[str] | None:
    file = ROOT / path
    if not file.is_file():
        return None
    return frozenset((python_tests if file.suffix == ".py" else cpp_tests)(file.read_text()))


def problems(text: str) -> list[str]:
    """What is wrong with a page, one line each."""
    found = []
    subjects = set()
    for line, cells in rows(text):
        where = f"docs/differences.md:{line}"
        if len(cells) != len(COLUMNS):
            found.append(f"{where}: the row has {len(cells)} cells, needs {len(COLUMNS)}")
            continue
        for name, cell in zip(COLUMNS, cells, strict=True):
            if not cell:
                found.append(f"{where}: {name} is empty")
        if cells[0] in subjects:
            found.append(f"{where}: {cells[0]} has a row already")
        subjects.add(cells[0])
        if cells[-1] and not MENTION.search(cells[-1]):
            found.append(f"{where}: {cells[0]} names no test, needs `tests/FILE::NAME`")
        for rest in re.findall(r"`([^`]*)`", MENTION.sub("", cells[-1])):
            found.append(f"{where}: `{rest}` is no `tests/FILE::NAME`")
    for line, each in enumerate(text.splitlines(), 1):
        for path, name in MENTION.findall(each):
            known = known_tests(path)
            if known is None:
                found.append(f"docs/differences.md:{line}: there is no {path}")
            elif name not in known:
                found.append(f"docs/differences.md:{line}: {path} has no test {name!r}")
    return found


def test_every_row_names_tests_that_exist():
    assert problems(PAGE.read_text()) == []


def test_the_page_has_a_row_for_what_is_known_to_differ():
    subjects = "\n".join(cells[0].lower() for _, cells in rows(PAGE.read_text()))
    for word in (
        "non-uniform threadgroups",
        "gpu famil",
        "`constant`",
        "storage modes",
        "cache modes",
        "hazard tracking",
        "barrier",
        "autorelease",
        "handlers",
        "uncommitted command buffers",
        "unretained",
        "fences",
        "shared events",
        "indirect command buffers",
        "counter",
        "residency",
        "validation",
        "nan",
        "subnormal",
        "division by zero",
        "out of bounds",
        "simd width",
        "inactive lanes",
        "atomics",
        "function constants",
        "language version",
        "page size",
    ):
        assert word in subjects, f"docs/differences.md has no row about {word}"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("| a | b | c | d |", "has 4 cells, needs 5"),
        ("| a | b | c | d | by hand |", "a names no test"),
        ("| a | | c | d | `tests/test_docs.py::test_every_row_names_tests_that_exist` |", "Metal is empty"),
        ("| a | b | c | d | `tests/test_docs.py::test_gone` |", "has no test 'test_gone'"),
        ("| a | b | c | d | `tests/test_gone.py::test_gone` |", "there is no tests/test_gone.py"),
        ("| a | b | c | d | `tests/cpp/core_rope_test.cpp::gone` |", "has no test 'gone'"),
        ("| a | b | c | d | `tests/test_docs.py::test_gone`, `test_x` |", "`test_x` is no"),
    ],
)
def test_a_row_that_pins_nothing_is_found(row, says):
    page = "| " + " | ".join(COLUMNS) + " |\n|---|---|---|---|---|\n"
    good = "| a | b | c | d | `tests/test_docs.py::test_every_row_names_tests_that_exist` |"
    assert problems(page + good) == []
    assert any(says in each for each in problems(page + row)), problems(page + row)
    assert any("has a row already" in each for each in problems(f"{page}{good}\n{good}"))


def test_tests_are_found_as_they_are_written():
    assert cpp_tests('TEST_CASE("a \\"b\\"") {\nTEST_CASE(\n    "c "\n    "d") {\n') == {'a "b"', "c d"}
    assert python_tests("def test_a(): pass\nclass TestB:\n    def test_c(self): pass\ndef no(): pass\n") == {
        "test_a",
        "TestB::test_c",
    }
