"""`calibration=first_requests`: step times of a stated law, scaled so that our own simulator meets the run's first requests.

For hardware of which nothing else is known. Three numbers are fitted to the TTFT and TPOT of the first N requests: a factor on the time
of prompts, one on that of decode steps, and a fixed front-end cost. The requests that it is fitted to must not be scored: a run whose
window does not begin after them (`./plumbline import ... --last`, docs/importing.md) is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from results.profile import SAMPLE_COLUMNS, Profile
from results.record import RequestRecord, Run
from simulators.calibration.bases import Base, Floats, decode_parts
from simulators.calibration.points import compose
from simulators.errors import NotAvailable
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.resolve import limits_of, vllm_version
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend
from workloads.trace import Trace

LOWEST, HIGHEST = (0.1, 0.1, 0.0), (10.0, 10.0, 1.0)  # of the two factors and the front-end cost (s)
START = (1.0, 1.0, 1e-3)
UNITS = (1.0, 1.0, 1e-2)  # in which steps towards the best are measured
STEPS = (0.05, 0.05, 0.05)  # relative, of the finite differences: several engine steps must change their order for a TTFT to move smoothly
PASSES = 2  # rounds: the second weighs TTFT and TPOT by the spreads that the first has left
OUTLIER = 2.0  # spreads; a larger error counts less than its square
LEAST_SPREAD = 1e-6


@dataclass(frozen=True, kw_only=True)
class FirstRequests:
    """conf/calibration/first_requests.yaml says what each setting means."""

    requests: int
    iterations: int
    base: Base

    source: ClassVar[str] = "first_requests"

    def __post_init__(self) -> None:
        if self.requests < 10 or self.iterations < 1:
            raise ValueError(
                f"calibration first_requests: requests must be >= 10 and iterations >= 1, got {self.requests} and {self.iterations}"
            )

    @property
    def environment(self) -> str | None:
        """See Calibration; that of the base."""
        return getattr(self.base, "environment", None)

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """See Calibration. Raises NotAvailable when the run's window holds what this would be fitted to."""
        early = self._early(measured)
        limits = limits_of(measured.limits, measured.config, f"run {measured.run_id}", vllm=vllm_version(measured))
        base = compose(
            measured,
            self.base.seconds(measured),
            profile_id=f"first{self.requests}-{measured.run_id}",
            source=f"{self.base.source} scaled to the first {self.requests} requests of run {measured.run_id}",
            provenance={"base": self.base.source},
        )
        scaling = Scaling(base=base, parts=decode_parts(base, self.base.seconds(measured)))
        fit = ScalingFit(scaling=scaling, trace=_until(measured, max(r.finished or 0.0 for r in early)), limits=limits, early=early)
        best = fit.best(self.iterations)
        return replace(scaling.at(best), provenance={**base.provenance, **fit.told(best)})

    def _early(self, measured: Run) -> list[RequestRecord]:
        """The records to fit to. Raises NotAvailable when they are scored, or too few of them succeeded."""
        order = sorted(measured.records, key=lambda r: (r.arrival, r.request_id))
        first, rest = order[: self.requests], order[self.requests :]
        if not rest or measured.window is None or measured.window[0] <= first[-1].arrival:
            raise NotAvailable(
                f"calibration first_requests: run {measured.run_id} is scored on its first {self.requests} requests too, to "
                f"which this would be fitted; import it with --last {max(1, len(rest))} (docs/importing.md), or a window after "
                f"{first[-1].arrival:g} s"
            )
        whole = [r for r in first if r.error is None and r.first_token is not None and r.finished is not None]
        if len(whole) < self.requests / 2:
            raise NotAvailable(f"calibration first_requests: only {len(whole)} of the first {self.requests} requests have all their times")
        return whole


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A profile's times as functions of the three numbers. parts: of each sample, the s of its decoding sequences alone."""

    base: Profile
    parts: Floats

    def at(self, factors: Floats) -> Profile:
        """The profile: decode part times its factor, and what the prompt adds to it times the other."""
        prompt, decode, frontend = (float(f) for f in factors)
        steps = self.base.samples.assign(time=decode * self.parts + prompt * (self.base.samples["time"] - self.parts).clip(lower=0.0))
        fixed = pd.DataFrame([("frontend", 0, 0, 0, 0.0, frontend, 0, False)], columns=list(SAMPLE_COLUMNS))
        return replace(self.base, samples=pd.concat([steps, fixed], ignore_index=True))


@dataclass(frozen=True, kw_only=True)
class ScalingFit:
    """Judges the three numbers: our own simulator serves the requests up to the end of the last early one."""

    scaling: Scaling
    trace: Trace
    limits: Limits
    early: list[RequestRecord]

    def best(self, iterations: int) -> Floats:
        """The three numbers with the least squares of log(simulated / measured); outliers count less.

        Each metric is weighed by its own spread: a TPOT is known to 2 %, where a TTFT hangs on which step a prompt just caught.
        """
        from scipy.optimize import least_squares  # here: scipy takes long to import, and few commands come this far

        best, spreads = np.array(START), np.array([0.1, 0.1])
        for _ in range(PASSES):
            found = least_squares(
                self.residuals,
                best,
                args=(spreads,),
                bounds=(LOWEST, HIGHEST),
                x_scale=UNITS,
                diff_step=STEPS,
                loss="soft_l1",
                f_scale=OUTLIER,
                max_nfev=iterations,
            )
            best = np.asarray(found.x, dtype=np.float64)
            spreads = np.array([max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(np.log(r))))) for r in self.ratios(best)])
        return best

    def residuals(self, factors: Floats, spreads: Floats) -> Floats:
        """log(simulated / measured) of every TTFT and TPOT, in units of the metric's spread."""
        return np.concatenate([np.log(ratio) / spread for ratio, spread in zip(self.ratios(factors), spreads, strict=True)])

    def ratios(self, factors: Floats) -> tuple[Floats, Floats]:
        """Simulated over measured TTFT, and TPOT (of those that have one)."""
        profile = self.scaling.at(factors)
        half = float(factors[2]) / 2
        served = serve(self.trace, self.limits, MeasuredStepTime(profile), frontend=Frontend(before=half, after=half))
        simulated = {r.request_id: r for r in served.records if r.error is None}
        pairs = [(latencies(simulated[r.request_id]), latencies(r)) for r in self.early if r.request_id in simulated]
        ttft = np.array([mine[0] / theirs[0] for mine, theirs in pairs if theirs[0] > 0])
        tpot = np.array([mine[1] / theirs[1] for mine, theirs in pairs if mine[1] and theirs[1]])
        return ttft, tpot

    def told(self, factors: Floats) -> Mapping[str, Any]:
        """For the provenance: the numbers, and the errors that remain on the requests that they were fitted to."""
        ttft, tpot = self.ratios(factors)
        return {
            "fitted": {"prompt_factor": float(factors[0]), "decode_factor": float(factors[1]), "frontend_s": float(factors[2])},
            "fitted_to_requests": len(self.early),
            "median_error_there": {"ttft": float(np.median(ttft) - 1), "tpot": float(np.median(tpot) - 1)},
            "median_size_of_error_there": {"ttft": float(np.median(np.abs(ttft - 1))), "tpot": float(np.median(np.abs(tpot - 1)))},
        }


def _until(measured: Run, end: float) -> Trace:
    """The requests as sent, up to second `end`: those that the early ones can have met in the engine."""
    trace = measured.trace_as_sent()
    return replace(trace, requests=tuple(r for r in trace if r.arrival <= end))


def latencies(record: RequestRecord) -> tuple[float, float | None]:
    """TTFT and TPOT, s; from when the request was sent."""
    assert record.first_token is not None and record.finished is not None
    start = record.arrival if record.sent is None else record.sent
    others = (record.output_tokens or 0) - 1
    return record.first_token - start, (record.finished - record.first_token) / others if others > 0 else None
