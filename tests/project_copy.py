"""Copies of the project in a test's folder: whole ones, to break a file in; and shells, whose commands only say how they were called."""

import os
import shutil
import sys
from pathlib import Path

import uv

from results.project.folder import ROOT
from tests.harness.test_environment import wheel

PACKAGES = ("workloads", "results", "harness", "simulators", "analysis", "conf")
SAY = "import json, os, sys\nkept = ('PLUMBLINE_CALLER', 'PYTHONHASHSEED')\n" + (
    "print(json.dumps({'module': __spec__.name, 'argv': sys.argv[1:], 'cwd': os.getcwd(), 'pid': os.getpid(), 'python': sys.prefix,\n"
    "    **{name: os.environ.get(name) for name in kept}}))\nsys.exit(int(os.environ.get('CODE', '0')))\n"
)


def whole(folder: Path) -> Path:
    """Code and configuration, without runs; its core environment is this process's, ready and never remade."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "runs", "measured", "studies", "*.duckdb"))
    for name in ("plumbline", "Makefile"):
        shutil.copy2(ROOT / name, folder / name)
    core = folder / ".envs" / "core" / "bin"
    core.mkdir(parents=True)
    (core / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (core / "python").chmod(0o755)
    (core.parent / ".ready").touch()
    os.utime(folder / "conf" / "envs" / "core.txt", (1, 1))
    return folder


def shell(folder: Path) -> Path:
    """The launcher and the Makefile, with a core environment still to be made from one small wheel, and modules that print a line."""
    for name in ("harness/__main__", "harness/study", "harness/campaign", "harness/simulate", "harness/doctor"):
        _module(folder / f"{name}.py")
    for name in (
        "harness/search",
        "results",
        "results/catalogue",
        "analysis",
        "analysis/comparison",
        "simulators/native",
        "simulators/conformance",
    ):
        _module(folder / name / "__main__.py")
    for name in ("plumbline", "Makefile"):
        shutil.copy2(ROOT / name, folder / name)
    uv_folder = folder / ".envs" / "uv" / "bin"
    uv_folder.mkdir(parents=True)
    (uv_folder / "uv").symlink_to(uv.find_uv_bin())
    (folder / "conf" / "envs").mkdir(parents=True)
    (folder / "conf" / "envs" / "core.txt").write_text(f"toy @ {wheel(folder / 'wheels', '1.0').as_uri()}\n")
    return folder


def _module(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SAY)
