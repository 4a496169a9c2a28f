"""Shapes from the papers, in our own simulator: which way each idea goes, and about how far, beside the published figure; a plot each.

Not part of the tests: `make perf` runs them (some minutes), and fails where a direction is wrong.
"""

from typing import Any

import numpy as np
import pytest

from simulators.native.architecture.reader import decoder_of
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.effects.effects import Effects
from simulators.native.latency.device import Device
from simulators.native.latency.roofline import Roofline
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.perf.papers import (
    LLAMA_13B,
    MISTRAL_7B,
    NATIVE,
    SHAREGPT,
    Rig,
    Workload,
    capacity,
    gaps,
    hardware,
    normalized,
    plot,
    tell,
    tpot,
    ttft,
)
from workloads.lengths import Lognormal
from workloads.trace import Request, Trace

A100 = hardware("a100")
A100_40 = hardware("a100", memory_gb=40, memory_bandwidth_gb_s=1555)


def once(benchmark: Any, study: Any) -> Any:
    return benchmark.pedantic(study, rounds=1, iterations=1)


def test_iteration_level_against_request_level_batching(benchmark: Any) -> None:
    """Orca (OSDI 2022): 36.9 times the throughput of FasterTransformer at the same latency, for GPT-3 175B. Here 13B on one A100: the mean
    latency per output token stays below 0.1 s.
    """
    rig = Rig(model=LLAMA_13B, device=A100, max_model_len=2048, changes={"max_num_seqs": 32})
    load = Workload(input=Lognormal(mean=270, cv=0.5, most=512), output=Lognormal(mean=64, cv=0.5, most=128), requests=300)

    def study() -> tuple[float, Any]:
        rates = [0.25, 0.5, 1, 2, 4, 8, 12, 16, 24]
        lines = {p: (rates, [normalized(rig.serve(load.trace(r), p).records) for r in rates]) for p in ("orca", "request_level")}
        best = {p: capacity(load, lambda t, p=p: rig.serve(t, p), lambda r: normalized(r) < 0.1) for p in lines}  # type: ignore[misc]
        path = plot("orca", "Iteration-level against request-level batching", "requests/s", "mean latency per token (s)", lines)
        return best["orca"] / best["request_level"], path

    factor, path = once(benchmark, study)
    tell(benchmark, "Orca / request-level, rate at 0.1 s per token", factor, "up to 36.9 for 175B on 16 GPUs", path)
    assert factor > 2


def test_paged_against_contiguous_memory(benchmark: Any) -> None:
    """PagedAttention (SOSP 2023, section 6.2): 1.7 to 2.7 times the rate of Orca (Oracle), 2.7 to 8 times Orca (Max)'s, on ShareGPT."""
    rig = Rig(model=LLAMA_13B, device=A100_40, max_model_len=2048)

    def study() -> tuple[dict[str, float], Any]:
        policies = ("vllm_v0", "orca", "orca_power_of_two", "orca_max")
        rates = [0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3]
        lines = {p: (rates, [normalized(rig.serve(SHAREGPT.trace(r), p).records) for r in rates]) for p in policies}
        best = {p: capacity(SHAREGPT, lambda t, p=p: rig.serve(t, p), lambda r: normalized(r) < 0.25) for p in policies}  # type: ignore[misc]
        return best, plot("paged", "Paged against contiguous KV memory", "requests/s", "mean latency per token (s)", lines)

    best, path = once(benchmark, study)
    tell(benchmark, "paged / Orca (Oracle), rate", best["vllm_v0"] / best["orca"], "1.7 to 2.7", path)
    tell(benchmark, "paged / Orca (Max), rate", best["vllm_v0"] / best["orca_max"], "2.7 to 8", path)
    assert best["vllm_v0"] > best["orca"] > best["orca_power_of_two"] > best["orca_max"]


def test_chunked_prefill_and_the_tail_of_the_gaps(benchmark: Any) -> None:
    """Sarathi-Serve (OSDI 2024): 2.6 times vLLM's capacity for Mistral-7B on one A100 under a strict limit on the P99 gap (0.1 s)."""
    rig = Rig(model=MISTRAL_7B, device=A100, max_model_len=8192, changes={"max_num_seqs": 128})
    load = Workload(  # openchat_sharegpt4 (table 2): median 1,730 tokens in (P90 5,696), 415 out (P90 834)
        input=Lognormal(median=1730, sigma=0.93, most=7000), output=Lognormal(median=415, sigma=0.55, most=1100), requests=250
    )

    def study() -> tuple[dict[str, float], Any]:
        def p99(policy: str, budget: int, rate: float) -> float:
            return float(np.quantile(gaps(rig.serve(load.trace(rate), policy, max_num_batched_tokens=budget).records), 0.99))

        settings = {"vllm_v0": ("vllm_v0", 8192), "sarathi 512": ("sarathi", 512), "sarathi 2048": ("sarathi", 2048)}
        rates = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3]
        lines = {name: (rates, [p99(*setting, r) for r in rates]) for name, setting in settings.items()}
        best = {
            name: capacity(
                load,
                lambda t, p=policy, b=budget: rig.serve(t, p, max_num_batched_tokens=b),  # type: ignore[misc]
                lambda r: float(np.quantile(gaps(r), 0.99)) < 0.1 and float(np.median(ttft(r))) < 2,
            )
            for name, (policy, budget) in settings.items()
        }
        return best, plot("sarathi", "Chunked prefill: the P99 gap between tokens", "requests/s", "P99 gap (s)", lines)

    best, path = once(benchmark, study)
    chunked = max(best["sarathi 512"], best["sarathi 2048"])
    tell(benchmark, "Sarathi-Serve / vLLM, capacity at P99 gap 0.1 s", chunked / best["vllm_v0"], "2.6", path)
    assert chunked > 1.2 * best["vllm_v0"]


def test_disaggregation_at_tight_limits(benchmark: Any) -> None:
    """DistServe (OSDI 2024): 2.0 times vLLM's goodput a GPU for OPT-13B on ShareGPT (90 % within TTFT 0.25 s and TPOT 0.1 s), the more the
    tighter the limit on TPOT. Here 13B on 4 A100: the best split into prefill and decode against 4 replicas that compute prompts first.
    """
    rig = Rig(model=LLAMA_13B, device=A100, max_model_len=4096)
    load = Workload(  # its figure 7: ShareGPT with mean 755.5 tokens in, 200.3 out
        input=Lognormal(mean=755.5, cv=0.8, most=2000), output=Lognormal(mean=200.3, cv=0.8, most=1000), requests=300
    )
    splits = [Arrangement(kind="distserve", instances=4, prefill=p, link_gb_s=300.0) for p in (1, 2, 3)]

    def study() -> tuple[list[float], Any]:
        def goodput(arrangement: Arrangement, policy: str, limit: float) -> float:
            return capacity(
                load,
                lambda trace: rig.serve(trace, policy, arrangement, max_num_batched_tokens=4096),
                lambda r: float(np.quantile(ttft(r), 0.9)) < 0.25 and float(np.quantile(tpot(r), 0.9)) < limit,
            )

        limits = [0.022, 0.025, 0.03, 0.04, 0.1]
        lines = {
            "best split": (limits, [max(goodput(s, "vllm_v1", limit) for s in splits) / 4 for limit in limits]),
            "replicas, prompts first": (limits, [goodput(Arrangement(instances=4), "vllm_v0", limit) / 4 for limit in limits]),
        }
        one, two = (np.array(ys) for _, ys in lines.values())
        path = plot("distserve", "Goodput a GPU, TTFT within 0.25 s", "limit on TPOT (s)", "requests/s a GPU", lines)
        return list(np.divide(one, two, out=np.full_like(one, np.inf), where=two > 0)), path

    gains, path = once(benchmark, study)
    best = max(g for g in gains if np.isfinite(g))
    tell(benchmark, "DistServe / replicas, goodput a GPU at tight limits", best, "2.0", path)
    print("by the limit on TPOT, tightest first:", [round(float(g), 2) for g in gains])
    assert best > 1 and gains[0] > gains[-1]


def test_pools_at_equal_cost(benchmark: Any) -> None:
    """Splitwise (ISCA 2024): 2.15 to 2.35 times the throughput of mixed batching at equal power and cost, on clusters of 40
    machines; here 8 machines of Llama-13B, throughput within P90 limits on TTFT and on the gaps.
    """
    rig = Rig(model=LLAMA_13B, device=A100, max_model_len=8192)
    load = Workload(input=Lognormal(mean=1155, cv=0.96, most=6000), output=Lognormal(mean=211, cv=0.77, most=1500), requests=600)

    def study() -> tuple[dict[str, float], Any]:
        settings = {
            "8 mixed": (Arrangement(instances=8, router="least_outstanding"), "vllm_v0"),
            **{
                f"{p} prompt, {8 - p} token": (Arrangement(kind="splitwise", instances=8, prefill=p, link_gb_s=25.0), "vllm_v1")
                for p in (3, 4, 5)
            },
        }

        def p90(r: Any) -> float:
            return float(np.quantile(gaps(r), 0.9))

        best = {
            name: capacity(
                load,
                lambda t, a=arrangement, p=policy: rig.serve(t, p, a, max_num_batched_tokens=2048),  # type: ignore[misc]
                lambda r: p90(r) < 0.06 and float(np.quantile(ttft(r), 0.9)) < 1.0,
            )
            for name, (arrangement, policy) in settings.items()
        }
        return best, plot(
            "splitwise",
            "Throughput of 8 machines within limits",
            "setting",
            "requests/s",
            {"best": (list(best), list(best.values()))},
        )

    best, path = once(benchmark, study)
    pools = max(rate for name, rate in best.items() if "prompt" in name)
    tell(
        benchmark, "Splitwise / mixed batching, throughput", pools / best["8 mixed"], "1.4 at less cost, 2.35 at equal cost and power", path
    )
    assert pools > best["8 mixed"]


def test_migration_and_the_tail(benchmark: Any) -> None:
    """Llumnix (OSDI 2024): P99 prefill latency up to 15 times lower than round robin with load-aware dispatch (16 LLaMA-7B instances)."""
    rig = Rig(model={**LLAMA_13B, "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32},
              device=hardware("a100", memory_gb=24), max_model_len=6144)  # fmt: skip
    load = Workload(input=Lognormal(median=200, sigma=1.3, most=4500), output=Lognormal(median=250, sigma=1.1, most=1600), requests=800)

    def study() -> tuple[dict[str, float], Any]:
        settings = {
            "round robin": Arrangement(instances=4),
            "least outstanding": Arrangement(instances=4, router="least_outstanding"),
            "llumnix": Arrangement(kind="llumnix", instances=4, link_gb_s=8.0),
        }
        rates = [4.0, 5.0, 6.0, 7.0, 8.0]
        lines = {
            name: (rates, [float(np.quantile(ttft(rig.serve(load.trace(r), "vllm_v1", a).records), 0.99)) for r in rates])
            for name, a in settings.items()
        }
        path = plot("llumnix", "P99 TTFT of 4 instances", "requests/s", "P99 TTFT (s)", lines)
        return {name: max(a / b for a, b in zip(lines["round robin"][1], ys, strict=True)) for name, (_, ys) in lines.items()}, path

    gains, path = once(benchmark, study)
    tell(benchmark, "Llumnix: P99 TTFT of round robin over its own, at best", gains["llumnix"], "up to 15", path)
    assert gains["llumnix"] > 1.2


@pytest.mark.parametrize("blocks", [2_000, 20_000, 500_000])
def test_prefix_caching_on_the_mooncake_trace(benchmark: Any, blocks: int) -> None:
    """Mooncake (FAST 2025): 36.6 % of its conversation trace's blocks were in an earlier prompt, which a cache without end can reach."""
    from tests.perf.mooncake import hit_rates

    hits, ceiling = once(benchmark, lambda: hit_rates(blocks))
    print(f"\n{blocks} blocks of 512 tokens: {hits:.1%} of prompt blocks hit (ceiling {ceiling:.1%}; published 36.6 %)")
    benchmark.extra_info.update(hits=hits, ceiling=ceiling)
    assert hits <= ceiling + 1e-9
    if blocks == 500_000:
        assert hits == pytest.approx(ceiling, abs=0.005)


def test_batch_size_against_latency_when_weights_are_fetched(benchmark: Any) -> None:
    """FlexGen (ICML 2023): OPT-30B on a 16 GB T4, weights and KV in host memory, 512 tokens in, 32 out: 7.32 tokens/s with large blocks of
    batches, 0.60 for a system that fetches weights for a small batch (table 2).
    """
    t4 = Device(name="t4", flops=65e12, memory_bandwidth=320e9, memory=16e9, link_bandwidth=None, host_memory=208e9, host_bandwidth=16e9)
    shape = decoder_of(
        {
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": 7168,
            "intermediate_size": 19114,  # three matrices with as many weights as OPT's two of 28,672
            "num_hidden_layers": 48,
            "num_attention_heads": 56,
            "vocab_size": 50272,
        }
    )
    effects = Effects(weights_on_host=1.0, fetched=1.0)

    def study() -> tuple[dict[int, tuple[float, float]], Any]:
        found = {}
        for batch in (1, 4, 8, 32, 64, 144):
            limits = Limits(kv_blocks=50_000, block_size=16, max_num_seqs=batch, max_num_batched_tokens=512 * batch, max_model_len=1024)
            made = tuple(Request(request_id=i, arrival=0.0, input_tokens=512, output_tokens=32) for i in range(batch))
            trace = Trace(name="batch", requests=made)
            step_time = effects.step_time(Roofline(shape, t4, NATIVE.roofline), shape, t4, trace, 1)
            served = serve(trace, limits, step_time, frontend=Frontend())
            found[batch] = (batch * 32 / served.end, served.end)
        sizes = list(found)
        lines = {"tokens/s": (sizes, [found[b][0] for b in sizes]), "latency (s)": (sizes, [found[b][1] for b in sizes])}
        return found, plot("flexgen", "OPT-30B on a T4, all fetched from host memory", "batch", "tokens/s; s", lines)

    found, path = once(benchmark, study)
    tell(benchmark, "FlexGen: tokens/s at a batch of 144", found[144][0], "7.32", path)
    tell(benchmark, "FlexGen: throughput at 144 over that at 8", found[144][0] / found[8][0], "12.2 over DeepSpeed's small batch", path)
    rates, latencies = zip(*found.values(), strict=True)
    assert list(rates) == sorted(rates) and list(latencies) == sorted(latencies)
    assert found[144][0] > 3 * found[8][0] and found[144][1] > found[8][1]
