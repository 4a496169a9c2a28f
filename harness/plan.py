"""The plan of a campaign: groups of benches that share an engine, taken apart into steps that are measured and kept one by one.

A step is known by the hash of the settings that its result depends on, so that a finished one is recognised on any machine. Where things
lie (an interpreter, a data folder) is not part of it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

Kind = Literal["profile", "capacity", "run"]
PLACES = ("engine.environment", "engine.python", "engine.port", "engine.env.PYTHONPATH", "workload.source.path")
ENGINE = ("engine", "model", "hardware")  # what one server serves
CAPACITY = (*ENGINE, "workload", "capacity", "client", "seed")
RUN = (*CAPACITY, "load", "slo", "gates", "telemetry_interval", "repeat")
OVERHEAD = 20.0  # s of a step beside what its settings say: prompts, a drained queue, the archive


@dataclass(frozen=True, kw_only=True)
class Group:
    """Benches on one engine. overrides: Hydra overrides of conf/bench.yaml for all; cells: more of them for each bench, in the order of
    value.

    profile: whether the engine's step times are measured before the first of them.
    """

    name: str
    overrides: Sequence[str]
    cells: Sequence[Sequence[str]]
    profile: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name) or not self.cells:
            raise ValueError(f"campaign: a group needs a name of letters, digits, '.', '-', '_' and one or more cells, got {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to measure. key: the hash that knows it; engine: that of its server. seconds: about how long it takes, its server running.

    needs: keys of steps whose results it takes (a run: the capacity, where its load is a fraction of it). after: keys of steps that come
    first but that it can do without (a run: its engine's profile).
    """

    kind: Kind
    name: str
    key: str
    engine: str
    seconds: float
    settings: DictConfig
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def archive(self) -> str:
        """The name of the file that holds its result."""
        return f"{self.name}-{self.key}.tar.gz"


def steps(groups: Sequence[Group], common: Sequence[str], overrides: Sequence[str]) -> list[Step]:
    """All steps in the order of value, each once. common: overrides below every bench's; overrides: above (where the engine lies, say)."""
    found: dict[str, Step] = {}
    for group in groups:
        for cell in group.cells:
            try:
                settings = compose(config_name="bench", overrides=[*common, *group.overrides, *cell, *overrides])
            except (HydraException, OmegaConfBaseException) as error:
                raise ValueError(f"campaign: group {group.name}, cell {list(cell)}: {error}") from error
            for step in _of_bench(group, settings):
                found.setdefault(step.key, step)
    return list(found.values())


def _of_bench(group: Group, settings: DictConfig) -> Iterator[Step]:
    """The steps that one bench consists of."""
    engine, workload, load = _key(settings, ENGINE), settings.workload.name, settings.load
    after: tuple[str, ...] = ()
    if group.profile:
        key = _key(settings, (*ENGINE, "profile", "client"), "profile")
        # one probe of each kind runs whatever the budget, and the probe under way at its end is finished
        seconds = 1.3 * settings.profile.budget + OVERHEAD
        yield Step(kind="profile", name=f"{group.name}-profile", key=key, engine=engine, seconds=seconds, settings=settings)
        after = (key,)
    needs: tuple[str, ...] = ()
    if load.rho is not None and load.capacity is None:
        key = _key(settings, CAPACITY, "capacity")
        # the pilot and the fill take about as long as the stretch that is measured
        seconds = 3 * settings.capacity.duration + OVERHEAD
        name = f"{group.name}-{workload}-capacity"
        yield Step(kind="capacity", name=name, key=key, engine=engine, seconds=seconds, settings=settings, after=after)
        needs = (key,)
    offered = f"rate{load.rate:g}" if load.rho is None else f"rho{load.rho:.2f}"
    yield Step(
        kind="run",
        name=f"{group.name}-{workload}-{offered}-{settings.repeat}",
        key=_key(settings, RUN, "run"),
        engine=engine,
        seconds=1.3 * load.duration + OVERHEAD,
        settings=settings,
        needs=needs,
        after=after,
    )


def _key(settings: DictConfig, parts: Sequence[str], kind: str = "engine") -> str:
    """The hash of these parts of the settings, without what only says where things lie."""
    whole: Any = OmegaConf.to_container(settings, resolve=True)
    for place in PLACES:
        *path, name = place.split(".")
        parent = whole
        for step in path:
            parent = parent.get(step, {})
        parent.pop(name, None)
    content = {"kind": kind, "settings": {part: whole[part] for part in parts}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
