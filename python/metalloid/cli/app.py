"""The commands and their options. Each one's work is in the module of its name."""

from __future__ import annotations

import os
import sys
from enum import Enum
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


class Format(str, Enum):
    text = "text"
    json = "json"
    github = "github"


class Suite(str, Enum):
    ops = "ops"
    simt = "simt"
    dispatch = "dispatch"


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

    try:
        show(_console())
    except ml.DeviceError as error:
        _stop("info", error)


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
    suite: Annotated[
        Suite,
        typer.Option(
            help="ops: the operations. simt: what 32 lanes, the checker, barriers and compilation cost; "
            "takes only --rounds and --json. dispatch: what a dispatch costs apart from its work; takes all "
            "but --op and --threads."
        ),
    ] = Suite.ops,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of alternating runs.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the memcpy compared with.")] = 2,
    json: Annotated[Path | None, typer.Option(help="Write every number to this file.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the numbers of the dispatch suite into this file.")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Times the operations against memcpy and other libraries, or what checking and compiling kernels costs,
    or what a dispatch costs.

    The exit status is 1 if a target is missed, and 2 if the benchmark could not run.
    """
    from metalloid.cli.bench import BenchError, run
    from metalloid.cli.bench_dispatch import run as run_dispatch
    from metalloid.cli.bench_simt import run as run_simt

    if picture is not None:
        if suite is not Suite.dispatch:
            _stop("bench", "only --suite dispatch draws a --picture")
        try:
            from metalloid.cli.picture import formats
        except ModuleNotFoundError as error:
            _stop(
                "bench",
                f"--picture needs {error.name}, which is not installed: pip install 'metalloid[demo]'",
            )
        if picture.suffix[1:].lower() not in formats():
            _stop("bench", f"'{picture}' does not end in one of: {', '.join(sorted(formats()))}")
    try:
        if suite is Suite.dispatch:
            done = run_dispatch(
                _console(), peers=peers, rounds=rounds, json_file=json, picture=picture, device=device
            )
            raise typer.Exit(0 if done else 1)
        if suite is Suite.simt:
            raise typer.Exit(0 if run_simt(_console(), rounds=rounds, json_file=json) else 1)
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


@app.command()
def check(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help=".metal files, or descriptions of cases: .toml or .py."),
    ],
    kernel: Annotated[str | None, typer.Option("--kernel", "-k", help="Only this kernel.")] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="N[,N,N]", help="Run the kernel on a grid of so many threads.")
    ] = None,
    threadgroups: Annotated[
        str | None, typer.Option(metavar="N[,N,N]", help="Run the kernel on so many threadgroups.")
    ] = None,
    threadgroup: Annotated[
        str | None, typer.Option(metavar="N[,N,N]", help="Threads of one threadgroup.")
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg",
            "--args",
            "-a",
            metavar="NAME=VALUE",
            help="An argument, such as x=f32[1024]:random, y=f32[1024], i=u32[64]:arange, w=weights.npy, "
            "n=1024, scratch=threadgroup[1024] or params={u32:1024,f32:1e-6}. See docs/checker.md.",
        ),
    ] = None,
    constant: Annotated[
        list[str] | None, typer.Option("--constant", "-c", metavar="NAME=VALUE", help="A function constant.")
    ] = None,
    macro: Annotated[
        list[str] | None, typer.Option("--macro", "-D", metavar="NAME[=VALUE]", help="A macro.")
    ] = None,
    include: Annotated[
        list[Path] | None, typer.Option("--include", "-I", metavar="DIR", help="Where to look for includes.")
    ] = None,
    fast_math: Annotated[bool, typer.Option(help="Compile with fast-math.")] = True,
    language_version: Annotated[
        str | None, typer.Option(metavar="N.N", help="The version of Metal.", show_default="the newest")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Of the order of execution and of random data; may be given several times.",
            show_default="METALLOID_SEED, or 0",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Device to use.", show_default="simt where there is one"),
    ] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="How to report.")] = Format.text,
) -> None:
    """Compiles the kernels of Metal files and describes them, or runs them under the checker.

    A .metal file is compiled, and its kernels and their arguments are listed. With a grid (--threads or
    --threadgroups) the kernel is run as well. Descriptions in TOML or Python run the cases they hold.

    The exit status is 0 if all is well, 1 if there were faults or wrong results, and 2 if something did not
    compile or could not be run.
    """
    from metalloid.cli import check as work
    from metalloid.cli.cases import CaseError, number, pairs

    def numbers(words: list[str] | None, option: str) -> dict[str, int | float | bool]:
        try:
            return {name: number(value) for name, value in pairs(words or (), option).items()}
        except ValueError as error:
            raise CaseError(f"{option}: {error}") from error

    try:
        constants = numbers(constant, "--constant")
        dispatch = None
        if threads or threadgroups or threadgroup or arg:
            dispatch = {
                "kernel": kernel,
                "threads": threads,
                "threadgroups": threadgroups,
                "threadgroup": threadgroup,
                "args": pairs(arg or (), "--arg"),
                "constants": constants,
            }
        report = work.run(
            files,
            compile_options={
                "include_dirs": tuple(include or ()),
                "macros": pairs(macro or (), "--macro", "1"),
                "fast_math": fast_math,
                "language_version": language_version,
            },
            kernel=kernel,
            constants=constants,
            dispatch=dispatch,
            seeds=seed or (),
            device=device,
        )
    except (CaseError, ml.Error) as error:
        work.show_mistake(error, form.value)
        _stop("check", error)
    work.show(_console(), report, form.value)
    raise typer.Exit(report.status)


@app.command(context_settings={"ignore_unknown_options": True})
def trace(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="A Python script.", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Its arguments.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the trace goes.")] = Path(
        "metalloid-trace.json"
    ),
    profile: Annotated[
        bool, typer.Option("--profile", help="Also print a table of times by kernel, to stderr.")
    ] = False,
) -> None:
    """Runs a Python script and writes what its kernels did when, for https://ui.perfetto.dev.

    Arguments that are no options of this command go to the script; after a -- they all do:

        metalloid trace -o out.json train.py -- --out model.bin

    The exit status is the script's, and 2 if it could not be run. The trace is written however it ends.
    See metalloid.trace() for what is in it and what it costs.
    """
    from metalloid.cli.trace import TraceError, run

    try:
        status = run(script, arguments or [], out, profile=profile)
    except TraceError as error:
        _stop("trace", error)
    raise typer.Exit(status)


cache_app = typer.Typer(help="The compiled kernels that are kept on disk.", no_args_is_help=False)
app.add_typer(cache_app, name="cache")


@cache_app.callback(invoke_without_command=True)
def cache(context: typer.Context) -> None:
    """The compiled kernels that are kept on disk; lists them unless a command says otherwise."""
    if context.invoked_subcommand is None:
        cache_list()


@cache_app.command("list")
def cache_list() -> None:
    """Lists the compiled libraries, newest first."""
    from metalloid.cli.cache import show

    show(_console())


@cache_app.command("clear")
def cache_clear() -> None:
    """Deletes them all. Programs that use them go on; the next compilation of each takes its full time."""
    from metalloid.cli.cache import CacheError, clear

    try:
        clear(_console())
    except CacheError as error:
        _stop("cache", error)


@cache_app.command("path")
def cache_path() -> None:
    """Prints the folder."""
    from metalloid.cli.cache import folder

    typer.echo(folder() or "")
