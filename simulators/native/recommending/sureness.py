"""How sure a recommendation is: how far such predictions have been from measurements, and what that means for the number of replicas.

What counts is a measurement on the same GPU, of the same kind of model (dense or with experts), by engines of one device or of several. The
database's own are taken first, then what was published (conf/verdicts.yaml). A step that really takes (1 + e) times as long serves so
many fewer requests, so an error of TPOT is taken for one of capacity.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig

from results.database import DatabaseError, connect
from results.project.folder import CONF
from results.project.malformed import malformed
from simulators.errors import SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.planning import settings
from simulators.native.planning.capacity import NEXT, SustainedRate
from simulators.native.planning.judge import Judge
from simulators.native.recommending.assessing import Assessment, Demand

PUBLISHED = CONF / "verdicts.yaml"
NAMED = ("source", "commit", "date", "hardware", "kind", "devices", "of", "measurements", "mean", "largest")  # of each row of it
# means of runs that nothing was fitted to, of our own simulator
ERRORS = """
SELECT run.hardware, run.config, coalesce(run.tensor_parallel, 1) * coalesce(run.pipeline_parallel, 1) AS devices, f.error
FROM fidelity AS f JOIN runs AS run ON run.run_id = f.measured_run_id
WHERE f.system = 'native' AND f.track IN ('shipped', 'matched') AND f.metric = 'tpot' AND f.stat = 'mean'
    AND f.error IS NOT NULL AND run.valid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorsSeen:
    """Errors of predictions against measurements of one kind."""

    hardware: str  # of conf/hardware
    kind: str  # of the model: dense or experts
    devices: str  # of an engine: one or several
    source: str  # where the errors are from, for people
    of: str  # tpot or throughput
    measurements: int  # that they are of
    mean: float  # of the errors' sizes, a share
    largest: float | None  # of them; None: not known

    def __str__(self) -> str:
        most = "" if self.largest is None else f", {self.largest:.0%} at most"
        return f"{self.mean:.0%} in the mean{most}, of {self.of} in {self.measurements} measurement(s) ({self.source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sureness:
    """Of a choice."""

    seen: ErrorsSeen | None  # None: it was never held against a measurement like this
    capacity: SustainedRate | None  # requests/s that one replica sustains, of simulations alone; None: not known
    why_not: str | None  # there is no capacity
    rate: float  # requests/s that are asked for
    devices_each: int  # of one replica

    @property
    def rates(self) -> tuple[float, float] | None:
        """Of one replica, lowest and highest: the simulations' interval, and as far off beyond it as such predictions were in the mean."""
        if self.capacity is None:
            return None
        off = self.seen.mean if self.seen else 0.0
        return max(0.0, self.capacity.low * (1 - off)), self.capacity.high * (1 + off)

    @property
    def replicas(self) -> tuple[int, int | None] | None:
        """Fewest and most that may be needed; None: no bound."""
        if self.rates is None:
            return None
        low, high = self.rates
        return math.ceil(self.rate / high), math.ceil(self.rate / low) if low > 0 else None

    def __str__(self) -> str:
        held = "Never held against a measurement like this." if self.seen is None else f"Such predictions were off by {self.seen}."
        if self.capacity is None or self.rates is None or self.replicas is None:
            return f"How sure: {held} The rate that a replica sustains is not known: {self.why_not}."
        low, high = self.rates
        fewest, most = self.replicas
        beyond = "by simulation alone, " if self.seen is None else ""
        count = f"{fewest} or more" if most is None else _span(fewest, most)
        devices = "" if most is None else f", {_span(fewest * self.devices_each, most * self.devices_each)} device(s)"
        return (
            f"How sure: {held} A replica sustains {self.capacity.rate:.3g} requests/s ({beyond}{low:.3g} to {high:.3g}): "
            f"{count} replica(s){devices}."
        )


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def how_sure(one: Assessment, demand: Demand, seen: Sequence[ErrorsSeen]) -> Sureness:
    """Of a way that meets the SLO: simulated as long as `precision` asks. seen: of all kinds, what counts first in front."""
    cfg = one.way.cfg
    capacity, why_not = None, None
    try:
        lengths = (min(NEXT, demand.most), demand.most) if cfg.requests is None else (demand.requests,) * 2
        deployment = settings.deployment(cfg)
        judge = Judge(deployment, demand.trace_at, demand.slo, wanted=demand.wanted, precision=cfg.precision, lengths=lengths)
        capacity = judge.capacity()
    except (SimulatorError, ValueError) as error:
        why_not = str(error).removeprefix("native: ")
    assert one.devices_each is not None
    return Sureness(
        seen=seen_of(one, seen), capacity=capacity, why_not=why_not or "no rate will do", rate=demand.rate, devices_each=one.devices_each
    )


def seen_of(one: Assessment, seen: Sequence[ErrorsSeen]) -> ErrorsSeen | None:
    """The first that is of such a way."""
    return seen_for(one.way.cfg, seen)


def seen_for(cfg: DictConfig, seen: Sequence[ErrorsSeen]) -> ErrorsSeen | None:
    """The first that is of the engines that these settings describe."""
    kind, devices = kind_of(settings.model(cfg.model)), _several(cfg.tensor_parallel * cfg.pipeline_parallel_size * cfg.data_parallel_size)
    return next((s for s in seen if (s.hardware, s.kind, s.devices) == (cfg.hardware, kind, devices)), None)


def all_seen(database: Path) -> list[ErrorsSeen]:
    """Those of the database where there is one that can be read, then the published ones. Raises ValueError where these are malformed."""
    return [*_measured(database), *_published()]


def kind_of(model: Any) -> str:
    """Of a model's config.json: dense or experts. Raises SimulatorError where its sizes cannot be told."""
    return "dense" if decoder_of(model).experts is None else "experts"


def _several(devices: int) -> str:
    return "one" if devices == 1 else "several"


def _measured(database: Path) -> list[ErrorsSeen]:
    if not database.is_file():
        return []
    try:
        with connect(database) as connection:
            rows = connection.execute(ERRORS).fetchall()
    except DatabaseError:
        return []  # one of another version, or one that is being written: what was published counts
    found: dict[tuple[str, str, str], list[float]] = {}
    for hardware, config, devices, error in rows:
        try:
            kind = kind_of(json.loads(config).get("model"))
        except (SimulatorError, ValueError, TypeError, AttributeError, KeyError):
            continue  # a model of which the sizes are not known
        found.setdefault((hardware, kind, _several(devices)), []).append(abs(error))
    return [
        ErrorsSeen(
            hardware=hardware,
            kind=kind,
            devices=devices,
            source=str(database),
            of="tpot",
            measurements=len(errors),
            mean=sum(errors) / len(errors),
            largest=max(errors),
        )
        for (hardware, kind, devices), errors in found.items()
    ]


def _published() -> list[ErrorsSeen]:
    try:
        with PUBLISHED.open(encoding="utf-8") as file:
            rows = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(malformed(error)) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() == {*NAMED} for row in rows):
        raise ValueError(f"conf/verdicts.yaml: it must hold a list of rows, each with {', '.join(NAMED)}")
    return [
        ErrorsSeen(
            source=f"{row['source']} at commit {row['commit']}, {row['date'] or 'date not stated'}",
            **{name: row[name] for name in ("hardware", "kind", "devices", "of", "measurements", "mean", "largest")},
        )
        for row in rows
    ]
