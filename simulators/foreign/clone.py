"""A clone of a simulator's repository that the user names, driven as it is."""

import subprocess
from pathlib import Path

from results.project.folder import ROOT
from simulators.errors import NotAvailable


def named_clone(checkout: str | None, *, system: str, variable: str, address: str, what: str, marker: Path) -> Path:
    """The folder of a clone; raises NotAvailable, with what to do, where none is named or it is of something else.

    checkout: absolute, or from the project's folder; None: none is named. variable: the environment variable that names one. address: what
    to clone, with options of git. what: whose clone it must be, and marker a path in it that shows so.
    """
    how = f"clone {address} and set simulators.{system}.checkout, or {variable}, to its folder"
    if checkout is None:
        raise NotAvailable(f"{system}: no clone is named; {how}")
    folder = (ROOT / checkout).resolve()
    if not folder.is_dir():
        raise NotAvailable(f"{system}: no folder {folder}; {how}")
    if not (folder / marker).exists():
        raise NotAvailable(f"{system}: {folder} is no clone of {what} ({marker} is missing); {how}")
    return folder


def described(clone: Path) -> str:
    """The commit of somebody's own clone, `git-1234567`; `git` where git cannot tell."""
    asked = subprocess.run(["git", "-C", str(clone), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"git-{asked.stdout.strip()}" if asked.returncode == 0 else "git"
