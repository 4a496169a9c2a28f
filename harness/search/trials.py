"""A load on the live engine: replayed, judged by the gates, kept as a run like any other, and counted."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.cell import UNSETTLED, Cell, store
from harness.console import say
from harness.engine import Endpoint
from harness.gates import may_pass
from harness.search.share import Flags, GoodShare, Strains
from harness.settings import Load
from results.live import live, table
from results.profile import Profile
from results.record import Run
from results.storage.place import Place

WARM_UP = 0.2  # of a replay, its first part, in which the engine is emptier than it stays
FEWEST = 20  # requests that a replay has at least, where its longest time allows
BEHIND = 1.5  # times the last arrival at which the last answer comes, where the engine could not keep up
ALONE = 40  # requests, one at a time: what the engine does without load
LONGER = 3  # times that a closed loop without a steady state is tried again
TRIAL_SEED = 5_000_011  # offset of each further run's requests and prompts: no two runs are of the same draw

# Strain: of the tightest limit, how much a request took; that of one that failed is not known.
GOODNESS = """
SELECT coalesce(good, false) AS good, greatest(ttft / slo_ttft, tpot / slo_tpot, e2e / slo_e2e) AS strain
FROM request_metrics JOIN requests USING (run_id, request_id) JOIN runs USING (run_id)
WHERE in_window ORDER BY requests.arrival, request_id
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run of a load, and what its requests say. share: None where the run is INVALID. pace: see pace_of."""

    load: float
    run: Run
    share: GoodShare | None
    pace: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trials:
    """One server, and loads that are tried on it one after another."""

    cell: Cell  # what is measured; its load is replaced
    over: str  # rate or concurrency
    name: str  # of the search
    endpoint: Endpoint  # the server
    log: Path  # of it
    capacity: Mapping[str, Any] | None  # where it is known, as Cell.find_capacity has it
    profile: Profile | None  # of the engine, where it was measured
    facts: Mapping[str, Any]  # provenance
    root: Place  # of the run folders

    def at(self, load: float, seconds: float, number: int) -> Trial:
        """Try a load for so long, the number-th of this search. A run that is INVALID for passing reasons is tried again, and a closed
        loop that shows no steady state for longer.
        """
        return self._tried(load, load_of(self.cell.load, self.over, load, seconds), number)

    def alone(self, number: int) -> Trial:
        """One request at a time: the least load that there is."""
        settings = dataclasses.replace(load_of(self.cell.load, "concurrency", 1, 1.0), num_requests=ALONE)
        return self._tried(0.0, settings, number)

    @property
    def waits(self) -> bool:
        """Whether the workload has sessions, which say themselves what waits for what, so that no closed loop can ask for them."""
        asked = self.cell.workload.trace(
            rate=1.0, num_requests=ALONE, seed=self.cell.seed, max_model_len=self.endpoint.limits.max_model_len
        )
        return asked.has_sessions

    def _tried(self, load: float, settings: Load, number: int) -> Trial:
        seed = self.cell.seed + TRIAL_SEED * number
        cell = dataclasses.replace(self.cell, load=settings, seed=seed)
        known: dict[str, Any] = {
            "endpoint": self.endpoint,
            "log": self.log,
            "capacity": self.capacity,
            "profile": self.profile,
            "facts": self.facts,
        }
        earlier: dict[str, str] = {}
        while True:
            done = cell.replay(self.endpoint, self.capacity, attempt=len(earlier))
            if settings.concurrency is None and not done.trace.has_sessions:
                done = dataclasses.replace(done, window=settled(*done.window))
            made = cell.run(done, **known, earlier=earlier)
            run = dataclasses.replace(made, config={**made.config, "search": {"name": self.name, "run": number}})
            store(self.root, run, self.profile, self.log)
            if UNSETTLED in done.failed and len(earlier) < LONGER:
                say(f"  INVALID: {run.invalid_reason}; so it is tried for twice as long", style="yellow")
                cell = dataclasses.replace(cell, load=twice(cell.load))
            elif may_pass(done.failed) and len(earlier) < cell.gates.retries:
                say(f"  INVALID: {run.invalid_reason}; that may pass, so it is tried again", style="yellow")
            else:
                return Trial(load=load, run=run, share=GoodShare.of(*goodness(run)) if run.valid else None, pace=pace_of(run))
            earlier[run.run_id] = str(run.invalid_reason)


def load_of(settings: Load, over: str, load: float, seconds: float) -> Load:
    """The settings of a bench for a load of the search."""
    if over == "concurrency":
        return dataclasses.replace(settings, rho=None, rate=None, concurrency=round(load), duration=seconds)
    return dataclasses.replace(settings, rho=None, rate=load, concurrency=None, duration=seconds)


def twice(settings: Load) -> Load:
    """The same load for twice as long."""
    requests = settings.num_requests
    return dataclasses.replace(settings, duration=2 * settings.duration, num_requests=None if requests is None else 2 * requests)


def lasting(over: str, load: float, shortest: float, longest: float) -> float:
    """Seconds of a replay: the shortest, or as long as FEWEST requests take to arrive, but no longer than the longest."""
    return shortest if over == "concurrency" else min(longest, max(shortest, FEWEST / load))


def settled(start: float, end: float) -> tuple[float, float]:
    """The part of a replay that counts."""
    return start + WARM_UP * (end - start), end


def pace_of(run: Run) -> float | None:
    """Requests/s that an engine answers which has more of them than it can; None where it kept up, or nothing was answered."""
    ends = [record.finished for record in run.records if record.finished is not None]
    return len(ends) / max(ends) if ends and max(ends) > BEHIND * max(record.arrival for record in run.records) else None


def goodness(run: Run) -> tuple[Flags, Strains]:
    """By request of its window, in order of arrival: whether it was good, and its strain, as results/metrics.sql has the metrics."""
    with live(table(run.records), slo=run.slo, window=run.window) as connection:
        columns = connection.execute(GOODNESS).fetchnumpy()
    strain = np.ma.filled(np.ma.asarray(columns["strain"], dtype=np.float64), math.nan)
    return np.asarray(columns["good"], dtype=np.bool_), strain
