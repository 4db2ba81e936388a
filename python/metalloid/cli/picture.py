"""The pictures that the demo and the benchmark write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metalloid.cli.machine import short_type

if TYPE_CHECKING:
    from metalloid.cli.demo import Result

INK, FAINT = "#1d2733", "#8a94a0"
OURS, MEMCPY, NUMPY = "#d1495b", "#b9c0c8", "#30638e"
TORCH, MLX = "#e8a33d", "#5b8e7d"


def with_gaps(image: np.ndarray, patch: int, gap: int) -> np.ndarray:
    """The picture with its patches moved apart on white."""
    height, width, channels = image.shape
    down, across = height // patch, width // patch
    spread = np.ones((down, patch + gap, across, patch + gap, channels), np.float32)
    spread[:, :patch, :, :patch] = image.reshape(down, patch, across, patch, channels)
    return spread.reshape(down * (patch + gap), across * (patch + gap), channels)[:-gap, :-gap]


def _show(axes, image: np.ndarray, title: str, note: str) -> None:
    axes.imshow(image, interpolation="antialiased")
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=22)
    axes.annotate(
        note, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=9.5, color=FAINT, va="bottom"
    )


def _bars(axes, results: list[Result]) -> None:
    rows = np.arange(len(results))
    series = (
        ("metalloid", OURS, [result.seconds for result in results]),
        ("memcpy of the same bytes", MEMCPY, [result.memcpy_seconds for result in results]),
        ("NumPy, float32", NUMPY, [result.numpy_seconds for result in results]),
    )
    thickness = 0.27
    for i, (label, colour, times) in enumerate(series):
        milliseconds = 1e3 * np.array(times)
        bars = axes.barh(
            rows + (i - 1) * thickness, milliseconds, thickness * 0.92, color=colour, label=label
        )
        axes.bar_label(
            bars,
            [f"{ms:.2f}" for ms in milliseconds],
            padding=3,
            fontsize=7.5,
            color=INK if i == 0 else FAINT,
        )
    axes.set_yticks(
        rows, [f"{result.step.name}  {short_type(result.step.dtype)}" for result in results], fontsize=9.5
    )
    axes.invert_yaxis()
    axes.set_xscale("log")  # the delta rule takes tens of times as long as a patch unfolding
    axes.xaxis.set_major_formatter("{x:g}")
    every = [1e3 * time for _, _, times in series for time in times]
    axes.set_xlim(min(every) / 2, max(every) * 1.5)
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_xlabel("milliseconds, on a logarithmic scale", fontsize=9.5, color=FAINT)
    axes.set_title("Time of each operation", loc="left", fontsize=13, fontweight="bold", color=INK, pad=22)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 0.998),
        ncols=3,
        frameon=False,
        fontsize=9.5,
        borderpad=0,
        handlelength=1,
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.tick_params(axis="x", which="both", colors=FAINT, labelsize=9)
    axes.grid(axis="x", color="#e6e9ec", linewidth=0.8)
    axes.set_axisbelow(True)


def formats() -> set[str]:
    """The endings that a picture's name may have."""
    return set(FigureCanvasAgg.get_supported_filetypes())


def draw(
    path: Path,
    photograph: np.ndarray,
    reassembled: np.ndarray,
    normed: np.ndarray,
    patch: int,
    results: list[Result],
) -> None:
    """Writes the picture: the photograph, its patches, the normalised patches, and the times."""
    height, width, _ = photograph.shape
    count = (height // patch) * (width // patch)
    # All in inches: three pictures side by side, as high as the photograph makes them, over the chart.
    head, foot, chart_height = 0.7, 0.15, 5.75
    shown = min(4.5 * height / width, 5.0)
    sizes = (head + shown + foot, chart_height)
    figure = Figure(figsize=(15, sum(sizes)), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=sizes)
    edges = {"top": 1 - head / sizes[0], "bottom": foot / sizes[0]}
    axes = top.subplots(1, 3, gridspec_kw={"left": 0.03, "right": 0.97, "wspace": 0.06, **edges})
    _show(axes[0], photograph, "The photograph", f"{width} x {height} pixels")
    _show(
        axes[1],
        with_gaps(reassembled, patch, 3),
        "Unfolded into patches",
        f"{count} rows of im2col_2d, {patch} x {patch} each, put back in place",
    )
    _show(
        axes[2],
        with_gaps(normed, patch, 3),
        "After RMS norm",
        "every patch to the same mean square, then weighted",
    )
    chart = bottom.subplots(1, 1, gridspec_kw={"left": 0.2, "right": 0.97, "top": 0.88, "bottom": 0.08})
    _bars(chart, results)
    figure.savefig(path)


LIBRARIES = {
    "metalloid": OURS,
    "numpy": NUMPY,
    "torch": TORCH,
    "torch.compile": TORCH,
    "mlx": MLX,
    "mx.compile": MLX,
}


def _dispatch_bars(axes, rows: list[dict[str, Any]], limits: tuple[float, float]) -> None:
    places = np.arange(len(rows))
    medians = [row["median"] for row in rows]
    axes.barh(places, medians, 0.72, color=[LIBRARIES[row["who"]] for row in rows])
    for place, row in zip(places, rows, strict=True):
        target = row["target"]
        if target is not None:
            axes.plot([target, target], [place - 0.42, place + 0.42], color=INK, linewidth=1.6)
        axes.annotate(
            f"{row['median']:,.0f}" + (f"  (target {target:,.0f})" if target is not None else ""),
            (max(row["median"], target or 0), place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK if row["who"] == "metalloid" else FAINT,
        )
    axes.set_yticks(places, [f"{row['who']}   {row['what']}" for row in rows], fontsize=9.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.tick_params(axis="x", which="both", colors=FAINT, labelsize=9)
    axes.grid(axis="x", color="#e6e9ec", linewidth=0.8)
    axes.set_axisbelow(True)


def draw_dispatch(path: Path, results: dict[str, Any]) -> None:
    """Writes the chart of what `metalloid bench --suite dispatch` measured, given as its JSON."""
    # Below a nanosecond is noise, and a logarithm knows no less than nothing.
    rows = [row for row in results["rows"] if row["median"] is not None and row["median"] >= 1]
    parts = [
        (title, [row for row in rows if row["group"] == group])
        for group, title in (
            ("encode or call", "To encode, build or call one operation"),
            ("run", "To run one operation"),
        )
    ]
    parts = [(title, part) for title, part in parts if part]
    every = [value for row in rows for value in (row["median"], row["target"]) if value]
    limits = (min(every) / 2, max(every) * 3)
    # In inches: a bar's height is the same in all parts, whatever their number of bars.
    head, gap, foot, bar = 0.95, 0.75, 0.55, 0.29
    height = head + foot + gap * (len(parts) - 1) + bar * sum(len(part) for _, part in parts)
    figure = Figure(figsize=(11, height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    top = height - head
    for title, part in parts:
        size = bar * len(part)
        axes = figure.add_axes((0.37, (top - size) / height, 0.6, size / height))
        _dispatch_bars(axes, part, limits)
        axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=8)
        top -= size + gap
    axes.set_xlabel(
        "nanoseconds, median, on a logarithmic scale; 64 elements of float32", fontsize=9.5, color=FAINT
    )
    figure.text(0.02, 1 - 0.32 / height, results["environment"]["machine"], fontsize=9.5, color=FAINT)
    figure.savefig(path)
