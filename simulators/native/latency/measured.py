"""Measured step times: a piecewise linear model fitted to a profile's points.

    seconds = fixed + g(new tokens) + s * sequences + d * decode context + m * decode context of a mixed step
              + r * prefill context + a * prefill query-key pairs

m: attention of decodes beside a prompt's chunk takes other kernels than alone (measured on a CPU and on GPUs: docs/findings.md).
g is continuous and piecewise linear: it is the matrix products, whose cost per token changes with their size. Up to FEW tokens, g has a
knot at every profiled decode batch and may fall: kernels are faster for some small numbers of rows than for others (vLLM's CPU build: 2
rows take 14 ms, 4 rows 11.7 ms; CUDA graphs are padded to their sizes). Beyond FEW tokens, g increases. Its knots there are those that a
composed profile names (BENDS), else few, because measured points are noisy. All other coefficients are >= 0. So no step gets shorter by
more context, and no step of more than FEW tokens by more tokens. The fit is least squares on relative errors, reweighted so that a few
disturbed samples count little. Beyond the profile's range g goes on straight, and such steps are counted.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from results.profile import BENDS, Profile
from simulators.errors import SimulatorError
from simulators.native.latency.profile_work import ProfiledStepTime, RangeSeen, residuals_of, works_of
from simulators.native.latency.step_law import WORK, StepLaw, row

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

FEATURES = ("new_tokens", "sequences", "decode_context", "mixed_context", "prefill_context", "prefill_pairs")
FEW = 64  # new tokens; up to so many, g has a knot at every profiled decode batch, and may fall
KNOT_RATIO = 4  # beyond FEW, the knots of g lie at the last of these times powers of this
REWEIGHTINGS = 10
MANY = 5000  # rows; more are replaced by their triangle (QR), which has the same least squares and as many rows as columns
HUBER = 1.345  # in units of the residuals' scale; 95 % efficient on clean data (Huber 1964)


class MeasuredStepTime(ProfiledStepTime):
    """A StepTime fitted to a profile. Raises SimulatorError when the profile has too few points of a kind.

    apart: the engine computes prompts and decodes in steps of their own. Mixed points (two steps, one after the other) are then left out.
    recomputed: attention of a chunk is computed over the cached context's queries, too (Batch.count_prefill).
    """

    def __init__(self, profile: Profile, *, apart: bool = False, recomputed: bool = False) -> None:
        points = profile.points()
        points = points[~points["kind"].isin(["frontend", "mixed"] if apart else ["frontend"])]
        self._recomputed = recomputed
        timed = points[points["time"] > 0]  # 0: the difference is lost in the noise
        fitted, held_out = timed[~timed["held_out"]], timed[timed["held_out"]]
        for kind in ("prefill", "decode"):
            if (fitted["kind"] == kind).sum() < 2:
                raise SimulatorError(
                    f"native: profile {profile.profile_id} has fewer than 2 {kind} points to fit; profile the engine again"
                )
        work = self._features(fitted)
        self.profile_id = profile.profile_id
        self._untimed = len(points) - len(timed)
        few = _few(fitted)
        told = [float(m) for m in profile.provenance.get(BENDS) or ()]
        self._knots = few + _knots(work[:, 0], few[-1] if few else None, told)
        free = range(1, 1 + len(few))
        self._coefficients = fit(self._design(work), fitted["time"].to_numpy(dtype=np.float64), free)
        self._residuals = {"fitted": self._errors(fitted), "held_out": self._errors(held_out)}
        self.law = self._law()
        self._seen = RangeSeen(works_of(fitted, recomputed), FEATURES, mixed=bool((fitted["kind"] == "mixed").any()))

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        fixed, *rest = (float(c) for c in self._coefficients)
        return {
            "step_time": "measured",
            "profile": self.profile_id,
            "fixed_s": fixed,
            "g_knots_tokens": [float(k) for k in self._knots],
            "g_slopes_s_per_token": rest[: len(self._knots)],
            **{f"s_per_{name}": c for name, c in zip(FEATURES[1:], rest[len(self._knots) :], strict=True)},
            "residuals": self._residuals,
            "points_lost_in_noise": self._untimed,
            **self._seen.describe(),
        }

    def _law(self) -> StepLaw:
        """The fitted coefficients as a law; the pieces of g from the last to the first. They hold `fixed`: g falls, a law's device does not
        go below 0.
        """
        fixed, *rest = (float(c) for c in self._coefficients)
        slopes, starts = rest[: len(self._knots)], [0.0, *self._knots[:-1]]
        return StepLaw(
            linear=row(**dict(zip(FEATURES[1:], rest[len(self._knots) :], strict=True))),
            pieces=tuple((start, fixed + self._g(start), slope) for start, slope in zip(starts, slopes, strict=True))[::-1],
        )

    def _design(self, work: Array) -> Array:
        """Columns: 1, the tokens within each piece of g, the other features."""
        tokens = work[:, :1]
        starts = np.array([0.0, *self._knots[:-1]])
        ends = np.array([*self._knots[:-1], np.inf])
        pieces = np.clip(tokens, starts, ends) - starts
        return np.hstack([np.ones((len(work), 1)), pieces, work[:, 1:]])

    def _g(self, tokens: float) -> float:
        work = np.array([[tokens, *[0.0] * (len(FEATURES) - 1)]])
        return float((self._design(work) @ self._coefficients)[0] - self._coefficients[0])

    def _errors(self, points: "pd.DataFrame") -> dict[str, Any] | None:
        """Relative errors of the fit on these points; None without points."""
        time = points["time"].to_numpy(dtype=np.float64)
        errors = (self._design(self._features(points)) @ self._coefficients) / time - 1
        return residuals_of(errors, points["kind"].to_numpy())

    def _features(self, points: "pd.DataFrame") -> Array:
        """Columns as in FEATURES."""
        features: Array = works_of(points, self._recomputed)[:, [WORK.index(name) for name in FEATURES]]
        return features


def _few(points: "pd.DataFrame") -> list[float]:
    """Profiled decode batches of at most FEW sequences, the smallest left out (g starts at 0; `fixed` is there, too)."""
    batches = np.unique(points.loc[points["kind"] == "decode", "batch"].to_numpy(dtype=np.float64))
    return [float(b) for b in batches[1:] if b <= FEW]


def _knots(tokens: Array, beyond: float | None, told: Sequence[float] = ()) -> list[float]:
    """Ends of the pieces of g beyond so many tokens: those of `told` that were profiled; else as many as leave each piece two points."""
    seen = np.unique(tokens)
    if told:
        return sorted({float(m) for m in seen if m > (beyond or 0) and m in told} | {float(seen[-1])})
    knots: list[float] = []
    end = start = float(seen[0]) if beyond is None else beyond
    while end < seen[-1]:
        end = min(end * KNOT_RATIO, float(seen[-1]))
        if ((seen > start) & (seen <= end)).sum() >= 2 and (seen > end).sum() != 1:
            knots.append(end)
            start = end
    return knots if start == seen[-1] else [*knots, float(seen[-1])]


def fit(design: Array, time: Array, free: Sequence[int]) -> Array:
    """Coefficients that minimise the Huber loss of the relative errors; those of the columns `free` may be negative.

    The coefficient of a column of zeros is 0: no point has that feature, so the points do not determine it.
    """
    from scipy.optimize import lsq_linear  # imported here: scipy takes long to import, and is needed only where there is a profile

    scale = design.max(axis=0)
    told = scale > 0
    rows, ones = design[:, told] / scale[told] / time[:, None], np.ones(len(time))
    least = np.zeros(design.shape[1])
    least[list(free)] = -np.inf
    least = least[told]
    weights: Array = np.ones(len(time))
    for _ in range(REWEIGHTINGS):
        weighed: Array = np.column_stack([rows, ones]) * weights[:, None]
        if len(rows) > MANY:
            weighed = np.asarray(np.linalg.qr(weighed, mode="r"))
        solution = lsq_linear(weighed[:, :-1], weighed[:, -1], bounds=(least, np.inf)).x
        residuals = np.abs(rows @ solution - 1)
        spread = 1.4826 * float(np.median(residuals))
        if spread < 1e-9:
            break
        weights = np.sqrt(np.minimum(1.0, HUBER * spread / np.maximum(residuals, 1e-12)))
    coefficients = np.zeros(design.shape[1])
    coefficients[told] = solution / scale[told]
    return coefficients


def residual_lines(description: Mapping[str, Any]) -> list[str]:
    """Lines for people: how well the model fits the points that it was fitted to, and those that were held out."""
    lines = []
    for which, errors in description.get("residuals", {}).items():
        if errors:
            kinds = ", ".join(f"{k} {e:.1%}" for k, e in errors["median_abs_error_by_kind"].items())
            lines.append(
                f"step times, {which.replace('_', '-')} points ({errors['points']}): median error {errors['median_abs_error']:.1%} "
                f"({kinds}), 90th percentile {errors['p90_abs_error']:.1%}, mean {errors['mean_error']:+.1%}"
            )
    return lines
