"""The main path of `./plumbline search`: one server, loads tried on it one after another, an interval. Read `Search.run` top to bottom."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from harness import cli, environment
from harness.cell import Cell
from harness.console import print_table, say, stage
from harness.engine import Endpoint, Engine
from harness.engines.recorded import Recorded
from harness.gates import Gates
from harness.probing.capacity import Capacity
from harness.probing.profiler import Profiler
from harness.protocols import Reporter, ServedModel, SimulatorLike, Workload
from harness.replay.client import Client
from harness.search.belief import TRUSTED, UNKNOWN, Belief
from harness.search.bracket import CONFIDENCE
from harness.search.forecast import chosen
from harness.search.found import NOTE, SearchAnswer
from harness.search.hunt import Hunt
from harness.search.settings import SearchSettings
from harness.search.trials import Trial, Trials, load_of
from harness.settings import Load, Paths
from results import database
from results.record import SLO
from results.storage.durable import write_text
from results.storage.place import place, reach

SPENT, NONE_MEETS = 3, 4  # exit codes: the interval is wider than asked; no load meets the SLO
NO_ENGINE = (
    "search measures a live engine; on a simulator alone it is ./plumbline plan capacity model=NAME hardware=NAME slo.ttft=... slo.tpot=..."
)


@dataclass(frozen=True, kw_only=True)
class Search:
    """conf/search.yaml is its schema; parts that a bench has too are as in harness.bench.Bench."""

    engine: Engine | Recorded  # what is measured; a stored run is refused
    model: ServedModel  # what it serves
    hardware: Mapping[str, Any]  # on what: as in conf/hardware
    workload: Workload  # what makes the requests
    slo: SLO  # limits of a good request
    search: SearchSettings  # what is asked, and how long it may take
    client: Client  # how the requests are sent
    gates: Gates  # what a run must pass to count
    capacity: Capacity  # how the engine's capacity is found, where it is needed
    profile: Profiler  # how the engine's step times are found, likewise
    simulators: Mapping[str, SimulatorLike]  # the one that says where to begin; none: the measured capacity does
    report: Reporter  # what writes the page on the run nearest to the answer
    paths: Paths  # where things go
    telemetry_interval: float  # s between two polls of the metrics and the GPUs; 0: none
    seed: int  # of the requests and their prompts

    def run(self) -> int:
        """Search; the exit code: 0, 2 when three runs after each other are INVALID, SPENT, NONE_MEETS."""
        if isinstance(self.engine, Recorded):
            raise ValueError(NO_ENGINE)
        if self.slo == SLO():
            raise ValueError("search: the SLO has no limit, so any load meets it; give slo.ttft, slo.tpot or slo.e2e")
        forecast = chosen(self.simulators, self.search.track, self.search.requests)
        reach(place(self.paths.runs))
        cell = self._cell(self.engine)
        cell.preflight()
        for name in environment.named(self.engine.environment, forecast.simulator.environment if forecast else None):
            with stage("environment", name):
                environment.ensure(name)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self.workload.name}"
        log = Path(self.paths.logs) / f"{name}.server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        facts = cell.facts()
        with cell.serving(log) as endpoint:
            profile = cell.find_profile(endpoint) if self.search.track == "calibrated" and forecast else None
            expected = None
            if forecast:
                with stage("forecast", f"{forecast.simulator.system} says where to begin"):
                    expected = _asked(partial(forecast.load, partial(self._cell_at, cell), endpoint, profile, self.search.attainment))
            needs = expected is None or self.search.over == "concurrency"
            capacity = cell.find_capacity(endpoint) if needs else None
            known: dict[str, Any] = {"endpoint": endpoint, "log": log, "capacity": capacity, "profile": profile, "facts": facts}
            trials = Trials(cell=cell, over=self.search.over, name=name, root=place(self.paths.runs), **known)
            found = Hunt(asked=self.search, slo=self.slo, name=name, expected=expected).run(
                trials, self._belief(expected, endpoint, capacity)
            )
        log.unlink(missing_ok=True)
        return self._told(found)

    def _told(self, found: SearchAnswer) -> int:
        """Keep the answer, bring the database up to date, write the report on the run nearest to the answer, print; the exit code."""
        path = Path(self.paths.searches) / f"{found.name}.json"
        write_text(path, json.dumps(found.as_json(dataclasses.asdict(self.search)), indent=1) + "\n")
        with stage("database", self.paths.database) as progress:
            database.build([place(self.paths.runs), place(self.paths.measured)], Path(self.paths.database), progress)
        print_table(found.table(), found.name, NOTE.format(confidence=CONFIDENCE))
        for note in found.notes:
            say(note, style="dim")
        if found.nothing is not None:
            return cli.fail(found.verdict, code=NONE_MEETS)
        with stage("report") as progress:
            page = self.report.write(_nearest(found).run.run_id, progress=progress).path
        say(found.verdict, style="bold")
        say(f"search: {path}; report on the run nearest to it: {page}")
        return 0 if found.settled else 2 if found.trials[-1].share is None else SPENT

    def _belief(self, expected: float | None, endpoint: Endpoint, capacity: Mapping[str, Any] | None) -> Belief:
        """Around what the simulator expects; without one around the capacity, or half of the sequences that the engine runs at a time."""
        asked = self.search
        slots = (endpoint.limits.max_num_seqs or self.capacity.slots) / 2
        guess = slots if asked.over == "concurrency" else capacity["rate"] if capacity else 1.0
        return Belief(
            start=expected or guess,
            scale=UNKNOWN if expected is None else TRUSTED,
            precision=asked.precision,
            whole=asked.over == "concurrency",
            top=asked.most,
        )

    def _cell(self, engine: Engine) -> Cell:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(Cell) if hasattr(self, field.name)}
        load = Load(rho=None, rate=1.0, capacity=self.search.capacity, duration=1.0, num_requests=None, warmup=self.search.warmup)
        return Cell(**given | {"engine": engine, "load": load_of(load, self.search.over, 1.0, 1.0), "repeat": 0})

    def _cell_at(self, cell: Cell, load: float) -> Cell:
        return dataclasses.replace(cell, load=load_of(cell.load, self.search.over, load, self.search.duration))


def _asked(load: Callable[[], float | None]) -> float | None:
    """What the simulator says; None, and a line, where it can say nothing."""
    try:
        found = load()
    except RuntimeError as error:
        say(f"  {' '.join(str(error).split())}: the search begins at the measured capacity", style="yellow")
        return None
    said = "finds no load at which that changes" if found is None else f"expects {found:.4g}"
    say(f"  the simulator {said}", style="dim")
    return found


def _nearest(found: SearchAnswer) -> Trial:
    """The last run of the load nearest to the answer; where nothing is known, the last one."""
    valid = [trial for trial in found.trials if trial.share is not None] or list(found.trials)
    load = found.load
    return valid[-1] if load is None else min(reversed(valid), key=lambda trial: abs(trial.load - load))
