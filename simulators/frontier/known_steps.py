"""How well a calibrated Frontier knows the engine's single steps: what its own forests predicted, held against the profile's points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results.profile import Profile
from simulators.errors import SimulatorError
from simulators.foreign.program import describe_log
from simulators.foreign.step_points import residuals
from simulators.foreign.step_times import StepTimes
from simulators.frontier.files import SYSTEM
from simulators.frontier.records import LedgerStep
from simulators.frontier.tables import TOKENS_STEP, StepGrid
from workloads.trace import Request

FORESTS = {  # whose predictions it keeps, and by what each is looked up
    "mlp_up_proj": ("num_tokens",),
    "attn_prefill": ("kv_cache_size", "prefill_chunk_size_squared"),
    "attn_decode": ("batch_size", "kv_cache_size"),
}


@dataclass(frozen=True, kw_only=True)
class KnownSteps:
    """A profile, made ready: its id, the step times fitted to it, and every point of it that is a step, in a fixed order."""

    profile_id: str
    times: StepTimes
    points: pd.DataFrame

    @classmethod
    def of(cls, profile: Profile) -> "KnownSteps":
        """Raises SimulatorError when the profile does not suffice."""
        points = profile.points()
        steps = points[points["kind"] != "frontend"].reset_index(drop=True)
        return cls(profile_id=profile.profile_id, times=StepTimes.fit(SYSTEM, profile), points=steps)

    def summary(
        self, cache: Path, grid: StepGrid, steps: Sequence[LedgerStep], requests: Sequence[Request], cached: Sequence[int], log: Path
    ) -> dict[str, Any]:
        """What a run keeps of it, JSON-able. cache: where Frontier keeps what its forests predicted. cached: tokens of each prompt.

        residuals: of the profile's points that lie within what was predicted. steps_outside: how many of the simulated steps lie beyond
        what was measured, where the step times go on along their last slope.
        """
        within = self.points[
            (self.points["new_tokens"] + self.points["batch"] <= grid.step)
            & (self.points["batch"] <= grid.batch)
            & (self.points[["prefill_context", "context"]].max(axis=1) <= grid.context)
        ]
        forests = _forests(cache, log)
        predicted = [_predicted(row, grid, forests) for row in within.to_dict("records")]
        return {
            "profile": self.profile_id,
            "measured": {axis: list(ends) for axis, ends in self.times.measured.items()},
            "residuals": residuals(within, predicted) if predicted else None,
            "steps": len(steps),
            "steps_outside": sum(self._outside(step, done) for step, done in _with_progress(steps, requests, cached)),
        }

    def _outside(self, step: LedgerStep, done: Sequence[tuple[int, int, bool]]) -> bool:
        prompts = [(before, new) for before, new, decodes in done if not decodes]
        contexts = [before for before, _, decodes in done if decodes]
        return self.times.outside(
            tokens=sum(new for _, new in prompts),
            prefill_context=max((before for before, _ in prompts), default=0),
            batch=len(contexts),
            context=sum(contexts) / len(contexts) if contexts else 0.0,
        )


def _with_progress(
    steps: Sequence[LedgerStep], requests: Sequence[Request], cached: Sequence[int]
) -> list[tuple[LedgerStep, list[tuple[int, int, bool]]]]:
    """Each step with, of each of its requests, the tokens that are there before it, those that it computes, and whether it decodes.

    A preempted request's second prompt is not told apart from its decodes.
    """
    done = [max(0, count) for count in cached]
    found = []
    for step in steps:
        parts = list(zip(step.rows, step.tokens, strict=True))
        found.append((step, [(done[row], count, done[row] >= requests[row].input_tokens) for row, count in parts]))
        for row, count in parts:
            done[row] += count
    return found


def _forests(cache: Path, log: Path) -> dict[str, Mapping[tuple[int, ...], float]]:
    """What each forest predicted, s by what it is looked up by. Raises SimulatorError when Frontier kept none."""
    found: dict[str, Mapping[tuple[int, ...], float]] = {}
    for name, keys in FORESTS.items():
        files = sorted(cache.glob(f"{name}_????????_predictions.csv"))
        if not files:
            raise SimulatorError(f"{SYSTEM}: it kept no predictions of {name} in {cache}; {describe_log(log)}")
        rows = pd.read_csv(files[0])
        places = zip(*(rows[key].astype(int) for key in keys), strict=True)
        found[name] = dict(zip(places, rows["prediction"] / 1e3, strict=True))
    return found


def _predicted(row: Mapping[Any, Any], grid: StepGrid, forests: Mapping[str, Mapping[tuple[int, ...], float]]) -> float:
    """Seconds of a point of the profile, as Frontier adds them up."""
    new, before, batch, context = (round(row[name]) for name in ("new_tokens", "prefill_context", "batch", "context"))
    seconds = forests["mlp_up_proj"][(-(-(new + batch) // TOKENS_STEP) * TOKENS_STEP,)]
    if new:
        seconds += forests["attn_prefill"][(_rounded(before, grid), new**2)]
    if batch:
        seconds += forests["attn_decode"][(batch, _rounded(context, grid))]
    return seconds


def _rounded(context: int, grid: StepGrid) -> int:
    return -(-context // grid.granularity) * grid.granularity
