"""plan_day: a day on a static fleet that is sized for its peak, and on one that is scaled by a rule; the same requests on both."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from results.record import SLO
from simulators.errors import NotAvailable
from simulators.native.autoscaling.classes import Classes, ClassServed, judged
from simulators.native.autoscaling.fleet import PICKS, DayServed, Fleet, FleetScaling
from simulators.native.autoscaling.rates import DayRates, day_rates
from simulators.native.autoscaling.requests import LENGTHS, DayRequests, day_requests
from simulators.native.autoscaling.rules import Forecast, InFlight, Rule, Static
from simulators.native.autoscaling.sizing import MixedReplica
from simulators.native.fast.growing import GrowingEngine
from simulators.native.fast.obstacle import compiled_obstacle
from simulators.native.frontend.settings import ENGINES
from simulators.native.planning import settings
from simulators.native.planning.capacity import SustainedRate
from simulators.native.planning.compare import none_will_do
from simulators.native.planning.deployment import Deployment
from simulators.native.recommending.sureness import ErrorsSeen, all_seen, seen_for
from simulators.native.served import Frontend
from workloads.columns import columns_of
from workloads.trace import Trace

HOURS = 24
RULES = ("in_flight", "forecast")
DATABASE = Path("results/plumbline.duckdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDay:
    """A day on one fleet."""

    served: DayServed
    classes: dict[int, ClassServed]  # by class

    def replicas_by_hour(self) -> list[float]:
        """Replicas that are paid for, the mean of each hour."""
        looks = 240
        times = (np.arange(HOURS * looks, dtype=np.float64) + 0.5) * (self.served.seconds / HOURS / looks)
        return [float(mean) for mean in self.served.alive(times).reshape(HOURS, looks).mean(axis=1)]

    def quantile(self, number: int, metric: str, q: float) -> float | None:
        """Of ttft or tpot of the class's requests, s; None: there is none."""
        values = getattr(self.classes[number], metric)
        known = values[np.isfinite(values)]
        return float(np.quantile(known, q)) if len(known) else None

    def share(self, number: int) -> float:
        """Of the class's requests, those that meet its SLO."""
        return float(self.classes[number].good.mean()) if len(self.classes[number].good) else math.nan

    def by_hour(self, number: int) -> list[float | None]:
        """The same of each hour, by arrival; None: nothing arrived."""
        one, length = self.classes[number], self.served.seconds / HOURS
        hours = np.minimum(HOURS - 1, one.arrival // length).astype(np.int64)
        count, good = np.bincount(hours, minlength=HOURS), np.bincount(hours, weights=one.good, minlength=HOURS)
        return [float(g / n) if n else None for g, n in zip(good, count, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The answer."""

    cfg: DictConfig  # the settings
    rates: DayRates  # over the day
    requests: DayRequests  # all of them
    classes: Classes  # and their limits
    sustained: SustainedRate  # by one replica
    target: float | None  # requests in flight of a replica that the rule aims at; None: it looks at the rate
    devices_each: int  # of one replica
    price: float | None  # dollars an hour of one device; None: not known
    static: FleetDay  # on replicas that stand all day
    scaled: FleetDay  # on those that the rule starts and stops
    seen: ErrorsSeen | None  # of such predictions; None: never held against a measurement like this

    @property
    def fleets(self) -> dict[str, FleetDay]:
        """By name."""
        return {"static": self.static, "autoscaled": self.scaled}

    def rate_by_hour(self) -> list[float]:
        """The mean of each hour, requests/s."""
        rates = self.rates.rates
        hours = np.minimum(HOURS - 1, np.arange(rates.size * HOURS) // rates.size)
        return [float(rate) for rate in np.bincount(hours, weights=np.repeat(rates, HOURS)) / rates.size]

    def gpu_hours(self, one: FleetDay) -> float:
        """A day, start-up and draining included."""
        return one.served.replica_hours * self.devices_each


def plan_day(cfg: DictConfig, database: Path = DATABASE) -> Day:
    """database: whose measurements tell how sure it is. Raises ValueError, TraceError and SimulatorError in one line."""
    classes = _classes(cfg)
    deployment, (trace_at, most) = _deployment(cfg), settings.trace_at(cfg)
    given = _whole_trace(cfg)
    lengths = given or trace_at(1.0, LENGTHS)
    arrivals = columns_of(given).arrival if given is not None else None
    rates = day_rates(cfg.day.profile, arrivals, mean=cfg.rate, peak=cfg.day.peak, seconds=cfg.day.seconds)
    requests = day_requests(rates, lengths, share=classes.share, seed=cfg.seed)
    made, frontend = _engines(cfg, deployment, lengths, classes)
    one = MixedReplica(made=made, frontend=frontend, trace_at=trace_at, classes=classes, seed=cfg.seed)
    sustained = one.sustained(cfg.attainment, precision=cfg.precision, lengths=settings.lengths(cfg, min(most, LENGTHS)))
    if sustained is None:
        raise ValueError(f"day: {none_will_do(cfg.attainment)}")
    rule, target = _rule(cfg, one, rates, sustained)

    def on_fleet(scaling: FleetScaling) -> FleetDay:
        fleet = Fleet(made, frontend, PICKS[cfg.arrangement.router](cfg.arrangement.seed), scaling)
        served = fleet.serve(requests.asked, requests.second.astype(np.int64), rates.seconds)
        return FleetDay(served=served, classes=judged(served.records, requests.second, classes))

    for_peak = replicas_for(rates.peak, sustained)
    return Day(
        cfg=cfg,
        rates=rates,
        requests=requests,
        classes=classes,
        sustained=sustained,
        target=target,
        devices_each=deployment.engine_devices,
        price=deployment.hardware.get("price_per_hour"),
        static=on_fleet(FleetScaling(rule=Static(replicas=for_peak), interval=rates.seconds, start_up=0.0, at_first=for_peak)),
        scaled=on_fleet(_scaling(cfg, rule, replicas_for(float(rates.rates[0]), sustained))),
        seen=seen_for(cfg, all_seen(database)),
    )


def replicas_for(rate: float, sustained: SustainedRate) -> int:
    """As many as sustain it, one at least."""
    return max(1, math.ceil(rate / sustained.rate))


def _whole_trace(cfg: DictConfig) -> Trace | None:
    """All of a trace's requests at its own times; None: a workload draws them."""
    own = OmegaConf.merge(cfg, {"requests": None, "rate": None})
    assert isinstance(own, DictConfig)
    return None if cfg.trace is None else settings.trace(own)


def _classes(cfg: DictConfig) -> Classes:
    second = SLO(ttft=cfg.second.slo.ttft, tpot=cfg.second.slo.tpot, e2e=cfg.second.slo.e2e)
    return Classes(slos=(settings.slo(cfg), second), share=cfg.second.share, by_priority=cfg.second.by_priority)


def _deployment(cfg: DictConfig) -> Deployment:
    """Of one replica. Raises NotAvailable for what a day does not have."""
    found = settings.deployment(cfg)
    arrangement = found.native.arrangement
    if arrangement.kind != "replicas" or arrangement.instances != 1 or found.parallel.data != 1:
        raise NotAvailable("day: its replicas are started and stopped by the rule: leave arrangement.kind, arrangement.instances and "
                           "data_parallel_size as they are")  # fmt: skip
    if arrangement.router not in PICKS:
        raise NotAvailable(f"day: its router looks into no engine: arrangement.router must be one of {', '.join(PICKS)}")
    return found


def _engines(cfg: DictConfig, deployment: Deployment, lengths: Trace, classes: Classes) -> tuple[Callable[[], GrowingEngine], Frontend]:
    """What makes an idle engine, and the front end before each. Raises NotAvailable for what the compiled engine does not have."""
    limits = deployment.limits(lengths)
    if classes.by_priority:
        limits = dataclasses.replace(limits, policy="priority")
    step_time = deployment.step_time(lengths, limits)
    drafts = limits.speculation.num_speculative_tokens
    if obstacle := compiled_obstacle(limits, step_time, cfg.policy) or (drafts and "speculation, of requests that it learns of late"):
        raise NotAvailable(f"day: it is simulated by the compiled engine, which does not have {obstacle}")
    asked = columns_of(lengths)
    longest = int((asked.input_tokens + asked.output_tokens).max())
    if refusal := limits.refusal(longest):
        raise ValueError(f"day: an engine would turn its longest requests away: {refusal}")
    station = deployment.native.frontend.station(ENGINES.get(cfg.policy, ""), "chat")
    frontend = deployment.native.frontend_with(station, deployment.profile)
    if frontend.before_per_token:
        raise NotAvailable("day: a front end whose cost grows with the prompt, beside no API server, is not modelled; leave profile out")
    return (lambda: GrowingEngine(limits, step_time, frontend.station)), frontend


def _rule(cfg: DictConfig, one: MixedReplica, rates: DayRates, sustained: SustainedRate) -> tuple[Rule, float | None]:
    """The rule, and what it aims at."""
    scale = cfg.autoscale
    if scale.rule == "forecast":
        return Forecast(rates=rates, sustained=sustained.rate, ahead=scale.start_up + scale.interval), None
    if scale.rule != "in_flight":
        raise ValueError(f"autoscale.rule must be one of {', '.join(RULES)}, got {scale.rule!r}")
    target = scale.target or one.attainment(scale.utilisation * sustained.rate, sustained.requests).in_flight
    return InFlight(target=target, tolerance=scale.tolerance, stabilisation=scale.stabilisation), target


def _scaling(cfg: DictConfig, rule: Rule, at_first: int) -> FleetScaling:
    scale: Any = cfg.autoscale
    if scale.max_replicas is not None and scale.max_replicas < scale.min_replicas:
        raise ValueError(f"autoscale.max_replicas must be >= autoscale.min_replicas, got {scale.max_replicas} and {scale.min_replicas}")
    at_first = max(scale.min_replicas, min(at_first, scale.max_replicas or at_first))
    return FleetScaling(
        rule=rule,
        interval=scale.interval,
        start_up=scale.start_up,
        fewest=scale.min_replicas,
        most=scale.max_replicas,
        at_first=at_first,
    )
