"""A composed step is the sum of its operations as computed by hand, grows with its work, and is split over devices as it should."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.grid import OutsideTables
from simulators.calibration.operation_tables.model import ModelTables
from simulators.calibration.operations import Kernels, Overheads, Steps
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.architecture.attention import Attention, GatedDeltaNet, GroupedQuery, LatentAttention
from simulators.native.architecture.decoder import Decoder, DecoderLayer
from simulators.native.architecture.feed_forward import Dense, Experts, FeedForward
from simulators.native.architecture.formats import WEIGHTS, WeightFormat, plain
from simulators.native.latency.parallelism import Parallelism
from tests.simulators.calibration import made_tables as law

QUERY = GroupedQuery(heads=8, kv_heads=4, head_dim=64)
OVERHEADS = Overheads(kernel=3e-6, bandwidth=0.5, step=1e-3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return law.made(tmp_path_factory.mktemp("tables"))


def layer(attention: Attention = QUERY, ffn: FeedForward | None = None, weights: WeightFormat | None = None) -> DecoderLayer:
    of = weights or plain(2)
    mlp = ffn or Dense(intermediate=1024)
    return DecoderLayer(attention=attention, feed_forward=mlp, attention_format=of, feed_forward_format=of, shared_format=of)


def decoder(*layers: DecoderLayer, **changes: Any) -> Decoder:
    return Decoder(hidden=512, vocab=4000, layers=layers or (layer(),) * 3, dtype_bytes=2, **changes)


DENSE = decoder()
MIXED = decoder(*[layer(ffn=Experts(count=8, top_k=2, intermediate=256))] * 3)


def steps(root: Path, model: Decoder = DENSE, *, tp: int = 1, dp: int = 1, ep: int = 1, **kernels: Any) -> Steps:
    files = TableFiles(root=root, framework="vllm", version=None)
    tables = ModelTables(decoder=model, files=files, parallel=Parallelism(tensor=tp, data=dp, expert=ep))
    return Steps(tables=tables, overheads=OVERHEADS, memory_bandwidth=1e9, kernels=Kernels(**kernels))


def element_wise(tokens: int, tp: int, intermediate: int = 1024) -> float:
    """Two norms with residual (4 reads and writes of the hidden state each), one gated activation (2 read, 1 written); 2 bytes each."""
    kernels = 3 if intermediate else 2
    return 3 * (kernels * 3e-6 + 2 * tokens * (8 * 512 + 3 * intermediate / tp) / (1e9 * 0.5))


def products(tokens: int, *sizes: tuple[int, int]) -> float:
    return sum(law.gemm_ms(tokens, n, k) for n, k in sizes)


def test_a_step_of_both_kinds_is_the_sum_computed_by_hand(root: Path) -> None:
    new, cached, batch, context = 100, 28, 20, 200
    gemms = products(120, (512 + 2 * 256, 512), (512, 512), (2048, 512), (512, 1024))
    prompt = law.prompt_ms(128) * (1 - (28 / 128) ** 2)
    by_hand = 1e-3 * (3 * (gemms + prompt + law.decode_ms(20, 200)) + law.gemm_ms(21, 4000, 512)) + element_wise(120, 1) + 1e-3
    assert steps(root).seconds(new=new, cached=cached, batch=batch, context=context) == pytest.approx(by_hand, rel=1e-12)


def test_over_two_devices_the_split_side_of_every_product_halves_and_messages_come_on_top(root: Path) -> None:
    gemms = products(16, (512, 512), (512, 256), (1024, 512), (512, 512))
    messages = 7 * law.reduce_ms(16 * 512) + law.gather_ms(16 * 4000)  # two a layer, the embedding's; the logits of 16 rows
    attention = law.decode_ms(16, 100) / 2  # of half the heads
    by_hand = 1e-3 * (3 * (gemms + attention) + law.gemm_ms(16, 2000, 512) + messages) + element_wise(16, 2) + 1e-3
    assert steps(root, tp=2).seconds(batch=16, context=100) == pytest.approx(by_hand, rel=1e-12)
    assert "all-reduce" not in steps(root).parts(batch=16, context=100)


def test_a_mixture_has_its_router_and_its_experts_in_place_of_the_mlp(root: Path) -> None:
    gemms = products(16, (512 + 2 * 256, 512), (512, 512), (8, 512))
    layers = 3 * (gemms + law.decode_ms(16, 100) + law.experts_ms(16))
    by_hand = 1e-3 * (layers + law.gemm_ms(16, 4000, 512)) + element_wise(16, 1, 0) + 1e-3
    assert steps(root, MIXED).seconds(batch=16, context=100) == pytest.approx(by_hand, rel=1e-12)


def test_shared_experts_are_dense_products_beside_the_others(root: Path) -> None:
    shared = decoder(*[layer(ffn=Experts(count=8, top_k=2, intermediate=256, shared=512))] * 3)
    one, two = (steps(root, model).parts(batch=16, context=100) for model in (MIXED, shared))
    added = {name: two[name] for name in two.keys() - one.keys()}
    assert added == pytest.approx(
        {"gemm shared gate-up": 3e-3 * law.gemm_ms(16, 1024, 512), "gemm shared down": 3e-3 * law.gemm_ms(16, 512, 512)}
    )
    assert two["element-wise"] == pytest.approx(element_wise(16, 1, 512))
    assert {name: two[name] for name in one if name != "element-wise"} == {name: one[name] for name in one if name != "element-wise"}


@pytest.mark.parametrize(("tp", "dp", "ep", "split"), [(2, 1, 1, (2, 1)), (2, 1, 2, (1, 2)), (1, 2, 2, (1, 2)), (2, 2, 4, (1, 4))])
def test_experts_lie_over_all_devices_and_see_the_tokens_of_all_groups(
    root: Path, tp: int, dp: int, ep: int, split: tuple[int, int]
) -> None:
    parts = steps(root, MIXED, tp=tp, dp=dp, ep=ep).parts(batch=16, context=100)
    assert parts["experts"] == pytest.approx(3e-3 * law.experts_ms(16 * dp, *split))
    reduces = 0 if tp == 1 else 3 * (2 if dp == 1 else 1) + 1  # after attention, after the experts of one group, after the embedding
    assert parts.get("all-reduce", 0.0) == pytest.approx(1e-3 * reduces * law.reduce_ms(16 * 512))
    if dp == 1:
        assert not {"gather of tokens", "scatter of tokens"} & parts.keys()
        return
    assert parts["gather of tokens"] == pytest.approx(3e-3 * law.gather_ms(16 * dp * 512))
    assert parts["scatter of tokens"] == pytest.approx(3e-3 * law.gather_ms(16 * dp * 512, "reduce_scatter"))


def test_a_dense_model_of_two_groups_sends_nothing_between_them(root: Path) -> None:
    one, two = steps(root), steps(root, dp=2)
    assert two.parts(new=64, batch=8, context=100) == one.parts(new=64, batch=8, context=100)


def test_each_part_is_timed_in_its_own_format(root: Path) -> None:
    given = layer(ffn=Experts(count=8, top_k=2, intermediate=256, shared=512), weights=WEIGHTS["fp8"])
    plain_one, fp8 = (steps(root, decoder(*[of] * 3)).parts(batch=16, context=100) for of in (given.with_format(plain(2)), given))
    for name, seconds in plain_one.items():
        halved = name in ("experts", "gemm qkv", "gemm out", "gemm shared gate-up", "gemm shared down")
        assert fp8[name] == pytest.approx(seconds / 2 if halved else seconds), name


def test_layers_of_several_kinds_add_up(root: Path) -> None:
    """A dense first layer, and one with a window, as DeepSeek and gpt-oss have them."""
    windowed = layer(GroupedQuery(heads=8, kv_heads=4, head_dim=64, reach=32), Experts(count=8, top_k=2, intermediate=256))
    model = decoder(layer(), windowed, MIXED.layers[0])
    parts = steps(root, model).parts(batch=16, context=100)
    assert parts["experts"] == pytest.approx(2e-3 * law.experts_ms(16))
    assert parts["gemm down"] == pytest.approx(1e-3 * law.gemm_ms(16, 512, 1024))
    assert parts["attention decode"] == pytest.approx(1e-3 * law.decode_ms(16, 100) * (1 + 0.25 + 1))


def test_latent_attention_is_one_module_with_its_products_in_it(tmp_path: Path) -> None:
    latent = LatentAttention(heads=16, rank=512, rope=64, nope=128, value=128, query_rank=1536)
    model = dataclasses.replace(decoder(layer(latent)), hidden=7168)
    root = wide_products(law.made(tmp_path))
    parts = steps(root, model).parts(batch=4, context=100)
    assert parts["latent attention"] == pytest.approx(1e-3 * law.latent_decode_ms(4, 100))
    assert {name for name in parts if name.startswith(("gemm", "attention"))} == {"gemm gate-up", "gemm down", "gemm head"}


def wide_products(root: Path) -> Path:
    """The tables again, with products as wide as such a model's."""
    sizes = (1, 64, 8192)
    rows = [(m, n, k, law.gemm_ms(m, n, k)) for m in sizes for n in sizes for k in sizes]
    of = pd.DataFrame(rows, columns=["m", "n", "k", "latency"]).assign(gemm_dtype="bfloat16")
    law.save(root, "gemm/vllm", "0.19.0", "gemm_perf", of)
    return root


def test_beside_a_prompts_chunk_a_decode_takes_a_tile_of_queries(root: Path) -> None:
    """As many rows of a prompt's attention on that context, where that is more than the decode's own; decode steps stay as they are."""
    tiled, untiled = steps(root, query_tile=64), steps(root)
    assert tiled.parts(batch=20, context=900) == untiled.parts(batch=20, context=900)
    beside = tiled.parts(new=100, batch=20, context=900)
    tiles = 3e-3 * 20 * law.prompt_ms(964) * (1 - (900 / 964) ** 2)  # the table has single prompts: one after the other
    assert beside["attention decode"] == pytest.approx(tiles, rel=1e-12)
    assert tiles > 2 * untiled.parts(new=100, batch=20, context=900)["attention decode"]
    assert {n: s for n, s in beside.items() if n != "attention decode"} == {
        n: s for n, s in untiled.parts(new=100, batch=20, context=900).items() if n != "attention decode"
    }
    least = steps(root, query_tile=1)
    assert least.parts(new=100, batch=1, context=8) == untiled.parts(new=100, batch=1, context=8)  # never less than alone


def test_activations_that_fit_the_last_cache_are_read_there(root: Path) -> None:
    cached = steps(root, l2=1e6, l2_bandwidth=1e10)
    norm, gate = 2 * 4 * 512, 2 * 3 * 1024  # bytes a token
    few = 3 * (3 * 3e-6 + 100 * (2 * norm + gate) / 1e10)
    assert cached.parts(new=100)["element-wise"] == pytest.approx(few, rel=1e-12)
    many = 3 * (3 * 3e-6 + sum(1e6 / 1e10 + (400 * moved - 1e6) / 0.5e9 for moved in (norm, norm, gate)))
    assert cached.parts(new=400)["element-wise"] == pytest.approx(many, rel=1e-12)
    assert steps(root, l2=1e6).parts(new=100)["element-wise"] == pytest.approx(element_wise(100, 1), rel=1e-12)


@pytest.mark.parametrize("model", [DENSE, MIXED])
def test_more_work_never_takes_less(root: Path, model: Decoder) -> None:
    law_steps = steps(root, model)
    for name, axis in {"new": (1, 17, 300, 2000), "batch": (1, 7, 33, 64), "context": (1, 40, 900), "cached": (0, 100, 3000)}.items():
        start = {"new": 16, "cached": 0, "batch": 2, "context": 32}
        times = [law_steps.seconds(**{**start, name: x}) for x in axis]
        assert times == sorted(times)
        assert times[-1] > times[0]


def test_times_bend_where_products_and_experts_were_measured(root: Path) -> None:
    assert steps(root).bends() == list(law.PRODUCTS)
    assert steps(root, MIXED, dp=2, ep=2).bends() == sorted({*law.PRODUCTS, *(n // 2 for n in law.TOKENS if n > 1)})


def test_beyond_the_tables_it_says_so(root: Path) -> None:
    found = steps(root)
    with pytest.raises(OutsideTables, match="context_attention_perf was measured for isl from 1 to 4096, not for 4200"):
        found.seconds(new=200, cached=4000)
    with pytest.raises(OutsideTables, match="generation_attention_perf was measured for step from 1 to 1024"):
        found.seconds(batch=4, context=5000)


def test_what_cannot_be_split_or_was_not_timed_is_refused(root: Path) -> None:
    with pytest.raises(SimulatorError, match="attention heads 8 cannot be split over 3"):
        steps(root, tp=3).seconds(batch=1, context=1)
    with pytest.raises(SimulatorError, match="16-bit"):
        steps(root, dataclasses.replace(DENSE, dtype_bytes=4))
    with pytest.raises(NotAvailable, match=r"no times of attention with 0\.5 bytes an element of KV"):
        steps(root, decoder(kv_element=0.5)).seconds(batch=1, context=1)
    linear = GatedDeltaNet(key_heads=4, key_dim=64, value_heads=8, value_dim=64, kernel=4, state_bytes=4)
    with pytest.raises(NotAvailable, match="no times of linear and of sparse attention"):
        steps(root, decoder(layer(linear))).seconds(batch=1, context=1)
