"""`metalloid demo`: a photograph through every operation, each checked against float64 and timed.

All dispatches go into one command buffer. Each works on what an earlier one wrote, or on a view of it;
nothing is copied in between. What does not come from an operation (weights, angles, the state and the decay
of the delta rule) is derived from the photograph with NumPy and handed over beforehand.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
from ml_dtypes import bfloat16
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import metalloid as ml
from metalloid import reference
from metalloid.cli import machine, picture, tables
from metalloid.cli.machine import short_type
from metalloid.cli.peers import CHUNK, with_numpy
from metalloid.cli.tables import Column
from metalloid.cli.timing import Memcpy, seconds

PATCH = 16
HEADS, HEAD_DIM = 12, 64  # a patch of 16 x 16 pixels in three colours is 12 heads of 64
LONG_SIDE = 1024
MEMCPY_THREADS = 2
NUMPY_RUNS = 3
F32, BF16 = np.dtype(np.float32), np.dtype(bfloat16)


class DemoError(Exception):
    """The demo cannot run as asked."""


def load(path: Path | None) -> np.ndarray:
    """The photograph as uint8 `[H, W, 3]`, scaled and cropped to a multiple of 8 patches each way."""
    if path is None:
        path = Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            image = image.convert("RGB")
    except FileNotFoundError as error:
        raise DemoError(f"there is no file '{path}'") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is not an image that Pillow can read"
        raise DemoError(f"cannot read '{path}': {reason}") from error
    # A multiple of 8 patches each way makes the tokens a multiple of 64, the chunk of the delta rule.
    step = 8 * PATCH
    scale = LONG_SIDE / max(image.size)
    size = tuple(max(step, round(side * scale / step) * step) for side in image.size)
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))


def to_pixels(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` to float32 `[3, H, W]`, centred and scaled as vision towers want it."""
    return np.ascontiguousarray((image.astype(F32) / 127.5 - 1.0).transpose(2, 0, 1))


def to_image(patches: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rows of patches back to a picture `[H, W, 3]` with values from 0 to 1: the inverse of im2col_2d."""
    tiles = patches.astype(F32).reshape(height // PATCH, width // PATCH, 3, PATCH, PATCH)
    return np.clip(tiles.transpose(0, 3, 1, 4, 2).reshape(height, width, 3) / 2 + 0.5, 0, 1)


@dataclass
class Step:
    """One dispatch of the command buffer."""

    operation: str
    form: str
    arguments: dict[str, Any]
    out: ml.Buffer
    # (result in float64, inputs as NumPy arrays) -> the error allowed, elementwise
    allowed: Callable[[np.ndarray, dict[str, Any]], np.ndarray | float]

    @property
    def name(self) -> str:
        return f"{self.operation} {self.form}".strip()

    @property
    def dtype(self) -> np.dtype:
        return self.out.dtype.numpy

    @property
    def traffic(self) -> int:
        """Bytes read and written."""
        inputs = (value for value in self.arguments.values() if isinstance(value, ml.Buffer))
        return sum(buffer.nbytes for buffer in inputs) + self.out.nbytes

    def encode(self, cmd: ml.CommandEncoder) -> None:
        getattr(ml.ops, self.operation)(cmd, **self.arguments, out=self.out)

    def inputs(self) -> dict[str, Any]:
        return {
            name: value.numpy() if isinstance(value, ml.Buffer) else value
            for name, value in self.arguments.items()
        }


@dataclass
class Check:
    """The element whose error takes up most of what is allowed."""

    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed  # false for NaN


@dataclass
class Result:
    step: Step
    check: Check
    seconds: float
    memcpy_seconds: float
    numpy_seconds: float


# The errors allowed. Arithmetic is in float32 and the result is rounded once, at the store: half a unit in
# the last place of bfloat16 is 2^-8 of the value at most.


def _store(want: np.ndarray, dtype: np.dtype) -> np.ndarray | float:
    return 2.0**-8 * np.abs(want) if dtype == BF16 else 0.0


def _exact(want: np.ndarray, inputs: dict[str, Any]) -> float:
    return 0.0


def _norm(want: np.ndarray, inputs: dict[str, Any]) -> np.ndarray:
    return 1e-6 * (1 + np.abs(want)) + _store(want, inputs["x"].dtype)


def _rope(want: np.ndarray, inputs: dict[str, Any]) -> np.ndarray:
    """What a norm is allowed, and one float32 rounding of the angle, times the length of the pair."""
    dim = want.shape[-1]
    positions = [inputs[name] for name in ("positions", "pos_x", "pos_y") if name in inputs]
    domain = dim // max(1, len(positions))  # the elements that turn by one position
    pairs = want.reshape(*want.shape[:-1], dim // domain, 2, domain // 2)
    lengths = np.hypot(pairs[..., :1, :], pairs[..., 1:, :])
    frequencies = 10000.0 ** (-2 * np.arange(domain // 2) / domain)
    # [tokens, heads, domains, 2, pairs]; the cached form has its angles exactly.
    angles = np.stack(positions, -1)[:, None, :, None, None] * frequencies if positions else 0.0
    allowed = 2.0**-23 * angles * lengths + 2e-6 * (1 + lengths)
    return np.broadcast_to(allowed, pairs.shape).reshape(want.shape) + _store(want, inputs["x"].dtype)


def _delta(want: np.ndarray, inputs: dict[str, Any]) -> np.ndarray:
    """The matrix A is rounded to bfloat16 on the way, and an element next to a tie may go either way."""
    return 1e-6 + 2e-3 * np.abs(want).max(axis=-1, keepdims=True) + _store(want, BF16)


@dataclass
class Plan:
    """The command buffer's steps, and the buffers that the picture shows."""

    steps: list[Step]
    patches: ml.Buffer
    normed: ml.Buffer


def _delta_inputs(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """State and decay for the delta rule, as a linear attention that forgets would have gathered them."""
    tokens = len(patches)
    heads = patches.reshape(tokens // CHUNK, CHUNK, HEADS, HEAD_DIM)
    # The state in front of a chunk: the decayed sum of the outer products of the patches before it, [V, K].
    outer = np.einsum("nthv,nthk->nhvk", heads, heads, optimize=True) / CHUNK
    state = np.zeros_like(outer)
    for n in range(1, len(state)):
        state[n] = 0.7 * state[n - 1] + 0.3 * outer[n - 1]
    # Bright patches forget faster, and each head at its own rate.
    brightness = (patches.mean(axis=1) + 1) / 2
    steps = -0.05 * brightness[:, None] * np.linspace(0.5, 2, HEADS, dtype=F32)
    g = np.cumsum(steps.reshape(tokens // CHUNK, CHUNK, HEADS), axis=1, dtype=F32)
    return state[None], g.reshape(1, tokens, HEADS)


def plan(device: ml.Device, pixels: np.ndarray) -> list[Plan]:
    """The steps in float32 and then in bfloat16, with all memory allocated and all inputs in place."""
    _, height, width = pixels.shape
    across, tokens = width // PATCH, (height // PATCH) * (width // PATCH)
    patches = reference.im2col_2d(pixels, PATCH)
    token = np.arange(tokens, dtype=np.int32)
    positions = device.array(token)
    pos_x, pos_y = device.array(token % across), device.array(token // across)
    angles = token[:, None] * 10000.0 ** (-2 * np.arange(HEAD_DIM // 2) / HEAD_DIM)
    cos, sin = device.array(np.cos(angles).astype(F32)), device.array(np.sin(angles).astype(F32))
    state, g = _delta_inputs(patches)
    shape = (tokens, HEADS, HEAD_DIM)

    plans = []
    for dtype in (F32, BF16):
        weight = device.array((0.75 + patches.mean(axis=0) / 4).astype(dtype))
        # Over the root of head_dim, so that queries and keys are about as long as a unit vector.
        spread = 1 + patches.reshape(-1, HEAD_DIM).std(axis=0)
        head_weight = device.array((spread / HEAD_DIM**0.5).astype(dtype))
        image = device.array(pixels.astype(dtype))
        rows, normed, gated = (device.empty(patches.shape, dtype) for _ in range(3))
        cached, positional, turned = (device.empty(shape, dtype) for _ in range(3))
        heads = normed.reshape(*shape)
        steps = [
            Step("im2col_2d", f"p={PATCH}", {"pixels": image, "patch": PATCH}, rows, _exact),
            Step("rms_norm", "", {"x": rows, "weight": weight}, normed, _norm),
            Step("rms_norm_mul", "", {"x": rows, "weight": weight, "scale": normed}, gated, _norm),
            Step(
                "fused_head_norm_rope",
                "cached",
                {"x": heads, "cos": cos, "sin": sin, "weight": head_weight},
                cached,
                _rope,
            ),
            Step(
                "fused_head_norm_rope",
                "positional",
                {"x": heads, "positions": positions, "weight": head_weight},
                positional,
                _rope,
            ),
            Step("vision_2d_rope", "", {"x": heads, "pos_x": pos_x, "pos_y": pos_y}, turned, _rope),
        ]
        if dtype == BF16:
            q, k, v = (buffer.reshape(1, *shape) for buffer in (cached, positional, turned))
            arguments = {
                "q": q,
                "k": k,
                "v": v,
                "state": device.array(state.astype(BF16)),
                "g": device.array(g),
            }
            out = device.empty((1, *shape), dtype)
            steps.append(Step("gated_delta_net_chunk_o", "", arguments, out, _delta))
        plans.append(Plan(steps, rows, normed))
    return plans


def check(step: Step) -> Check:
    """Compares the result with the oracle, which gets the very inputs that the operation got."""
    inputs = step.inputs()
    got = step.out.numpy()
    want = getattr(reference, step.operation)(**inputs)
    if step.allowed is _exact:
        width = np.dtype(f"u{got.dtype.itemsize}")  # bits, so that a NaN must be the same NaN
        return Check(float(np.count_nonzero(got.view(width) != want.view(width))), 0.0)
    errors = np.abs(got.astype(np.float64) - want)
    allowed = np.broadcast_to(step.allowed(want, inputs), errors.shape)
    worst = np.unravel_index(np.argmax(errors / allowed), errors.shape)  # argmax stops at a NaN
    return Check(float(errors[worst]), float(allowed[worst]))


def measure(device: ml.Device, step: Step, memcpy: Memcpy, repeat: int) -> tuple[float, float, float]:
    """Best times of the operation, of the memcpy of the same bytes, and of NumPy in float32."""

    def ours() -> None:
        cmd = device.commands()
        step.encode(cmd)
        cmd.commit_and_wait()

    wide = {
        name: value.astype(F32) if isinstance(value, np.ndarray) and value.dtype == BF16 else value
        for name, value in step.inputs().items()
    }
    numpy_run = with_numpy.OPERATIONS[step.operation](wide, False)
    ours_seconds, memcpy_seconds = [], []
    for _ in range(repeat):
        ours_seconds.append(seconds(ours))
        memcpy_seconds.append(seconds(lambda: memcpy.run(step.traffic // 2)))
    numpy_seconds = [seconds(numpy_run) for _ in range(min(repeat, NUMPY_RUNS))]
    return min(ours_seconds), min(memcpy_seconds), min(numpy_seconds)


COLUMNS = (
    Column("operation", "left", fold=True),
    Column("shape", "left"),
    Column("type", "left"),
    Column("error"),
    Column("allowed", wide=True),
    Column("check", "center"),
    Column("ms"),
    Column("GB/s"),
    Column("of\nmemcpy"),
    Column("over\nNumPy"),
)


def _cells(result: Result) -> list[str]:
    step, check = result.step, result.check
    exact = step.allowed is _exact
    return [
        step.name,
        "x".join(str(n) for n in step.out.shape),
        short_type(step.dtype),
        f"{check.error:.0f}" if exact else f"{check.error:.1e}",
        "0" if exact else f"{check.allowed:.1e}",
        "[green]pass[/]" if check.passed else "[bold red]FAIL[/]",
        f"{1e3 * result.seconds:.2f}",
        f"{step.traffic / result.seconds / 1e9:.1f}",
        f"{100 * result.memcpy_seconds / result.seconds:.0f} %",
        f"{result.numpy_seconds / result.seconds:.1f}x",
    ]


def show_results(console: Console, results: list[Result], repeat: int) -> None:
    types = [result.step.dtype for result in results]
    tables.show(
        console,
        "Every operation on the photograph",
        COLUMNS,
        [_cells(result) for result in results],
        ends=[i for i, (one, other) in enumerate(pairwise(types)) if one != other],
        caption=(
            "Error: against float64, of the element that takes up most of the error allowed for it; for "
            f"im2col_2d the elements that differ. Time: best of {repeat}, each run a command buffer of its "
            f"own, commit and wait included. memcpy: by {MEMCPY_THREADS} threads, as many bytes read and "
            f"written in all. NumPy: the same in float32, best of {min(repeat, NUMPY_RUNS)}."
        ),
    )


def run(console: Console, image: Path | None, out: Path, *, device: str | None, repeat: int) -> bool:
    """Runs the demo; returns whether every check passed."""
    # What can be refused is refused now, before the work.
    folder = out.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DemoError(f"cannot write '{out}': '{folder}' is not a folder that can be written to")
    if out.suffix.lower().removeprefix(".") not in picture.formats():
        raise DemoError(f"cannot write '{out}': needs the ending of a picture, such as .png")
    photograph = load(image)
    height, width, _ = photograph.shape
    dev = ml.Device(device)
    console.print(
        f"[bold]{dev.name}[/]: {dev.description}, kernels {dev.kernel_variant}; {machine.describe()}"
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Deriving inputs from the photograph")
        plans = plan(dev, to_pixels(photograph))
        steps = [step for made in plans for step in made.steps]
        progress.update(task, total=2 * len(steps) + 2, description="One command buffer")
        for step in steps:  # poisoned, so that an element that nothing wrote fails its check
            step.out.numpy().fill(np.nan)

        def everything() -> ml.CommandEncoder:
            with dev.commands("demo") as cmd:
                for step in steps:
                    step.encode(cmd)
            return cmd

        cmd = everything()
        progress.advance(task)
        checks = []
        for step in steps:
            progress.update(task, description=f"Checking {step.name} {short_type(step.dtype)}")
            checks.append(check(step))
            progress.advance(task)
        whole = min(seconds(everything) for _ in range(repeat))
        results = []
        with Memcpy(dev, max(step.traffic for step in steps) // 2, MEMCPY_THREADS) as memcpy:
            for step, checked in zip(steps, checks, strict=True):
                progress.update(task, description=f"Timing {step.name} {short_type(step.dtype)}")
                results.append(Result(step, checked, *measure(dev, step, memcpy, repeat)))
                progress.advance(task)
        progress.update(task, description="Drawing")
        reassembled = to_image(plans[0].patches.numpy(), height, width)
        normed = to_image(plans[0].normed.numpy(), height, width)
        try:
            picture.draw(out, photograph, reassembled, normed, PATCH, results)
        except OSError as error:
            raise DemoError(f"cannot write '{out}': {error.strerror}") from error

    show_results(console, results, repeat)
    tokens = (height // PATCH) * (width // PATCH)
    console.print(
        f"{'The photograph' if image is None else image}: {width} x {height} pixels, {tokens} patches. "
        f"All {cmd.dispatch_count} dispatches in one command buffer: {1e3 * whole:.2f} ms, best of {repeat}."
    )
    failed = sum(not result.check.passed for result in results)
    if failed:
        console.print(f"[bold red]{failed} of {len(results)} checks failed.[/]")
    else:
        console.print(f"[green]All {len(results)} checks passed.[/]")
    console.print(f"Picture: {out}")
    return not failed
