"""Why a simulator errs: a waterfall of signed seconds from its mean latency to the measured one.

A part is the difference between two runs of one simulator on the same requests that differ in one thing, or a fixed cost that was
measured by itself. What is left is a part too, so that the parts always add up to the whole:

- kv_capacity: matched less shipped: the engine's KV capacity and limits in place of the simulator's own.
- step_times: calibrated less matched: measured step times in place of its own. Where there is an oracle, also oracle less calibrated: the
  step times of the very run in place of the profile's.
- frontend: the cost per request outside the steps (HTTP, tokenising, hand-over). Where the simulator leaves this cost out, it is the
  profile's (`Profile.frontend`), which is part of TTFT and of E2E. Where the simulator adds it, it is what calibrating added beside step
  times: delays, and the mean time that requests spent at its API servers, waiting for others included. Where there is an oracle, its
  median error over requests that arrived in an empty system comes on top: they had no queue and no batch, so their error cannot be
  scheduling.
- scheduling: what is left of an oracle's error. Its step times and fixed costs are the run's own, so it must order or batch otherwise than
  the engine. Given only where the oracle's step times fit the run's own steps to FIT at the median. Its size is an upper bound: it
  includes what scatters within the fit.
- unexplained: what is left of the error of every other track, and the difference of two tracks when the one between them is missing.

'Measured less simulated' in each: positive parts say that the simulator is too fast. Means, as medians do not add up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analysis.data import Key, RunRow
from analysis.requests import RunRequests
from analysis.stats import Values
from results.profile import Profile

PARTS = ("kv_capacity", "step_times", "frontend", "scheduling", "unexplained")
CHAIN = ("shipped", "matched", "calibrated", "oracle")
METRICS = ("ttft", "tpot", "e2e")
SENT = {"ttft": "first_token", "e2e": "last_token"}  # whose way from its step to the client ends a metric
FIT = 0.1  # relative: the largest median residual of the oracle's step times
FEWEST_IDLE = 10  # requests that arrived in an empty system: from so many on, their median error is a fixed cost

Metrics = Mapping[str, Mapping[Key, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPart:
    """A row of the table `attribution`: seconds that `part` adds on the way from `simulated` to `measured`."""

    measured_run_id: str  # the run that is explained
    system: str  # the simulator
    track: str  # of the simulated run
    metric: str  # ttft, tpot or e2e
    stat: str  # mean: medians do not add up
    position: int  # place of the part in the waterfall, from 1
    part: str  # what is to blame, one of PARTS
    value: float  # s that the part adds
    simulated: float  # s at the waterfall's beginning
    measured: float  # s at its end


def attributions(runs: Mapping[str, RunRow], requests: Mapping[str, RunRequests], metrics: Metrics) -> Iterator[ErrorPart]:
    """The waterfalls of every measured run and every simulator held against it, from each of its tracks (the oracle is none)."""
    held: dict[tuple[str, str], dict[str, RunRow]] = {}
    for run in runs.values():
        measured = runs.get(str(run.measured_run_id))
        if run.kind == "simulated" and measured is not None and measured.trace_sha256 == run.trace_sha256:
            held.setdefault((measured.run_id, run.system), {})[str(run.track)] = run
    frontends: dict[str, float | None] = {}
    for (run_id, system), tracks in sorted(held.items()):
        if run_id not in frontends:
            frontends[run_id] = _profiled_frontend(runs[run_id])
        waterfall = _Waterfall(measured=runs[run_id], tracks=tracks, frontend=frontends[run_id], requests=requests, metrics=metrics)
        for track in [track for track in CHAIN[:-1] if track in tracks]:
            for metric in METRICS:
                yield from waterfall.parts(system, track, metric)


@dataclass(frozen=True, kw_only=True)
class _Waterfall:
    """One measured run and one simulator's runs against it, by track. frontend: s per request, as profiled."""

    measured: RunRow
    tracks: Mapping[str, RunRow]
    frontend: float | None
    requests: Mapping[str, RunRequests]
    metrics: Metrics

    def parts(self, system: str, track: str, metric: str) -> Iterator[ErrorPart]:
        """The parts from one track on, in the order of PARTS; none where a mean is unknown."""
        means = {name: self.metrics[run.run_id].get((metric, "mean")) for name, run in self.tracks.items()}
        means = {name: mean for name, mean in means.items() if mean is not None}
        truth, start = self.metrics[self.measured.run_id].get((metric, "mean")), means.get(track)
        if truth is None or start is None:
            return
        chain = [name for name in CHAIN[CHAIN.index(track) :] if name in means]
        values = self._values(chain, {name: float(mean) for name, mean in means.items() if mean is not None}, truth, metric)
        rest = next(part for part in ("unexplained", "scheduling") if part in values)
        values[rest] = truth - start - sum(value for part, value in values.items() if part != rest)
        for part in [part for part in PARTS if part in values]:
            yield ErrorPart(
                measured_run_id=self.measured.run_id,
                system=system,
                track=track,
                metric=metric,
                stat="mean",
                position=1 + PARTS.index(part),
                part=part,
                value=values[part],
                simulated=start,
                measured=truth,
            )

    def _values(self, chain: Sequence[str], means: Mapping[str, float], truth: float, metric: str) -> dict[str, float]:
        """What each part adds.

        Of 'scheduling' and 'unexplained', the one that takes what is left is there with a value still to be computed.
        """
        values: dict[str, float] = {}

        def add(part: str, value: float) -> None:
            values[part] = values.get(part, 0.0) + value

        for one, other in pairwise(chain):
            difference = means[other] - means[one]
            fixed = self._fixed(other, metric) - self._fixed(one, metric)
            if fixed:
                add("frontend", fixed)
            if (one, other) == ("shipped", "matched"):
                add("kv_capacity", difference - fixed)
            elif one == "shipped":  # the tracks differ in limits and step times: which of the two makes the difference is unknown
                add("unexplained", difference - fixed)
            else:
                add("step_times", difference - fixed)
        last = chain[-1]
        if metric != "tpot":
            missing = self._idle_error() if last == "oracle" else self.frontend if not self._fixed(last, metric) else None
            if missing is not None:
                add("frontend", missing)
        values.setdefault("scheduling" if last == "oracle" and self._fits() and "unexplained" not in values else "unexplained", 0.0)
        return values

    def _fixed(self, track: str, metric: str) -> float:
        """Seconds per request that the track's run adds outside its steps."""
        if metric == "tpot":
            return 0.0
        told = (self.tracks[track].config.get("simulator") or {}).get("frontend")
        if isinstance(told, Mapping):  # native: before, per token of the prompt, after; and what its API servers added to a request
            prompt = self._mean_prompt(self.tracks[track]) if told.get("before_per_token") else 0.0
            delays = float(told["before"]) + float(told["before_per_token"]) * prompt + float(told["after"])
            use = told.get("use") or {}
            return delays + float(use.get("before", 0.0)) + float(use.get(SENT[metric], 0.0))
        return self.frontend or 0.0 if told == "offset" else 0.0

    def _mean_prompt(self, run: RunRow) -> float:
        return float(np.nanmean(self.requests[run.run_id]["input_tokens"]))

    def _fits(self) -> bool:
        """Whether the oracle's step times are those of the run."""
        told = (self.tracks["oracle"].config.get("simulator") or {}).get("step_time") or {}
        error = ((told.get("residuals") or {}).get("fitted") or {}).get("median_abs_error")
        return error is not None and error <= FIT

    def _idle_error(self) -> float | None:
        """Median of measured less oracle TTFT over the requests that arrived when the measured system was empty; None: too few."""
        one = self.requests[self.measured.run_id]
        other = self.requests[self.tracks["oracle"].run_id].in_order_of(one)
        missing = (one["ttft"] - other["ttft"])[found_idle(one["arrival"], one["finished"]) & one.inside]
        missing = missing[np.isfinite(missing)]
        return float(np.median(missing)) if len(missing) >= FEWEST_IDLE else None


def found_idle(arrivals: Values, finished: Values) -> npt.NDArray[np.bool_]:
    """Which requests arrived when all before them had finished. arrivals: ascending. A request whose end is unknown never finishes."""
    ends = np.where(np.isfinite(finished), finished, np.inf)
    latest = np.concatenate([[-np.inf], np.maximum.accumulate(ends)[:-1]])
    alone: npt.NDArray[np.bool_] = latest <= arrivals
    return alone


def _profiled_frontend(measured: RunRow) -> float | None:
    """The front-end cost of the profile that was measured with a run, s; None: there is none."""
    try:
        return Profile.read(Path(measured.path)).frontend
    except FileNotFoundError:
        return None
