"""Repeats that go on until what they say is known well enough: a further run of each cell whose interval is wider than asked.

A cell's repeats send the same requests, so what differs between them is the engine and the machine: the noise floor. The interval is that
of their mean, Student's t over the valid runs, relative to the mean. What other requests would have said is no part of it. Looking at it
after each run makes it a little too narrow now and then, by chance, and then the repeats stop there; so no cell stops before `fewest` runs
(of such rules: Chow and Robbins 1965, doi:10.1214/aoms/1177700156).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.console import say
from harness.grid.plan import Task, repeated
from harness.grid.study_store import StudyStore
from results.live import live_metrics, table
from results.storage.store import read_run

CONFIDENCE = 0.95
METRICS = dict.fromkeys(("ttft", "tpot", "e2e"), "mean") | dict.fromkeys(("output_throughput", "request_rate", "goodput"))


@dataclass(frozen=True, kw_only=True)
class RepeatUntil:
    """Settings, as in conf/study.yaml. Raises ValueError, in one line."""

    until: float | None  # half-width of the interval over the mean; None: no repeats but those of the study
    fewest: int  # runs of a cell before it may be enough
    most: int  # runs of a cell
    metrics: Sequence[str]  # of METRICS: each must be as narrow

    def __post_init__(self) -> None:
        for name, least in (("fewest", 2), ("most", 2)):
            if type(getattr(self, name)) is not int or getattr(self, name) < least:
                raise ValueError(f"repeat.{name} must be a whole number >= {least}, got {getattr(self, name)!r}")
        if self.until is not None and (not isinstance(self.until, int | float) or not 0 < self.until < 1):
            raise ValueError(f"repeat.until must be between 0 and 1 (0.05: 5 % to either side), or null, got {self.until!r}")
        if not self.metrics or not set(self.metrics) <= METRICS.keys():
            raise ValueError(f"repeat.metrics must be some of {', '.join(METRICS)}, got {list(self.metrics)}")

    def more(self, tasks: Sequence[Task], *, store: StudyStore, measured: bool = False) -> list[Task]:
        """A further repeat of each cell that needs one, of those whose tasks are all finished. measured: only those that are there."""
        if self.until is None:
            return []
        cells: dict[str, list[Task]] = {}
        for task in tasks:
            if task.kind == "run":
                cells.setdefault(task.cell, []).append(task)
        further = [self._next(of) for of in cells.values() if self._is_wanting(of, store)]
        return [task for task in further if store.has(task) or not measured]

    def _next(self, tasks: Sequence[Task]) -> Task:
        return repeated(tasks[-1], 1 + max(int(task.settings.repeat) for task in tasks))

    def _is_wanting(self, tasks: Sequence[Task], store: StudyStore) -> bool:
        runs = store.runs_of(tasks)
        if len(runs) < len(tasks) or len(tasks) >= self.most:
            return False
        values = [_values(store, kept.run_id) for kept in runs.values() if kept.invalid_reason is None]
        widths = {name: half_width([value[name] for value in values]) for name in self.metrics}
        wide = max((np.inf if width is None else width for width in widths.values()), default=np.inf)
        assert self.until is not None
        if len(values) >= self.fewest and wide <= self.until:
            return False
        said = ", ".join(f"{name} {'not known' if width is None else f'+-{width:.1%}'}" for name, width in widths.items())
        say(f"{tasks[0].name.rpartition('-')[0]}: {len(values)} valid runs, {said}; one more", style="dim")
        return True


def half_width(values: Sequence[float | None]) -> float | None:
    """Half of the interval of the mean, over the mean; None of fewer than two values, an unknown one, or a mean of 0."""
    from scipy.special import stdtrit  # here: scipy takes long to import

    known = [value for value in values if value is not None]
    if len(known) < 2 or len(known) < len(values) or not np.mean(known):
        return None
    reach = float(stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2) * np.std(known, ddof=1) / np.sqrt(len(known)))
    return reach / abs(float(np.mean(known)))


def _values(store: StudyStore, run_id: str) -> Mapping[str, Any]:
    """By metric of METRICS, what results/metrics.sql says of a run."""
    run = read_run(store.runs / run_id)
    told = live_metrics(table(run.records), slo=run.slo, window=run.window)
    return {name: told[name, stat] for name, stat in METRICS.items()}
