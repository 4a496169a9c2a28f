"""The bench as a user starts it: `python -m harness` in a process of its own, its results in a folder of the test's."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from results.project.folder import ROOT

# Of the gates, those that a machine which stands still for seconds fails, though all else is right. Where they are not what is tested.
PATIENT_GATES = ("gates.max_lag_p99=60", "gates.max_rate_error=60", "gates.max_client_cpu=60", "gates.max_core_wait=1.0")


@dataclass(frozen=True)
class Bench:
    """One results folder and the benches run into it. `tag` marks every process that they start."""

    folder: Path
    tag: str
    module: str = "harness"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def database(self) -> Path:
        return self.folder / "plumbline.duckdb"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def argv(self, *overrides: str) -> list[str]:
        paths = [
            f"paths.runs={self.runs}",
            f"paths.measured={self.folder / 'measured'}",
            f"paths.database={self.database}",
            f"paths.logs={self.folder / 'logs'}",
            f"paths.searches={self.folder / 'searches'}",
            f"report.out={self.report}",
        ]
        flags = [o for o in overrides if o.startswith("--")]  # Hydra takes its flags before the overrides only
        return [sys.executable, "-m", self.module, *flags, *paths, *(o for o in overrides if not o.startswith("--"))]

    def start(self, *overrides: str) -> "subprocess.Popen[str]":
        environ = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200", "PLUMBLINE_TEST_TAG": self.tag}
        pipe = subprocess.PIPE
        return subprocess.Popen(self.argv(*overrides), cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True)

    def run(self, *overrides: str, timeout: float = 540.0) -> "subprocess.CompletedProcess[str]":
        with self.start(*overrides) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=60)
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def left_processes(self, patience: float = 60.0) -> list[str]:
        """Command lines of processes that the benches started and that still run after `patience` seconds."""
        deadline = time.monotonic() + patience
        while (left := self._tagged()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def left_halves(self) -> list[str]:
        """Names in the runs folder that are no whole run."""
        if not self.runs.is_dir():
            return []
        return [path.name for path in self.runs.iterdir() if not (path / "run.json").is_file() or path.name.startswith(".")]

    def _tagged(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PLUMBLINE_TEST_TAG") == self.tag and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """What it said on standard error: exactly one line, the bench's own."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, f"not one line but {len(lines)}:\n{done.stderr}\n{done.stdout}"
    assert lines[0].startswith("plumbline: "), done.stderr
    return lines[0]
