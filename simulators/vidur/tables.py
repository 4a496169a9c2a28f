"""A Profile turned into Vidur's own profiling files, by data alone.

Vidur predicts a step as layers * (operations of the step's total tokens + attention of each prefill chunk + attention of the decodes),
each term by a random forest over a table in its own format. A Profile holds whole steps, so one operation (`mlp_up_proj`) carries
what depends on the tokens, the two attentions carry the rest, and every other operation is 0:

    linear(T)                = prefill of T tokens, less their attention to themselves
    prefill_attention(p, c)  = attention of c new tokens to p cached ones and to themselves, c * u(c) * (p + c / 2)
    decode_attention(b, k)   = decode of b sequences at context k, less linear(b): what is left, so it may be negative for small b

A pure prefill, a pure decode and so their sums come out as measured; a mixed step is what Vidur's additive form makes of them.
Read first: `StepTimes` (step_times.py, the model of the step times), then `mlp_rows` and `attention_rows` (their tables).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulators.foreign.robust_fit import Floats
from simulators.foreign.step_times import StepTimes

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileGrid:
    """What the tables must cover, in tokens and sequences: a step's tokens, one prefill chunk, a decode batch, one request's context.

    granularity: tokens between two context rows (Vidur rounds contexts up to it).
    """

    tokens: int
    chunk: int
    batch: int
    context: int
    granularity: int


def linear(times: StepTimes, tokens: npt.ArrayLike) -> Floats:
    """s that depend on the step's tokens alone, averaged over those that Vidur rounds up to the same multiple of TOKENS_STEP."""
    top = -(-np.asarray(tokens, float) // TOKENS_STEP) * TOKENS_STEP
    return np.asarray(np.mean([times.prefill.at_zero(top - i) for i in range(TOKENS_STEP)], axis=0))


def decode_attention(times: StepTimes, batch: npt.ArrayLike, context: npt.ArrayLike) -> Floats:
    """s that a decode step takes beyond `linear` of its tokens."""
    return np.asarray(times.decode_step(batch, context) - linear(times, batch))


def mlp_rows(times: StepTimes, grid: ProfileGrid, layers: int) -> pd.DataFrame:
    """mlp.csv without its model columns: a row per number of tokens; ms per layer.

    Vidur looks up multiples of TOKENS_STEP only; the rows around each hold its time, so that every tree of the forest sees it.
    """
    tokens = np.arange(1, up(grid.tokens, TOKENS_STEP) + TOKENS_STEP // 2)
    zeros = {f"time_stats.{op}.median": np.zeros(len(tokens)) for op in OPERATIONS}
    nearest = np.maximum(TOKENS_STEP, (tokens + TOKENS_STEP // 2) // TOKENS_STEP * TOKENS_STEP)
    milliseconds = linear(times, nearest) * SECONDS_TO_MS / layers
    return pd.DataFrame({"num_tokens": tokens, **zeros, "time_stats.mlp_up_proj.median": milliseconds})


def attention_rows(times: StepTimes, grid: ProfileGrid, layers: int, source: Source) -> pd.DataFrame:
    """attention.csv without its model columns: a row per lookup that Vidur can make; ms per layer.

    A row holds the time at the middle of the values that are rounded up to it. The PyPI release looks a prefill chunk up at the
    context that includes the chunk, so that is what its rows are keyed by; git's exclude it.
    """
    g = grid.granularity
    contexts = np.arange(0, up(grid.context, g) + 1, g)
    middle = np.maximum(contexts - (g - 1) / 2, 0.0)
    batches = np.arange(1, grid.batch + 1)
    decode = _product(batch_size=batches, kv_cache_size=contexts)
    decode["time_stats.attn_decode.median"] = decode_attention(
        times, decode["batch_size"], np.interp(decode["kv_cache_size"], contexts, middle)
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
