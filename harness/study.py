"""`python -m harness.study study=fidelity_cpu`: a grid of cells measured one after another, every simulator on every cell, a report.

A point of the grid is identified by the hash of its configuration: what one call has measured, no later call measures again. Measured runs
carry `study` in their configuration (the study's name, the cell's hash, the point's: the cell with its repeat), simulated ones inherit
it. Nothing is simulated while an engine is measured on this machine. Read `run` top to bottom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, get_args

from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.command_line import kinds
from harness.console import say, stage
from harness.grid.plan import FORMER_NAMES, Group, Task, chosen, tasks
from harness.grid.point_study import PointStudy
from harness.grid.repeats import RepeatUntil
from harness.grid.runner import Runner
from harness.grid.simulation_jobs import SimulationJobs
from harness.grid.status import StudyStatus, refusals
from harness.grid.study_store import StudyStore
from harness.protocols import StudyReporter
from harness.settings import Paths
from results import database
from results.record import Track
from results.storage.place import place

DO, RETRY = ("measure", "simulate", "report"), ("invalid", "unavailable", "simulated")
KINDS: kinds.Kinds = {  # of what stands in conf/study.yaml itself
    "do": (kinds.words, "a list, e.g. do=[measure,simulate]"),
    "until": (kinds.seconds_or_none, "a number of seconds, or null: to the end"),
    "tasks": (kinds.words, "a list of names or patterns, e.g. tasks=['vllm-*']"),
    "overrides": (kinds.words, "a list of settings, e.g. overrides=['load.duration=30']"),
    "retry": (kinds.words, "a list, e.g. retry=[invalid]"),
    "show": (kinds.flag, "true or false"),
}
TRACKS: kinds.Kinds = {"study.tracks": (kinds.some_of(get_args(Track)), f"a list of {', '.join(get_args(Track))}")}


class Grid(Protocol):
    """What a call of a study needs to know of it: Study, or a harness.grid.recorded_study.RecordedStudy."""

    @property
    def name(self) -> str:
        """Of the study."""
        ...

    @property
    def simulators(self) -> Sequence[str]:
        """Their names in conf/simulator."""
        ...

    @property
    def tracks(self) -> Sequence[Track]:
        """That are asked for."""
        ...

    @property
    def simulation(self) -> Sequence[str]:
        """Hydra overrides of conf/bench.yaml for every simulation."""
        ...

    @property
    def own(self) -> Mapping[str, Sequence[str]]:
        """More of them for the simulations of one simulator, by its name."""
        ...

    @property
    def once(self) -> Sequence[str]:
        """Simulators that take the first repeat of each cell only."""
        ...

    @property
    def start(self) -> float:
        """About how long a server takes to start, s."""
        ...

    def tasks(self, overrides: Sequence[str]) -> list[Task]:
        """All tasks in the order of value. Raises ValueError, in one line, when there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Study:
    """A grid of cells on engines that are started here."""

    name: str  # of the study, and of its folder
    groups: Sequence[Group]  # what to measure, in the order of value
    common: Sequence[str]  # Hydra overrides of conf/bench.yaml for all of them
    simulators: Sequence[str]  # their names in conf/simulator, run on every valid cell
    tracks: Sequence[Track]  # of these, those that a simulator has
    start: float  # s that a server takes to start, about
    instead: Mapping[str, str]  # workload to the workload that replaces it where its file is missing
    simulation: Sequence[str] = ()  # Hydra overrides of conf/bench.yaml for every simulation
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)  # more of them for the simulations of one simulator, by its name
    once: Sequence[str] = ()  # simulators that take the first repeat of each cell only: slow ones

    def tasks(self, overrides: Sequence[str]) -> list[Task]:
        """All tasks in the order of value. Raises ValueError, in one line, for a study without a cell."""
        if not self.groups:
            raise ValueError(f"study {self.name} is empty: give it groups, each with one or more cells (conf/study/quick.yaml shows how)")
        replaced = [f"workload={name}" for name in self.instead if not _there(name, overrides)]
        for name in replaced:
            say(f"{name}: its file is missing; {self._instead(name)} instead", style="yellow")
        groups = [
            Group(
                name=group.name,
                overrides=[self._instead(o) if o in replaced else o for o in group.overrides],
                cells=[[self._instead(o) if o in replaced else o for o in bench] for bench in group.benches()],
                profile=group.profile,
                at=group.at,
            )
            for group in self.groups
        ]
        return tasks(groups, [self._instead(o) if o in replaced else o for o in self.common], overrides)

    def _instead(self, override: str) -> str:
        return f"workload={self.instead[override.removeprefix('workload=')]}"


def run(cfg: DictConfig) -> int:
    """One call of the study; the exit code: 0, 1 when something failed, 2 when a measured run is INVALID, 3 when points are left."""
    kinds.check(cfg, KINDS)
    for name, known in (("do", DO), ("retry", RETRY)):
        if wrong := set(cfg[name]) - set(known):
            raise ValueError(f"{name}={list(cfg[name])}: {', '.join(sorted(wrong))} is none of {', '.join(known)}")
    study: Grid | PointStudy = instantiate(cfg.study, _convert_="all")
    if isinstance(study, PointStudy):
        return study.run(cfg.do, show=cfg.show)
    kinds.check({"study.tracks": study.tracks}, TRACKS)
    paths: Paths = instantiate(cfg.paths, _convert_="all")
    overrides = [*(f"paths.{name}={value}" for name, value in _plain(cfg.paths).items()), *cfg.overrides]
    found = study.tasks(overrides)
    wanted = chosen(found, cfg.tasks)
    store = StudyStore(study=study.name, folder=Path(paths.studies) / study.name, runs=place(paths.runs), again="invalid" in cfg.retry)
    if cfg.show:
        for task in found:
            if task.key in wanted:
                say(f"{task.name}  {task.key}  {'finished' if store.has(task) else f'about {task.seconds:.0f} s'}")
        return 0
    repeat: RepeatUntil = instantiate(cfg.repeat, _convert_="all")
    further = partial(repeat.more, store=store, measured="measure" not in cfg.do)
    runner = Runner(tasks=found, wanted=wanted, store=store, start=study.start, until=cfg.until, further=further)
    if "measure" in cfg.do:
        runner.run()
    else:
        runner.extend()
    points = [task for task in runner.tasks if task.key in runner.wanted]
    status = StudyStatus(study=study.name, tasks=points, measured=store.runs_of(points), failed=runner.failed)
    work = SimulationJobs(
        simulators=study.simulators,
        tracks=study.tracks,
        overrides=[*study.simulation, *overrides],
        own=study.own,
        runs=place(paths.runs),
        retry=frozenset(cfg.retry),
    )
    once = [name for name in study.simulators if name in study.once]
    asked = {name: status.first_repeats if name in once else status.valid_runs for name in study.simulators}
    if "simulate" in cfg.do:
        status.refuse_nothing_measured(paths.runs)
        work.run(asked)
    with stage("database", paths.database) as progress:
        database.build([place(paths.runs), place(paths.measured)], Path(paths.database), progress)
    ran = "simulate" in cfg.do
    outcomes = {run: work.outcomes(run, [name for name in asked if run in asked[name]], ran=ran) for run in status.valid_runs}
    code = status.show(outcomes if ran else {})
    if "report" in cfg.do and status.valid_runs:
        reporter: StudyReporter = instantiate(cfg.report, _convert_="all")
        with stage("report") as progress:
            summary = reporter.write(study.name, refusals=refusals(outcomes), once=once, progress=progress)
        say(summary.verdict, style="bold")
        say(f"report: {summary.path}")
    return code


def _there(workload: str, overrides: Sequence[str]) -> bool:
    """Whether a workload needs no file, or its file is there."""
    settings = compose(config_name="bench", overrides=[f"workload={workload}", *(o for o in overrides if o.startswith("workload."))])
    return Path(settings.workload.source.path).is_file()


def _plain(cfg: DictConfig) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    return {name: value for name, value in values.items() if not name.startswith("_")}


if __name__ == "__main__":
    cli.main("study", run, renamed=FORMER_NAMES)
