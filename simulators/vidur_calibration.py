"""How well a calibrated Vidur knows the engine's single steps: its own predictions held against the profile's points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from results.profile import Profile
from simulators.vidur_profile import Grid, StepTimes, up
from simulators.vidur_records import Step

PROBE = ("new_tokens", "prefill_context", "batch", "context")


def step_points(profile: Profile) -> pd.DataFrame:
    """The profile's points that are steps (the front-end cost is none), in a fixed order."""
    points = profile.points()
    return points[points["kind"] != "frontend"].reset_index(drop=True)


def probes(points: pd.DataFrame) -> list[dict[str, int]]:
    """The points as steps that vidur_driver.py can ask for."""
    return [dict(zip(PROBE, map(int, row), strict=True)) for row in points[list(PROBE)].round().to_numpy()]


def widen(grid: Grid, points: pd.DataFrame) -> Grid:
    """A grid that covers the profile's points too, so that every one of them can be predicted."""
    new, before, batch, context = (points[column].max() for column in PROBE)
    return Grid(
        tokens=max(grid.tokens, up(new + batch, 8)),
        chunk=max(grid.chunk, up(new, 32)),
        batch=max(grid.batch, int(batch)),
        context=max(grid.context, up(max(before + new, context + 1), grid.granularity)),
        granularity=grid.granularity,
    )


def residuals(points: pd.DataFrame, predicted: Sequence[float]) -> dict[str, Any]:
    """Relative error of the predicted step times, by use of the points and kind: {held_out: {prefill: {n, bias, median, p90}}}.

    bias: median of the signed error. median, p90: of the absolute one. A mixed point is never fitted to, held out or not.
    """
    frame = points.assign(error=np.asarray(predicted) / points["time"] - 1)
    frame = frame[points["time"] > 0]
    result: dict[str, Any] = {}
    for (held_out, kind), rows in frame.groupby(["held_out", "kind"]):
        size = rows["error"].abs()
        result.setdefault("held_out" if held_out else "fitted", {})[kind] = {
            "n": len(rows),
            "bias": float(rows["error"].median()),
            "median": float(size.median()),
            "p90": float(size.quantile(0.9)),
        }
    return result


def count_outside(steps: Sequence[Step], times: StepTimes) -> int:
    """Number of simulated steps that lie beyond what the profile measured, where the step times are extended along their last slope."""
    return sum(times.outside(tokens=s.prefill_tokens, prefill_context=s.prefill_context, batch=s.batch, context=s.context) for s in steps)
