"""recommend: every way to serve a model at a rate within an SLO assessed, and the best of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from joblib import Parallel, delayed

from results.record import SLO
from simulators.native.planning import settings
from simulators.native.recommending.assessing import Assessment, Demand, assess
from simulators.native.recommending.sureness import ErrorsSeen, all_seen
from simulators.native.recommending.ways import Way, ways
from workloads.columns import in_columns
from workloads.trace import Trace

DATABASE = Path("results/plumbline.duckdb")
ROUND = 32  # ways that are assessed at once
GIVE_UP = 8.0  # times the cost of the cheapest way: beyond that a way is not followed further
REQUESTS = 4_000  # of a simulation, where no number is given
MEASURES: dict[str, Callable[[Assessment], float | None]] = {  # of cost, the one that decides last
    "devices": lambda one: one.devices,
    "dollars/h": lambda one: one.dollars,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """All ways, in the grid's order."""

    assessed: tuple[Assessment, ...]
    told: tuple[str, ...]  # settings that differ among the ways
    demand: Demand
    seen: tuple[ErrorsSeen, ...] = ()  # how far predictions have been from measurements

    @property
    def served(self) -> list[Assessment]:
        """Those that meet the SLO."""
        return [one for one in self.assessed if one.replicas is not None]

    @property
    def measure(self) -> str:
        """What the choice is made by: dollars where each device that serves has a price, else devices."""
        return "dollars/h" if self.served and all(one.dollars is not None for one in self.served) else "devices"

    @property
    def choice(self) -> Assessment | None:
        """The cheapest; None: nothing meets the SLO."""
        return next(iter(self.cheapest(self.measure)), None)

    def cheapest(self, measure: str) -> list[Assessment]:
        """Those whose cost is known, by cost; of two that cost the same first the one that is faster for its users."""
        cost = MEASURES[measure]
        known = [(cost(one), one) for one in self.served]
        priced = [(value, one) for value, one in known if value is not None]
        return [a for _, a in sorted(priced, key=lambda pair: (pair[0], -(pair[1].tokens_per_user or 0.0), pair[1].way.number))]

    @property
    def front(self) -> list[Assessment]:
        """The Pareto front: those that no other beats in both output tokens/s a device and tokens/s a user, slowest first."""
        points = [(a, a.tokens_per_device, a.tokens_per_user) for a in self.served]
        known = [(a, more, fast) for a, more, fast in points if more is not None and fast is not None]
        best = [(a, fast) for a, more, fast in known if not any(m >= more and f >= fast and (m, f) != (more, fast) for _, m, f in known)]
        return [a for a, _ in sorted(best, key=lambda pair: pair[1])]


def recommend(words: Sequence[str], database: Path = DATABASE) -> Recommendation:
    """database: whose measurements tell how sure it is.

    Raises ValueError, TraceError and SimulatorError for words that are wrong; a way that cannot be had is a row.
    """
    tried = ways(words)
    demand = demand_of(tried[0])
    demand.trace()  # what is wrong with it is told once
    settings.model(tried[0].cfg.model)
    seen = all_seen(database)
    return Recommendation(assessed=tuple(_assessed(tried, demand)), told=tuple(differing(tried)), demand=demand, seen=tuple(seen))


def _assessed(tried: Sequence[Way], demand: Demand) -> list[Assessment]:
    """All of them, in rounds on all cores, the largest engines first. What costs GIVE_UP times the cheapest is not followed further."""
    dollars = all(settings.choice("hardware", way.cfg.hardware).get("price_per_hour") for way in tried)
    order, done, most = sorted(tried, key=_size), list[Assessment](), math.inf
    for place in range(0, len(order), ROUND):
        tasks = (delayed(assess)(way, demand, most=most, dollars=dollars) for way in order[place : place + ROUND])
        done += Parallel(n_jobs=-1, prefer="threads")(tasks)
        costs = [one.dollars if dollars else one.devices for one in done]
        most = GIVE_UP * min((cost for cost in costs if cost is not None), default=math.inf)
    return sorted(done, key=lambda one: one.way.number)


def _size(way: Way) -> tuple[float, int]:
    """Larger engines need fewer replicas, which are simulated faster."""
    cfg = way.cfg
    devices = cfg.tensor_parallel * cfg.pipeline_parallel_size * cfg.data_parallel_size
    return -devices * float(settings.choice("hardware", cfg.hardware).get("fp16_tflops") or 0.0), way.number


def demand_of(way: Way) -> Demand:
    """What is to be served, which all ways have in common."""
    drawn, most = settings.trace_at(way.cfg)

    @lru_cache(maxsize=64)  # ways with as many replicas serve the same requests
    def trace_at(rate: float, requests: int) -> Trace:
        return in_columns(drawn(rate, requests))

    slo = settings.slo(way.cfg)
    if slo == SLO():
        raise ValueError("recommend: the SLO has no limit, so a single device meets it; give slo.ttft, slo.tpot or slo.e2e")
    requests = min(way.cfg.requests or REQUESTS, most)
    longest = requests if way.cfg.requests is not None else most
    return Demand(trace_at=trace_at, rate=way.cfg.rate, requests=requests, most=longest, slo=slo, wanted=way.cfg.attainment)


def differing(tried: Sequence[Way]) -> list[str]:
    """The settings of which there is more than one value."""
    names = list(dict.fromkeys(name for way in tried for name in way.chosen))
    return [name for name in names if len({way.chosen[name] for way in tried}) > 1]
