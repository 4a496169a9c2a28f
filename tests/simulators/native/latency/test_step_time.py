"""Step times: what is fitted to a profile is smooth, monotone and honest; what is computed from sizes is what one computes by hand."""

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.profile import BENDS, Profile
from results.record import EngineLimits
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.measured import FEW, MeasuredStepTime, residual_lines
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.sequence import Batch, Sequence

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
PEAK = Efficiency(gemm_flops=1, gemm_bytes=1, attention_flops=1, attention_bytes=1, link=1, step=0, layer=0, all_reduce=0)


def batch(*work: tuple[int, int]) -> Batch:
    """A step of sequences that compute (new tokens, on top of so many)."""
    made = Batch()
    for i, (tokens, context) in enumerate(work):
        made.sequences.append(Sequence(index=i, arrival=0.0, prompt=tokens + context, output=1))
        made.tokens.append(tokens)
        made.count(tokens, context)
    return made


def truth(new: float, context: float, decodes: float, decode_context: float) -> float:
    """An engine whose products get cheaper per token as they grow, with attention costs."""
    tokens = new + decodes
    products = 4e-4 * min(tokens, 16) + 6e-5 * max(0.0, tokens - 16)
    return 5e-3 + products + 5e-5 * (decodes + (new > 0)) + 7e-7 * decodes * decode_context + 2e-7 * new * (context + 0.5 * (new + 1))


BESIDE = 4e-7  # s a token of context of a decode beside a prompt's chunk, on top of what it costs alone


def profile(
    *,
    noise: float = 0.0,
    disturbed: int = 0,
    kinds: tuple[str, ...] = ("prefill", "decode", "mixed"),
    seed: int = 0,
    beside: float = 0.0,
    provenance: Mapping[str, Any] = MappingProxyType({}),
) -> Profile:
    rng = np.random.default_rng(seed)
    points: list[tuple[str, int, int, int, int, bool]] = []
    points += [("prefill", n, 0, 0, 0, n in (96, 384)) for n in (1, 16, 64, 96, 128, 256, 384, 512, 1024)]
    points += [("prefill", n, c, 0, 0, False) for n in (64, 512, 1024) for c in (1024, 2048)]
    points += [("decode", 0, 0, b, c, b in (6, 24)) for b in (1, 2, 4, 6, 8, 16, 24, 32) for c in (76, 524, 2060)]
    points += [("mixed", n, 0, b, 300, n == 256) for n in (32, 128, 256, 512) for b in (1, 8, 31)]
    rows = []
    for kind, new, context, decodes, decode_context, held_out in points:
        for repeat in range(3):
            time = truth(new, context, decodes, decode_context) * float(rng.lognormal(0, noise))
            time += beside * decodes * decode_context * (new > 0)
            rows.append((kind, new, context, decodes, decode_context, time, repeat, held_out))
    frame = pd.DataFrame(rows, columns=["kind", "new_tokens", "prefill_context", "batch", "context", "time", "repeat", "held_out"])
    frame = frame[frame["kind"].isin(kinds)]
    hit = rng.choice(len(frame) // 3, disturbed, replace=False)
    frame.loc[frame.index[[3 * h + r for h in hit for r in range(3)]], "time"] *= 4
    front = {"kind": "frontend", "new_tokens": 0, "prefill_context": 0, "batch": 0, "context": 0, "repeat": 0, "held_out": False}
    frame = pd.concat([frame, pd.DataFrame([{**front, "time": t} for t in (0.004, 0.005, 0.009)])], ignore_index=True)
    return Profile(
        profile_id="made",
        system="vllm",
        version=None,
        model=TINY,
        hardware="cpu",
        limits=EngineLimits(),
        samples=frame,
        source="made up",
        started_at="2026-01-01T00:00:00+00:00",
        wall_s=1.0,
        provenance={"frontend_per_prompt_token": 1e-6, **provenance},
    )


def test_an_engine_that_recomputes_prefixes_and_mixes_nothing() -> None:
    """Attention again over each cached prefix, and "mixed" points that are a prompt's step and a decode's one after the other."""
    made = profile()
    samples = made.samples.copy()
    context, slope = samples["prefill_context"], 2e-7  # the attention of `truth`
    samples["time"] += (samples["kind"] == "prefill") * slope * context * (context + 1) / 2
    samples.loc[samples["kind"] == "mixed", "time"] *= 2
    model = MeasuredStepTime(dataclasses.replace(made, samples=samples), apart=True, recomputed=True)
    chunk = Batch(sequences=[Sequence(index=0, arrival=0.0, prompt=3300, output=1)])
    chunk.count_prefill(300, 3000, recomputed=True)  # a longer prefix than was profiled
    assert model.seconds(chunk) == pytest.approx(truth(300, 3000, 0, 0) + slope * 3000 * 3001 / 2, rel=0.05)
    held_out = model.describe()["residuals"]["held_out"]
    assert held_out["median_abs_error"] < 0.01 and "mixed" not in held_out["median_abs_error_by_kind"]


UNSEEN = [((300, 0),), ((700, 0),), ((1, 1000),) * 12, ((1, 333),) * 20, ((200, 0), *((1, 400),) * 5), ((400, 512), *((1, 900),) * 16)]


@pytest.mark.parametrize("work", UNSEEN)
def test_a_clean_profile_is_found_again(work: tuple[tuple[int, int], ...]) -> None:
    made = batch(*work)
    new, context = made.prefill_tokens, made.prefill_context
    decode_context = made.decode_context / made.decodes if made.decodes else 0
    assert MeasuredStepTime(profile()).seconds(made) == pytest.approx(truth(new, context, made.decodes, decode_context), rel=0.02)


@pytest.mark.parametrize("work", UNSEEN)
def test_disturbed_samples_count_little(work: tuple[tuple[int, int], ...]) -> None:
    """A tenth of the points four times too slow, the rest with 5 % noise: still within 10 % of the clean fit."""
    clean = MeasuredStepTime(profile()).seconds(batch(*work))
    assert MeasuredStepTime(profile(noise=0.05, disturbed=5)).seconds(batch(*work)) == pytest.approx(clean, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_more_work_is_never_faster(seed: int) -> None:
    """More context never is; more tokens are not beyond the few for which a profile's own points are believed."""
    model = MeasuredStepTime(profile(noise=0.3, seed=seed))
    rng = np.random.default_rng(seed)
    for _ in range(200):
        work = [(int(rng.integers(2, 1500)), int(rng.integers(0, 3000)))] + [
            (1, int(c)) for c in rng.integers(1, 4000, rng.integers(0, 40))
        ]
        n, c = work[0]
        base = model.seconds(batch(*work))
        assert base > 0
        more = [[(n, c + 1), *work[1:]], [(n, c), *[(1, d + 1) for _, d in work[1:]]]]
        if n > FEW:
            more += [[(n + 1, c), *work[1:]], [*work, (1, 1)]]
        assert all(model.seconds(batch(*work)) >= base for work in more)


def test_batches_with_costs_of_their_own() -> None:
    """Kernels have favourite sizes: here 2 rows take longer than 4, 8 longer than 12."""
    made = profile()
    batches = made.samples["batch"].to_numpy()
    slow = np.where(np.isin(batches, (2, 8)) & (made.samples["kind"] == "decode"), 0.003, 0.0)
    model = MeasuredStepTime(dataclasses.replace(made, samples=made.samples.assign(time=made.samples["time"] + slow)))
    for b in (1, 2, 4, 8, 16, 24, 32):
        expected = truth(0, 0, b, 300) + (0.003 if b in (2, 8) else 0)
        assert model.seconds(batch(*[(1, 300)] * b)) == pytest.approx(expected, rel=0.03)


def test_a_decode_beside_a_prompts_chunk_costs_what_the_profile_says() -> None:
    """Alone a token of context costs as ever; in a step with a chunk more, in steps that were not profiled too."""
    plain, dear = MeasuredStepTime(profile()), MeasuredStepTime(profile(beside=BESIDE))
    for decodes, context in ((5, 1000), (20, 300), (31, 2000)):
        alone = [(1, context)] * decodes
        assert dear.seconds(batch(*alone)) == pytest.approx(plain.seconds(batch(*alone)), rel=0.02)
        more = dear.seconds(batch((200, 0), *alone)) - plain.seconds(batch((200, 0), *alone))
        assert more == pytest.approx(BESIDE * decodes * context, rel=0.1)


def test_a_jump_that_a_composed_profile_names_is_kept() -> None:
    """Products have tiles: one token more than 512 may cost a whole one. A profile of measured points says nothing of that: a slope."""
    made = profile()
    jump = [dict(made.samples.iloc[0], kind="prefill", new_tokens=n, time=truth(n, 0, 0, 0)) for n in (513, 768, 769)]
    samples = pd.concat([made.samples, pd.DataFrame(jump)], ignore_index=True)
    samples["time"] += 0.01 * (samples["new_tokens"] + samples["batch"] > 512)
    named = profile(provenance={BENDS: [256, 512, 513, 768, 769, 1024]})
    model = MeasuredStepTime(dataclasses.replace(named, samples=samples))
    for n in (400, 512, 513, 600, 900):
        assert model.seconds(batch((n, 0))) == pytest.approx(truth(n, 0, 0, 0) + 0.01 * (n > 512), rel=0.02)
    sloping = MeasuredStepTime(dataclasses.replace(made, samples=samples))
    assert sloping.seconds(batch((513, 0))) - sloping.seconds(batch((512, 0))) < 0.002


def test_no_jumps_between_pieces() -> None:
    model = MeasuredStepTime(profile(noise=0.2))
    times = [model.seconds(batch((n, 0))) for n in range(2, 1200)]
    assert max(abs(b - a) for a, b in pairwise(times)) < 0.05 * max(times)


def test_residuals_are_of_held_out_points_and_printed() -> None:
    known = MeasuredStepTime(profile(noise=0.05)).describe()
    held_out = known["residuals"]["held_out"]
    assert held_out["points"] == 2 + 6 + 3 and set(held_out["median_abs_error_by_kind"]) == {"prefill", "decode", "mixed"}
    assert 0 < held_out["median_abs_error"] < 0.1
    assert residual_lines(known)[1].startswith("step times, held-out points (11): median error")


def test_what_no_point_has_costs_nothing_and_is_counted() -> None:
    """A short profile may hold no chunk behind a cached prefix: what a token of context costs there cannot be told, and is not made up."""
    made = profile(noise=0.3)
    fresh = dataclasses.replace(made, samples=made.samples[made.samples["prefill_context"] == 0].reset_index(drop=True))
    model = MeasuredStepTime(fresh)
    alone, behind = (model.seconds(batch((100, context))) for context in (0, 1000))
    assert alone <= behind <= 3 * alone
    assert model.describe()["beyond"]["prefill_context"]["steps"] == 1


def test_what_lies_beyond_the_profile_is_counted() -> None:
    model = MeasuredStepTime(profile())
    for work in (((512, 0),), ((2048, 0),), ((1, 100),) * 33, ((1, 6000),) * 16):
        model.seconds(batch(*work))
    known = model.describe()
    assert (known["steps"], known["steps_beyond_profile"]) == (4, 3)
    assert known["beyond"]["new_tokens"] == {"steps": 1, "largest_multiple": 2.0}
    assert known["beyond"]["sequences"]["steps"] == 1 and known["beyond"]["decode_context"]["steps"] == 1


def test_mixed_steps_without_mixed_points_are_beyond_too() -> None:
    model = MeasuredStepTime(profile(kinds=("prefill", "decode")))
    model.seconds(batch((128, 0), (1, 100)))
    assert model.describe()["beyond"]["mixed"]["steps"] == 1


def test_a_profile_without_decodes_is_refused() -> None:
    with pytest.raises(SimulatorError, match="profile made has fewer than 2 decode points"):
        MeasuredStepTime(profile(kinds=("prefill", "mixed")))


def test_sizes_of_llama_8b() -> None:
    """Its published figures: 8.03 billion parameters, 131,072 bytes of KV a token in bfloat16."""
    shape = decoder_of(LLAMA_8B)
    assert shape.parameters == pytest.approx(8.03e9, rel=1e-3)
    assert shape.kv_bytes_per_token == 131_072


def test_decode_at_the_memory_roof() -> None:
    """One sequence at context 999: all weights but the embeddings are read once, and the KV of 1,000 tokens; 16-bit at 1 TB/s."""
    device = Device(name="d", flops=1e18, memory_bandwidth=1e12, memory=80e9, link_bandwidth=None)
    seconds = Roofline(decoder_of(LLAMA_8B), device, PEAK).seconds(batch((1, 999)))
    weights = 2 * (32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336) + 4096 * 128256)
    activations = 2 * (32 * (4096 + 6144 + 2 * 4096 + 4096 + 2 * 14336 + 14336 + 4096) + 4096 + 128256)
    assert seconds == pytest.approx((weights + activations + 1000 * 131_072) / 1e12, rel=1e-12)


def test_prefill_at_the_arithmetic_roof() -> None:
    """1,024 tokens: two operations per weight and token, one row of logits, 4 per query-key pair, head and element; 1 PFLOP/s."""
    device = Device(name="d", flops=1e15, memory_bandwidth=1e18, memory=80e9, link_bandwidth=None)
    seconds = Roofline(decoder_of(LLAMA_8B), device, PEAK).seconds(batch((1024, 0)))
    layer = 4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336
    pairs = 1024 * 1025 / 2
    flops = 2 * 1024 * 32 * layer + 2 * 4096 * 128256 + 32 * 4 * pairs * 4096
    assert seconds == pytest.approx(flops / 1e15, rel=1e-12)


def test_efficiencies_and_fixed_costs() -> None:
    device = Device(name="d", flops=1e15, memory_bandwidth=1e18, memory=80e9, link_bandwidth=None)
    shape = decoder_of(TINY)
    at_peak = Roofline(shape, device, PEAK).seconds(batch((512, 0)))
    half = dataclasses.replace(PEAK, gemm_flops=0.5, attention_flops=0.5, step=0.002, layer=0.0001)
    assert Roofline(shape, device, half).seconds(batch((512, 0))) == pytest.approx(2 * at_peak + 0.002 + 4 * 0.0001)


def test_two_devices_halve_the_products_and_pay_two_all_reduces_a_layer() -> None:
    device = Device(name="d", flops=1e15, memory_bandwidth=1e18, memory=80e9, link_bandwidth=1e11)
    shape = decoder_of(TINY)
    one = Roofline(shape, device, PEAK).seconds(batch((512, 0)))
    two = Roofline(shape, device, dataclasses.replace(PEAK, all_reduce=1e-5), parallel=Parallelism(tensor=2)).seconds(batch((512, 0)))
    crossing = 2 * (2 - 1) / 2 * 512 * 512 * 2 / 1e11
    assert two == pytest.approx(one / 2 + 4 * 2 * (1e-5 + crossing))


@pytest.mark.parametrize(
    ("changes", "message", "available"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "does not know the architecture MambaForCausalLM", False),
        ({"hidden_size": None}, "config.json lacks hidden_size", True),
        ({"torch_dtype": "float8_e4m3fn"}, "does not know the torch_dtype float8_e4m3fn", False),
    ],
)
def test_an_unknown_model_is_refused(changes: dict[str, Any], message: str, available: bool) -> None:
    """What is not modelled is 'not available', and a bench goes on with the other simulators; a broken config.json is a failure."""
    with pytest.raises(SimulatorError if available else NotAvailable, match=message):
        decoder_of(TINY | changes)


def test_unknown_hardware_is_refused() -> None:
    with pytest.raises(SimulatorError, match="hardware x has no fp16_tflops; add it to conf/hardware"):
        Device.from_hardware({"name": "x", "memory_gb": 80, "memory_bandwidth_gb_s": 2000})
    alone = Device.from_hardware({"name": "x", "memory_gb": 80, "memory_bandwidth_gb_s": 2000, "fp16_tflops": 300})
    with pytest.raises(SimulatorError, match="a step on 2 devices needs interconnect_gb_s of hardware x"):
        Roofline(decoder_of(TINY), alone, PEAK, parallel=Parallelism(tensor=2))
