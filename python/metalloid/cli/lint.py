"""`metalloid lint`: kernels held against the rules of Metal's language."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

import metalloid as ml
from metalloid.cli import tables
from metalloid.cli.check import CLEAN, FAULTS, annotation
from metalloid.cli.tables import Column
from metalloid.lint import FAMILIES, RULES, VERSIONS, Finding, Options, lint

SPECIFICATION = "Metal Shading Language Specification"


class LintError(Exception):
    """The command line asks for what there is not."""


def options_of(
    include_dirs: Sequence[Path], macros: dict[str, str], language_version: str | None, gpu_family: str
) -> Options:
    version = language_version or VERSIONS[-1]
    if version not in VERSIONS:
        raise LintError(f'--language-version is "{version}", needs one of: {", ".join(VERSIONS)}')
    if gpu_family not in FAMILIES:
        raise LintError(f'--gpu-family is "{gpu_family}", needs one of: {", ".join(FAMILIES)}')
    return Options(tuple(include_dirs), tuple("=".join(pair) for pair in macros.items()), version, gpu_family)


def run(files: Sequence[Path], options: Options) -> list[Finding]:
    for path in files:
        if not path.is_file():
            raise LintError(f"there is no file '{path}'")
    return lint(files, options)


def status(findings: Sequence[Finding]) -> int:
    return FAULTS if findings else CLEAN


def show_rules(console: Console) -> None:
    tables.show(
        console,
        "Rules",
        [
            Column("rule", "left", style="bold"),
            Column("asks that", "left"),
            Column("section", "left", wide=True),
        ],
        [[rule.name, escape(rule.summary), escape(rule.section)] for rule in RULES.values()],
    )


def _code(finding: Finding) -> list[str]:
    """The line of a finding, and a mark under its column."""
    try:
        line = Path(finding.file).read_text(errors="replace").splitlines()[finding.line - 1]
    except (OSError, IndexError):
        return []
    mark = "".join("\t" if c == "\t" else " " for c in line[: finding.column - 1])
    return [f"    {line}", f"    {mark}^"]


def show_text(console: Console, findings: Sequence[Finding], files: int) -> None:
    for finding in findings:
        where = f"{finding.file}:{finding.line}:{finding.column}"
        console.print(
            f"[bold]{escape(where)}[/]: [red]{finding.rule}[/]: {escape(finding.message)}", soft_wrap=True
        )
        for line in _code(finding):
            console.print(line, markup=False, soft_wrap=True)
        console.print(f"    [dim]see {escape(finding.section)}[/]", soft_wrap=True)
    console.print(
        f"{len(findings)} found in {files} file{'s' * (files != 1)}" if findings else f"clean: {files} linted"
    )


def as_dict(findings: Sequence[Finding], files: Sequence[Path], options: Options) -> dict[str, Any]:
    return {
        "metalloid": ml.__version__,
        "status": status(findings),
        "language_version": options.language_version,
        "gpu_family": options.gpu_family,
        "files": [str(file) for file in files],
        "findings": [
            {
                "file": f.file,
                "line": f.line,
                "column": f.column,
                "rule": f.rule,
                "message": f.message,
                "section": f.section,
            }
            for f in findings
        ],
    }


def show(
    console: Console, findings: Sequence[Finding], files: Sequence[Path], options: Options, form: str
) -> None:
    if form == "json":
        print(json.dumps(as_dict(findings, files, options), indent=1))
    elif form == "github":
        for f in findings:
            print(annotation(f"{f.message}\n{SPECIFICATION}: {f.section}", f.rule, f.file, f.line))
    else:
        show_text(console, findings, len(files))
    sys.stdout.flush()
