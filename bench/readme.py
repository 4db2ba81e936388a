"""Puts the numbers of `metalloid bench --json FILE` into the README: `python bench/readme.py FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
TYPES = {"float32": "f32", "bfloat16": "bf16"}


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _peer(runs: dict[str, Any], memcpy: float) -> str:
    if runs["error"]:
        return "failed"
    return f"{min(runs['seconds']) / memcpy:.1f}" if runs["seconds"] else ""


def section(results: dict[str, Any]) -> str:
    """The section in Markdown."""
    about, rows, overheads = results["environment"], results["rows"], results["overheads"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    peers = list(rows[0]["peers"])
    lines = [
        f"Machine: {about['machine']}. Kernels {about['kernel_variant']}, compiled by "
        f"{about['shader_compiler']}. {versions}.",
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


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    results = json.loads(Path(sys.argv[1]).read_text())
    before, begin, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{README}: needs the lines {BEGIN} and {END}")
    README.write_text(f"{before}{BEGIN}\n{section(results)}\n{END}{after}")


if __name__ == "__main__":
    main()
