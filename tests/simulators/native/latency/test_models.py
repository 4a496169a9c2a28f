"""The roofline of experts, windows, latents and states, on one device and on several: laws that hold whatever the numbers."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from simulators.errors import SimulatorError
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.feed_forward import Experts
from simulators.native.architecture.reader import decoder_of
from simulators.native.latency.device import Device
from simulators.native.latency.experts import Routing
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.windows import windowed_pairs, windowed_work
from simulators.native.planning import settings
from simulators.native.sequence import Batch, Sequence
from tests.simulators.native.latency.test_step_time import PEAK

MEMORY = Device(name="d", flops=1e30, memory_bandwidth=1e12, memory=80e9, link_bandwidth=1e11)  # arithmetic takes no time
ARITHMETIC = Device(name="d", flops=1e15, memory_bandwidth=1e30, memory=80e9, link_bandwidth=1e30, fp8_flops=2e15, fp4_flops=4e15)
EXPERTS = Experts(count=64, top_k=8, intermediate=512)


def batch(*work: tuple[int, int]) -> Batch:
    """A step of sequences that compute (tokens, context)."""
    made = Batch()
    for index, (tokens, context) in enumerate(work):
        made.sequences.append(Sequence(index=index, arrival=0.0, prompt=tokens + context, output=1, computed=tokens + context))
        made.tokens.append(tokens)
        made.count(tokens, context)
    return made


def decoder(name: str, **changes: Any) -> Decoder:
    config = settings.model(name)
    inner = config.get("text_config", config)
    inner |= changes
    return decoder_of(config)


def seconds(name: str, device: Device, *work: tuple[int, int], parallel: Parallelism | None = None, **changes: Any) -> float:
    return Roofline(decoder(name, **changes), device, PEAK, parallel=parallel or Parallelism()).seconds(batch(*work))


# --- experts


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.2])
def test_a_token_goes_to_top_k_experts_none_of_them_twice(skew: float) -> None:
    found = Routing(skew=skew).probabilities(EXPERTS)
    assert found.sum() == pytest.approx(8) and found.max() <= 1 and list(found) == sorted(found, reverse=True)
    assert skew or set(found) == {8 / 64}


@pytest.mark.parametrize("tokens", [1, 3, 20, 200])
def test_experts_touched_are_as_many_as_in_a_draw(tokens: int) -> None:
    """E * (1 - (1 - k / E) ** n): the mean of 2,000 draws without replacement."""
    rng = np.random.default_rng(tokens)
    drawn = [len(np.unique(np.argsort(rng.random((tokens, 64)), axis=1)[:, :8])) for _ in range(2000 if tokens < 100 else 200)]
    load = Routing().busiest(EXPERTS, tokens, 1)
    assert load.touched == pytest.approx(64 * (1 - (1 - 8 / 64) ** tokens)) == pytest.approx(np.mean(drawn), rel=0.01)
    assert load.pairs == 8 * tokens


@pytest.mark.parametrize("tokens", [16, 128, 1024])
def test_the_busiest_device_has_about_the_largest_of_drawn_loads(tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    largest = []
    for _ in range(300):
        chosen = np.argsort(rng.random((tokens, 64)), axis=1)[:, :8] % 8
        largest.append(np.bincount(chosen.ravel(), minlength=8).max())
    assert Routing().busiest(EXPERTS, tokens, 8).pairs == pytest.approx(np.mean(largest), rel=0.08)


def test_skewed_routing_touches_fewer_experts_and_loads_one_device_more() -> None:
    even, skewed = (Routing(skew=s).busiest(EXPERTS, 32, 8) for s in (0.0, 1.2))
    assert skewed.pairs > even.pairs and Routing(skew=1.2).busiest(EXPERTS, 32, 1).touched < Routing().busiest(EXPERTS, 32, 1).touched


def test_a_decode_reads_the_experts_of_its_token_and_a_full_batch_reads_all() -> None:
    """Mixtral, 16 bits at 1 TB/s: the difference between a batch that touches all experts and a single token, its activations aside."""
    model = decoder("mixtral_8x7b")
    one, many = (Roofline(model, MEMORY, PEAK).seconds(batch(*[(1, 1)] * n)) for n in (1, 64))
    expert = 2 * 3 * 4096 * 14336 / 1e12
    assert many - one == pytest.approx(32 * (8 - 2) * expert, rel=0.03)


def test_a_mixture_computes_its_active_weights_alone() -> None:
    """A prompt at the arithmetic roof: two operations a token and active weight; the output layer has one row."""
    model = decoder("qwen3_30b_a3b")
    took = Roofline(model, ARITHMETIC, PEAK).seconds(batch((4096, 0)))
    pairs = 48 * 4 * 32 * 128 * 4096 * 4097 / 2
    layers = model.active_parameters - model.vocab * model.hidden
    assert took == pytest.approx((2 * 4096 * layers + pairs + 2 * model.vocab * model.hidden) / 1e15, rel=1e-3)


def test_mxfp4_is_multiplied_at_the_rate_of_fp8_where_kernels_are_known_and_in_16_bits_elsewhere() -> None:
    """gpt-oss has its experts in MXFP4."""
    known = dataclasses.replace(PEAK, narrow={"mxfp4": {"expert_flops": 1.0}})
    model, work = decoder("gpt_oss_20b"), batch((4096, 0))
    unknown, quick = (Roofline(model, ARITHMETIC, efficiency).seconds(work) for efficiency in (PEAK, known))
    without = Roofline(model, dataclasses.replace(ARITHMETIC, fp8_flops=None), known).seconds(work)
    experts = 2 * 4096 * 24 * 4 * 3 * 2880 * 2880 / 1e15
    assert unknown == without
    assert unknown - quick == pytest.approx(experts / 2, rel=1e-3)


def test_experts_compute_whole_tiles_and_narrow_ones_take_longer() -> None:
    """Mixtral's prompt of 4,096 tokens touches all 8 experts; each then computes 100 rows beyond its own, at half the rate."""
    model, work = decoder("mixtral_8x7b"), batch((4096, 0))
    plain, tiled, narrow = (
        Roofline(model, ARITHMETIC, dataclasses.replace(PEAK, expert_tile=tile, expert_narrowness=wide)).seconds(work)
        for tile, wide in ((0, 0), (100, 0), (0, 14336))
    )
    row = 32 * 2 * 3 * 4096 * 14336 / 1e15
    assert tiled - plain == pytest.approx(8 * 100 * row, rel=1e-6)
    assert narrow - plain == pytest.approx(2 * 4096 * row, rel=1e-6)
    split = Roofline(model, ARITHMETIC, dataclasses.replace(PEAK, expert_narrowness=14336), parallel=Parallelism(tensor=2)).seconds(work)
    assert split == pytest.approx(narrow / 2 + 2 * 4096 * row / 2, rel=0.1)  # half of an expert is twice as narrow


# --- windows, latents, states


@pytest.mark.parametrize(("tokens", "context", "most"), [(1, 0, 3), (5, 0, 3), (4, 2, 3), (6, 10, 3), (7, 0, 100), (3, 3, 3)])
def test_pairs_of_a_window_are_those_of_its_mask(tokens: int, context: int, most: int) -> None:
    query, key = np.arange(context, context + tokens)[:, None], np.arange(context + tokens)[None]
    assert windowed_pairs(tokens, context, most) == ((key <= query) & (key >= query - most)).sum()


def test_a_batch_that_says_its_sums_only_is_of_sequences_that_are_alike() -> None:
    whole = batch((1, 300), (1, 300), (40, 100))
    sums = dataclasses.replace(whole, tokens=[])
    assert windowed_work(whole, 128) == windowed_work(sums, 128)


def test_a_decode_reads_no_more_than_the_window_in_the_layers_that_have_one() -> None:
    """gpt-oss-20b: 12 of 24 layers look back 128 tokens; 2 * 8 heads of 64 in 16 bits."""
    near, far = (seconds("gpt_oss_20b", MEMORY, *[(1, c)] * 4) for c in (127, 4127))
    assert far - near == pytest.approx(4 * 12 * 4000 * 2048 / 1e12, rel=1e-9)


def test_sparse_attention_reads_what_its_indexer_selects() -> None:
    """DeepSeek-V3.2: beyond 2,048 tokens a decode reads 132 bytes more a token and layer, and no more latents."""
    near, far = (seconds("deepseek_v3_2", MEMORY, (1, c)) for c in (2047, 10_047))
    assert far - near == pytest.approx(61 * 8000 * 132 / 1e12, rel=1e-9)


def test_linear_attention_reads_and_writes_its_state_whatever_the_context() -> None:
    """Qwen3-Next: 12 of 48 layers read KV, 2 * 2 heads of 256 in 16 bits; a sequence more is a state more, read and written."""
    near, far = (seconds("qwen3_next_80b_a3b", MEMORY, (1, c)) for c in (100, 4100))
    assert far - near == pytest.approx(12 * 4000 * 2048 / 1e12, rel=1e-9)
    model = decoder("qwen3_next_80b_a3b")
    terms = Roofline(model, MEMORY, PEAK).law.terms
    assert max(traffic[2] for _, traffic in terms) == pytest.approx(2 * model.state_bytes / 1e12)  # s a sequence


def test_a_latent_is_read_whole_by_each_device() -> None:
    one, four = (seconds("deepseek_v2_lite", MEMORY, (1, 1000), parallel=Parallelism(tensor=n)) for n in (1, 4))
    two = seconds("deepseek_v2_lite", MEMORY, (1, 9000), parallel=Parallelism(tensor=4))
    assert two - four == pytest.approx(8000 * 27 * 576 * 2 / 1e12, rel=1e-9) and four < one


# --- several devices


def test_devices_of_experts_hold_a_share_of_them_and_stages_a_share_of_the_layers() -> None:
    model = decoder("mixtral_8x7b")
    whole = Parallelism().weight_bytes(model)
    assert whole == model.weight_bytes
    for tensor, data, expert, pipeline in ((2, 1, 1, 1), (1, 2, 2, 1), (4, 1, 4, 2), (2, 4, 8, 1)):
        shared = Parallelism(tensor=tensor, data=data, expert=expert, pipeline=pipeline)
        experts = 32 * 8 * 3 * 4096 * 14336 * 2
        expected = (experts / (tensor * data) + (whole - experts) / tensor) / pipeline
        assert shared.weight_bytes(model) == pytest.approx(expected, rel=1e-3)  # routers are on every device


def test_replicas_that_share_experts_exchange_their_tokens_in_every_layer_with_experts() -> None:
    """Two replicas of Qwen3-30B-A3B: each device gets the other's 64 tokens and gives as many back, 2,048 elements of 2 bytes."""
    efficiency, work = dataclasses.replace(PEAK, all_reduce=1e-5), batch(*[(1, 100)] * 64)
    model, far = decoder("qwen3_30b_a3b"), dataclasses.replace(MEMORY, link_bandwidth=1e8)
    shared = Parallelism(data=2, expert=2)
    slow, quick = (Roofline(model, device, efficiency, parallel=shared).seconds(work) for device in (far, MEMORY))
    assert slow - quick == pytest.approx(48 * 2 * 64 * 2048 * 2 * (1 / 1e8 - 1 / 1e11), rel=1e-9)
    alone = Roofline(model, MEMORY, PEAK).seconds(work)
    assert quick < alone + 48 * 2 * 1e-5 + 1e-3  # half of the experts of twice the tokens, and the exchange


def test_all_to_all_sends_a_token_to_its_experts_alone() -> None:
    """On 64 devices a token of 8 experts goes to 8 of them; an all-gather brings each device the tokens of all."""
    far = dataclasses.replace(MEMORY, link_bandwidth=1e9)
    work = [(1, 100)] * 16
    gather, scatter = (
        seconds("qwen3_30b_a3b", far, *work, parallel=Parallelism(data=64, expert=64, dispatch=way)) for way in ("all_gather", "all_to_all")
    )
    assert gather - scatter == pytest.approx(48 * 2 * 16 * (64 - 8) * 63 / 64 * 2048 * 2 / 1e9, rel=1e-6)


def test_a_step_passes_all_stages() -> None:
    one, two = (seconds("mixtral_8x7b", MEMORY, *[(1, 100)] * 8, parallel=Parallelism(pipeline=n)) for n in (1, 2))
    assert two - one == pytest.approx(8 * 4096 * 2 / 1e11, rel=1e-6)


def test_beyond_the_linked_devices_the_network_carries() -> None:
    boxes = dataclasses.replace(MEMORY, linked=8, network_bandwidth=1e9)
    assert (boxes.bandwidth_between(8), boxes.bandwidth_between(16)) == (1e11, 1e9)
    with pytest.raises(SimulatorError, match="a step on 16 devices needs network_gb_s of hardware d; add it to conf/hardware"):
        seconds("qwen3_30b_a3b", dataclasses.replace(boxes, network_bandwidth=None), (1, 1), parallel=Parallelism(data=16, expert=16))


@pytest.mark.parametrize(
    ("name", "parallel", "said"),
    [
        ("mixtral_8x7b", Parallelism(tensor=3), "32 attention heads cannot be split over 3 devices"),
        ("mixtral_8x7b", Parallelism(data=16, expert=16), "8 experts cannot be spread over 16 devices"),
        ("mixtral_8x7b", Parallelism(pipeline=33), "32 layers cannot be 33 stages"),
    ],
)
def test_what_cannot_be_shared_is_refused(name: str, parallel: Parallelism, said: str) -> None:
    with pytest.raises(SimulatorError, match=said):
        seconds(name, MEMORY, (1, 1), parallel=parallel)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"tensor": 0}, "parallelism.tensor must be >= 1 device, got 0"), ({"tensor": 2, "expert": 3}, "parallelism.expert 3 must divide")],
)
def test_impossible_parallelism_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Parallelism(**wrong)
