"""A profile's step times in the form that the simulator's predictor `ml` takes (inside/step_model.py), and how well that knows them.

Nothing is lost on the way: the predictor gets the sums that the step times are a function of, for whatever batch the scheduler makes. What
it never sees is a step with prompts and decodes in it: SGLang's scheduler makes none.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from results.profile import Profile
from simulators.foreign.step_points import LEAST, fit, residuals
from simulators.foreign.step_times import StepTimes
from simulators.sglang_simulator.inside.step_model import StepModel


@dataclass(frozen=True, kw_only=True)
class StepTable:
    """A profile, made ready: its id, the step times fitted to it, its points that are steps, and the table for the simulator."""

    profile_id: str
    times: StepTimes
    points: pd.DataFrame
    fields: dict[str, Any]  # of StepModel, JSON-able

    @classmethod
    def of(cls, system: str, profile: Profile, *, tokens: int, batch: int) -> "StepTable":
        """tokens, batch: the most prompt tokens and sequences of a step. Raises SimulatorError when the profile does not suffice."""
        times, points = fit(system, profile), profile.points()
        new, sequences = np.arange(tokens + 1), np.arange(batch + 1)
        return cls(
            profile_id=profile.profile_id,
            times=times,
            points=points[points["kind"] != "frontend"].reset_index(drop=True),
            fields={
                "prefill_base": times.prefill.at_zero(new).tolist(),
                "prefill_unit": times.prefill.context_unit(new).tolist(),
                "decode_base": times.decode.at_zero(sequences).tolist(),
                "decode_unit": times.decode.context_unit(sequences).tolist(),
                "least": LEAST,
            },
        )

    def residuals(self) -> dict[str, Any]:
        """How far off the table is at the profile's points that it reaches; one of prompts and decodes is two steps."""
        tokens, batch = (len(self.fields[name]) - 1 for name in ("prefill_base", "decode_base"))
        within = self.points[(self.points["new_tokens"] <= tokens) & (self.points["batch"] <= batch)]
        model = StepModel(**self.fields)
        return residuals(within, [_predicted(model, row) for row in within.to_dict("records")])

    def outside(self, steps: list[list[tuple[int, int]]]) -> int:
        """How many simulated steps lie beyond what was measured, where the step times go on along their last slope."""
        return sum(self._beyond(step) for step in steps)

    def _beyond(self, step: list[tuple[int, int]]) -> bool:
        new, cached = (sum(values) for values in zip(*step, strict=True))
        if all(tokens == 1 for tokens, _ in step):
            return self.times.outside(tokens=0, prefill_context=0, batch=len(step), context=cached / len(step))
        return self.times.outside(tokens=new, prefill_context=max(before for _, before in step), batch=0, context=0.0)


def features(step: list[tuple[float, float]]) -> list[float]:
    """What of a step of (new tokens, cached tokens) each the table reads, in the simulator's places; the rest is 0."""
    found = [0.0] * 18
    found[0], found[1], found[4] = len(step), sum(new for new, _ in step), sum(cached for _, cached in step)
    found[10] = sum(new * (cached + new / 2) for new, cached in step)
    found[16] = float(all(new == 1 for new, _ in step))
    return found


def _predicted(model: StepModel, point: Mapping[Hashable, Any]) -> float:
    prompt = [(point["new_tokens"], point["prefill_context"])] if point["new_tokens"] else []
    decodes = [(1.0, point["context"])] * int(point["batch"])
    return sum(model.predict([features(step)])[0] for step in (prompt, decodes) if step)
