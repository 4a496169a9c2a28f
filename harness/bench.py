"""The main job: measure an engine, simulate the same requests, score, report. Read `Bench.run` top to bottom."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from harness import environment
from harness.cell import Cell, Replayed, store
from harness.console import print_table, say, stage, stages
from harness.engine import Engine
from harness.engines.model import Model
from harness.engines.recorded import Recorded
from harness.gates import Gates, may_pass
from harness.grid import sweep
from harness.probing.capacity import Capacity
from harness.probing.profiler import Profiler
from harness.protocols import CalibrationLike, Reporter, SimulatorLike, Workload
from harness.replay.client import Client
from harness.settings import Load, Paths
from harness.simulation import Outcome, Simulation
from results import database
from results.profile import Profile
from results.record import SLO, Run, Track
from results.storage.place import place, reach


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One cell: one engine, one workload, one load, every chosen simulator. conf/bench.yaml is its schema."""

    engine: Engine | Recorded  # what is measured, or a stored run
    model: Model  # what it serves
    hardware: Mapping[str, Any]  # on what: as in conf/hardware
    workload: Workload  # what makes the requests
    load: Load  # how much of it is offered
    slo: SLO  # limits of a good request
    client: Client  # how the requests are sent
    gates: Gates  # what a run must pass to be VALID
    capacity: Capacity  # how the engine's capacity is found
    profile: Profiler  # how the engine's step times are found
    calibration: CalibrationLike  # where the step times of the calibrated track are from
    simulators: Mapping[str, SimulatorLike]  # by their names in conf/simulator
    tracks: Sequence[Track]  # in which each simulator runs, as far as it has them
    report: Reporter  # what scores and writes the page
    paths: Paths  # where things go
    telemetry_interval: float  # s between two polls of the metrics and the GPUs; 0: none
    seed: int  # of the requests and their prompts
    repeat: int  # number of this repeat of the same measurement

    def run(self) -> int:
        """Do all of it; return the exit code: 0, 1 when a simulator failed, 2 when a measured run is INVALID."""
        reach(place(self.paths.runs))
        measured = [self._recorded(self.engine)] if isinstance(self.engine, Recorded) else self._measure(self._cell(self.engine))
        outcomes = [self._simulation().run(run, profile, progress=stages(f"simulations of {run.run_id}")) for run, profile in measured]
        with stage("database", self.paths.database) as progress:
            database.build([place(self.paths.runs), place(self.paths.measured)], Path(self.paths.database), progress)
        page = [self._report(run, outcome) for (run, _), outcome in zip(measured, outcomes, strict=True)][-1]
        if len(measured) > 1:
            print_table(sweep.table(Path(self.paths.database), [run.run_id for run, _ in measured]), "sweep", sweep.NOTE)
        say(f"report: {page}")
        return 2 if not all(run.valid for run, _ in measured) else 1 if any(outcome.failures for outcome in outcomes) else 0

    def _report(self, measured: Run, outcome: Outcome) -> Path:
        """Write the report on a run, say what is in it, and return its page. That of a sweep's last run stays."""
        with stage("report") as progress:
            summary = self.report.write(measured.run_id, unavailable=outcome.unavailable, progress=progress)
        if summary.notice is not None:
            say(summary.notice, style="bold yellow")
        print_table(summary.table, measured.run_id, summary.note)
        say(summary.verdict, style="bold")
        for run_id, reason in measured.config.get("earlier_tries", {}).items():
            say(f"tried before, and kept: {run_id}: INVALID: {reason}", style="yellow")
        for name, reason in outcome.unavailable.items():
            say(f"not available: {name}: {reason}", style="yellow")
        for failure in outcome.failures.values():
            say(f"FAILED: {failure}", style="bold red")
        if not measured.valid:
            say(f"INVALID: {measured.invalid_reason}", style="bold red")
        return summary.path

    def _simulation(self) -> Simulation:
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(Simulation)}
        return Simulation(**settings)

    def _environments(self) -> None:
        simulation = self._simulation()
        for name in dict.fromkeys(n for n in (self.engine.environment, *simulation.environments()) if n is not None):
            with stage("environment", name):
                environment.ensure(name)

    def _cell(self, engine: Engine) -> Cell:
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(Cell)}
        return Cell(**settings | {"engine": engine})

    def _recorded(self, engine: Recorded) -> tuple[Run, Profile | None]:
        self._environments()
        return engine.load()

    def _measure(self, cell: Cell) -> list[tuple[Run, Profile | None]]:
        """Start the engine, learn its capacity and step times, replay the workload, stop it; store the run and the profile.

        A sweep has a run for each of its loads, all on that server; any other load has one.
        """
        cell.preflight()
        self._environments()
        facts = cell.facts()
        with _server_log(Path(self.paths.logs), f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self.workload.name}") as log:
            with cell.serving(log) as endpoint:
                capacity = cell.find_capacity(endpoint) if self.load.needs_capacity else None
                profile = cell.find_profile(endpoint) if "calibrated" in self.tracks and self.simulators else None
                known: dict[str, Any] = {"endpoint": endpoint, "log": log, "capacity": capacity, "profile": profile, "facts": facts}
                loads = enumerate(self.load.each())
                done = [self._replayed(dataclasses.replace(cell, load=load), known, number) for number, load in loads]
            return [(self._kept(run_of(done=replayed), profile, log), profile) for run_of, replayed in done]

    def _replayed(self, cell: Cell, known: Mapping[str, Any], number: int) -> tuple[Callable[..., Run], Replayed]:
        """The replay of a load, the number-th on this server, and what makes its run when the server has ended.

        A replay that is INVALID for passing reasons alone is stored at once, and replayed again; the last one is the one that counts.
        """
        before = number * (1 + self.gates.retries)  # replays of other loads, at the most
        earlier: dict[str, str] = {}  # tries, by the ids of their runs: why each is INVALID
        run_of = partial(cell.run, **known, earlier=earlier)
        replayed = cell.replay(known["endpoint"], known["capacity"], attempt=before)
        while may_pass(replayed.failed) and len(earlier) < self.gates.retries:
            failed = self._kept(run_of(done=replayed), known["profile"], known["log"])
            say(f"  INVALID: {failed.invalid_reason}; that may pass, so the same requests are sent once more", style="yellow")
            earlier[failed.run_id] = str(failed.invalid_reason)
            replayed = cell.replay(known["endpoint"], known["capacity"], attempt=before + len(earlier))
        return run_of, replayed

    def _kept(self, run: Run, profile: Profile | None, log: Path) -> Run:
        with stage("store", run.run_id):
            store(place(self.paths.runs), run, profile, log)
        return run


@contextmanager
def _server_log(folder: Path, name: str) -> Iterator[Path]:
    """A log file for a server's life: it moves into the run when all goes well, and stays here to be read when not."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.server.log"
    yield log
    log.unlink(missing_ok=True)
