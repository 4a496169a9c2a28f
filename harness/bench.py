"""The main job: measure an engine, simulate the same requests, score, report. Read `Bench.run` top to bottom."""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import environment
from harness.capacity import Capacity
from harness.cell import Cell, store
from harness.client import Client
from harness.console import print_table, say, stage
from harness.gates import Gates
from harness.model import Model
from harness.parts import Calibration, Load, Paths, Reporter, Simulator, Workload
from harness.profile import Profiler
from harness.recorded import Recorded
from harness.system import Engine
from results import database
from results.profile import Profile
from results.record import SLO, NotAvailable, Run, Track
from results.store import write_run


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
    calibration: Calibration
    simulators: Mapping[str, Simulator]
    tracks: Sequence[Track]
    report: Reporter
    paths: Paths
    telemetry_interval: float
    seed: int
    repeat: int

    def run(self) -> int:
        """Do all of it; return the exit code: 0, 1 when a simulator failed, 2 when the measured run is INVALID."""
        measured, profile = self._recorded(self.engine) if isinstance(self.engine, Recorded) else self._measure(self._cell(self.engine))
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

    def _environments(self) -> None:
        names = [self.engine.environment, self.calibration.environment, *(s.environment for s in self.simulators.values())]
        for name in dict.fromkeys(n for n in names if n is not None):
            with stage("environment", name):
                environment.ensure(name)

    def _cell(self, engine: Engine) -> Cell:
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(Cell)}
        return Cell(**settings | {"engine": engine})

    def _recorded(self, engine: Recorded) -> tuple[Run, Profile | None]:
        self._environments()
        return engine.load()

    def _measure(self, cell: Cell) -> tuple[Run, Profile | None]:
        """Start the engine, learn its capacity and step times, replay the workload, stop it; store the run and the profile."""
        cell.preflight()
        self._environments()
        facts = cell.facts()
        with _server_log(Path(self.paths.logs), f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self.workload.name}") as log:
            with cell.serving(log) as endpoint:
                capacity = cell.find_capacity(endpoint)
                profile = cell.find_profile(endpoint) if "calibrated" in self.tracks and self.simulators else None
                replayed = cell.replay(endpoint, capacity)
            run = cell.run(replayed, endpoint, log, capacity=capacity, profile=profile, facts=facts)
            with stage("store", run.run_id):
                store(Path(self.paths.runs), run, profile, log)
        return run, profile

    def _simulate(self, measured: Run, profile: Profile | None) -> tuple[list[str], dict[str, str]]:
        """Run and store every chosen simulator in every chosen track it has.

        Returns a line for each that failed, and the reason for each ('system:track') that is not available here or for this run.
        """
        failures: list[str] = []
        unavailable: dict[str, str] = {}
        calibrated, lacking = self._calibrated(measured, profile)
        for simulator in self.simulators.values():
            for track in [t for t in self.tracks if t in simulator.tracks()]:
                with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
                    try:
                        with stage("simulate", f"{simulator.system}, {track}"):
                            if track != "calibrated":
                                run = simulator.simulate(measured, track=track, profile=profile, scratch=Path(scratch))
                            elif lacking is not None:
                                raise lacking
                            else:
                                run = simulator.simulate(measured, track=track, profile=calibrated, scratch=Path(scratch))
                                run = _calibrated_by(run, self.calibration.source, calibrated)
                    except NotAvailable as error:
                        unavailable[f"{simulator.system}:{track}"] = str(error)
                        continue
                    except RuntimeError as error:
                        failures.append(self._keep_log(error, Path(scratch) / "log", f"{measured.run_id}--{simulator.system}-{track}"))
                        continue
                    log = Path(scratch) / "log"
                    write_run(Path(self.paths.runs), run, {"simulator.log": log} if log.is_file() else {}, replace=True)
        return failures, unavailable

    def _calibrated(self, measured: Run, profile: Profile | None) -> tuple[Profile | None, RuntimeError | None]:
        """The profile that the calibrated track takes, or why there is none. Nothing is asked for when nothing is calibrated."""
        if not any(track == "calibrated" and track in self.tracks for s in self.simulators.values() for track in s.tracks()):
            return None, None
        try:
            with stage("calibration", self.calibration.source):
                return self.calibration.profile(measured, profile), None
        except RuntimeError as error:
            return None, error

    def _keep_log(self, error: RuntimeError, log: Path, name: str) -> str:
        if not log.is_file():
            return str(error)
        kept = Path(self.paths.logs) / f"{name}.log"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
        return str(error).replace(str(log), str(kept))


def _calibrated_by(run: Run, source: str, profile: Profile | None) -> Run:
    """The run, its configuration saying where its step times are from."""
    if profile is None:
        return run
    told = {"source": source, "profile": profile.profile_id, "is": profile.source, **profile.provenance}
    return dataclasses.replace(run, config={**run.config, "simulator": {**run.config["simulator"], "step_times_from": told}})


@contextmanager
def _server_log(folder: Path, name: str) -> Iterator[Path]:
    """A log file for a server's life: it moves into the run when all goes well, and stays here to be read when not."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.server.log"
    yield log
    log.unlink(missing_ok=True)
