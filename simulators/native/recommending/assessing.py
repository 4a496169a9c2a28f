"""One way to serve, assessed: the fewest replicas that meet the SLO at the rate, and what limits them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from results.record import SLO
from simulators.errors import SimulatorError
from simulators.native.planning import settings
from simulators.native.planning.attainment import Attainment
from simulators.native.planning.capacity import LASTS
from simulators.native.planning.compare import none_will_do
from simulators.native.planning.deployment import Deployment
from simulators.native.planning.judge import Judge, Metrics, TraceAt
from simulators.native.predictor import Prediction
from simulators.native.recommending.bounds import Bound, bound
from simulators.native.recommending.limiting import MEMORY, limited_by, mean_step, slowest
from simulators.native.recommending.replicas import ANY, fewest_replicas
from simulators.native.recommending.ways import Way
from simulators.native.resolve import NoRoom
from workloads.columns import columns_of
from workloads.trace import Trace

TOO_DEAR = "which cost far more than the cheapest way"
SKETCHED = 5  # times as many requests as simulations have that only say where to look
LONGER = 4  # times a simulation that was too short for its queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is to be served."""

    trace_at: TraceAt  # so many requests at a rate
    rate: float  # requests/s, of all replicas together
    requests: int  # of a simulation, at first
    most: int  # of one that was too short
    slo: SLO  # of a good request
    wanted: float  # share of them that must be good

    def trace(self) -> Trace:
        """The requests at the whole rate."""
        return self.trace_at(self.rate, self.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """One way to serve. Where it has no `replicas`, `why_not` says so."""

    way: Way  # its settings
    hardware: str  # its device, of conf/hardware
    price: float | None = None  # dollars an hour of one device; None: not known
    devices_each: int | None = None  # devices of one replica; None: its settings are wrong
    at_least: int | None = None  # replicas, by the bounds
    replicas: int | None = None  # the fewest that do; None: none will
    tried: tuple[int, ...] = ()  # numbers of replicas that were simulated
    attainment: Attainment | None = None  # with these replicas
    metrics: Metrics | None = None  # of one of them: median and 99th percentile of TTFT and TPOT
    output_rate: float = 0.0  # output tokens/s that are asked for, of all
    limit: str | None = None  # memory, queue, compute, bandwidth, links or host; None: not known
    why_not: str | None = None  # it cannot serve this

    @property
    def devices(self) -> int | None:
        """Of all replicas."""
        return self.replicas * self.devices_each if self.replicas and self.devices_each else None

    @property
    def dollars(self) -> float | None:
        """An hour, of all devices."""
        return self.devices * self.price if self.devices and self.price is not None else None

    @property
    def tokens_per_device(self) -> float | None:
        """Output tokens/s a device."""
        return self.output_rate / self.devices if self.devices else None

    @property
    def tokens_per_user(self) -> float | None:
        """Output tokens/s that a request gets after its first: of the median TPOT."""
        tpot = (self.metrics or {}).get(("tpot", "p50"))
        return 1 / tpot if tpot else None


def assess(way: Way, demand: Demand, *, most: float = math.inf, dollars: bool = False) -> Assessment:
    """Bounds first, then as many simulations as it takes. most: devices, or dollars an hour, that nobody spends."""
    price = None
    try:
        settings.check(way.cfg)
        price = settings.choice("hardware", way.cfg.hardware).get("price_per_hour")
        deployment = settings.deployment(way.cfg)
        each = deployment.devices * (price if dollars and price else 1.0)
        return _assess(way, deployment, demand, price, ANY if math.isinf(most) else math.floor(most / each))
    except (SimulatorError, ValueError) as error:
        limit = MEMORY if isinstance(error, NoRoom) else None
        return Assessment(way=way, hardware=way.cfg.hardware, price=price, limit=limit, why_not=str(error).removeprefix("native: "))


def _assess(way: Way, deployment: Deployment, demand: Demand, price: float | None, most: int) -> Assessment:
    found, alone = _bound(deployment, demand.trace(), demand)
    each = deployment.devices
    if found.replicas is None:
        missed = " and ".join(name for name, missed in (("TTFT", found.ttft), ("the whole", found.late)) if missed)
        why = f"not even alone do {demand.wanted:.0%} of the requests meet the limits: {missed or 'one or the other'} takes longer"
        return Assessment(way=way, hardware=way.cfg.hardware, price=price, devices_each=each, limit=alone, why_not=why)
    if found.replicas > most:
        why = f"it needs {found.replicas} replicas or more, {TOO_DEAR}"
        return Assessment(
            way=way, hardware=way.cfg.hardware, price=price, devices_each=each, at_least=found.replicas, limit="cost", why_not=why
        )
    judged = OneReplica(deployment, demand)
    replicas, known = fewest_replicas(judged.at, demand.wanted, first=found.replicas, sketch=judged.sketch, most=most)
    shown = replicas or max(known)
    outcome, asked = judged.outcomes[shown]
    return Assessment(
        way=way,
        hardware=way.cfg.hardware,
        price=price,
        devices_each=each,
        at_least=found.replicas,
        replicas=replicas,
        tried=tuple(sorted(known)),
        attainment=known[shown],
        metrics=judged.judge.latencies_of(outcome),
        output_rate=demand.rate * float(columns_of(asked).output_tokens.mean()),
        limit="cost" if replicas is None and shown >= most else limited_by(deployment, asked, outcome, known[shown].in_flight),
        why_not=None if replicas else f"it needs more than {shown} replicas, {TOO_DEAR}" if shown >= most else none_will_do(demand.wanted),
    )


def _bound(deployment: Deployment, trace: Trace, demand: Demand) -> tuple[Bound, str | None]:
    """What provably does not do, and if nothing does, the resource that a lone request waits for."""
    limits = deployment.limits(trace)
    law = deployment.step_time(trace, limits).law
    if law is None:
        return Bound(replicas=1, ttft=False, late=False), None
    one_queue = deployment.native.arrangement.instances == 1 and deployment.parallel.data == 1
    found = bound(trace, limits, law, demand.slo, demand.wanted, queue=one_queue and deployment.native.policy == "vllm_v1")
    if found.replicas is not None:
        return found, None
    return found, slowest(deployment, mean_step(trace, int(columns_of(trace).output_tokens.sum())))


class OneReplica:
    """Simulations of one replica at its share of the rate."""

    def __init__(self, deployment: Deployment, demand: Demand) -> None:
        self.judge = Judge(deployment, demand.trace_at, demand.slo, wanted=demand.wanted, precision=1.0, lengths=(demand.requests,) * 2)
        self.outcomes: Mapping[int, tuple[Prediction, Trace]] = {}
        self._demand = demand

    def sketch(self, replicas: int) -> Attainment:
        """The same of a part of the requests."""
        return self.judge.attainment(self._demand.rate / replicas, max(1, self._demand.requests // SKETCHED))

    def at(self, replicas: int) -> Attainment:
        """With so many replicas. A simulation that is short beside what a request takes is made longer: no queue builds up in it."""
        demand, rate = self._demand, self._demand.rate / replicas
        requests = demand.requests
        while True:
            found = self.judge.attainment(rate, requests)
            long_enough = requests >= LASTS * found.in_flight or requests >= demand.most
            if long_enough or found.share < demand.wanted:
                break
            requests = min(demand.most, max(LONGER * requests, math.ceil(LASTS * found.in_flight)))
        assert self.judge.outcome is not None
        self.outcomes = {**self.outcomes, replicas: (self.judge.outcome, demand.trace_at(rate, requests))}
        return found
