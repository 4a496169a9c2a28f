"""What fewer bits, smaller caches and slower memories do to sizes, limits and step times, against figures computed by hand."""

import dataclasses
from typing import Any

import pytest

from simulators.errors import SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.effects.attended import Attended
from simulators.native.effects.effects import Effects
from simulators.native.effects.reuse import Reuse, reusable_shares
from simulators.native.effects.traffic import HostTraffic
from simulators.native.engine import run
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.latency.device import Device
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.resolve import Defaults
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.vllm_v1 import VllmV1
from tests.simulators.native.cases import Linear
from tests.simulators.native.latency.test_step_time import LLAMA_8B, PEAK, batch
from workloads.trace import Request, Trace

H200 = Device(
    name="h200",
    flops=989.4e12,
    memory_bandwidth=4.8e12,
    memory=141e9,
    link_bandwidth=450e9,
    fp8_flops=1979e12,
    int8_flops=1979e12,
    host_memory=500e9,
    host_bandwidth=64e9,
)
SHAPE = decoder_of(LLAMA_8B)
MATRICES = [(p.matrix.inputs, p.matrix.outputs) for p in SHAPE.products(SHAPE.layers[0])]
DEFAULTS = Defaults(memory_utilization=0.9, activations=2e9, block_size=16, max_num_seqs=256, max_num_batched_tokens=2048, in_flight=1)
MINI_CPM3 = {
    "architectures": ["MiniCPM3ForCausalLM"],
    "hidden_size": 2560,
    "intermediate_size": 6400,
    "num_hidden_layers": 62,
    "num_attention_heads": 40,
    "vocab_size": 73448,
    "q_lora_rank": 768,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
}


def blocks(effects: Effects, **changes: Any) -> int:
    shape = effects.shape(SHAPE)
    device = dataclasses.replace(H200, **changes)
    return DEFAULTS.limits(shape, device, parallel=Parallelism(), max_model_len=8192, effects=effects).kv_blocks


def test_fewer_bits_of_weights_leave_more_room_and_stream_faster() -> None:
    layers = 32 * sum(k * n for k, n in MATRICES)
    assert Effects(weights="fp8").shape(SHAPE).weight_bytes == SHAPE.weight_bytes - layers
    assert Effects(weights="awq_int4").shape(SHAPE).weight_bytes == pytest.approx(SHAPE.weight_bytes - layers * (2 - 0.51953125))
    assert blocks(Effects(weights="fp8")) == pytest.approx(blocks(Effects()) + layers / (16 * 131072), abs=1)
    one = batch((1, 100))  # thin products are bound by their weights
    whole, half = (Roofline(e.shape(SHAPE), H200, PEAK).seconds(one) for e in (Effects(), Effects(weights="fp8")))
    assert whole - half == pytest.approx(layers / 4.8e12, rel=1e-6)


def test_arithmetic_follows_the_format() -> None:
    """A prompt of 8,192 tokens: products twice as fast in FP8 and INT8, as they were in AWQ, whose products have 16 bits."""
    prompt = batch((8192, 0))
    times = {w: Roofline(Effects(weights=w).shape(SHAPE), H200, PEAK).seconds(prompt) for w in WEIGHTS}
    products = 2 * 8192 * 32 * sum(k * n for k, n in MATRICES) / 989.4e12
    assert times[None] - times["fp8"] == pytest.approx(products * (1 - 989.4 / 1979), rel=1e-6)
    assert times["smoothquant_int8"] == times["fp8"] and times["awq_int4"] == times[None]
    with pytest.raises(SimulatorError, match="h200 has no fp8 arithmetic"):
        Effects(weights="fp8").check(dataclasses.replace(H200, fp8_flops=None))


WEIGHTS = (None, "fp8", "smoothquant_int8", "awq_int4")


def test_fp8_kv_halves_what_a_token_takes_and_what_decode_reads() -> None:
    small = Effects(kv="fp8").shape(SHAPE)
    assert small.kv_bytes_per_token == SHAPE.kv_bytes_per_token / 2
    assert blocks(Effects(kv="fp8")) in (2 * blocks(Effects()), 2 * blocks(Effects()) + 1)
    decode = batch(*[(1, 8000)] * 64)
    saved = Roofline(SHAPE, H200, PEAK).seconds(decode) - Roofline(small, H200, PEAK).seconds(decode)
    assert saved == pytest.approx(64 * 8001 * 65536 / 4.8e12, rel=1e-6)


def test_latent_attention_caches_one_vector_a_token() -> None:
    """MiniCPM3-4B: 62 layers of 256 + 32 elements; with 40 heads of 64 + 64 it would be 18 times as much. 4.07e9 weights, as published."""
    shape = decoder_of(MINI_CPM3)
    assert shape.kv_bytes_per_token == 62 * 288 * 2 and shape.kv_bytes_per_device(8) == shape.kv_bytes_per_token
    assert shape.parameters == pytest.approx(4.26e9, rel=0.05)
    [(attention, layers)] = shape.caching
    assert attention.decode_pair_flops == 2 * 40 * (2 * 256 + 32) and attention.prefill_pair_flops == 2 * 40 * 160 and layers == 62
    with pytest.raises(SimulatorError, match="lacks v_head_dim"):
        decoder_of({k: v for k, v in MINI_CPM3.items() if k != "v_head_dim"})


def test_kv_heads_are_shared_out_as_far_as_there_are_any() -> None:
    assert SHAPE.kv_bytes_per_device(4) == SHAPE.kv_bytes_per_token / 4
    assert SHAPE.kv_bytes_per_device(16) == SHAPE.kv_bytes_per_token / 8


def test_a_window_bounds_what_is_read_and_held() -> None:
    effects = Effects(window=60, sinks=4)
    attended = Attended(Linear(fixed=0.0), most=effects.kept_tokens)
    sequences = _running((1, 1000), (1, 10), (100, 0), (50, 1000))
    read = attended.attended(sequences)
    assert (read.decodes, read.decode_context) == (2, 64 + 10)
    assert (read.prefill_tokens, read.prefill_context) == (150, 64)
    by_hand = sum(min(i, 64) + 1 for i in range(100)) + 50 * 65
    assert read.prefill_pairs == by_hand
    limits = effects.limits(Limits(kv_blocks=40, block_size=16, max_num_seqs=8, max_num_batched_tokens=256, max_model_len=4096))
    assert not limits.prefix_caching
    trace = Trace(name="long", requests=tuple(Request(request_id=i, arrival=0.0, input_tokens=900, output_tokens=200) for i in range(8)))
    scheduler, most = VllmV1(limits), 0
    for step in run(make_sequences(trace, block_size=16), scheduler, Linear(fixed=0.01)):
        assert all(len(s.blocks) <= 5 for s in scheduler.running) and not step.batch.preempted
        most = max(most, len(scheduler.running))
    assert most == 8  # 640 tokens of cache serve eight contexts of 1,100


def _running(*work: tuple[int, int]) -> Any:
    made = batch(*work)
    for sequence, (tokens, context) in zip(made.sequences, work, strict=True):
        sequence.computed = tokens + context
    return made


def test_heavy_hitters_are_a_budget_like_a_window() -> None:
    assert Effects(heavy_hitters=64).kept_tokens == Effects(window=60, sinks=4).kept_tokens == 64


def test_fetching_hides_behind_computing_or_adds_to_it() -> None:
    decode = _running((1, 1000), (1, 3000))
    inner = Linear(fixed=0.01)
    for overlap, kv_token, expected in ((True, 1e-6, 0.01), (True, 1e-5, 0.045), (False, 1e-5, 0.055)):
        assert HostTraffic(inner, weights=0.005, kv_token=kv_token, overlap=overlap).seconds(decode) == pytest.approx(expected)


def test_host_memory_holds_what_it_is_given() -> None:
    """FlexGen: half the weights away leave their room to KV; half of the KV away doubles it; InfiniGen: all that the host has."""
    room = 141e9 * 0.9 - 2e9 - SHAPE.weight_bytes
    block = 16 * 131072
    assert blocks(Effects(weights_on_host=0.5)) == int((room + SHAPE.weight_bytes / 2) / block)
    assert blocks(Effects(kv_on_host=0.5)) == int(2 * room / block)
    assert blocks(Effects(fetched=0.1)) == int(500e9 / block)
    with pytest.raises(SimulatorError, match="need host_memory_gb of hardware h200"):
        blocks(Effects(kv_on_host=0.5), host_memory=None)
    with pytest.raises(SimulatorError, match=r"do not fit the host's 50 GB"):
        blocks(Effects(kv_on_host=0.5), host_memory=50e9)


def test_effects_reach_the_step_time() -> None:
    """A decode of 64 sequences at 8,000 tokens, half of the weights on the host: fetched at 64 GB/s, that is what a step takes."""
    effects = Effects(weights_on_host=0.5, overlap=True)
    trace = Trace(name="x", requests=(Request(request_id=0, arrival=0.0, input_tokens=1, output_tokens=1),))
    step_time = effects.step_time(Roofline(SHAPE, H200, PEAK), SHAPE, H200, trace, 1)
    assert step_time.seconds(_running(*[(1, 100)] * 4)) == pytest.approx(0.5 * SHAPE.weight_bytes / 64e9)
    fetching = Effects(fetched=0.05)
    small = fetching.step_time(Roofline(SHAPE, H200, PEAK), SHAPE, H200, trace, 1)
    work = _running(*[(1, 8000)] * 64)
    assert small.seconds(work) == pytest.approx(0.05 * 64 * 8000 * 131072 / 64e9)
    assert Effects().step_time(inner := Linear(fixed=1.0), SHAPE, H200, trace, 1) is inner


def test_known_chunks_are_computed_in_part() -> None:
    """The second prompt has all its blocks from the first, in another order: no prefix, but 15 % of its work."""
    rows = ((0, 1, 2, 3), (3, 2, 1, 0), (9, 1))
    made = tuple(
        Request(request_id=i, arrival=0.0, input_tokens=n * 16, output_tokens=2, blocks=b)
        for i, (b, n) in enumerate(zip(rows, (4, 4, 4), strict=True))
    )
    trace = Trace(name="chunks", requests=made, block_size=16)
    assert reusable_shares(trace) == [0.0, 1.0, 0.25]
    reuse = Reuse(Linear(fixed=0.0, per_token=1.0), reusable_shares(trace), recomputed=0.25, load_token=0.0)
    assert [reuse.seconds(_prompt(i, 64)) for i in range(3)] == [64, 16, 52]
    slow = Reuse(Linear(fixed=0.0, per_token=1.0), reusable_shares(trace), recomputed=0.25, load_token=2.0)
    assert slow.seconds(_prompt(1, 64)) == 128  # loading it takes longer than computing the rest


def _prompt(index: int, tokens: int) -> Any:
    made = _running((tokens, 0))
    made.sequences[0].index = index
    return made


def test_kernels_have_published_shares_only() -> None:
    assert Effects(attention="flash_attention_3").efficiency(PEAK, H200).attention_flops == 0.75
    with pytest.raises(SimulatorError, match="flash_attention_3 on a100"):
        Effects(attention="flash_attention_3").efficiency(PEAK, dataclasses.replace(H200, name="a100"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "int3"}, "effects.weights must be one of fp8, smoothquant_int8, awq_int4, mxfp4, nvfp4, got 'int3'"),
        ({"window": 0}, "effects.window must be >= 1 token, got 0"),
        ({"window": 10, "heavy_hitters": 10}, "exclude each other"),
        ({"fetched": 1.5}, r"effects.fetched must be in \[0, 1\], got 1.5"),
        ({"fetched": 0.5, "kv_on_host": 0.5}, "leave kv_on_host at 0"),
        ({"kv_on_host": 1.0}, r"effects.kv_on_host must be in \[0, 1\)"),
    ],
)
def test_impossible_mixes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Effects(**settings)
