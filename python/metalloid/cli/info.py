"""`metalloid info`."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import metalloid as ml
from metalloid import _jit
from metalloid.cli import machine

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: int) -> str:
    """A number of bytes for a reader: 1536 is '1.5 KiB'."""
    power = min(max(count, 1).bit_length() - 1, 49) // 10
    value = count / 1024**power
    return f"{value:.3g} {UNITS[power]}" if value < 1000 else f"{value:.0f} {UNITS[power]}"


def _grid(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="cyan", no_wrap=True, min_width=26)
    table.add_column(overflow="fold")
    return table


def _kernels(device: ml.Device) -> dict[str, object]:
    """What there is to say about the built-in kernels, or why there are none."""
    try:
        path = device.library_path
        origin = (
            f"compiled at first use, from {path}" if path.endswith(".metal") else f"precompiled, in {path}"
        )
        return {
            "built-in kernels": origin,
            "kernel variant": device.kernel_variant,
            "shader compiler": device.shader_compiler,
            "thread execution width": device.thread_execution_width,
            "kernels": ", ".join(device.kernels()),
        }
    except ml.Error as e:
        return {"built-in kernels": f"none: {e}"}


def _device(name: str, default: bool) -> Table:
    device = ml.Device(name)
    table = _grid(f"Device {name}" + (" (default)" if default else ""))
    threads = " x ".join(str(n) for n in device.max_threads_per_threadgroup)
    rows = {
        "description": device.description,
        "GPU family": device.gpu_family or "none imitated",
        "threads per threadgroup": f"{threads} at most",
        "threadgroup memory": f"{size(device.max_threadgroup_memory_length)} at most",
        "buffer length": f"{size(device.max_buffer_length)} at most",
        "unified memory": "yes" if device.has_unified_memory else "no",
        "memory in use": size(device.allocated_size),
        "memory pooled for reuse": size(device.pooled_size),
        **_kernels(device),
    }
    for key, value in rows.items():
        table.add_row(key, escape(str(value)))
    return table


def _compilation() -> Table:
    found = _jit.find_toolchain()
    table = _grid("Compilation at run time")
    compiler = shlex.join(found.compiler) or f"none: {found.missing}"
    table.add_row("compiler", "Metal" if sys.platform == "darwin" else escape(compiler))
    table.add_row("cache", escape(found.cache or "none: METALLOID_CACHE_DIR is empty"))
    return table


def show(console: Console) -> None:
    table = _grid("Machine")
    table.add_row("processor", f"{machine.cpu_model()}, {machine.cpu_count()} CPUs")
    table.add_row("system", machine.system())
    console.print(table, "")

    default = ml.Device().name
    for name in ml.devices():
        console.print(_device(name, name == default), "")
    console.print(_compilation(), "")

    table = _grid("Versions")
    for name, version in machine.versions().items():
        table.add_row(name, version or "[dim]not installed[/]")
    console.print(table, "")

    table = _grid("Environment")
    values = machine.variables()
    for name in machine.VARIABLES:
        table.add_row(name, escape(values[name]) if name in values else "[dim]not set[/]")
    console.print(table)
