"""`metalloid check`: kernels compiled, described, and run under the checker."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

import metalloid as ml
from metalloid.cli import tables
from metalloid.cli.cases import Case, CaseError, Plan, Source, dispatch_of, from_python, from_toml
from metalloid.cli.info import size
from metalloid.cli.tables import Column

CLEAN, FAULTS, NOT_RUN = 0, 1, 2


def default_device() -> str | None:
    return "simt" if "simt" in ml.devices() else None


def checks(device: ml.Device) -> bool:
    """Whether kernels on the device run under the checker."""
    return device.name == "simt" and ml.check_settings().enabled


@dataclass
class Failure:
    """Why something could not be compiled or run."""

    message: str
    log: str = ""  # of the compiler

    @property
    def verdict(self) -> str:
        return "does not compile" if self.log else "could not be checked"


@dataclass
class Finding:
    """A fault, and the seeds with which it was found."""

    fault: ml.KernelFault
    seeds: list[int]


@dataclass
class Wrong:
    """A result that a Python case did not accept."""

    message: str
    line: int
    seed: int


@dataclass
class CaseReport:
    case: Case
    seeds: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def status(self) -> int:
        if self.failure:
            return NOT_RUN
        return FAULTS if self.findings or self.wrong else CLEAN


@dataclass
class SourceReport:
    """What a .metal file has in it."""

    path: Path
    kernels: list[dict[str, Any]] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def status(self) -> int:
        return NOT_RUN if self.failure else CLEAN


@dataclass
class Report:
    device: str
    checked: bool
    sources: list[SourceReport]
    cases: list[CaseReport]

    @property
    def status(self) -> int:
        return max((part.status for part in (*self.sources, *self.cases)), default=CLEAN)


# --- the work ----------------------------------------------------------------------------------------


ARGUMENT_FIELDS = (
    "index",
    "name",
    "kind",
    "address_space",
    "element_type",
    "access",
    "size",
    "alignment",
    "active",
)


def describe_kernel(kernel: ml.Kernel) -> dict[str, Any]:
    """The reflection of a kernel as plain values."""
    return {
        "name": kernel.name,
        "arguments": [
            {name: getattr(argument, name) for name in ARGUMENT_FIELDS}
            | {"dtype": argument.dtype.name if argument.dtype is not None else None}
            for argument in kernel.arguments
        ],
        "builtins": list(kernel.builtins),
        "max_total_threads_per_threadgroup": kernel.max_total_threads_per_threadgroup,
        "thread_execution_width": kernel.thread_execution_width,
        "static_threadgroup_memory_length": kernel.static_threadgroup_memory_length,
    }


def inspect_source(
    source: Source, device: ml.Device, *, kernel: str | None, constants: dict[str, Any]
) -> SourceReport:
    """Compiles a file and describes its kernels."""
    report = SourceReport(source.path)
    try:
        library = source.compile(device)
        if kernel is not None and kernel not in library.kernels:
            raise CaseError(
                f"no kernel '{kernel}' in '{source.path}'; there are {', '.join(library.kernels) or 'none'}"
            )
        for name in library.kernels if kernel is None else [kernel]:
            try:
                report.kernels.append(describe_kernel(library.kernel(name, constants=constants)))
            except ml.ValidationError as error:  # most likely a function constant without a value
                report.kernels.append({"name": name, "note": str(error)})
    except (ml.Error, CaseError) as error:
        report.failure = Failure(str(error), getattr(error, "log", ""))
    return report


def _same(a: ml.KernelFault, b: ml.KernelFault) -> bool:
    """Whether two runs found the same thing."""
    names = ("kind", "kernel", "variable", "file", "line", "second_file", "second_line")
    return all(getattr(a, name) == getattr(b, name) for name in names)


def _line_in(path: Path, error: BaseException) -> int:
    """The innermost line of a file that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno or 0 for f in reversed(frames) if Path(f.filename) == path), 0)


def run_case(case: Case, device: ml.Device, seeds: Sequence[int]) -> CaseReport:
    """Runs one case with every seed: of the order of execution, and of the random data."""
    report = CaseReport(case)
    for seed in seeds:
        ml.set_check_settings(seed=seed)
        report.seeds.append(seed)
        try:
            case.run(device, np.random.default_rng(seed))
        except ml.KernelFault as error:
            for fault in error.faults or (error,):
                if same := [finding for finding in report.findings if _same(finding.fault, fault)]:
                    same[0].seeds.append(seed)
                else:
                    report.findings.append(Finding(fault, [seed]))
        except AssertionError as error:
            report.wrong.append(
                Wrong(str(error).strip() or "assertion failed", _line_in(case.file, error), seed)
            )
        except (ml.Error, CaseError) as error:
            report.failure = Failure(str(error), getattr(error, "log", ""))
            break
        except Exception:  # a mistake in a Python case, whose author needs the traceback
            report.failure = Failure(traceback.format_exc().rstrip())
            break
    return report


def plan_of(path: Path) -> Plan:
    """The cases of a TOML or a Python file."""
    if path.suffix == ".toml":
        return from_toml(path)
    if path.suffix == ".py":
        return from_python(path)
    raise CaseError(f"'{path}' is neither .metal nor a description (.toml or .py)")


def run(
    files: Sequence[Path],
    *,
    compile_options: dict[str, Any],
    kernel: str | None,
    constants: dict[str, Any],
    dispatch: dict[str, Any] | None,
    seeds: Sequence[int],
    device: str | None,
) -> Report:
    """Does what the command line asks for. Raises CaseError or ml.Error where it cannot."""
    plans: list[Plan] = []
    sources: list[Source] = []
    for path in files:
        if path.suffix != ".metal":
            if dispatch is not None or kernel is not None:
                raise CaseError(
                    f"--kernel and its arguments are for .metal files; '{path}' describes its own"
                )
            plans.append(plan_of(path))
            continue
        source = Source(path, **compile_options)
        if dispatch is None:
            sources.append(source)
        else:
            told = dispatch_of(dispatch, source, Path())
            plans.append(Plan((Case(kernel or path.name, told.run, path),)))

    before = ml.check_settings()
    devices = {plan.device or default_device() for plan in plans} if device is None else {device}
    if len(devices) > 1:
        raise CaseError(f"the files ask for different devices: {', '.join(sorted(map(str, devices)))}")
    chosen = ml.Device(next(iter(devices), default_device()))
    try:
        return Report(
            chosen.name,
            checks(chosen),
            [inspect_source(source, chosen, kernel=kernel, constants=constants) for source in sources],
            [
                run_case(case, chosen, seeds or plan.seeds or (before.seed,))
                for plan in plans
                for case in plan.cases
            ],
        )
    finally:
        ml.set_check_settings(seed=before.seed)


# --- as text -----------------------------------------------------------------------------------------


def _show_kernel(console: Console, kernel: dict[str, Any]) -> None:
    if "note" in kernel:
        console.print(f"[bold]{escape(kernel['name'])}[/]")
        console.print(f"  {kernel['note']}\n", markup=False)
        return
    memory = kernel["static_threadgroup_memory_length"]
    facts = [
        f"at most {kernel['max_total_threads_per_threadgroup']} threads in a threadgroup",
        f"SIMD width {kernel['thread_execution_width']}",
        *([f"{size(memory)} of threadgroup memory"] if memory else []),
        *([f"uses {', '.join(kernel['builtins'])}"] if kernel["builtins"] else []),
    ]
    tables.show(
        console,
        escape(kernel["name"]),
        [
            Column("index"),
            Column("name", "left", style="bold"),
            Column("space", "left"),
            Column("element", "left"),
            Column("dtype", "left", wide=True),
            Column("access", "left"),
            Column("size"),
            Column("align", wide=True),
        ],
        [
            [
                f"{argument['kind']} {argument['index']}",
                escape(argument["name"]) + ("" if argument["active"] else " [dim](off)[/]"),
                argument["address_space"],
                escape(argument["element_type"]),
                argument["dtype"] or "-",
                argument["access"],
                str(argument["size"]),
                str(argument["alignment"]),
            ]
            for argument in kernel["arguments"]
        ],
        caption="; ".join(facts),
    )


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def show_text(console: Console, report: Report) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    for source in report.sources:
        if source.failure:
            verdict = f"{source.path} {source.failure.verdict}"
            console.print(f"[bold red]{escape(verdict)}[/]", soft_wrap=True)
            say(source.failure.log or source.failure.message)
            continue
        console.print(f"[bold]{escape(str(source.path))}[/]: kernels {len(source.kernels)}\n", soft_wrap=True)
        for kernel in source.kernels:
            _show_kernel(console, kernel)
    for case in report.cases:
        name = f"[bold]{escape(case.case.name)}[/] [dim]({report.device}, {_seeds(case.seeds)})[/]"
        if case.failure:
            console.print(f"[bold red]could not run[/]  {name}", soft_wrap=True)
            say(case.failure.log or case.failure.message)
        elif case.status == CLEAN:
            console.print(
                f"[green]clean[/]  {name}" if report.checked else f"[yellow]ran, unchecked[/]  {name}"
            )
        else:
            count = len(case.findings) + len(case.wrong)
            console.print(f"[bold red]{count} found[/]  {name}", soft_wrap=True)
        for finding in case.findings:
            say(f"\n{finding.fault.text}")
            if len(case.seeds) > 1:
                say(f"found with {_seeds(finding.seeds)}")
        for wrong in case.wrong:
            say(f"\n{case.case.file}:{wrong.line}: wrong result with seed {wrong.seed}\n{wrong.message}")


# --- for machines ------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Named tuples as objects, all else that JSON lacks as text."""
    if hasattr(value, "_asdict"):
        return {key: _plain(part) for key, part in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


FAULT_FIELDS = (
    "kind",
    "kernel",
    "variable",
    "address_space",
    "offset",
    "element",
    "message",
    "threads",
    "file",
    "line",
    "code",
    "second_file",
    "second_line",
    "second_code",
    "count",
)


def as_dict(report: Report) -> dict[str, Any]:
    def failure(failure: Failure | None) -> dict[str, str] | None:
        return None if failure is None else {"message": failure.message, "log": failure.log}

    return {
        "metalloid": ml.__version__,
        "device": report.device,
        "checked": report.checked,
        "status": report.status,
        "sources": [
            {"file": str(source.path), "kernels": source.kernels, "failure": failure(source.failure)}
            for source in report.sources
        ],
        "cases": [
            {
                "name": case.case.name,
                "file": str(case.case.file),
                "status": case.status,
                "seeds": case.seeds,
                "faults": [
                    {name: _plain(getattr(finding.fault, name)) for name in FAULT_FIELDS}
                    | {"seeds": finding.seeds, "text": finding.fault.text}
                    for finding in case.findings
                ],
                "wrong": [{"message": w.message, "line": w.line, "seed": w.seed} for w in case.wrong],
                "failure": failure(case.failure),
            }
            for case in report.cases
        ],
    }


def _here(name: str) -> str:
    """A path as annotations want it: from the root of the repository, which is where the work goes on."""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    path = Path(name).resolve()
    return str(path.relative_to(root)) if path.is_relative_to(root) else name


def annotation(message: str, title: str, file: str = "", line: int = 0) -> str:
    """A workflow command of GitHub Actions."""

    def data(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def quoted(text: str) -> str:
        return data(text).replace(":", "%3A").replace(",", "%2C")

    at = {"file": _here(file) if file else "", "line": str(line) if line else "", "title": title}
    return f"::error {','.join(f'{key}={quoted(text)}' for key, text in at.items() if text)}::{data(message)}"


def _failure_annotations(failure: Failure, title: str, file: Path) -> Iterator[str]:
    errors = re.findall(r"^(.+?):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", failure.log, re.M)
    for name, line, message in errors:
        yield annotation(message, "does not compile", name, int(line))
    if not errors:
        yield annotation(failure.log or failure.message, title, str(file))


def annotations(report: Report) -> list[str]:
    lines: dict[str, None] = {}  # each once: cases share their source
    for source in report.sources:
        if source.failure:
            title = source.failure.verdict
            lines |= dict.fromkeys(_failure_annotations(source.failure, title, source.path))
    for case in report.cases:
        if case.failure:
            title = f"{case.case.name} could not run"
            lines |= dict.fromkeys(_failure_annotations(case.failure, title, case.case.file))
        for finding in case.findings:
            fault = finding.fault
            other = (
                f"\n{fault.second_file}:{fault.second_line}: {fault.second_code}" if fault.second_line else ""
            )
            title = f"{fault.kind} in {fault.kernel}"
            lines[
                annotation(f"{fault.message}{other}\n{_seeds(finding.seeds)}", title, fault.file, fault.line)
            ] = None
        for wrong in case.wrong:
            title = f"wrong result of {case.case.name}"
            lines[annotation(wrong.message, title, str(case.case.file), wrong.line)] = None
    return list(lines)


def show_mistake(error: Exception, form: str, command: str = "metalloid check") -> None:
    """What a machine is told if nothing could be checked at all."""
    if form == "json":
        print(
            json.dumps(
                {"metalloid": ml.__version__, "status": NOT_RUN, "failure": {"message": str(error)}}, indent=1
            )
        )
    elif form == "github":
        print(annotation(str(error), command))


def show(console: Console, report: Report, form: str) -> None:
    if form == "json":
        print(json.dumps(as_dict(report), indent=1))
    elif form == "github":
        print("\n".join(annotations(report)), end="\n" if report.status else "")
    else:
        show_text(console, report)
    sys.stdout.flush()
