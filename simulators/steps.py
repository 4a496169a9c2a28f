"""What simulators without chunked prefill or with few parameters are calibrated from: an engine's step times, asked for at any point.

`StepTimes` (vidur_profile.py) is the model of a profile's points. Here: its values at one composition, a whole prompt that the engine
computes in chunks, and the points that such simulators can be held against.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.profile import Profile
from simulators.system import SimulatorError
from simulators.vidur_profile import StepTimes

Floats = npt.NDArray[np.float64]

LEAST = 1e-6  # s: a step takes time, whatever the noise of a profile makes of it


def fit(system: str, profile: Profile) -> StepTimes:
    """The profile's step times without its held-out points. Raises SimulatorError when a kind of point is missing."""
    kinds = set(profile.points(held_out=False)["kind"])
    lacking = [kind for kind in ("prefill", "decode") if kind not in kinds]
    if lacking:
        raise SimulatorError(f"{system}: profile {profile.profile_id} has no {' and no '.join(lacking)} points; measure it again")
    return StepTimes.fit(profile)


def chunk_time(times: StepTimes, tokens: npt.ArrayLike, context: npt.ArrayLike = 0) -> Floats:
    """s of a step that computes `tokens` prompt tokens on top of `context` cached ones, alone."""
    return np.asarray(np.maximum(LEAST, times.prefill.at_zero(tokens) + times.prefill_attention(context, tokens)))


def prompt_time(times: StepTimes, tokens: int, budget: int) -> float:
    """s of a whole prompt computed in steps of at most `budget` tokens, one after the other."""
    return sum(float(chunk_time(times, min(budget, tokens - done), done)) for done in range(0, tokens, budget))


def decode_time(times: StepTimes, batch: npt.ArrayLike, context: npt.ArrayLike) -> Floats:
    """s of a step that decodes `batch` sequences with `context` cached tokens each."""
    b = np.asarray(batch, float)
    return np.asarray(np.maximum(LEAST, times.decode.at_zero(b) + b * times.decode.context_unit(b) * np.asarray(context, float)))


def whole_points(profile: Profile) -> pd.DataFrame:
    """The profile's steps that a model without chunked prefill can be asked for: no prompt tokens are cached before them."""
    points = profile.points()
    return points[(points["kind"] != "frontend") & (points["prefill_context"] == 0)].reset_index(drop=True)


def with_context(points: pd.DataFrame, context: float) -> pd.DataFrame:
    """The points, and of each decode batch its time at one context, as kind 'decode_at_context'.

    That is read off between two of the batch's measured points: what a model that knows no contexts can be held against.
    """
    between = []
    for _, rows in points[points["kind"] == "decode"].sort_values("context").groupby(["held_out", "batch"]):
        if rows["context"].iloc[0] <= context <= rows["context"].iloc[-1]:
            time = float(np.interp(context, rows["context"], rows["time"]))
            between.append(rows.iloc[[0]].assign(kind="decode_at_context", context=context, time=time))
    return pd.concat([points, *between], ignore_index=True)
