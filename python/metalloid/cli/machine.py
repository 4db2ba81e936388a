"""What the command line says about the machine and the software on it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

PACKAGES = ("metalloid", "numpy", "ml_dtypes", "torch", "mlx", "transformers", "matplotlib")
VARIABLES = (
    "METALLOID_DEVICE",
    "METALLOID_GPU_FAMILY",
    "METALLOID_MAX_BUFFER_LENGTH",
    "METALLOID_MAX_THREADS_PER_THREADGROUP",
    "METALLOID_NO_PIPELINE",
    "METALLOID_LANGUAGE_VERSION",
    "METALLOID_NUM_THREADS",
    "METALLOID_ISA",
    "METALLOID_LIBRARY",
    "METALLOID_SHADER_CXX",
    "METALLOID_CACHE_DIR",
    "METALLOID_PIPELINE_CACHE",
    "METALLOID_INDIRECT",
    "METALLOID_RESIDENCY_SETS",
    "METALLOID_IMITATE_MAC",
    "METALLOID_CHECK",
    "METALLOID_CHECK_NAN",
    "METALLOID_SEED",
    "METALLOID_TIME_LIMIT",
)


def variables() -> dict[str, str]:
    """The environment variables of ours that are set."""
    return {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}


def versions() -> dict[str, str | None]:
    """Python and the packages that matter here; None for one that is not installed."""
    found: dict[str, str | None] = {
        "python": f"{platform.python_version()} ({platform.python_implementation()})"
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def cpu_model() -> str:
    """The processor's own name for itself, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Processors this process may run on, which in a container can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def system() -> str:
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def short_type(dtype: np.dtype) -> str:
    """The name of an element type in the tables."""
    return {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(dtype.name, dtype.name)


def describe() -> str:
    """One line for the heads of tables."""
    return f"{cpu_model()}, {cpu_count()} CPUs, {system()}"
