"""An engine's step times as a function of what is in the step, from a profile: what the foreign simulators are calibrated from.

`StepTimes` is the model: a prefill's time over its tokens, a decode's over its sequences, each rising with the context. It knows no
mixed steps: what those take is for each simulator to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from results.profile import Profile
from simulators.errors import SimulatorError
from simulators.foreign.robust_fit import Floats, robust_fit

FEW = 64  # prompt tokens up to which a prompt's time says nothing of its attention: kernels for few rows have costs of their own
SPAN = 8  # from so many times FEW on it does


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Step time over a count (of prompt tokens, or of sequences) and a context: base(count) + count * unit(count) * context.

    counts: measured ones, ascending. base: s at context 0. unit: s per token of context and unit of count, >= 0.
    Between measured counts both are interpolated linearly. Beyond them base goes on along its last slope (never downwards) and unit
    stays; `StepTimes.outside` counts the steps for which that was done.
    """

    counts: Floats
    base: Floats
    unit: Floats

    @classmethod
    def fit(cls, counts: Floats, contexts: Floats, times: Floats, *, shortest: bool, otherwise: float = 0.0) -> "Surface":
        """Fit points (one each) so that a wild one among them bends little.

        unit: weighted median of the slopes between points of one count, its neighbours' included (`otherwise` where no count has two
        contexts).
        base: what is left at each count (its median over the contexts, or that of the shortest context alone), made non-decreasing.
        """
        from scipy.optimize import isotonic_regression  # here: scipy takes long to import, and few commands come this far

        distinct = np.unique(counts)
        slopes = [_slopes(n, contexts[counts == n], times[counts == n]) for n in distinct]
        sloped = [i for i, pairs in enumerate(slopes) if len(pairs)]
        near = [np.concatenate([slopes[j] for j in sloped[max(0, rank - 1) : rank + 2]]) for rank in range(len(sloped))]
        units = [max(0.0, _weighted_median(pairs[:, 0], pairs[:, 1])) for pairs in near]
        unit = np.interp(distinct, distinct[sloped], units) if sloped else np.full(len(distinct), otherwise)
        left = []
        for n, u in zip(distinct, unit, strict=True):
            at = (counts == n) & (contexts == contexts[counts == n].min()) if shortest else counts == n
            left.append(np.median((times - n * u * contexts)[at]))
        return cls(counts=distinct, base=np.asarray(isotonic_regression(left).x), unit=unit)

    def at_zero(self, count: npt.ArrayLike) -> Floats:
        """s at context 0, never negative."""
        x = np.asarray(count, float)
        inside = np.interp(x, self.counts, self.base)
        if len(self.counts) < 2:
            return np.asarray(np.maximum(inside, 0.0))
        below, above = (max(0.0, float(np.diff(self.base[i])[0] / np.diff(self.counts[i])[0])) for i in (slice(0, 2), slice(-2, None)))
        beyond = above * np.maximum(x - self.counts[-1], 0) - below * np.maximum(self.counts[0] - x, 0)
        return np.asarray(np.maximum(inside + beyond, 0.0))

    def context_unit(self, count: npt.ArrayLike) -> Floats:
        """s per token of context and unit of count."""
        return np.asarray(np.interp(np.asarray(count, float), self.counts, self.unit))


def _slopes(count: float, contexts: Floats, times: Floats) -> Floats:
    """(slope per token of context and unit of count, weight) of every pair of points of one count at two contexts."""
    pairs = [(count * (contexts[j] - contexts[i]), times[j] - times[i]) for i, j in combinations(range(len(contexts)), 2)]
    return np.array([(rise / run, abs(run)) for run, rise in pairs if run]).reshape(-1, 2)


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Step times of the engine, in seconds, from a Profile's points that are not held out.

    measured: (smallest, largest) of each axis of those points: tokens, prefill_context, batch, context.
    """

    prefill: Surface
    decode: Surface
    measured: Mapping[str, tuple[float, float]]

    @classmethod
    def fit(cls, system: str, profile: Profile) -> "StepTimes":
        """Raises SimulatorError when the profile lacks a kind of point that is needed. system: the simulator, for that message."""
        points = profile.points(held_out=False)
        prefill, decode = (points[points["kind"] == kind] for kind in ("prefill", "decode"))
        lacking = [kind for kind, rows in (("prefill", prefill), ("decode", decode)) if rows.empty]
        if lacking:
            raise SimulatorError(f"{system}: profile {profile.profile_id} has no {' and no '.join(lacking)} points; measure it again")
        new, before, batch, context = (
            rows[column].to_numpy(float)
            for rows, column in ((prefill, "new_tokens"), (prefill, "prefill_context"), (decode, "batch"), (decode, "context"))
        )
        alone = prefill.loc[before == 0, "time"].to_numpy(float)
        return cls(
            # a chunk of n tokens attends to what was there before and, causally, to itself: n * (before + n / 2);
            # most prompts start from nothing, so those are to come out as measured
            prefill=Surface.fit(
                new, before + new / 2, prefill["time"].to_numpy(float), shortest=True, otherwise=_curvature(new[before == 0], alone)
            ),
            decode=Surface.fit(batch, context, decode["time"].to_numpy(float), shortest=False),
            measured={
                axis: (float(values.min()), float(values.max()))
                for axis, values in (("tokens", new), ("prefill_context", before), ("batch", batch), ("context", context))
            },
        )

    def prefill_attention(self, context: npt.ArrayLike, chunk: npt.ArrayLike) -> Floats:
        """Attention of `chunk` new tokens to `context` cached ones and to themselves."""
        c = np.asarray(chunk, float)
        return np.asarray(c * self.prefill.context_unit(c) * (np.asarray(context, float) + c / 2))

    def decode_step(self, batch: npt.ArrayLike, context: npt.ArrayLike) -> Floats:
        """s of a step that decodes `batch` sequences with `context` cached tokens each."""
        b = np.asarray(batch, float)
        return np.asarray(self.decode.at_zero(b) + b * self.decode.context_unit(b) * np.asarray(context, float))

    def outside(self, *, tokens: int, prefill_context: int, batch: int, context: float) -> bool:
        """Whether a step lies beyond what was measured: more or fewer prompt tokens or sequences, or a longer context."""
        low, high = ({axis: ends[i] for axis, ends in self.measured.items()} for i in (0, 1))
        prefill = tokens > 0 and not (low["tokens"] <= tokens <= high["tokens"] and prefill_context <= high["prefill_context"])
        decode = batch > 0 and not (low["batch"] <= batch <= high["batch"] and context <= high["context"])
        return prefill or decode


def _curvature(tokens: Floats, times: Floats) -> float:
    """s per pair of prompt tokens, from whole prompts alone: the square term of their times; 0 where they are too short to tell it.

    Where no point has a cached prefix, attention is known from nothing else. Taken for 0 it would stay in what a step's tokens cost, and
    a step of many short prompts would cost what one long prompt does.
    """
    told = tokens >= FEW
    if len(np.unique(tokens[told])) < 3 or tokens.max() < SPAN * FEW:
        return 0.0
    n = tokens[told]
    (_, _, pair), _ = robust_fit(np.stack([np.ones_like(n), n, n**2 / 2], axis=1), times[told])
    return float(pair)
