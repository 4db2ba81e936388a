"""`metalloid cache`: the compiled libraries and pipelines that are kept on disk."""

from __future__ import annotations

import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from metalloid import _jit
from metalloid.cli import tables
from metalloid.cli.info import size
from metalloid.cli.tables import Column


class CacheError(Exception):
    """The folder cannot be worked on."""


@dataclass(frozen=True)
class Entry:
    path: Path
    size: int
    modified: float


def folder() -> Path | None:
    """Where compiled libraries are kept; None if nothing is kept."""
    name = _jit.cache_folder()
    return Path(name) if name else None


def entries(path: Path) -> list[Entry]:
    """The compiled libraries, and the archives of pipelines, in a folder, newest first."""
    found = []
    for entry in (*path.glob("*.so"), *path.glob("pipelines-*.metalarchive")):
        try:
            status = entry.lstat()
        except FileNotFoundError:  # another process clears as well
            continue
        if stat.S_ISREG(status.st_mode):
            found.append(Entry(entry, status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: (-entry.modified, entry.path.name))


def counted(found: list[Entry]) -> str:
    """How many there are of each kind; pipelines are mentioned where there are any."""
    archives = sum(entry.path.suffix == ".metalarchive" for entry in found)
    return f"libraries {len(found) - archives}" + (f", archives of pipelines {archives}" if archives else "")


def total(path: Path) -> int:
    """The bytes of everything in a folder."""
    count = 0
    for at, _, names in os.walk(path):
        for name in names:
            try:
                count += os.lstat(os.path.join(at, name)).st_size
            except FileNotFoundError:
                continue
    return count


def age(seconds: float) -> str:
    """A time span for a reader: 5400 is '2 hours'."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "now"


def show(console: Console) -> None:
    path = folder()
    if path is None:
        console.print("Nothing is kept: METALLOID_CACHE_DIR is empty.")
        return
    found = entries(path)
    if found:
        now = time.time()
        tables.show(
            console,
            "Compiled libraries and pipelines",
            [Column("name", "left"), Column("size"), Column("age")],
            [[escape(entry.path.stem), size(entry.size), age(now - entry.modified)] for entry in found],
        )
    console.print(
        f"{path}: {counted(found)}, {size(total(path))} with the compiler's own files",
        markup=False,
        soft_wrap=True,
    )


def clear(console: Console) -> None:
    """Deletes what is in the folder, if the folder is ours alone."""
    path = folder()
    if path is None or not path.exists():
        console.print("Nothing is kept.")
        return
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise CacheError(f"'{path}' is not a folder of this user; nothing is deleted")
    freed, found = total(path), entries(path)
    try:
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(f"cannot clear '{path}': {error}") from error
    console.print(f"{path}: deleted {counted(found)}, {size(freed)} in all", markup=False, soft_wrap=True)
