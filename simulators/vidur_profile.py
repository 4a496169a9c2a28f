"""A Profile turned into Vidur's own profiling files, by data alone.

Vidur predicts a step as layers * (operations of the step's total tokens + attention of each prefill chunk + attention of the decodes),
each term by a random forest over a table in its own format. A Profile holds whole steps, so one operation (`mlp_up_proj`) carries
what depends on the tokens, the two attentions carry the rest, and every other operation is 0:

    linear(T)                = prefill of T tokens, less their attention to themselves
    prefill_attention(p, c)  = attention of c new tokens to p cached ones and to themselves, c * u(c) * (p + c / 2)
    decode_attention(b, k)   = decode of b sequences at context k, less linear(b): what is left, so it may be negative for small b

A pure prefill, a pure decode and so their sums come out as measured; a mixed step is what Vidur's additive form makes of them.
Read first: `StepTimes` (the model of the step times), then `mlp_rows` and `attention_rows` (their tables).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import isotonic_regression

from results.profile import Profile
from simulators.system import SimulatorError

Floats = npt.NDArray[np.float64]
Source = Literal["pypi", "git"]

TOKENS_STEP = 8  # Vidur rounds a step's tokens up to a multiple of this
CHUNK_STEP = {"pypi": 32, "git": 1}  # and a prefill chunk's, where it does
CHUNK_ROWS = {"pypi": 32, "git": 16}  # tokens between two rows along a chunk's length
OPERATIONS = (  # of mlp.csv, per layer
    "input_layernorm",
    "attn_pre_proj",
    "attn_rope",
    "attn_post_proj",
    "post_attention_layernorm",
    "mlp_up_proj",
    "mlp_act",
    "mlp_down_proj",
    "add",
)
SECONDS_TO_MS = 1e3


def up(value: float, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return int(-(-value // step) * step)


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
    def fit(cls, counts: Floats, contexts: Floats, times: Floats, *, shortest: bool) -> "Surface":
        """Fit points (one each) so that a wild one among them bends little.

        unit: weighted median of the slopes between points of one count, its neighbours' included (0 where no count has two contexts).
        base: what is left at each count (its median over the contexts, or that of the shortest context alone), made non-decreasing.
        """
        distinct = np.unique(counts)
        slopes = [_slopes(n, contexts[counts == n], times[counts == n]) for n in distinct]
        sloped = [i for i, pairs in enumerate(slopes) if len(pairs)]
        near = [np.concatenate([slopes[j] for j in sloped[max(0, rank - 1) : rank + 2]]) for rank in range(len(sloped))]
        units = [max(0.0, _weighted_median(pairs[:, 0], pairs[:, 1])) for pairs in near]
        unit = np.interp(distinct, distinct[sloped], units) if sloped else np.zeros(len(distinct))
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
    def fit(cls, profile: Profile) -> "StepTimes":
        """Raises SimulatorError when the profile lacks a kind of point that is needed."""
        points = profile.points(held_out=False)
        prefill, decode = (points[points["kind"] == kind] for kind in ("prefill", "decode"))
        for kind, rows in (("prefill", prefill), ("decode", decode)):
            if rows.empty:
                raise SimulatorError(f"vidur: profile {profile.profile_id} has no {kind} points to calibrate from; measure it again")
        new, before, batch, context = (
            rows[column].to_numpy(float)
            for rows, column in ((prefill, "new_tokens"), (prefill, "prefill_context"), (decode, "batch"), (decode, "context"))
        )
        return cls(
            # a chunk of n tokens attends to what was there before and, causally, to itself: n * (before + n / 2);
            # most prompts start from nothing, so those are to come out as measured
            prefill=Surface.fit(new, before + new / 2, prefill["time"].to_numpy(float), shortest=True),
            decode=Surface.fit(batch, context, decode["time"].to_numpy(float), shortest=False),
            measured={
                axis: (float(values.min()), float(values.max()))
                for axis, values in (("tokens", new), ("prefill_context", before), ("batch", batch), ("context", context))
            },
        )

    def linear(self, tokens: npt.ArrayLike) -> Floats:
        """What depends on the step's tokens alone, averaged over those that Vidur rounds up to the same multiple of TOKENS_STEP."""
        top = -(-np.asarray(tokens, float) // TOKENS_STEP) * TOKENS_STEP
        return np.asarray(np.mean([self.prefill.at_zero(top - i) for i in range(TOKENS_STEP)], axis=0))

    def prefill_attention(self, context: npt.ArrayLike, chunk: npt.ArrayLike) -> Floats:
        """Attention of `chunk` new tokens to `context` cached ones and to themselves."""
        c = np.asarray(chunk, float)
        return np.asarray(c * self.prefill.context_unit(c) * (np.asarray(context, float) + c / 2))

    def decode_attention(self, batch: npt.ArrayLike, context: npt.ArrayLike) -> Floats:
        """What a decode step takes beyond `linear` of its tokens."""
        b = np.asarray(batch, float)
        whole = self.decode.at_zero(b) + b * self.decode.context_unit(b) * np.asarray(context, float)
        return np.asarray(whole - self.linear(b))

    def outside(self, *, tokens: int, prefill_context: int, batch: int, context: float) -> bool:
        """Whether a step lies beyond what was measured: more or fewer prompt tokens or sequences, or a longer context."""
        low, high = ({axis: ends[i] for axis, ends in self.measured.items()} for i in (0, 1))
        prefill = tokens > 0 and not (low["tokens"] <= tokens <= high["tokens"] and prefill_context <= high["prefill_context"])
        decode = batch > 0 and not (low["batch"] <= batch <= high["batch"] and context <= high["context"])
        return prefill or decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What the tables must cover, in tokens and sequences: a step's tokens, one prefill chunk, a decode batch, one request's context.

    granularity: tokens between two context rows (Vidur rounds contexts up to it).
    """

    tokens: int
    chunk: int
    batch: int
    context: int
    granularity: int


def mlp_rows(times: StepTimes, grid: Grid, layers: int) -> pd.DataFrame:
    """mlp.csv without its model columns: a row per number of tokens; ms per layer.

    Vidur looks up multiples of TOKENS_STEP only; the rows around each hold its time, so that every tree of the forest sees it.
    """
    tokens = np.arange(1, up(grid.tokens, TOKENS_STEP) + TOKENS_STEP // 2)
    zeros = {f"time_stats.{op}.median": np.zeros(len(tokens)) for op in OPERATIONS}
    nearest = np.maximum(TOKENS_STEP, (tokens + TOKENS_STEP // 2) // TOKENS_STEP * TOKENS_STEP)
    linear = times.linear(nearest) * SECONDS_TO_MS / layers
    return pd.DataFrame({"num_tokens": tokens, **zeros, "time_stats.mlp_up_proj.median": linear})


def attention_rows(times: StepTimes, grid: Grid, layers: int, source: Source) -> pd.DataFrame:
    """attention.csv without its model columns: a row per lookup that Vidur can make; ms per layer.

    A row holds the time at the middle of the values that are rounded up to it. The PyPI release looks a prefill chunk up at the
    context that includes the chunk, so that is what its rows are keyed by; git's exclude it.
    """
    g = grid.granularity
    contexts = np.arange(0, up(grid.context, g) + 1, g)
    middle = np.maximum(contexts - (g - 1) / 2, 0.0)
    batches = np.arange(1, grid.batch + 1)
    decode = _product(batch_size=batches, kv_cache_size=contexts)
    decode["time_stats.attn_decode.median"] = times.decode_attention(
        decode["batch_size"], np.interp(decode["kv_cache_size"], contexts, middle)
    )
    rows_step = CHUNK_ROWS[source]
    chunks = np.arange(rows_step, up(grid.chunk, rows_step) + 1, rows_step)
    prefill = _product(prefill_chunk_size=chunks, kv_cache_size=contexts)
    chunk = prefill["prefill_chunk_size"] - (CHUNK_STEP[source] - 1) / 2
    before = np.interp(prefill["kv_cache_size"], contexts, middle)
    if source == "pypi":
        reachable = prefill["kv_cache_size"] > prefill["prefill_chunk_size"] - rows_step
        before = np.maximum(before - chunk, 0.0)
    else:
        reachable = prefill["kv_cache_size"] >= 0
    prefill["time_stats.attn_prefill.median"] = times.prefill_attention(before, chunk)
    rows = pd.concat([prefill[reachable].assign(batch_size=1, is_prefill=True), decode.assign(prefill_chunk_size=0, is_prefill=False)])
    zero = ["attn_input_reshape", "attn_kv_cache_save", "attn_output_reshape"]
    rows = rows.assign(**{f"time_stats.{op}.median": 0.0 for op in zero}).fillna(0.0)
    timed = ["time_stats.attn_prefill.median", "time_stats.attn_decode.median"]
    rows[timed] *= SECONDS_TO_MS / layers
    return rows.reset_index(drop=True)


def collective_rows(tensor_parallel: int, tokens: int, hidden_size: int) -> pd.DataFrame:
    """all_reduce.csv and send_recv.csv: zeros, since a whole step's time holds its communication already."""
    sizes = np.array([1, up(tokens, TOKENS_STEP)]) * hidden_size * 2  # bytes at 2 per element
    workers: Sequence[int] = sorted({tensor_parallel, 2})
    rows = _product(size=sizes, num_workers=np.array(workers), collective=np.array(["all_reduce", "send_recv"]))
    rows["devices_per_node"] = rows["max_devices_per_node"] = rows["num_workers"]
    return rows.assign(rank=0, **{"time_stats.all_reduce.median": 0.0, "time_stats.send_recv.median": 0.0})


def _product(**axes: npt.NDArray[np.generic]) -> pd.DataFrame:
    return pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)
