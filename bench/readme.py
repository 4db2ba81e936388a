"""Puts the numbers of `metalloid bench --json FILE` into the README: `python bench/readme.py FILE [README]`.

Those of each suite go between its own two markers, and so do those of `dispatch_bench --benchmark_out=FILE`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"
TYPES = {"float32": "f32", "bfloat16": "bf16"}


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _peer(runs: dict[str, Any], memcpy: float) -> str:
    if runs["error"]:
        return "failed"
    return f"{min(runs['seconds']) / memcpy:.1f}" if runs["seconds"] else ""


def section(results: dict[str, Any]) -> str:
    """The section in Markdown."""
    rows, overheads = results["rows"], results["overheads"]
    peers = list(rows[0]["peers"])
    lines = [
        _about(results["environment"]),
        "",
        "Time relative to memcpy of the same bytes; smaller is better. `metalloid` is the median over pairs "
        "of runs that followed each other, which targets go by; all other columns are best run over best "
        "memcpy.",
        "",
        _line(["operation", "shape", "type", "target", "metalloid", "best", *peers]),
        _line(["---"] * 3 + ["--:"] * (3 + len(peers))),
    ]
    for row in rows:
        memcpy = min(row["memcpy_seconds"])
        missed = "" if row["met"] in (True, None) else " (missed)"
        lines.append(
            _line(
                [
                    f"{row['operation']} {row['form']}".strip(),
                    row["shape"],
                    TYPES[row["dtype"]],
                    f"{row['target']:.2f}" if row["target"] else "below torch",
                    f"**{row['ratio_median']:.2f}**{missed}",
                    f"{row['ratio_best']:.2f}",
                    *(_peer(row["peers"][name], memcpy) for name in peers),
                ]
            )
        )
    lines += [
        "",
        f"`import metalloid` takes {overheads['import_ms']:.0f} ms beyond importing NumPy. Encoding, "
        f"committing and awaiting one tiny dispatch takes {overheads['commit_and_wait_us']:.0f} us; encoding "
        f"one `rms_norm(out=)` takes {overheads['encode_us']:.1f} us.",
    ]
    return "\n".join(lines)


def _about(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    return (
        f"Machine: {about['machine']}. Kernels {about['kernel_variant']}, compiled by "
        f"{about['shader_compiler']}. {versions}."
    )


def _nanoseconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _missed(met: bool | None) -> str:
    return " (missed)" if met is False else ""


def dispatch_section(results: dict[str, Any]) -> str:
    """The section of `--suite dispatch` in Markdown."""
    lines = [_about(results["environment"])]
    for group in dict.fromkeys(row["group"] for row in results["rows"]):
        lines += [
            "",
            f"Nanoseconds to {group} one operation on 64 elements, median and best:",
            "",
            _line(["library", "what", "median", "best", "target", "how it is measured"]),
            _line(["---"] * 2 + ["--:"] * 3 + ["---"]),
        ]
        for row in results["rows"]:
            if row["group"] != group:
                continue
            median = _nanoseconds(row["median"]) + _missed(row["met"])
            lines.append(
                _line(
                    [
                        row["who"],
                        row["what"],
                        "failed"
                        if row["error"]
                        else f"**{median}**"
                        if row["who"] == "metalloid"
                        else median,
                        _nanoseconds(row["best"]),
                        _nanoseconds(row["target"]),
                        row["how"],
                    ]
                )
            )
    lines += [
        "",
        "Recording and optimising a graph of layers of `rms_norm`, `mul` and `add`. Growth is the time of a "
        "node over that in the graph before, for each doubling in between: 1 is linear, 1.3 the target.",
        "",
        _line(["nodes", "median", "a node", "growth"]),
        _line(["--:"] * 4),
    ]
    for size in results["growth"]:
        growth = "" if size["per_doubling"] is None else f"{size['per_doubling']:.2f}"
        lines.append(
            _line(
                [
                    f"{size['nodes']:,}",
                    f"{1e3 * size['median']:,.2f} ms",
                    f"{1e9 * size['median'] / size['nodes']:,.0f} ns",
                    growth + _missed(size["met"]),
                ]
            )
        )
    return "\n".join(lines)


def simt_section(results: dict[str, Any]) -> str:
    """The section of `--suite simt` in Markdown."""

    def value(number: float | None, unit: str) -> str:
        return "" if number is None else f"{number:.{2 if unit == 's' else 1}f} {unit}"

    lines = [_about(results["environment"]), "", _line(["what", "best", "median", "target"])]
    lines.append(_line(["---"] + ["--:"] * 3))
    for row in results["rows"]:
        median = value(row["median"], row["unit"]) + _missed(row["met"])
        target = "" if row["target"] is None else f"{row['target']:g} {row['unit']}"
        lines.append(_line([row["what"], value(row["best"], row["unit"]), median, target]))
    return "\n".join(lines)


def cpp_section(results: dict[str, Any]) -> str:
    """The line about dispatch_bench."""
    times = {run["name"]: run["real_time"] for run in results["benchmarks"]}

    def encode(automatic: int) -> float:
        found = {name: time for name, time in times.items() if f"encode/automatic:{automatic}/" in name}
        return found[min(found, key=lambda name: int(name.rpartition(":")[2]))]  # each needs the one before

    return (
        f"From C++, encoding one operation takes {encode(1):.0f} ns, and {encode(0):.0f} ns without hazard "
        "tracking (`dispatch_bench`, run by `ctest -L bench -V`)."
    )


# What tells the results of each from the others, and the name of its markers.
SECTIONS = {
    "growth": ("dispatch", dispatch_section),
    "overheads": ("numbers", section),
    "context": ("cpp", cpp_section),
    "environment": ("simt", simt_section),
}


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    readme = Path(sys.argv[2]) if len(sys.argv) == 3 else README
    results = json.loads(Path(sys.argv[1]).read_text())
    name, text = next(made for key, made in SECTIONS.items() if key in results)
    begin_line, end_line = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begin, rest = readme.read_text().partition(begin_line)
    _, end, after = rest.partition(end_line)
    if not (begin and end):
        sys.exit(f"{readme}: needs the lines {begin_line} and {end_line}")
    readme.write_text(f"{before}{begin_line}\n{text(results)}\n{end_line}{after}")


if __name__ == "__main__":
    main()
