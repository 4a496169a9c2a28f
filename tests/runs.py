"""Hand-made runs for tests: plausible random records, the same ones for the same seed. No engine is asked."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from results.record import SLO, EngineLimits, RequestRecord, Run, Track
from workloads.trace import Request, Trace

MODEL_CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 2048}
LIMITS = EngineLimits(
    kv_tokens=16384,
    block_size=16,
    max_num_seqs=32,
    max_num_batched_tokens=2048,
    max_model_len=4096,
    chunked_prefill=True,
    prefix_caching=False,
)


def make_trace(num_requests: int = 40, *, seed: int = 0, rate: float = 5.0, name: str = "handmade") -> Trace:
    """A Poisson trace with lognormal lengths; every fifth request shares its first block with the others."""
    rng = np.random.default_rng([seed, 1])
    arrivals = np.cumsum(rng.exponential(1 / rate, num_requests)) - 1e-3
    inputs = np.clip(rng.lognormal(4.5, 0.6, num_requests), 32, 1500).astype(int)
    outputs = np.clip(rng.lognormal(3.0, 0.6, num_requests), 1, 200).astype(int)
    requests = tuple(
        Request(
            request_id=i,
            arrival=max(0.0, float(arrivals[i])),
            input_tokens=int(inputs[i]),
            output_tokens=int(outputs[i]),
            blocks=(7,) if i % 5 == 0 else (),
        )
        for i in range(num_requests)
    )
    return Trace(name=name, requests=requests, block_size=16)


def make_run(
    run_id: str = "vllm-handmade-0",
    *,
    num_requests: int = 40,
    seed: int = 0,
    rate: float = 5.0,
    rho: float | None = 0.7,
    repeat: int = 0,
    system: str = "vllm",
    failures: Sequence[int] = (),
    token_times: bool = True,
    telemetry: bool = True,
    slo: SLO = SLO(ttft=0.4, tpot=0.03),  # noqa: B008 (frozen)
    trace: Trace | None = None,
) -> Run:
    """A measured run. `failures`: indices of requests that failed. The window holds the middle 80 % of the arrivals."""
    asked = trace if trace is not None else make_trace(num_requests, seed=seed, rate=rate)
    rng = np.random.default_rng([seed, repeat, 2])
    records = [_record(r, rng, token_times=token_times) for r in asked]
    for index in failures:
        lost = records[index]
        records[index] = RequestRecord(request_id=lost.request_id, arrival=lost.arrival, sent=lost.sent, error="stream ended early")
    return Run(
        run_id=run_id,
        kind="measured",
        system=system,
        version="0.0.1",
        workload=asked.name,
        model="tiny-llama",
        hardware="cpu-test",
        trace=asked,
        records=tuple(records),
        limits=LIMITS,
        started_at=f"2026-01-02T03:04:{repeat:02d}+00:00",
        wall_s=asked.duration + 2.0,
        slo=slo,
        rho=rho,
        rate=rate,
        repeat=repeat,
        window=(0.1 * asked.duration, 0.9 * asked.duration),
        config={
            "engine": {"name": system, "max_num_seqs": 32},
            "model": dict(MODEL_CONFIG),
            "hardware": {"name": "cpu-test", "memory_gb": 8},
            "workload": {"name": asked.name},
            "load": {"rho": rho},
            "seed": seed,
        },
        provenance={"packages": {system: "0.0.1"}, "host": "test"},
        telemetry=_telemetry(asked.duration, rng) if telemetry else None,
    )


def make_simulated(
    measured: Run, *, system: str = "vidur", track: Track = "calibrated", scale: float = 1.1, noise: float = 0.05, seed: int = 0
) -> Run:
    """A simulated run held against `measured`: its latencies times `scale`, with lognormal `noise`; no token times, like Vidur."""
    rng = np.random.default_rng([seed, 3])
    return dataclasses.replace(
        measured,
        run_id=f"{measured.run_id}--{system}-{track}",
        kind="simulated",
        system=system,
        version="0.0.2",
        track=track,
        measured_run_id=measured.run_id,
        records=tuple(_simulated(r, scale * float(rng.lognormal(0.0, noise))) for r in measured.records),
        wall_s=1.5,
        valid=True,
        invalid_reason=None,
        config={**measured.config, "simulator": {"name": system, "coverage": {"chunked_prefill": "yes", "notes": ""}}},
        telemetry=None,
    )


def make_pair(*, num_requests: int = 40, seed: int = 0, scale: float = 1.1) -> tuple[Run, Run]:
    """(measured, simulated): the smallest database that a score can be computed on."""
    measured = make_run(num_requests=num_requests, seed=seed)
    return measured, make_simulated(measured, scale=scale, seed=seed)


def _record(request: Request, rng: np.random.Generator, *, token_times: bool) -> RequestRecord:
    sent = request.arrival + float(rng.exponential(2e-4))
    scheduled = sent + float(rng.exponential(0.05))
    first_token = scheduled + 0.01 + 2e-4 * request.input_tokens * float(rng.lognormal(0, 0.1))
    gaps = rng.gamma(20, 1e-3, request.output_tokens - 1)
    times = (first_token, *(first_token + np.cumsum(gaps)).tolist())
    return RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=sent,
        scheduled=scheduled,
        first_token=first_token,
        finished=times[-1],
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        cached_tokens=16 * len(request.blocks),
        token_times=times if token_times else None,
    )


def _simulated(measured: RequestRecord, factor: float) -> RequestRecord:
    """The request's own life, stretched by `factor` from its arrival; what failed on the engine runs in 1 s of simulated time."""
    moments = {m: getattr(measured, m) for m in ("scheduled", "first_token", "finished")}
    if measured.error is not None:
        moments = {"scheduled": measured.arrival + 0.1, "first_token": measured.arrival + 0.2, "finished": measured.arrival + 1.0}
    stretched = {m: None if t is None else measured.arrival + factor * (t - measured.arrival) for m, t in moments.items()}
    return RequestRecord(
        request_id=measured.request_id,
        arrival=measured.arrival,
        sent=measured.sent,
        input_tokens=measured.input_tokens or 64,
        output_tokens=measured.output_tokens or 16,
        **stretched,
    )


def _telemetry(duration: float, rng: np.random.Generator) -> pd.DataFrame:
    times = np.arange(0.0, duration, 0.5)
    names = ("num_requests_running", "kv_cache_usage")
    frames = [pd.DataFrame({"time": times, "name": name, "value": rng.random(len(times))}) for name in names]
    return pd.concat(frames, ignore_index=True)
