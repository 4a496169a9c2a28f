"""Seven numbers fitted to a whole run: our own simulator serves its requests until their TTFT and TPOT come out as measured.

    a step    = decode * (what the base says of its decodes) + prompt * (what prompts add to it there) + step + sequence * sequences
                + one_tile * (a decode of one sequence in the base), if it has no more than TILE tokens
    a request = frontend + prompt_token * prompt tokens outside the steps, on an idle server

A matrix product of up to TILE rows takes other kernels than a larger one: tensor cores multiply fragments of 16 rows (PTX ISA,
mma.m16n8k16). On an A40 a step of 17 sequences is 6 % shorter than one of 16 (docs/findings/other-run.md).

The API servers' queue comes on top (simulators/native/frontend): its costs are our own simulator's settings, which are not fitted.

Each number has a guess and a spread around it, and is drawn to the guess as by one more measurement: what the run does not determine
stays there, and two numbers that it cannot tell apart do not run away from each other.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from results.profile import SAMPLE_COLUMNS, Profile
from results.record import Run
from simulators.calibration.bases import Floats
from simulators.calibration.law_around import LawAround, OfLaw
from simulators.calibration.targets import Targets
from simulators.native.fast.obstacle import compiled_obstacle
from simulators.native.frontend.station import Station
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.latency.step_law import StepLaw
from simulators.native.predictor import how_steps_are_made
from simulators.native.resolve import limits_of, vllm_version
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import NO_STATION, Frontend
from workloads.trace import Trace

AFTER = 0.5  # share of the front end's delay that comes after a step: frontend_after of conf/simulator/native.yaml
PASSES = 3  # rounds: each weighs TTFT and TPOT by the spreads that the one before has left, and knows the law around its beginning
OUTLIER = 2.0  # spreads; a larger error counts less than its square
LEAST_SPREAD = 1e-3
FIRST_SPREADS = (0.1, 0.1)  # of log TTFT and log TPOT
DIFFERENCE = 0.25  # of a number's spread, for finite differences: several engine steps must change their order for a TTFT to move smoothly
INSIDE = 1e-6  # spreads from the ends of what a number may be, where a search begins
ENOUGH = 1e-4  # relative: a search that improves by less stops


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """What is known of a number before the run is looked at. All lie in [low, high]."""

    value: float
    spread: float
    low: float
    high: float

    def units(self, value: float) -> float:
        """A value in spreads from this one."""
        return (value - self.value) / self.spread


GUESSES: Mapping[str, Guess] = {
    "decode": Guess(value=1.0, spread=0.3, low=0.1, high=10.0),  # factor; its spread is the base's own, as that of the next
    "prompt": Guess(value=1.0, spread=0.3, low=0.1, high=10.0),  # factor
    "one_tile": Guess(value=0.0, spread=0.05, low=-0.3, high=0.3),  # of the s of a step of one decode, more or less
    "step": Guess(value=0.0, spread=2e-3, low=-0.02, high=0.1),  # s a step, beside what the base has
    "sequence": Guess(value=2e-5, spread=1e-5, low=0.0, high=1e-3),  # s: Python's work on each sequence of a step, its output included
    "frontend": Guess(value=1e-2, spread=1e-2, low=0.0, high=1.0),  # s a request
    "prompt_token": Guess(value=5e-6, spread=5e-6, low=0.0, high=1e-3),  # s: tokenisers take some 2e5 tokens/s
}
TILE = 16  # rows of a tensor core's fragment
FACTORS = ("decode", "prompt")
ACROSS = 1e-4  # s: the spread of `sequence` where devices share the work: an all-reduce costs each token what no data sheet has
SERVED = 1000  # requests of all simulations together that judge a set of numbers
NAMES = tuple(GUESSES)


@dataclass(frozen=True, kw_only=True)
class Stretching:
    """A profile's times as functions of the numbers. parts: of each sample, the s of its decoding sequences alone."""

    base: Profile
    parts: Floats

    def at(self, numbers: Mapping[str, float]) -> Profile:
        """The profile, with the front-end's cost."""
        samples = self.base.samples
        added = (samples["time"] - self.parts).clip(lower=0.0)
        host = numbers["step"] + numbers["sequence"] * (samples["batch"] + (samples["new_tokens"] > 0))
        decodes = numbers["decode"] * self.parts + numbers["one_tile"] * self.parts.min() * (
            samples["new_tokens"] + samples["batch"] <= TILE
        )
        steps = samples.assign(time=(decodes + numbers["prompt"] * added + host).clip(lower=0.0))
        idle = numbers["frontend"] + numbers["prompt_token"]  # a prompt of one token, as `frontend` samples are
        fixed = pd.DataFrame([("frontend", 0, 0, 0, 0.0, idle, 0, False)], columns=list(SAMPLE_COLUMNS))
        provenance = {**self.base.provenance, "frontend_per_prompt_token": numbers["prompt_token"]}
        return dataclasses.replace(self.base, samples=pd.concat([steps, fixed], ignore_index=True), provenance=provenance)


@dataclass(frozen=True, kw_only=True)
class WholeFit:
    """Judges the numbers: our own simulator serves the run."""

    stretching: Stretching
    traces: Sequence[Trace]
    limits: Limits
    policy: str
    targets: Targets
    guesses: Mapping[str, Guess]
    station: Station = NO_STATION

    @classmethod
    def of(cls, run: Run, stretching: Stretching, targets: Targets, *, spread: float, station: Station = NO_STATION) -> "WholeFit":
        """Of these requests of a run; what arrived later is not simulated. spread: of the base's times, as a share of them."""
        spreads = dict.fromkeys(FACTORS, spread) | ({"sequence": ACROSS} if run.limits.tensor_parallel > 1 else {})
        trace = run.trace_as_sent()
        return cls(
            stretching=stretching,
            traces=shifted(dataclasses.replace(trace, requests=tuple(r for r in trace if r.arrival <= targets.end)), targets),
            limits=limits_of(run.limits, run.config, f"run {run.run_id}", vllm=vllm_version(run)),
            policy="sglang" if run.system == "sglang" else "vllm_v1",
            targets=targets,
            guesses={name: dataclasses.replace(g, spread=spreads.get(name, g.spread)) for name, g in GUESSES.items()},
            station=station,
        )

    def best(self, iterations: int) -> dict[str, float]:
        """The numbers with the least squares of log(simulated / measured), the guesses among what is met; outliers count less.

        Each metric is weighed by its own spread: a TPOT is known to 2 %, where a TTFT hangs on which step a prompt just caught.
        """
        from scipy.optimize import least_squares  # here: scipy takes long to import, and few commands come this far

        low, high = (np.array([g.units(getattr(g, end)) for g in self.guesses.values()]) for end in ("low", "high"))
        at, spreads = np.zeros(len(NAMES)), list(FIRST_SPREADS)
        for _ in range(PASSES):
            around = LawAround(at, lambda x: self._law(self._numbers(x)))

            def residuals(x: Floats, around: "LawAround" = around, spreads: Sequence[float] = tuple(spreads)) -> Floats:
                errors = self.targets.errors(self._simulated(self._numbers(x), around.at(x)))
                return np.concatenate([*(part / spread for part, spread in zip(errors, spreads, strict=True)), x])

            found = least_squares(
                residuals,
                np.clip(at, low + INSIDE, high - INSIDE),
                jac=lambda x, of=residuals: _slopes(of, x, low),  # type: ignore[misc]
                bounds=(low, high),
                loss="soft_l1",
                f_scale=OUTLIER,
                max_nfev=iterations,
                ftol=ENOUGH,
                xtol=ENOUGH,
            )
            at = np.asarray(found.x, dtype=np.float64)
            left = self.targets.errors(self.simulated(self._numbers(at)))
            spreads = [max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(errors)))) for errors in left]
        return self._numbers(at)

    def simulated(self, numbers: Mapping[str, float]) -> Floats:
        """TTFT and TPOT in s: a row per target; NaN where there is none."""
        return self._simulated(numbers, self._law(numbers))

    def told(self, numbers: Mapping[str, float]) -> Mapping[str, Any]:
        """For the provenance: the numbers, and the errors that remain on the requests that they were fitted to."""
        simulated, measured = self.simulated(numbers), self.targets.seconds
        metrics, sizes = ("ttft", "tpot"), np.nanmean(np.abs(simulated / measured - 1), axis=0)
        means = np.nanmean(simulated, axis=0) / np.nanmean(measured, axis=0) - 1
        return {
            "fitted": dict(numbers),
            "fitted_to_requests": len(measured),
            "mean_error_there": dict(zip(metrics, means.tolist(), strict=True)),
            "mean_size_of_error_there": dict(zip(metrics, sizes.tolist(), strict=True)),
        }

    def _numbers(self, at: Floats) -> dict[str, float]:
        return {name: guess.value + guess.spread * float(x) for (name, guess), x in zip(self.guesses.items(), at, strict=True)}

    def _law(self, numbers: Mapping[str, float]) -> StepLaw:
        profile = self.stretching.at(numbers)
        return MeasuredStepTime(profile, **how_steps_are_made(self.policy, self.limits)).law

    def _simulated(self, numbers: Mapping[str, float], law: StepLaw) -> Floats:
        outside, step_time = frontend_of(numbers, self.station), OfLaw(law)
        engine: Literal["any", "compiled"] = "any" if compiled_obstacle(self.limits, step_time, self.policy) else "compiled"
        found = []
        for trace in self.traces:
            served = serve(
                trace, self.limits, step_time, frontend=outside, policy=self.policy, engine=engine, token_times=False
            )  # compiled: loading it pays for a few hundred traces, however small
            found.append(self.targets.of_records(served.records))
        return np.asarray(np.mean(found, axis=0), dtype=np.float64)


def shifted(trace: Trace, targets: Targets) -> Sequence[Trace]:
    """The trace, and others whose requests come up to half a step earlier or later: SERVED requests in all.

    A TTFT hangs on which step a prompt just catches. The mean over several such chances moves smoothly with the numbers, and so does the
    expectation that a measured TTFT is one drawing of.
    """
    rng, half = np.random.default_rng(0), float(np.nanmedian(targets.seconds[:, 1])) / 2
    found = [trace]
    while len(found) * len(trace) < SERVED and np.isfinite(half):
        moved = [
            dataclasses.replace(r, arrival=max(0.0, r.arrival + half * x))
            for r, x in zip(trace, rng.uniform(-1, 1, len(trace)), strict=True)
        ]
        found.append(dataclasses.replace(trace, requests=tuple(sorted(moved, key=lambda r: (r.arrival, r.request_id)))))
    return found


def frontend_of(numbers: Mapping[str, float], station: Station) -> Frontend:
    """The front end, as our own simulator makes it of such a profile by default."""
    by_token = numbers["prompt_token"]
    return Frontend.with_idle_cost(numbers["frontend"] + by_token, by_token, after=AFTER, station=station)


def _slopes(residuals: Callable[[Floats], Floats], at: Floats, low: Floats) -> Floats:
    """Central differences, as a TTFT jumps where a prompt catches another step."""
    columns = []
    for place in range(len(at)):
        below, above = np.array(at), np.array(at)
        below[place] = max(at[place] - DIFFERENCE, low[place])
        above[place] = at[place] + DIFFERENCE
        columns.append((residuals(above) - residuals(below)) / (above[place] - below[place]))
    return np.stack(columns, axis=1)
