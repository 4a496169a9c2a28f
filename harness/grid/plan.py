"""The plan of a campaign or a study: groups of benches that share an engine, divided into tasks that are measured and kept one by one.

A task is known by the hash of the settings that its result depends on, so that a finished one is recognised on any machine. Where things
lie (an interpreter, a data folder) is not part of the hash.
"""

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import product
from typing import Any, Literal

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.microbench.benchmarks import Benchmarks
from results.cells import PLACES as ENGINE_PLACES
from results.cells import drop, drop_open_loop
from results.identity import class_name, digest

Kind = Literal["profile", "capacity", "run", "recorded", "operations"]
PLACES = (*ENGINE_PLACES, "workload.source.path")
ENGINE = ("engine", "model", "hardware")  # what one server serves
CAPACITY = (*ENGINE, "workload", "capacity", "client", "seed")
RUN = (*CAPACITY, "load", "slo", "gates", "telemetry_interval", "repeat")
FORMER_NAMES = {"steps": "tasks"}  # settings of a campaign and a study
OVERHEAD = 15.0  # s of a task beside what its settings say: prompts, a drained queue, the archive


@dataclass(frozen=True, kw_only=True)
class Group:
    """Benches on one engine. Groups of one name differ in their cells alone."""

    name: str  # of letters, digits, '.', '-', '_'
    overrides: Sequence[str] = ()  # Hydra overrides of conf/bench.yaml for all of its benches
    cells: Sequence[Sequence[str]] = ()  # more overrides for each, in the order of value; load.rho=0.3,0.6 makes two, as in a multirun
    profile: bool = False  # whether the engine's step times are measured before the first run
    operations: bool = False  # whether single operations are timed with the engine's torch, no server running
    at: str | None = None  # the group whose capacity load.rho is a fraction of, so that both have one rate; None: its own
    engine: str | None = None  # one of the campaign's `engines`, whose overrides come before `overrides`

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"campaign: a group needs a name of letters, digits, '.', '-', '_', got {self.name!r}")
        if not self.cells and not self.operations:
            raise ValueError(f"campaign: group {self.name} has nothing to measure; give it cells, or operations: true")

    def benches(self) -> Iterator[list[str]]:
        """The overrides of each bench beside the group's own: a bench for each combination of swept values, the last varying fastest."""
        parser = OverridesParser.create()
        for cell in self.cells:
            parsed = parser.parse_overrides(list(cell))
            choices = [
                [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()] if o.is_sweep_override() else [str(o.input_line)]
                for o in parsed
            ]
            yield from map(list, product(*choices))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to measure, and to keep."""

    kind: Kind  # what its result is
    name: str  # for people, and for its file: the group's and what tells it from the group's other tasks
    key: str  # the hash of the settings that its result depends on
    engine: str  # the hash of its engine's settings: tasks with the same one share a server
    seconds: float  # about how long it takes once its server runs
    settings: DictConfig  # of its bench
    group: str  # the name of its group
    cell: str = ""  # of a run: the hash of its settings without the number of the repeat
    at: str | None = None  # as in Group
    needs: tuple[str, ...] = ()  # keys of tasks whose results it takes: of a run whose load is a fraction of a capacity, that capacity
    after: tuple[str, ...] = ()  # keys of tasks that come first, but that it can do without: of a run, its engine's profile

    @property
    def archive(self) -> str:
        """The name of the file that holds its result."""
        return f"{self.name}-{self.key}.tar.gz"


def tasks(
    groups: Sequence[Group],
    common: Sequence[str],
    overrides: Sequence[str],
    *,
    engines: Mapping[str, Sequence[str]] | None = None,
    operations: Benchmarks | None = None,
) -> list[Task]:
    """All tasks in the order of value, each once.

    common: overrides that come before those of every bench; overrides: those that come last (where the engine lies, say). engines:
    overrides by the name that groups give. operations: what is timed for the groups that ask for it.
    """
    found: dict[str, Task] = {}
    known = {group.name: group for group in reversed(groups)}
    for group in groups:
        base = group if group.at is None else known.get(group.at)
        if base is None:
            raise ValueError(f"campaign: group {group.name}: at={group.at} names no group; known: {', '.join(known)}")
        own = [*common, *_shared(group, engines or {})]
        theirs = [*common, *_shared(base, engines or {})]
        for cell in group.benches():
            settings = _composed(group, [*own, *cell, *overrides])
            offered = settings if base is group else _composed(base, [*theirs, *cell, *overrides])
            for task in _of_bench(group, settings, base, offered):
                found.setdefault(task.key, task)
        if group.operations:
            task = _operations(group, _composed(group, [*own, *overrides]), operations)
            found.setdefault(task.key, task)
    return list(found.values())


def repeated(task: Task, repeat: int) -> Task:
    """Another repeat of a run's task: the task that the plan would have, had it this number."""
    settings = copy.deepcopy(task.settings)
    settings.repeat = repeat
    key = _key(settings, RUN, "run", {} if task.at is None else {"at": task.needs})
    return dataclasses.replace(task, settings=settings, key=key, name=f"{task.name.rpartition('-')[0]}-{repeat}")


def _shared(group: Group, engines: Mapping[str, Sequence[str]]) -> list[str]:
    """The overrides of all benches of a group, its engine's first."""
    if group.engine is None:
        return list(group.overrides)
    if group.engine not in engines:
        raise ValueError(f"campaign: group {group.name}: no engine is called {group.engine!r}; known: {', '.join(engines) or 'none'}")
    return [*engines[group.engine], *group.overrides]


def _composed(group: Group, overrides: list[str]) -> DictConfig:
    try:
        return compose(config_name="bench", overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"campaign: group {group.name}: {' '.join(overrides)}: {error}") from error


def _of_bench(group: Group, settings: DictConfig, base: Group, offered: DictConfig) -> Iterator[Task]:
    """The tasks of one bench. base, offered: the group whose capacity the bench's load is a fraction of, and the settings there."""
    if class_name(settings.engine.get("_target_", "")) == "Recorded":
        yield _recorded(group, settings)
        return
    engine, workload, load = _key(settings, ENGINE), settings.workload.name, settings.load
    after: tuple[str, ...] = ()
    if group.profile:
        key = _key(settings, (*ENGINE, "profile", "client"), "profile")
        # one probe of each kind runs whatever the budget, and the probe under way at its end is finished
        seconds = 1.3 * settings.profile.budget + OVERHEAD
        name = f"{group.name}-profile"
        yield Task(kind="profile", name=name, key=key, engine=engine, seconds=seconds, settings=settings, group=group.name)
        after = (key,)
    needs: tuple[str, ...] = ()
    if _by_capacity(group, load):
        yield (capacity := _capacity(base, offered, after if base is group else ()))
        needs = (capacity.key,)
    of = {} if base is group else {"at": needs}  # the capacity that the load is a fraction of belongs to what is offered
    yield Task(
        kind="run",
        name=f"{group.name}-{workload}-{_named(load)}-{settings.repeat}",
        key=_key(settings, RUN, "run", of),
        cell=_key(settings, RUN[:-1], "cell", of),
        engine=engine,
        seconds=1.1 * load.duration + OVERHEAD,
        settings=settings,
        group=group.name,
        at=group.at,
        needs=needs,
        after=after,
    )


def _by_capacity(group: Group, load: DictConfig) -> bool:
    """Whether a run's load needs a capacity that is not given. Raises ValueError for a sweep, which is a task for each."""
    if load.concurrency is None:
        return load.rho is not None and load.capacity is None
    if not isinstance(load.concurrency, int):
        raise ValueError(
            f"campaign: group {group.name}: load.concurrency={load.concurrency} is several loads; give each a cell (load.concurrency=1,2,4)"
        )
    return load.num_requests is None and load.capacity is None


def _named(load: DictConfig) -> str:
    if load.concurrency is not None:
        return f"c{load.concurrency}"
    return f"rate{load.rate:g}" if load.rho is None else f"rho{load.rho:.2f}"


def _capacity(group: Group, settings: DictConfig, after: tuple[str, ...]) -> Task:
    return Task(
        kind="capacity",
        name=f"{group.name}-{settings.workload.name}-capacity",
        key=_key(settings, CAPACITY, "capacity"),
        engine=_key(settings, ENGINE),
        # the pilot and the fill take about as long as the stretch that is measured
        seconds=3 * settings.capacity.duration + OVERHEAD,
        settings=settings,
        group=group.name,
        after=after,
    )


def _operations(group: Group, settings: DictConfig, benchmarks: Benchmarks | None) -> Task:
    """The task that times single operations. It shares no server, so its engine's hash is its own key."""
    if benchmarks is None:
        raise ValueError(f"campaign: group {group.name} asks for operations, but `operations` does not say which are timed")
    key = _key(settings, ENGINE, "operations", {"operations": dataclasses.asdict(benchmarks)})
    seconds, name = benchmarks.start + benchmarks.budget + OVERHEAD, f"{group.name}-operations"
    return Task(kind="operations", name=name, key=key, engine=key, seconds=seconds, settings=settings, group=group.name)


def _recorded(group: Group, settings: DictConfig) -> Task:
    """A run that is stored already: nothing to measure."""
    run = settings.engine.run
    if run is None:
        raise ValueError(f"campaign: group {group.name}: engine=recorded needs engine.run, the run's id, as the newest one changes")
    key = digest({"kind": "recorded", "run": run})
    return Task(kind="recorded", name=f"{group.name}-{run}", key=key, engine=key, seconds=1.0, settings=settings, group=group.name)


def _key(settings: DictConfig, parts: Sequence[str], kind: str = "engine", more: Mapping[str, Any] | None = None) -> str:
    """The hash of these parts of the settings, without those that only say where things lie. more: what else the hash is made of."""
    whole: Any = OmegaConf.to_container(settings, resolve=True)
    for place in PLACES:
        drop(whole, place)
    drop_open_loop(whole)
    whole["hardware"] = whole["hardware"]["name"]  # the rest is what simulators need to know of it
    return digest({"kind": kind, "settings": {part: whole[part] for part in parts}, **(more or {})})


def chosen(found: Sequence[Task], patterns: Sequence[str]) -> frozenset[str]:
    """The keys of the tasks whose names match a pattern, and of the tasks that these need.

    No patterns: all tasks. Raises ValueError when no name matches.
    """
    keys = {task.key for task in found if not patterns or any(fnmatch(task.name, pattern) for pattern in patterns)}
    if not keys:
        raise ValueError(f"tasks={list(patterns)}: no task is called so; known: {', '.join(task.name for task in found)}")
    return frozenset(keys | {need for task in found if task.key in keys for need in task.needs})
