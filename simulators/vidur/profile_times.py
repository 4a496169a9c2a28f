"""How well a calibrated Vidur knows the engine's single steps: its own predictions held against the profile's points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from results.profile import Profile
from simulators.foreign.step_points import residuals
from simulators.foreign.step_times import StepTimes
from simulators.vidur.records import VidurStep
from simulators.vidur.tables import TOKENS_STEP, ProfileGrid, Source, attention_rows, mlp_rows, up

PROBE = ("new_tokens", "prefill_context", "batch", "context")


@dataclass(frozen=True, kw_only=True)
class ProfileTimes:
    """A profile, made ready: its id, the step times fitted to it, and every point of it that is a step, in a fixed order."""

    profile_id: str
    times: StepTimes
    points: pd.DataFrame

    whole_steps: ClassVar[bool] = True  # nothing may be added to what was measured
    block_size: ClassVar[int | None] = None  # the engine's own

    @classmethod
    def of(cls, profile: Profile) -> "ProfileTimes":
        """Raises SimulatorError when the profile does not suffice."""
        points = profile.points()
        steps = points[points["kind"] != "frontend"].reset_index(drop=True)
        return cls(profile_id=profile.profile_id, times=StepTimes.fit("vidur", profile), points=steps)

    def tables(self, grid: ProfileGrid, layers: int, source: Source) -> tuple[pd.DataFrame, pd.DataFrame]:
        """mlp.csv and attention.csv, without the columns that name the model."""
        return mlp_rows(self.times, grid, layers), attention_rows(self.times, grid, layers, source)

    def probes(self) -> list[dict[str, int]]:
        """The points as steps that driver.py can ask for."""
        return probes(self.points)

    def widen(self, grid: ProfileGrid) -> ProfileGrid:
        """A grid that covers the points too, so that every one of them can be predicted."""
        return widened(grid, self.points)

    def summary(self, predicted: Sequence[float], steps: Sequence[VidurStep]) -> dict[str, Any]:
        """What a run keeps of it, JSON-able. predicted: s per probe.

        steps_outside: how many of the simulated steps lie beyond what was measured, where the step times go on along their last slope.
        """
        outside = [
            self.times.outside(tokens=s.prefill_tokens, prefill_context=s.prefill_context, batch=s.batch, context=s.context) for s in steps
        ]
        return {
            "profile": self.profile_id,
            "measured": {axis: list(ends) for axis, ends in self.times.measured.items()},
            "residuals": residuals(self.points, predicted),
            "steps": len(steps),
            "steps_outside": sum(outside),
        }


def probes(points: pd.DataFrame) -> list[dict[str, int]]:
    """Steps of a profile as driver.py asks for them."""
    return [dict(zip(PROBE, map(int, row), strict=True)) for row in points[list(PROBE)].astype(float).round().to_numpy()]


def widened(grid: ProfileGrid, points: pd.DataFrame) -> ProfileGrid:
    """A grid that covers these steps too."""
    if points.empty:
        return grid
    new, before, batch, context = (points[column].max() for column in PROBE)
    return ProfileGrid(
        tokens=max(grid.tokens, up(new + batch, TOKENS_STEP)),
        chunk=max(grid.chunk, up(new, 32)),
        batch=max(grid.batch, int(batch)),
        context=max(grid.context, up(max(before + new, context + 1), grid.granularity)),
        granularity=grid.granularity,
    )
