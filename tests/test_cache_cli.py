from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import metalloid as ml
import pytest

pytestmark = pytest.mark.skipif("cpu" not in ml.devices(), reason="Metal keeps what it compiles by itself")

COMPILE = """
import metalloid as ml
ml.Device("cpu").compile("[[kernel]] void k(device float* y) { y[0] = 1.0f; }")
"""


def python(cache: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "160", "METALLOID_CACHE_DIR": str(cache)},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def cache_command(cache: Path, *arguments: str, status: int = 0) -> str:
    return python(cache, "-m", "metalloid", "cache", *arguments, status=status)


def test_the_cache_is_listed_and_cleared(tmp_path):
    cache = tmp_path / "cache"
    assert cache_command(cache, "path").strip() == str(cache)
    assert "libraries 0" in cache_command(cache)
    python(cache, "-c", COMPILE)
    (entry,) = cache.glob("*.so")
    said = cache_command(cache, "list")
    assert entry.stem in said and "KiB" in said and "libraries 1" in said
    assert "deleted libraries 1, " in cache_command(cache, "clear")
    assert list(cache.iterdir()) == []
    assert "libraries 0" in cache_command(cache)
    python(cache, "-c", COMPILE)
    assert len(list(cache.glob("*.so"))) == 1


PIPELINES = """
import metalloid as ml, numpy as np
dev = ml.Device("cpu")
with dev.commands() as cmd:
    ml.ops.add(cmd, dev.array(np.ones(4, np.float32)), dev.array(np.ones(4, np.float32)))
"""


def test_pipelines_are_kept_where_asked_for(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    python(cache, "-c", PIPELINES)
    assert not cache.exists()  # nothing is compiled for them here
    monkeypatch.setenv("METALLOID_PIPELINE_CACHE", "1")
    python(cache, "-c", PIPELINES)
    (archive,) = cache.iterdir()
    assert archive.name.startswith("pipelines-") and archive.suffix == ".metalarchive"
    before = archive.stat().st_ino
    python(cache, "-c", PIPELINES)
    assert [entry.stat().st_ino for entry in cache.iterdir()] == [before]
    said = cache_command(cache, "list")
    assert archive.stem in said and "libraries 0, archives of pipelines 1" in said
    assert "archives of pipelines 1" in cache_command(cache, "clear")
    assert list(cache.iterdir()) == []


def test_only_a_folder_of_ones_own_is_cleared(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.so").write_text("not ours to delete")
    link = tmp_path / "link"
    link.symlink_to(other)
    assert "nothing is deleted" in cache_command(link, "clear", status=2)
    assert (other / "precious.so").exists()


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "now"), (60, "1 minute"), (5400, "2 hours"), (864000, "10 days")]
)
def test_ages(seconds, said):
    from metalloid.cli.cache import age

    assert age(seconds) == said
