"""Whether a package index answers: asked for one small package by the program that installs, with its own settings, and never for long."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGE = "iniconfig"  # small, and pinned in conf/envs/core.txt


class Index:
    """The question, asked when this is made; `answers` waits for it. What the program prints is thrown away: it names the index's host."""

    def __init__(self, root: Path, patience: float) -> None:
        """patience: s until the question is given up."""
        self._deadline = time.monotonic() + patience
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="plumbline-doctor-")
            self._process = _ask(root, Path(self._folder.name))
        except OSError:  # a disk that is full, an uv that cannot be started: no package can be had
            pass

    def answers(self) -> bool:
        """Whether the package was found in time."""
        code: int | None = None
        if self._process is not None:
            try:
                code = self._process.wait(max(0.0, self._deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()
        return code == 0


def _ask(root: Path, folder: Path) -> "subprocess.Popen[bytes]":
    asked, quiet = folder / "asked.txt", subprocess.DEVNULL
    asked.write_text(f"{PACKAGE}\n", encoding="utf-8")
    environ = os.environ | {"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    # a session of its own, to end it with whatever it has started
    return subprocess.Popen(_command(root, asked), env=environ, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def _command(root: Path, asked: Path) -> list[str]:
    """uv where there is one, else pip, with which the Makefile installs it; caches of either would answer without the index."""
    known = (root / ".envs" / "uv" / "bin" / "uv", Path(sys.executable).parent / "uv")
    uv = next((str(path) for path in known if path.is_file()), shutil.which("uv"))
    if uv is not None:
        return [uv, "pip", "compile", "--quiet", "--no-deps", "--no-cache", "--python", sys.executable, str(asked)]
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-cache-dir",
        "--dest",
        str(asked.parent),
        "-r",
        str(asked),
    ]
