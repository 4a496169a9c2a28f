"""Synthetic profiles of an engine whose step times follow a known law, and measured runs to hold simulations against."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from results.profile import SAMPLE_COLUMNS, Profile
from results.record import EngineLimits, RequestRecord, Run
from workloads.trace import Request, Trace

MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
LIMITS = EngineLimits(
    kv_tokens=65536,
    block_size=16,
    max_num_seqs=64,
    max_num_batched_tokens=512,
    max_model_len=4096,
    chunked_prefill=True,
    prefix_caching=False,
)


@dataclass(frozen=True, kw_only=True)
class Law:
    """Step times in s: a fixed cost, per new token, per sequence decoded, and per (new token * token attended to)."""

    fixed: float = 2e-3
    token: float = 2e-5
    sequence: float = 1.5e-4
    attention: float = 1e-8
    frontend: float = 4e-3

    def prefill(self, tokens: int, context: int = 0) -> float:
        return self.fixed + self.token * tokens + self.attention * tokens * (context + tokens / 2)

    def decode(self, batch: int, context: float) -> float:
        return self.fixed + self.sequence * batch + self.attention * batch * context

    def mixed(self, tokens: int, context: int, batch: int, decode_context: float) -> float:
        """Both in one step, which pays its fixed cost once."""
        return self.prefill(tokens, context) + self.decode(batch, decode_context) - self.fixed


def make_profile(law: Law, *, scale: float = 1.0, mixed: bool = True, limits: EngineLimits = LIMITS) -> Profile:
    """A profile that measured `law` (times `scale`) without noise, three times each point; every third point is held out."""
    points: list[tuple[str, int, int, int, float, float]] = []
    for tokens in (16, 32, 64, 128, 256, 384, 512, 1024):
        points += [("prefill", tokens, c, 0, 0.0, law.prefill(tokens, c)) for c in ((0, 512, 1536) if tokens in (64, 256, 512) else (0,))]
    for batch in (1, 2, 4, 8, 16, 32, 64):
        points += [("decode", 0, 0, batch, float(k), law.decode(batch, k)) for k in (64, 512, 2048)]
    if mixed:
        points += [("mixed", t, 0, b, 256.0, law.mixed(t, 0, b, 256)) for t, b in ((64, 4), (256, 8), (448, 32))]
    points += [("frontend", 0, 0, 0, 0.0, law.frontend)]
    held = {("prefill", 128), ("prefill", 384), ("decode", 4)}
    rows = [
        (kind, tokens, before, batch, context, time * scale, repeat, kind == "mixed" or (kind, tokens or batch) in held)
        for kind, tokens, before, batch, context, time in points
        for repeat in range(3)
    ]
    return Profile(
        profile_id="law",
        system="vllm",
        version="0",
        model=MODEL,
        hardware="cpu-test",
        limits=limits,
        samples=pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)),
        source="a law",
        started_at="2026-01-02T03:04:05+00:00",
        wall_s=1.0,
    )


def without(profile: Profile, kind: str) -> Profile:
    """The profile less its points of one kind."""
    return dataclasses.replace(profile, samples=profile.samples[profile.samples["kind"] != kind].reset_index(drop=True))


def make_measured(requests: Sequence[tuple[float, int, int]], *, limits: EngineLimits = LIMITS, first_id: int = 0) -> Run:
    """A measured run of (sent, input_tokens, output_tokens) requests, each due 1 ms before it was sent; its latencies are not real."""
    asked = tuple(
        Request(request_id=first_id + i, arrival=max(0.0, sent - 1e-3), input_tokens=inputs, output_tokens=outputs)
        for i, (sent, inputs, outputs) in enumerate(requests)
    )
    records = tuple(
        RequestRecord(
            request_id=request.request_id,
            arrival=request.arrival,
            sent=sent,
            first_token=sent + 1.0,
            finished=sent + 2.0,
            input_tokens=request.input_tokens,
            output_tokens=request.output_tokens,
        )
        for request, (sent, _, _) in zip(asked, requests, strict=True)
    )
    return Run(
        run_id="vllm-law-0",
        kind="measured",
        system="vllm",
        version="0",
        workload="handmade",
        model="tiny",
        hardware="cpu-test",
        trace=Trace(name="handmade", requests=asked),
        records=records,
        limits=limits,
        started_at="2026-01-02T03:04:05+00:00",
        wall_s=1.0,
        rho=0.5,
        rate=1.0,
        window=(0.0, asked[-1].arrival),
        config={"engine": {"name": "vllm"}, "model": MODEL, "hardware": {"name": "cpu-test", "memory_gb": 8}, "seed": 0},
    )


def overtaken(run: Run, index: int) -> Run:
    """The run with its request at `index` sent late, 2 ms after the next one: simulators meet them in that order, ids unchanged."""
    late = dataclasses.replace(run.records[index], sent=(run.records[index + 1].sent or 0.0) + 2e-3)
    return dataclasses.replace(run, records=(*run.records[:index], late, *run.records[index + 1 :]))


def unsent(run: Run, place: int) -> Run:
    """The run with one request that never left the client."""
    records = list(run.records)
    records[place] = dataclasses.replace(records[place], sent=None, first_token=None, finished=None, error="no socket")
    return dataclasses.replace(run, records=tuple(records))


def with_limits(limits: EngineLimits = LIMITS, **changes: int | None) -> EngineLimits:
    """The limits, some of them changed."""
    return dataclasses.replace(limits, **changes)  # type: ignore[arg-type]
