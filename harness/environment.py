"""Environments of their own for engines: .envs/<name>, made by uv from conf/envs/<name>.txt, remade when that file changes.

The requirement files are complete and pinned, so they are installed with --no-deps: what a file says is what an environment holds.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.engine import EngineError
from harness.environment_state import STAMP, state, wanted
from results.project.folder import ROOT


def ensure(name: str, root: Path = ROOT, *, progress: Callable[[str], None] | None = None) -> Path:
    """Return the interpreter of environment `name`, installing it first when it is missing, incomplete or out of date.

    Two processes that ask for the same one wait for each other; an install that was killed has no stamp and is done again.
    progress: called with each line that uv prints. Raises EngineError: what failed, why, and where the log is.
    """
    requirements = root / "conf" / "envs" / f"{name}.txt"
    if not requirements.is_file():
        known = ", ".join(sorted(path.stem for path in requirements.parent.glob("*.txt"))) or "none"
        raise EngineError(f"environment {name}: {requirements} is missing; environments that can be made: {known}")
    folder = (root / ".envs" / name).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    with _locked(folder.parent / f".{name}.lock"):
        if state(name, root) == "made":
            return python
        made_from = wanted(requirements)
        _install(name, folder, requirements, folder.parent / f"{name}.log", progress)
        (folder / STAMP).write_text(made_from)
    return python


def named(*wanted: str | tuple[str, ...] | None) -> list[str]:
    """The environments that are wanted, each once; None wants none."""
    found = (name for names in wanted if names is not None for name in ((names,) if isinstance(names, str) else names))
    return list(dict.fromkeys(found))


def interpreter(engine: str, name: str | None, python: str | None) -> Path:
    """The interpreter of an engine: of environment `name`, or `python` where that is None. Raises EngineError when it is not there."""
    found = ensure(name) if name is not None else Path(python or "")
    if not found.exists():
        raise EngineError(f"engine {engine}: no interpreter {found}; set engine.python, or engine.environment to have one made")
    return found


def _install(name: str, folder: Path, requirements: Path, log: Path, progress: Callable[[str], None] | None) -> None:
    """Make the environment anew with this process's Python version; all that uv says goes to `log`."""
    import uv  # imported here, because a machine that brings its own engines needs no uv

    uv_bin, python, environ = uv.find_uv_bin(), folder / "bin" / "python", _uv_environ(requirements.read_text())
    steps = (
        [uv_bin, "venv", "--clear", "--python", sys.executable, str(folder)],
        [uv_bin, "pip", "install", "--no-deps", "--python", str(python), "-r", str(requirements)],
    )
    with log.open("w") as out:
        for argv in steps:
            code, cause = _run(argv, environ, out.write, progress)
            if code != 0:
                raise EngineError(f"environment {name}: uv could not install {requirements} (exit {code}): {cause}; see {log}")


def _run(argv: list[str], environ: dict[str, str], write: Callable[[str], int], progress: Callable[[str], None] | None) -> tuple[int, str]:
    """Run one uv command line by line; return its exit code and the line that best says what went wrong."""
    lines: list[str] = []
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                write(line)
                lines.append(line.rstrip())
                if progress is not None:
                    progress(line.strip())
        except BaseException:
            process.kill()
            raise
    return process.returncode, " ".join(_telling(lines) or [line.strip() for line in lines if line][-1:])


def _telling(lines: list[str]) -> list[str]:
    """The lines of uv's output that say what went wrong. It breaks long ones: what is indented behind one belongs to it."""
    found: list[str] = []
    within = False
    for line in lines:
        words = line.strip().removeprefix("│").strip()
        starts = words.startswith(("error", "Caused by", "×", "├─▶", "╰─▶"))
        within = starts or (within and line.startswith(" ") and bool(words))
        if within:
            found.append(words)
    return found


def uv_folder() -> list[str]:
    """The folder of the program uv, for a PATH; [] where there is none."""
    try:
        import uv

        return [str(Path(uv.find_uv_bin()).parent)]
    except (ImportError, FileNotFoundError):
        return []


def _uv_environ(requirements: str) -> dict[str, str]:
    """uv's environment: pip's local wheels where a machine has some; else PyTorch's own index when the file asks for its CPU build."""
    environ = {key: value for key, value in os.environ.items() if key not in ("UV_FIND_LINKS", "VIRTUAL_ENV")}
    wheels = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    if wheels:
        environ["UV_FIND_LINKS"] = wheels
    elif "+cpu" in requirements:
        environ.setdefault("UV_TORCH_BACKEND", "cpu")
    return environ


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel lets go of it when the process dies."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
