"""A Profile turned into AISimulate's own database of operation times (a `systems` folder), by data alone.

AISimulate takes a step to last (measured on 0.1.0.dev2 and on 0.13.0.dev202610270000000085, and held to in
tests/simulators/aisimulate/test_aisimulate_runs.py)

    prefill(k prompts of n new tokens on p cached ones, both means) + decode(b sequences of c tokens each, a mean),
    prefill = gemm(k n) + context_attention(k, p + n) * (1 - p^2 / (p + n)^2),
    decode = gemm(b) + generation_attention(b, c).

In 0.1.0 the prompts that end in the step count among the b sequences already, and decode is at least 1 ms. So the last chunk of a lone
prompt lasts prefill + decode(1). In 0.13.0 the b sequences are the others alone, there is no least time, and a step of prompts lasts their
prefill. The tables are made to give what the profile has measured for a lone prompt:

    gemm(m)                     = prefill of m tokens, less their attention to themselves, in 0.1.0 less a decode step of one sequence
    context_attention(k, s)     = attention of a whole prompt of s tokens, k times
    generation_attention(b, c)  = decode of b sequences at context c, less gemm(b)

A mixed step then pays its fixed cost once in 0.1.0, and twice in 0.13.0: there no table can tell a chunk beside decodes from a lone one.
With prefill and decode on instances of their own no decode follows in a prompt's last step: nothing is taken off then, and the first token
comes one decode step after the KV cache has arrived.
What else cannot be expressed: in 0.1.0 a decode step under 1 ms, and a chunk that is not a prompt's last and that no decode accompanies (it
lacks a decode step of one sequence); in both, attention to a cached prefix at another cost a token than within a prompt.
The model is a stand-in of one layer, since the profile's steps are of the whole model, its communication included.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulators.foreign.step_points import decode_time
from simulators.foreign.step_times import StepTimes

Floats = npt.NDArray[np.float64]

HARDWARE, VERSION = "measured", "1"  # of the database that is written
HEAD = 64  # elements; every size of the stand-in, so that the operation that carries `gemm` has a shape of its own
CARRIER = (3 * HEAD, HEAD)  # (n, k) of the projection to queries, keys and values: once a step
IDLE = ((HEAD, HEAD), (2 * HEAD, HEAD))  # of the others
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HEAD,
    "intermediate_size": HEAD,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "vocab_size": HEAD,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}
NO_COST = 1e30  # bytes/s and FLOP/s: what it computes from the hardware alone, and takes for a lower bound, is nothing
ROWS = 96  # of an axis
MS = 1e3


@dataclass(frozen=True, kw_only=True)
class AISimulateTables:
    """The two measured quantities on their grids, in s; between the points of a grid AISimulate interpolates linearly."""

    times: StepTimes  # the profile's
    ending_decodes: bool  # whether a prompt's last step costs it a decode step as well
    decode_floor: float  # s that a decode lasts at least
    tokens: Floats  # of a step: the axis of `gemm`
    gemm: Floats  # gemm(m)
    batches: Floats  # sequences: the rows of `generation`
    contexts: Floats  # tokens: its columns
    generation: Floats  # generation_attention(b, c)

    @classmethod
    def of(
        cls, times: StepTimes, *, tokens: int, batch: int, context: int, ending_decodes: bool, decode_floor: float
    ) -> "AISimulateTables":
        """Tables for steps of at most `tokens` prompt tokens, `batch` sequences and `context` tokens each."""
        m = _axis(max(tokens, batch), times.prefill.counts, times.decode.counts)
        one = decode_time(times, 1, m) if ending_decodes else np.zeros(len(m))
        gemm = np.maximum.accumulate(np.maximum(times.prefill.at_zero(m) - one, 0.0))
        batches, contexts = _axis(batch, times.decode.counts), _axis(context)
        whole = decode_time(times, batches[:, None], contexts[None, :])
        generation = np.maximum(whole - np.interp(batches, m, gemm)[:, None], 0.0)
        return cls(
            times=times,
            ending_decodes=ending_decodes,
            decode_floor=decode_floor,
            tokens=m,
            gemm=gemm,
            batches=batches,
            contexts=contexts,
            generation=generation,
        )

    @property
    def cannot_express(self) -> str:
        """In words, for the report."""
        if self.ending_decodes:
            return "decode steps under 1 ms, and chunks that are not a prompt's last and have no decode beside them"
        return "the fixed cost of a step of prompts and decodes, which it has twice"

    def prompt_attention(self, tokens: npt.ArrayLike) -> Floats:
        """s of a whole prompt's attention to itself."""
        return np.asarray(self.times.prefill_attention(0, tokens))

    def prefill(self, new: npt.ArrayLike, cached: npt.ArrayLike) -> Floats:
        """s that AISimulate adds for one prompt's chunk of `new` tokens on `cached` ones."""
        n, p = np.asarray(new, float), np.asarray(cached, float)
        done = 1 - (p / (p + n)) ** 2
        return np.asarray(np.interp(n, self.tokens, self.gemm) + self.prompt_attention(p + n) * done)

    def decode(self, batch: npt.ArrayLike, context: npt.ArrayLike) -> Floats:
        """s that AISimulate adds for `batch` sequences of `context` tokens each."""
        b, c = np.asarray(batch, float), np.asarray(context, float)
        # exact: in both directions the whole is linear between the grid's points
        left = np.array([[np.interp(x, self.contexts, row) for row in self.generation] for x in c.ravel()])
        attention = np.array([np.interp(y, self.batches, column) for y, column in zip(b.ravel(), left, strict=True)])
        return np.asarray(np.maximum(np.interp(b, self.tokens, self.gemm) + attention.reshape(b.shape), self.decode_floor))

    def step(self, points: pd.DataFrame) -> Floats:
        """s of a profile's points, as AISimulate takes them: a prompt's chunk is its last, and so decodes in the same step."""
        new, cached, batch, context = (points[c].to_numpy(float) for c in ("new_tokens", "prefill_context", "batch", "context"))
        ending = np.where((new > 0) & self.ending_decodes, 1.0, 0.0)
        sequences = batch + ending
        mean = (batch * context + ending * (cached + new)) / np.maximum(sequences, 1)
        prefill = np.where(new > 0, self.prefill(np.maximum(new, 1), cached), 0.0)
        decode = np.where(sequences > 0, self.decode(np.maximum(sequences, 1), mean), 0.0)
        return np.asarray(prefill + decode)

    def write(self, systems: Path, model: Path, *, max_model_len: int) -> None:
        """Write the database into `systems` and the stand-in's config.json into `model`."""
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps({**MODEL, "max_position_embeddings": max_model_len}, indent=1))
        folders = {family: systems / "data" / family / "vllm" / VERSION for family in ("gemm", "attention")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        (systems / f"{HARDWARE}.yaml").write_text(json.dumps(_hardware(), indent=1))  # JSON is YAML
        common = {"framework": "VLLM", "version": VERSION, "device": HARDWARE, "kernel_source": "profile"}
        idle = [pd.DataFrame({"m": self.tokens, "n": n, "k": k, "latency": 0.0}) for n, k in IDLE]
        carrier = pd.DataFrame({"m": self.tokens, "n": CARRIER[0], "k": CARRIER[1], "latency": self.gemm * MS})
        gemm = pd.concat([carrier, *idle]).astype({"m": int})
        gemm.assign(op_name="gemm", gemm_dtype="bfloat16", **common).to_parquet(folders["gemm"] / "gemm_perf.parquet", index=False)
        prompt = self.batches[:, None] * self.prompt_attention(self.contexts)[None, :]
        for name, latency, decoding in (("context_attention", prompt, 0), ("generation_attention", self.generation, 1)):
            grid = pd.MultiIndex.from_product([self.batches.astype(int), self.contexts.astype(int)], names=["batch_size", "length"])
            rows = grid.to_frame(index=False).assign(latency=latency.ravel() * MS)
            # it adds `isl` and `step` to the length of a decoding sequence
            rows = rows.assign(isl=1 if decoding else rows["length"], step=rows["length"] - 1 if decoding else 0).drop(columns="length")
            rows = rows.assign(num_heads=1, num_key_value_heads=1, head_dim=HEAD, beam_width=1, window_size=0)
            rows = rows.assign(op_name=name, attn_dtype="bfloat16", kv_cache_dtype="bfloat16", **common)
            rows.to_parquet(folders["attention"] / f"{name}_perf.parquet", index=False)


def _hardware() -> dict[str, object]:
    gpu = {"mem_bw": NO_COST, "mem_capacity": 10**15, "bfloat16_tc_flops": NO_COST, "sm_version": 90}
    node = {"num_gpus_per_node": 8, "inter_node_bw": NO_COST, "intra_node_bw": NO_COST, "pcie_bw": NO_COST}
    return {"data_dir": "data", "gpu": gpu, "node": node}


def _axis(last: int, *measured: Floats) -> Floats:
    """Whole numbers from 1 to `last`, about ROWS of them, the larger the rarer, and every measured one between."""
    numbers = np.round(np.geomspace(1, last, ROWS))
    inside = [counts[(counts >= 1) & (counts <= last)] for counts in measured]
    return np.unique(np.concatenate([numbers, *inside]).round())
