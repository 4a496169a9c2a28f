"""A Profile turned into Frontier's own profiling files, by data alone.

Frontier predicts a step as layers * (operations of the step's tokens + attention of the prompts + attention of the decodes), as Vidur does,
with two differences: it refuses negative times, and decodes beside a prompt have an attention forest of their own. A Profile holds whole
steps, so the model that is simulated has one layer, `mlp_up_proj` carries what depends on the tokens, and the attentions carry the rest:

    linear(T)                = what a step of T tokens takes at least, of prompts or of decodes, without context
    prefill_attention(p, c)  = prefill of c new tokens on top of p cached ones, less linear(c)
    decode_attention(b, k)   = decode of b sequences at context k, less linear(b); the same beside a prompt

A step of one prompt and a step of decodes so come out as measured; a mixed one is what Frontier's additive form makes of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulators.foreign.robust_fit import Floats
from simulators.foreign.step_times import StepTimes
from workloads.trace import Trace

TOKENS_STEP = 8  # Frontier rounds a step's tokens up to a multiple of this
CHUNK_STEP = 16  # tokens between two rows along a chunk's length
MILLISECONDS = 1e3  # in a second
MODEL = "measured"  # the model that stands for the measured one
SHAPE: dict[str, int] = {  # any will do: times are looked up by it, and nothing is computed of it
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 64,
}
UNTIMED = (  # operations of linear_op.csv that whole steps hold already
    "emb",
    "input_layernorm",
    "attn_pre_proj",
    "attn_rope",
    "attn_post_proj",
    "post_attention_layernorm",
    "mlp_act",
    "mlp_down_proj",
    "add",
)
LABELS: dict[str, Any] = {
    "profiling_precision": "BF16",
    "model_arch": "generic",
    "model_architecture_profile": "generic",
    "quant_signature": "none",
    "measurement_type": "CUDA_EVENT",
    "num_tensor_parallel_workers": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGrid:
    """What the forests must predict. step: tokens of a step. batch: sequences. context: cached tokens, of all prompts of a step together.

    granularity: tokens between two contexts; Frontier rounds them up to it.
    """

    step: int
    batch: int
    context: int
    granularity: int

    @classmethod
    def over(cls, trace: Trace, *, budget: int, batch: int, rows: int) -> "StepGrid":
        """The smallest that covers every step of a trace. budget, batch: tokens and sequences of a step, at most. rows: of contexts."""
        longest = max(r.input_tokens + r.output_tokens for r in trace)
        granularity = max(32, _up(longest / rows, 32))
        # contexts of a step's prompts are added up, and more than one can be under way: one that was preempted within its prompt comes back
        context = _up(min(2 * longest, sum(r.input_tokens + r.output_tokens for r in trace)), granularity)
        return cls(step=_up(budget, TOKENS_STEP), batch=min(batch, len(trace)), context=context, granularity=granularity)


def model() -> dict[str, object]:
    """The config.json of the model that stands for the measured one: a layer of any shape, whose times are whole steps."""
    return {
        **SHAPE,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "num_hidden_layers": 1,
        "max_position_embeddings": 1 << 24,
        "torch_dtype": "bfloat16",
        "model_architecture_profile": "generic",
    }


def linear(times: StepTimes, tokens: npt.ArrayLike) -> Floats:
    """s that depend on the step's tokens alone: the lesser of a prompt's and of so many decodes', where those were measured."""
    n = np.asarray(tokens, float)
    prompts, decodes = times.prefill.at_zero(n), times.decode.at_zero(n)
    return np.asarray(np.where(n <= times.decode.counts[-1], np.minimum(prompts, decodes), prompts))


def linear_rows(times: StepTimes, grid: StepGrid) -> pd.DataFrame:
    """linear_op.csv: a row per number of tokens, ms. Frontier looks up multiples of TOKENS_STEP; the rows around hold its time."""
    tokens = np.arange(1, grid.step + TOKENS_STEP // 2)
    nearest = np.maximum(TOKENS_STEP, (tokens + TOKENS_STEP // 2) // TOKENS_STEP * TOKENS_STEP)
    rows = pd.DataFrame({"num_tokens": tokens, **{_column(name): 0.0 for name in UNTIMED}})
    rows[_column("mlp_up_proj")] = rounded_linear(times, nearest) * MILLISECONDS
    names = {"n_head": "num_attention_heads", "n_kv_head": "num_key_value_heads", "n_embd": "hidden_size"}
    names |= {"n_expanded_embd": "intermediate_size", "vocab_size": "vocab_size"}
    return rows.assign(**{column: SHAPE[field] for column, field in names.items()}, use_gated_mlp=True, use_qk_norm=False, **LABELS)


def rounded_linear(times: StepTimes, tokens: npt.ArrayLike) -> Floats:
    """`linear`, averaged over the numbers of tokens that Frontier rounds up to the same multiple of TOKENS_STEP."""
    top = -(-np.asarray(tokens, float) // TOKENS_STEP) * TOKENS_STEP
    return np.asarray(np.mean([linear(times, top - i) for i in range(TOKENS_STEP)], axis=0))


def attention_rows(times: StepTimes, grid: StepGrid, block_size: int) -> pd.DataFrame:
    """attention.csv: chunks of prompts, decodes, and decodes beside a prompt, ms.

    A row holds the time at the middle of the contexts that Frontier rounds up to it.
    """
    contexts = np.arange(0, grid.context + 1, grid.granularity)
    middle = np.maximum(contexts - (grid.granularity - 1) / 2, 0.0)
    chunks = np.unique(np.append(np.arange(CHUNK_STEP, grid.step + 1, CHUNK_STEP), [1, 2, 4, 8, grid.step]))
    prompts = _product(prefill_chunk_size=chunks, kv_cache_size=contexts).assign(batch_size=1, is_prefill=True)
    c, before = prompts["prefill_chunk_size"], np.interp(prompts["kv_cache_size"], contexts, middle)
    alone = times.prefill.at_zero(c) + times.prefill_attention(before, c)
    prompts[_column("attn_prefill")] = np.maximum(alone - rounded_linear(times, c), 0.0)
    decodes = _product(batch_size=np.arange(1, grid.batch + 1), kv_cache_size=contexts).assign(prefill_chunk_size=0, is_prefill=False)
    b, k = decodes["batch_size"], np.interp(decodes["kv_cache_size"], contexts, middle)
    decodes[_column("attn_decode")] = np.maximum(times.decode_step(b, k) - rounded_linear(times, b), 0.0)
    rows = pd.concat([prompts, decodes], ignore_index=True).assign(is_true_mixed_batch=False)
    every = pd.concat([rows, beside_prompts(decodes)], ignore_index=True)
    timed = [_column("attn_prefill"), _column("attn_decode")]
    every[timed] = every[timed].fillna(0.0) * MILLISECONDS
    every[_column("attn_kv_cache_save")] = 0.0
    return every.assign(n_embd=SHAPE["hidden_size"], n_q_head=1, n_kv_head=1, block_size=block_size, **LABELS)


def beside_prompts(decodes: pd.DataFrame) -> pd.DataFrame:
    """The decodes' rows once more, beside a prompt: of what else their forest knows nothing varies, so that it learns the same times."""
    return decodes.assign(
        is_true_mixed_batch=True,
        is_prefill=True,
        decode_batch_size=decodes["batch_size"],
        decode_avg_kv_cache_size=decodes["kv_cache_size"],
        num_prefill_seqs=1,
        total_prefill_tokens=1,
        total_batch_size=2,
        batch_composition_ratio=0.5,
        total_tokens=2,
    )


def _column(operation: str) -> str:
    return f"time_stats.{operation}.median"


def _up(value: float, step: int) -> int:
    return int(-(-value // step) * step)


def _product(**axes: npt.NDArray[np.generic]) -> pd.DataFrame:
    return pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)
