"""What simulators without chunked prefill or with few parameters are calibrated from: an engine's step times, asked for at any point.

`StepTimes` (step_times.py) is the model of a profile's points. Here: its values at one composition, a whole prompt that the engine
computes in chunks, the points that such simulators can be held against, and how far off they are there.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.profile import Profile
from simulators.foreign.robust_fit import Floats, robust_fit
from simulators.foreign.step_times import StepTimes

WILD = 2.0  # factor between a point and a smooth law of its kind beyond which it is noise
LEAST = 1e-6  # s: a step takes time, whatever the noise of a profile makes of it


def fit(system: str, profile: Profile) -> StepTimes:
    """The profile's step times without its held-out and its wild points. Raises SimulatorError when a kind of point is missing."""
    points = profile.points(held_out=False)
    kept = points[~wild(points) & points["kind"].isin(["prefill", "decode"])]
    return StepTimes.fit(system, dataclasses.replace(profile, samples=kept.assign(repeat=0)))


def wild(points: pd.DataFrame) -> "pd.Series[bool]":
    """Which points are noise: prefills and decodes more than WILD times longer or shorter than a law that most of their kind follow.

    Prefill: linear in the tokens and in the pairs of tokens attended to; decode: in the sequences and in the cached tokens.
    """
    found = pd.Series(False, index=points.index)
    for kind, count, attended in (("prefill", "new_tokens", "prefill_context"), ("decode", "batch", "context")):
        rows = points[points["kind"] == kind]
        n, context, time = (rows[column].to_numpy(float) for column in (count, attended, "time"))
        pairs = n * (context + n / 2) if kind == "prefill" else n * (context + 1)
        design = np.stack([np.ones_like(n), n, pairs], axis=1)
        if len(rows) > design.shape[1]:
            law = design @ robust_fit(design, time)[0]
            found[rows.index] = (time <= law / WILD) | (time >= law * WILD)
    return found


def chunk_time(times: StepTimes, tokens: npt.ArrayLike, context: npt.ArrayLike = 0) -> Floats:
    """s of a step that computes `tokens` prompt tokens on top of `context` cached ones, alone."""
    return np.asarray(np.maximum(LEAST, times.prefill.at_zero(tokens) + times.prefill_attention(context, tokens)))


def prompt_time(times: StepTimes, tokens: int, budget: int) -> float:
    """s of a whole prompt computed in steps of at most `budget` tokens, one after the other."""
    return sum(float(chunk_time(times, min(budget, tokens - done), done)) for done in range(0, tokens, budget))


def decode_time(times: StepTimes, batch: npt.ArrayLike, context: npt.ArrayLike) -> Floats:
    """s of a step that decodes `batch` sequences with `context` cached tokens each."""
    return np.asarray(np.maximum(LEAST, times.decode_step(batch, context)))


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
