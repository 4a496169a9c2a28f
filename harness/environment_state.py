"""Whether an environment of .envs is made, and from conf/envs as it is now.

Standard library only: the doctor asks where nothing is made yet.
"""

import hashlib
import sys
from pathlib import Path
from typing import Literal

STAMP = ".plumbline"  # in an environment that environment.py made whole: what it was made from
CORE = "core"  # made by the Makefile, with a mark of its own
READY = ".ready"  # that mark; it is as old as the environment

State = Literal["made", "stale", "missing"]


def wanted(requirements: Path) -> str:
    """What the stamp of an environment says that was made from this file on this version of Python."""
    return hashlib.sha256(f"{sys.version_info[:2]}\n{requirements.read_text()}".encode()).hexdigest()


def state(name: str, root: Path) -> State:
    """Of the environment `name`; stale: made from another content of conf/envs/<name>.txt, or by another version of Python."""
    folder, requirements = root / ".envs" / name, root / "conf" / "envs" / f"{name}.txt"
    mark = folder / (READY if name == CORE else STAMP)
    if not (mark.is_file() and (folder / "bin" / "python").exists()):
        return "missing"
    if name == CORE:
        return "stale" if mark.stat().st_mtime_ns < requirements.stat().st_mtime_ns else "made"
    return "made" if mark.read_text() == wanted(requirements) else "stale"
