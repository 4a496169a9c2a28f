"""A foreign program: its own environment, files in, files out, a limit of CPU time, its log, its exit code, what it used.

`run_program` is the whole of it; the adapters check what came out with `check_rows`, and end in `foreign_run`. Linux only (pidfd_open,
wait4).
"""

import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from results.project.folder import ROOT
from results.record import RequestRecord, Run, Track
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.family import Family
from simulators.simulator import Simulator, simulated_run
from workloads.trace import Request

KEPT_VARIABLES = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
OFFLINE = {  # a simulation that reaches for the network is not reproducible
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_MODE": "disabled",
    "DO_NOT_TRACK": "1",
}
DETERMINISTIC = {  # one thread each, one hash seed, nothing of the user's own site-packages, no display
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}
MISSING_SHOWN = 5  # ids in an error message
PATIENCE = 10  # s of wall-clock time for each s of CPU time of a limit: other work on the machine is not the program's fault
LOOK_S = 0.1  # s between two looks at what a program uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a program used. wall_s: start to end. cpu_s: user and system time, its waited-for children included.

    peak_memory: bytes, the largest resident set seen of the program or of a process that it started, looked at every `LOOK_S` (rusage
    would count this process's own size too, from the moment before exec).
    """

    wall_s: float
    cpu_s: float
    peak_memory: int


def foreign_run(
    simulator: Simulator,
    measured: Run,
    records: Iterable[RequestRecord],
    usage: Usage,
    *,
    version: str | None,
    track: Track,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    phases: Mapping[str, float] = {},
    looped: bool = False,
) -> Run:
    """What a foreign program's adapter ends in: `simulated_run`, with the adapter's own settings, those of this run, and what it used.

    simulator: a dataclass. settings: of this run, JSON-able. phases: seconds of the program's own parts, by name. looped: as of
    `simulated_run`. Raises SimulatorError when records are missing.
    """
    timing = {**asdict(usage), **phases}
    return simulated_run(
        measured,
        records,
        system=simulator.system,
        version=version,
        track=track,
        wall_s=usage.wall_s,
        coverage=simulator.coverage if looped else replace(simulator.coverage, closed_loop="no"),
        looped=looped,
        config={"name": simulator.system, **asdict(simulator), **settings, "timing": timing},  # type: ignore[call-overload]
        provenance=provenance,
    )


def interpreter(environment: str, root: Path = ROOT) -> Path:
    """The Python of `.envs/<environment>`. Raises SimulatorError that says how to get it when it is not there."""
    python = root / ".envs" / environment / "bin" / "python"
    if not python.exists():
        raise SimulatorError(
            f"environment {environment}: {python} is missing; `make bench simulator=[{environment}]` installs it "
            f"from conf/envs/{environment}.txt"
        )
    return python


def clean_environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """The few variables of ours that a foreign program may see (no PYTHONPATH), the offline and deterministic ones, and `extra`."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, **OFFLINE, **DETERMINISTIC, **extra}


def run_program(
    name: str, argv: Sequence[str | Path], *, cwd: Path, log: Path, limit: float, env: Mapping[str, str] | None = None
) -> Usage:
    """Run a program to its end with stdout and stderr in `log`; return what it used.

    name: for messages. limit: seconds of CPU time, its own and that of processes that it started, after which it is killed (or after
    `PATIENCE` times as many of wall-clock time). env: its whole environment (default: `clean_environment()`).
    It gets a process group of its own, and whatever is left of that group, or of the processes that it started, is killed on every way
    out, Ctrl-C included.
    Raises SimulatorError (one line: what happened, the log, its last line) when it cannot start or exits other than 0, and NotAvailable
    when it exceeds the limit.
    """
    started = time.monotonic()
    child = _start(name, argv, cwd, log, clean_environment() if env is None else env)
    family = Family(child.pid)
    try:
        ended = _wait(child.pid, family, limit)
    finally:
        # the leader is not reaped yet, so the number of its group cannot belong to anyone else
        os.killpg(child.pid, signal.SIGKILL)
        family.kill()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if not ended:
        raise NotAvailable(f"{name}: took longer than its limit of {limit:g} s of CPU time (the simulator's setting `limit`)")
    if child.returncode != 0:
        raise SimulatorError(f"{name}: {_ending(child.returncode)}; {describe_log(log)}")
    return Usage(wall_s=time.monotonic() - started, cpu_s=usage.ru_utime + usage.ru_stime, peak_memory=family.peak_memory)


def _start(name: str, argv: Sequence[str | Path], cwd: Path, log: Path, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    try:
        with log.open("wb") as out:
            return subprocess.Popen(
                [str(a) for a in argv],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise SimulatorError(f"{name}: could not start {argv[0]}: {error.strerror or error} ({error.filename or cwd})") from error


def _wait(pid: int, family: Family, limit: float) -> bool:
    """Whether the process ended within the limit; it is left to be reaped."""
    handle = os.pidfd_open(pid)
    deadline = time.monotonic() + PATIENCE * limit
    try:
        while (left := deadline - time.monotonic()) > 0 and family.look() <= limit:
            if select.select([handle], [], [], min(left, LOOK_S))[0]:
                return True
        return bool(select.select([handle], [], [], 0)[0])  # it may have ended in time, and we looked too late
    finally:
        os.close(handle)


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code > 0 else f"was killed by signal {signal.Signals(-code).name}"


def describe_log(log: Path) -> str:
    """`log PATH, last line: ...` for an error message."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    return f"log {log}" + (f", last line: {lines[-1][:300]}" if lines else ", which is empty")


def check_rows(name: str, asked: Collection[int], got: Collection[int], log: Path) -> None:
    """Hold the ids that came out against those that went in. Raises SimulatorError naming what is missing, unknown or repeated."""
    missing = sorted(set(asked) - set(got))
    unknown = sorted(set(got) - set(asked))
    problems = [
        f"{len(ids)} {what} (ids {', '.join(map(str, ids[:MISSING_SHOWN]))}{', ...' if len(ids) > MISSING_SHOWN else ''})"
        for what, ids in (("missing", missing), ("unknown", unknown))
        if ids
    ]
    if len(got) != len(set(got)):
        problems.append(f"{len(got) - len(set(got))} repeated")
    if problems:
        raise SimulatorError(f"{name}: {len(asked)} requests asked, {len(got)} rows came out: {', '.join(problems)}; {describe_log(log)}")


def check_tokens(name: str, request: Request, inputs: int | None, outputs: int | None, log: Path) -> None:
    """Hold the token counts that came out against those that went in. Raises SimulatorError naming the request."""
    if (inputs, outputs) != (request.input_tokens, request.output_tokens):
        raise SimulatorError(
            f"{name}: request {request.request_id} of {request.input_tokens} + {request.output_tokens} tokens was simulated as "
            f"{inputs} + {outputs}; {describe_log(log)}"
        )


def check_finite(name: str, row: object, values: Mapping[str, float], log: Path) -> None:
    """Raise SimulatorError naming the row and the columns that hold NaN or infinity."""
    bad = [f"{column}={value}" for column, value in values.items() if not math.isfinite(value)]
    if bad:
        raise SimulatorError(f"{name}: its output for request {row} has {', '.join(bad)}; {describe_log(log)}")
