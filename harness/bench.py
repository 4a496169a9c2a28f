"""The main job: measure an engine, simulate the same requests, score, report. Read `Bench.run` top to bottom."""

import dataclasses
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from harness import environment, provenance
from harness.capacity import Capacity
from harness.client import Client, Replay
from harness.console import print_table, say, stage
from harness.gates import Gates
from harness.model import Model
from harness.parts import Load, Paths, Reporter, Simulator, Workload
from harness.profile import Profiler
from harness.recorded import Recorded
from harness.system import Endpoint, Engine
from harness.telemetry import Telemetry
from results import database
from results.profile import Profile
from results.record import SLO, NotAvailable, Run, Track
from results.store import write_run
from workloads.prompts import token_ids
from workloads.trace import Trace

WARMUP_SEED, CAPACITY_SEED = 1_000_003, 2_000_003  # offsets: what warms up or calibrates is never the workload that is scored


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One cell: one engine, one workload, one load, every chosen simulator. conf/bench.yaml is its schema."""

    engine: Engine | Recorded
    model: Model
    hardware: Mapping[str, Any]
    workload: Workload
    load: Load
    slo: SLO
    client: Client
    gates: Gates
    capacity: Capacity
    profile: Profiler
    simulators: Mapping[str, Simulator]
    tracks: Sequence[Track]
    report: Reporter
    paths: Paths
    telemetry_interval: float
    seed: int
    repeat: int

    def run(self) -> int:
        """Do all of it; return the exit code: 0, 1 when a simulator failed, 2 when the measured run is INVALID."""
        self._preflight()
        self._environments()
        measured, profile = self.engine.load() if isinstance(self.engine, Recorded) else self._measure(self.engine)
        failures, unavailable = self._simulate(measured, profile)
        with stage("database", self.paths.database):
            database.build([Path(self.paths.runs), Path(self.paths.measured)], Path(self.paths.database))
        with stage("report"):
            summary = self.report.write(measured.run_id, unavailable=unavailable)
        print_table(summary.table, title=f"{measured.run_id}: measured beside simulated")
        say(summary.verdict, style="bold")
        for name, reason in unavailable.items():
            say(f"not available: {name}: {reason}", style="yellow")
        for failure in failures:
            say(f"FAILED: {failure}", style="bold red")
        if not measured.valid:
            say(f"INVALID: {measured.invalid_reason}", style="bold red")
        say(f"report: {summary.path}")
        return 2 if not measured.valid else 1 if failures else 0

    def _preflight(self) -> None:
        """Find out now, not after minutes of measuring, that the workload's file is missing or malformed."""
        if not isinstance(self.engine, Recorded):
            limit = self.model.config.get("max_position_embeddings")
            self.workload.trace(rate=1.0, num_requests=self.load.num_requests, seed=self.seed, max_model_len=limit)

    def _environments(self) -> None:
        names = [self.engine.environment, *(s.environment for s in self.simulators.values())]
        for name in dict.fromkeys(n for n in names if n is not None):
            with stage("environment", name):
                environment.ensure(name)

    def _measure(self, engine: Engine) -> tuple[Run, Profile | None]:
        """Start the engine, learn its capacity and step times, replay the workload, stop it; store the run and the profile."""
        started = datetime.now(UTC)
        facts = provenance.collect(engine.environment)
        with _server_log(Path(self.paths.logs), f"{started:%Y%m%dT%H%M%S}-{self.workload.name}") as log:
            with ExitStack() as stack:
                with stage("engine", "start, and wait until it is ready"):
                    endpoint = stack.enter_context(engine.serve(self.model.folder(Path(self.paths.models)), log))
                stack.enter_context(_away_from(endpoint.details.get("core_cpus") or []))
                self._warm_up(endpoint)
                capacity = self._capacity(endpoint)
                profile = self._profile(endpoint)
                rate, rho = self.load.offered(capacity["rate"] if capacity else None)
                trace = self._trace(rate, num_requests=self.load.count(rate), seed=self.seed, endpoint=endpoint)
                replay, telemetry = self._replay(engine, endpoint, trace)
            telemetry = pd.concat([telemetry, engine.steps(log, replay.epoch)], ignore_index=True)
            window = (0.0, trace.duration)
            reason = self.gates.check(trace, replay, window=window, cpus=1, expect_cold=True)
            run = Run(
                run_id=f"{started:%Y%m%dT%H%M%S}-{endpoint.system}-{self.workload.name}-{f'rho{rho:.2f}' if rho else f'rate{rate:.3g}'}",
                kind="measured",
                system=endpoint.system,
                version=endpoint.version,
                workload=self.workload.name,
                model=self.model.name,
                hardware=str(self.hardware["name"]),
                trace=trace,
                records=replay.records,
                limits=endpoint.limits,
                started_at=replay.started_at,
                wall_s=replay.wall_s,
                slo=self.slo,
                rho=rho,
                rate=rate,
                repeat=self.repeat,
                valid=reason is None,
                invalid_reason=reason,
                window=window,
                config=self._config(engine, endpoint, capacity, profile),
                provenance=facts,
                telemetry=telemetry,
            )
            self._store(run, profile, log)
        return run, profile

    def _store(self, run: Run, profile: Profile | None, log: Path) -> None:
        files = {"server.log": log}
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch, stage("store", run.run_id):
            if profile is not None:
                files |= {path.name: path for path in profile.write(Path(scratch) / "profile").iterdir()}
            write_run(Path(self.paths.runs), run, files)

    def _trace(self, rate: float, *, num_requests: int, seed: int, endpoint: Endpoint) -> Trace:
        return self.workload.trace(rate=rate, num_requests=num_requests, seed=seed, max_model_len=endpoint.limits.max_model_len)

    def _prompts(self, trace: Trace, seed: int) -> list[list[int]]:
        return token_ids(trace, vocab_size=int(self.model.config["vocab_size"]), seed=seed)

    def _warm_up(self, endpoint: Endpoint) -> None:
        if self.load.warmup == 0:
            return
        seed = self.seed + WARMUP_SEED
        trace = self._trace(math.inf, num_requests=self.load.warmup, seed=seed, endpoint=endpoint)
        with stage("warm-up", f"{self.load.warmup} requests, discarded") as progress:
            self.client.replay(endpoint, trace, self._prompts(trace, seed), progress=progress)

    def _capacity(self, endpoint: Endpoint) -> dict[str, Any] | None:
        if self.load.capacity is not None:
            return {"rate": self.load.capacity, "source": "given as load.capacity"}
        with stage("capacity", "requests/s that it can sustain") as progress:
            result = self.capacity.measure(
                endpoint,
                self.client,
                self.workload,
                vocab_size=int(self.model.config["vocab_size"]),
                seed=self.seed + CAPACITY_SEED,
                progress=progress,
            )
        say(f"  capacity {result.rate:.2f} requests/s [{result.low:.2f}, {result.high:.2f}]", style="dim")
        return dataclasses.asdict(result)

    def _profile(self, endpoint: Endpoint) -> Profile | None:
        if "calibrated" not in self.tracks or not self.simulators:
            return None
        with stage("profile", "step times") as progress:
            return self.profile.measure(
                endpoint, self.client, model=self.model.config, hardware=str(self.hardware["name"]), progress=progress
            )

    def _replay(self, engine: Engine, endpoint: Endpoint, trace: Trace) -> tuple[Replay, pd.DataFrame]:
        prompts = self._prompts(trace, self.seed)
        engine.reset_cache(endpoint)
        with stage("replay", f"{len(trace)} requests in {trace.duration:.0f} s") as progress:
            with Telemetry(f"{endpoint.url}/metrics", self.telemetry_interval, engine.sample) as telemetry:
                replay = self.client.replay(endpoint, trace, prompts, progress=progress)
            return replay, telemetry.frame(replay.epoch)

    def _config(self, engine: Engine, endpoint: Endpoint, capacity: dict[str, Any] | None, profile: Profile | None) -> dict[str, Any]:
        return {
            "engine": _asdict(engine) | {"details": dict(endpoint.details), "unknown": list(endpoint.unknown)},
            "model": dict(self.model.config),
            "hardware": dict(self.hardware),
            "workload": _asdict(self.workload),
            "load": _asdict(self.load),
            "capacity": capacity,
            "client": _asdict(self.client),
            "gates": _asdict(self.gates),
            "profile": profile.profile_id if profile else None,
            "seed": self.seed,
        }

    def _simulate(self, measured: Run, profile: Profile | None) -> tuple[list[str], dict[str, str]]:
        """Run and store every chosen simulator in every chosen track it has.

        Returns a line for each that failed, and the reason for each ('system:track') that is not available here or for this run.
        """
        failures: list[str] = []
        unavailable: dict[str, str] = {}
        for simulator in self.simulators.values():
            for track in [t for t in self.tracks if t in simulator.tracks()]:
                with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
                    try:
                        with stage("simulate", f"{simulator.system}, {track}"):
                            run = simulator.simulate(measured, track=track, profile=profile, scratch=Path(scratch))
                    except NotAvailable as error:
                        unavailable[f"{simulator.system}:{track}"] = str(error)
                        continue
                    except RuntimeError as error:
                        failures.append(self._keep_log(error, Path(scratch) / "log", f"{measured.run_id}--{simulator.system}-{track}"))
                        continue
                    log = Path(scratch) / "log"
                    write_run(Path(self.paths.runs), run, {"simulator.log": log} if log.is_file() else {}, replace=True)
        return failures, unavailable

    def _keep_log(self, error: RuntimeError, log: Path, name: str) -> str:
        if not log.is_file():
            return str(error)
        kept = Path(self.paths.logs) / f"{name}.log"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
        return str(error).replace(str(log), str(kept))


@contextmanager
def _away_from(cpus: Sequence[int]) -> Iterator[None]:
    """Keep this process, the client, off the cores that the engine computes on, where there are others."""
    allowed = os.sched_getaffinity(0)
    if allowed - set(cpus):
        os.sched_setaffinity(0, allowed - set(cpus))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _server_log(folder: Path, name: str) -> Iterator[Path]:
    """A log file for a server's life: it moves into the run when all goes well, and stays here to be read when not."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.server.log"
    yield log
    log.unlink(missing_ok=True)


def _asdict(part: object) -> dict[str, Any]:
    """A part's settings, with the class that has them."""
    settings = dataclasses.asdict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else dict(vars(part))
    return {"_target_": f"{type(part).__module__}.{type(part).__qualname__}", **settings}
