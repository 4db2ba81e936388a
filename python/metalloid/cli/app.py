"""The commands and their options. Each one's work is in the module of its name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

import metalloid as ml

app = typer.Typer(
    name="metalloid",
    help="Metal compute kernels from Python, on a Mac and off it.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

DeviceOption = Annotated[
    str | None, typer.Option("--device", "-d", help="Device to use.", show_default="the best one, see info")
]


def _console(*, quiet: bool = False) -> Console:
    # A pipe or a file has no width of its own, and 80 columns would cost the tables some of theirs.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return Console(width=width, quiet=quiet, highlight=False)


def _stop(command: str, error: Exception | str, status: int = 2) -> NoReturn:
    message = f"[bold red]metalloid {command}:[/] "
    Console(stderr=True, highlight=False, soft_wrap=True).print(message, end="")
    Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), markup=False)
    raise typer.Exit(status)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"metalloid {ml.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def info() -> None:
    """Devices, limits, shader compiler, kernels, memory and versions."""
    from metalloid.cli.info import show

    show(_console())


@app.command()
def demo(
    image: Annotated[
        Path | None, typer.Argument(help="A photograph.", show_default="the portrait that matplotlib ships")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the picture goes.")] = Path(
        "metalloid-demo.png"
    ),
    device: DeviceOption = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed runs of each operation; the best counts.")] = 20,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing; the exit status tells.")
    ] = False,
) -> None:
    """Runs every operation on a photograph, checks each against float64, times it, and draws a picture.

    The exit status is 0 if every check passed, 1 if one failed, and 2 if the demo could not run.
    """
    try:
        from metalloid.cli.demo import DemoError, run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("matplotlib", "PIL"):
            raise
        _stop("demo", f"needs {missing}, which is not installed: pip install 'metalloid[demo]'")
    try:
        passed = run(_console(quiet=quiet), image, out, device=device, repeat=repeat)
    except (DemoError, ml.Error) as error:
        _stop("demo", error)
    raise typer.Exit(0 if passed else 1)


@app.command()
def bench(
    op: Annotated[
        list[str] | None,
        typer.Option(help="Only this operation; may be given several times.", show_default="all"),
    ] = None,
    peers: Annotated[bool, typer.Option(help="Also time NumPy, PyTorch, torch.compile and MLX.")] = True,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of alternating runs.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the memcpy compared with.")] = 2,
    json: Annotated[Path | None, typer.Option(help="Write every number to this file.")] = None,
    device: DeviceOption = None,
) -> None:
    """Times the operations against memcpy and against other libraries.

    The exit status is 1 if an operation misses its target, and 2 if the benchmark could not run.
    """
    from metalloid.cli.bench import BenchError, run

    try:
        met = run(
            _console(),
            operations=op,
            peers=peers,
            rounds=rounds,
            threads=threads,
            json_file=json,
            device=device,
        )
    except (BenchError, ml.Error) as error:
        _stop("bench", error)
    raise typer.Exit(0 if met else 1)
