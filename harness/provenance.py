"""Where a measurement was made and with which code: kept in every run, so that it can be repeated or doubted."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from harness.monitor import gpu


def collect(environment: str | None, root: Path = Path()) -> dict[str, Any]:
    """Facts about this code, this machine and the engine's environment, JSON-able. Unknown is None.

    PLUMBLINE_COMMIT names the commit where the code was copied without its repository.

    environment: name of the engine's environment; its pinned requirement file is identified by hash.
    """
    requirements = root / "conf" / "envs" / f"{environment}.txt"
    return {
        "git_commit": _git(root, "rev-parse", "HEAD") or os.environ.get("PLUMBLINE_COMMIT"),
        "git_dirty": _dirty(root),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpu_cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpu.facts(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "environment": environment,
        "requirements_sha256": hashlib.sha256(requirements.read_bytes()).hexdigest() if requirements.is_file() else None,
    }


def engine_commit(package: str, python: str) -> dict[str, Any]:
    """The git commit that an engine was installed from (pip install -e CHECKOUT), and whether its files differ from it; {}: from none.

    package: its name for Python. python: the interpreter that has it. A folder that merely lies within some repository is no checkout.
    """
    where = "import importlib.util as u, sys; s = u.find_spec(sys.argv[1]); print(s.origin if s and s.origin else '')"
    try:
        found = subprocess.run([python, "-c", where, package], capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return {}
    folder = Path(found).parent
    if not found or _git(folder, "ls-files", "--error-unmatch", Path(found).name) is None:
        return {}
    return {"engine_commit": _git(folder, "rev-parse", "HEAD"), "engine_dirty": _dirty(folder)}


def _git(root: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _dirty(root: Path) -> bool | None:
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if status is None else bool(status)


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
