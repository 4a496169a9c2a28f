"""The machine: Python, cores, memory, disk, GPU, and the programs that Plumbline calls."""

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from harness.doctor.check import Check

OLDEST = (3, 11)
MEMORY = 4.0  # GB available with which an engine's CPU build and the tiny model still run
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def python(*, venv_needed: bool) -> Check:
    """The interpreter, and whether it can make the first environment. venv_needed: whether that is still to be done."""
    says = f"Python {platform.python_version()}"
    if sys.version_info < OLDEST:
        return Check(name="python", state="needed", says=says, costs="3.11 or newer is needed; put one first on the PATH as python3")
    if venv_needed and importlib.util.find_spec("ensurepip") is None:
        return Check(name="python", state="needed", says=says, costs="its venv module is missing (Debian: apt-get install python3-venv)")
    return Check(name="python", state="there", says=says)


def cores() -> Check:
    """Cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count < 2:
        return Check(
            name="cores", state="missing", says="1", costs="engine and client share it, and most runs will be INVALID; give it two"
        )
    return Check(name="cores", state="there", says=f"{count}")


def memory() -> Check:
    """Memory in all, and what of it is free to use."""
    told = _meminfo()
    if "MemTotal" not in told:
        return Check(name="memory", state="missing", says="not told by this system", costs="an engine's CPU build takes about 4 GB")
    free = told.get("MemAvailable", told["MemTotal"])
    says = f"{told['MemTotal']:.1f} GB, {free:.1f} GB of them free"
    if free < MEMORY:
        return Check(name="memory", state="missing", says=says, costs=f"an engine may be killed below {MEMORY:g} GB; end other programs")
    return Check(name="memory", state="there", says=says)


def disk(root: Path, needed: float) -> Check:
    """Room where the project lies. needed: GB that are still to be installed and written."""
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        costs = f"environments and runs still need about {needed:.1f} GB; free some"
        return Check(name="disk", state="needed", says=f"{free:.1f} GB free", costs=costs)
    return Check(name="disk", state="there", says=f"{free:.0f} GB free")


def gpu(hardware: list[str]) -> tuple[Check, bool]:
    """NVIDIA GPUs, and whether a bench takes them. hardware: the names in conf/hardware."""
    without = "engines run on their CPU build, `make bench` measures a tiny model"
    try:
        from harness.monitor import gpu as nvml  # here: it needs the core environment, without which the doctor works too
    except ImportError:
        return Check(name="gpu", state="missing", says="not asked before the core environment is made", costs=without), False
    seen = nvml.look()
    if not seen.gpus:
        return Check(name="gpu", state="missing", says=f"none ({seen.why_none})", costs=without), False
    says = ", ".join(f"{gpu.name} ({gpu.memory_gb:g} GB)" for gpu in seen.gpus)
    try:
        nvml.named(seen.gpus[0].name, hardware)
    except ValueError as error:
        return Check(name="gpu", state="needed", says=says, costs=str(error)), True
    return Check(name="gpu", state="there", says=says), True


def programs() -> list[Check]:
    """Programs on the PATH."""
    browser = next((name for name in BROWSERS if shutil.which(name)), None)
    return [
        _program("make", "`make bench` is not there, ./plumbline bench is (Debian: apt-get install make)", needed=True),
        _program("git", "runs do not say which commit measured them, and simulators that are git repositories cannot be fetched"),
        Check(name="chromium", state="there", says=browser)
        if browser
        else Check(name="chromium", state="missing", says="none", costs="the browser tests skip (Debian: apt-get install chromium)"),
    ]


def _program(name: str, costs: str, *, needed: bool = False) -> Check:
    if shutil.which(name):
        return Check(name=name, state="there", says="on the PATH")
    return Check(name=name, state="needed" if needed else "missing", says="not on the PATH", costs=costs)


def _meminfo() -> dict[str, float]:
    """/proc/meminfo in GB; {} where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {name: int(rest.split()[0]) * 1024 / 1e9 for name, _, rest in (line.partition(":") for line in lines) if rest.split()}
