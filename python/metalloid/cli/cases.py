"""The cases that `metalloid check` runs: one dispatch each, told in TOML or on the command line, or
functions of a Python file."""

from __future__ import annotations

import inspect
import math
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

import metalloid as ml

TYPES = {
    "f16": np.float16,
    "half": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "bfloat": ml_dtypes.bfloat16,
    "bfloat16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "float": np.float32,
    "i8": np.int8,
    "char": np.int8,
    "i16": np.int16,
    "short": np.int16,
    "i32": np.int32,
    "int": np.int32,
    "i64": np.int64,
    "long": np.int64,
    "u8": np.uint8,
    "uchar": np.uint8,
    "u16": np.uint16,
    "ushort": np.uint16,
    "u32": np.uint32,
    "uint": np.uint32,
    "u64": np.uint64,
    "ulong": np.uint64,
    "bool": np.bool_,
}
TYPES |= {scalar.__name__: scalar for scalar in TYPES.values()}  # float32, ...

VALUE_HELP = (
    "f32[1024]:random, u32[4,4]:arange, f32[8]:1.5, i32[3]:1,2,3, f16[64]:in.npy, in.npy, "
    "threadgroup[1024] (bytes), {u32:7,f32:0.5} (a struct), or a number"
)


class CaseError(Exception):
    """A description that cannot be run."""


def dtype_of(name: str) -> np.dtype:
    try:
        return np.dtype(TYPES[name])
    except KeyError:
        raise CaseError(f"unknown element type '{name}'; there are {', '.join(TYPES)}") from None


class Value(Protocol):
    """What an argument of a dispatch is given."""

    def make(
        self, device: ml.Device, rng: np.random.Generator, argument: ml.KernelArgument | None
    ) -> Any: ...


@dataclass(frozen=True)
class Plain:
    """A number, or whatever the dispatch takes as it is."""

    value: Any

    def make(self, device, rng, argument):
        return self.value


@dataclass(frozen=True)
class ThreadgroupMemory:
    nbytes: int

    def make(self, device, rng, argument):
        return ml.threadgroup_memory(self.nbytes)


@dataclass(frozen=True)
class Array:
    """A buffer. Without `init`, what a kernel only reads is random, and all else is left unwritten."""

    dtype: np.dtype
    shape: tuple[int, ...]
    init: str | float | tuple[float, ...] | None = None
    folder: Path = Path()

    def make(self, device, rng, argument):
        init = self.init
        if init is None:
            init = "random" if argument is not None and argument.access == "read" else "empty"
        if init == "empty":
            return device.empty(self.shape, self.dtype)
        values = np.asarray(self._values(init, rng))
        if values.size not in (1, math.prod(self.shape)):
            raise CaseError(f"{init} has {values.size} elements, needs {math.prod(self.shape)} or 1")
        values = values.reshape(self.shape) if values.size != 1 else np.full(self.shape, values.reshape(()))
        return device.array(np.ascontiguousarray(values.astype(self.dtype)))

    def _values(self, init: Any, rng: np.random.Generator) -> Any:
        if not isinstance(init, str):
            return np.array(init)
        if init in ("zeros", "ones"):
            return float(init == "ones")
        if init == "arange":
            return np.arange(math.prod(self.shape))
        if bounds := re.fullmatch(r"random(?:\(\s*([^,]+?)\s*,\s*([^,]+?)\s*\))?", init):
            return self._random(rng, bounds[1], bounds[2])
        if init.endswith(".npy"):
            return load(self.folder / init)
        try:
            return np.array([number(word) for word in init.split(",")])
        except ValueError:
            raise CaseError(
                f"unknown content '{init}'; there are zeros, ones, arange, empty, random, random(low, high), "
                "FILE.npy, one number, or all of them separated by commas"
            ) from None

    def _random(self, rng: np.random.Generator, low: str | None, high: str | None) -> np.ndarray:
        whole = self.dtype.kind in "iub"
        if low is not None and high is not None:
            a, b = number(low), number(high)
            if not a < b:
                raise CaseError(f"random({low}, {high}) is an empty range")
            return rng.integers(int(a), int(b), self.shape) if whole else rng.uniform(a, b, self.shape)
        return (
            rng.integers(0, 2 if self.dtype.kind == "b" else 100, self.shape)
            if whole
            else rng.standard_normal(self.shape)
        )


@dataclass(frozen=True)
class File:
    """A buffer with the type, shape and content of a .npy file."""

    path: Path

    def make(self, device, rng, argument):
        return device.array(load(self.path))


def load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CaseError(f"cannot read '{path}': {error}") from error


def number(text: str) -> int | float | bool:
    """The number that a word of a description stands for. Raises ValueError."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text, 0)
    except ValueError:
        return float(text)


def parse_struct(text: str) -> np.void:
    fields = [word.partition(":") for word in text.strip("{} ").split(",")]
    if any(not colon for _, colon, _ in fields):
        raise CaseError(f"'{text}' is no struct; needs {{TYPE:NUMBER,...}}")
    types = [(f"f{i}", dtype_of(name.strip())) for i, (name, _, _) in enumerate(fields)]
    try:
        return np.array(tuple(number(value.strip()) for _, _, value in fields), np.dtype(types, align=True))[
            ()
        ]
    except (ValueError, OverflowError) as error:
        raise CaseError(f"'{text}' is no struct: {error}") from error


def parse_value(text: str, folder: Path = Path()) -> Value:
    """An argument as a word: see VALUE_HELP."""
    text = text.strip()
    if match := re.fullmatch(r"(\w+)\[([\d,\s]+)\](?::(.+))?", text):
        sizes = tuple(int(size) for size in match[2].split(",") if size.strip())
        if match[1] == "threadgroup":
            if len(sizes) != 1 or match[3]:
                raise CaseError(f"'{text}': threadgroup memory is given as threadgroup[BYTES]")
            return ThreadgroupMemory(sizes[0])
        return Array(dtype_of(match[1]), sizes, match[3], folder)
    if text.endswith(".npy"):
        return File(folder / text)
    if text.startswith("{"):
        return Plain(parse_struct(text))
    try:
        return Plain(number(text))
    except ValueError:
        raise CaseError(f"cannot make an argument of '{text}'; understood are {VALUE_HELP}") from None


def value_of(content: Any, folder: Path) -> Value:
    """An argument as TOML has it: a number, a word, or a table."""
    if isinstance(content, bool | int | float):
        return Plain(content)
    if isinstance(content, str):
        return parse_value(content, folder)
    if isinstance(content, Mapping):
        if set(content) == {"threadgroup"}:
            return ThreadgroupMemory(int(content["threadgroup"]))
        table = dict(content)
        known(table, ("dtype", "shape", "init"), "an argument")
        if "shape" not in table or "dtype" not in table:
            raise CaseError("an argument's table needs dtype and shape, or threadgroup (bytes)")
        init = table.get("init")
        return Array(
            dtype_of(table["dtype"]),
            sizes_of(table["shape"], "shape"),
            tuple(init) if isinstance(init, list) else init,
            folder,
        )
    raise CaseError(f"cannot make an argument of {content!r}; understood are {VALUE_HELP}")


def known(table: Mapping[str, Any], names: Iterable[str], what: str) -> None:
    if unknown := sorted(set(table) - set(names)):
        raise CaseError(f"{what} has no setting '{unknown[0]}'; there are {', '.join(names)}")


def sizes_of(content: Any, name: str) -> tuple[int, ...]:
    """One size or several: 256, [16, 16], "16,16" or "16x16"."""
    if isinstance(content, str):
        content = re.split(r"[x,]", content)
    elif not isinstance(content, list | tuple):
        content = [content]
    try:
        sizes = tuple(int(size) for size in content)
    except (TypeError, ValueError):
        raise CaseError(f"{name} is {content}, needs whole numbers") from None
    if any(size < 0 for size in sizes):
        raise CaseError(f"{name} is {sizes}, needs sizes that are not negative")
    return sizes


@dataclass(frozen=True)
class Source:
    """A .metal file and how it is compiled."""

    path: Path
    include_dirs: tuple[Path, ...] = ()
    macros: Mapping[str, Any] = field(default_factory=dict)
    fast_math: bool = True
    language_version: str | None = None

    def compile(self, device: ml.Device) -> ml.Library:
        if not self.path.is_file():
            raise CaseError(f"there is no file '{self.path}'")
        return device.compile(
            self.path,
            include_dirs=self.include_dirs,
            macros=dict(self.macros),
            fast_math=self.fast_math,
            language_version=self.language_version,
        )


@dataclass(frozen=True)
class Dispatch:
    """One dispatch of a kernel."""

    source: Source
    kernel: str | None  # None: the only one of the file
    geometry: Mapping[str, tuple[int, ...]]  # threadgroup, and threads or threadgroups
    arguments: Mapping[str, Value]
    constants: Mapping[str, Any]

    def run(self, device: ml.Device, rng: np.random.Generator) -> None:
        library = self.source.compile(device)
        name = self.kernel
        if name is None:
            if len(library.kernels) != 1:
                raise CaseError(
                    f"which kernel? '{self.source.path}' has {', '.join(library.kernels) or 'none'}"
                )
            name = library.kernels[0]
        kernel = library.kernel(name, constants=dict(self.constants))
        parameters = {parameter.name: parameter for parameter in kernel.arguments}
        values = {}
        for key, value in self.arguments.items():
            try:
                values[key] = value.make(device, rng, parameters.get(key))
            except CaseError as error:
                raise CaseError(f"argument {key}: {error}") from error
        cmd = device.commands(name)
        cmd.dispatch(kernel, args=values, **self.geometry)
        cmd.commit_and_wait()


@dataclass(frozen=True)
class Case:
    """Something to run under the checker, once for every seed."""

    name: str
    run: Callable[[ml.Device, np.random.Generator], None]
    file: Path  # that describes it


@dataclass(frozen=True)
class Plan:
    """The cases of one file, and what it says about where to run them."""

    cases: tuple[Case, ...]
    device: str | None = None
    seeds: tuple[int, ...] | None = None


GEOMETRY = ("threads", "threadgroups", "threadgroup")


def dispatch_of(table: Mapping[str, Any], source: Source, folder: Path) -> Dispatch:
    """A dispatch from its settings, which have the same names in TOML and on the command line."""
    geometry = {name: sizes_of(table[name], name) for name in GEOMETRY if table.get(name) is not None}
    if ("threads" in geometry) == ("threadgroups" in geometry):
        raise CaseError("needs either threads or threadgroups, the size of the grid")
    if "threadgroup" not in geometry:
        raise CaseError("needs threadgroup, the threads of one threadgroup")
    arguments = {}
    for name, content in dict(table.get("args", {})).items():
        try:
            arguments[name] = value_of(content, folder)
        except CaseError as error:
            raise CaseError(f"argument {name}: {error}") from error
    return Dispatch(source, table.get("kernel"), geometry, arguments, dict(table.get("constants", {})))


def from_toml(path: Path) -> Plan:
    """The cases of a TOML file, in which paths are relative to its folder."""
    try:
        import tomllib
    except ModuleNotFoundError:
        raise CaseError(
            f"reading '{path}' needs Python 3.11 or newer, which has tomllib; on this one describe the cases "
            "in a Python file or on the command line"
        ) from None
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CaseError(f"cannot read '{path}': {error}") from error
    folder = path.parent
    compilation = ("source", "include_dirs", "macros", "fast_math", "language_version")
    known(content, (*compilation, "device", "seeds", "case"), f"'{path}'")
    cases = []
    for i, table in enumerate(content.get("case", [])):
        name = table.get("name") or table.get("kernel") or f"case {i + 1}"
        try:
            known(table, ("name", "kernel", "constants", "args", *GEOMETRY, *compilation), "a case")
            settings = {key: content[key] for key in compilation if key in content} | {
                key: table[key] for key in compilation if key in table
            }
            if "source" not in settings:
                raise CaseError("needs source, the .metal file")
            source = Source(
                folder / settings.pop("source"),
                tuple(folder / directory for directory in settings.pop("include_dirs", ())),
                **settings,
            )
            cases.append(Case(name, dispatch_of(table, source, folder).run, path))
        except CaseError as error:
            raise CaseError(f"'{path}', {name}: {error}") from error
    if not cases:
        raise CaseError(f"'{path}' has no [[case]]")
    seeds = content.get("seeds")
    return Plan(tuple(cases), content.get("device"), None if seeds is None else sizes_of(seeds, "seeds"))


def from_python(path: Path) -> Plan:
    """The functions check_...(device, rng) of a Python file. What they assert is part of the check."""
    if not path.is_file():
        raise CaseError(f"there is no file '{path}'")
    sys.path.insert(0, str(path.resolve().parent))  # as for a script
    try:
        content = runpy.run_path(str(path))
    except Exception as error:
        raise CaseError(f"cannot run '{path}'\n{traceback.format_exc().rstrip()}") from error
    functions = [
        (name, function)
        for name, function in content.items()
        if name.startswith("check_") and inspect.isfunction(function)
    ]
    if not functions:
        raise CaseError(f"'{path}' has no function named check_...")
    return Plan(tuple(Case(name, with_wanted(function), path) for name, function in functions))


def with_wanted(function: Callable[..., None]) -> Callable[[ml.Device, np.random.Generator], None]:
    """The function, given those of `device` and `rng` that it has parameters for."""
    wanted = inspect.signature(function).parameters
    for name, parameter in wanted.items():
        if name not in ("device", "rng") and parameter.default is parameter.empty:
            raise CaseError(f"{function.__name__} has a parameter '{name}'; it may have device and rng")

    def run(device: ml.Device, rng: np.random.Generator) -> None:
        function(**{name: given for name, given in (("device", device), ("rng", rng)) if name in wanted})

    return run


def pairs(words: Iterable[str], option: str, default: str | None = None) -> dict[str, str]:
    """NAME=VALUE words, several to a word if separated by spaces. `default` is the value of a bare NAME."""
    found = {}
    for word in words:
        for pair in shlex.split(word):
            name, equals, value = pair.partition("=")
            if not equals and default is not None:
                value = default
            elif not (name and equals):
                raise CaseError(f"{option} {pair}: needs NAME=VALUE")
            if name in found:
                raise CaseError(f"{option} {name} is given twice")
            found[name] = value
    return found
