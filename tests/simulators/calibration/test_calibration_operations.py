"""A composed step is the sum of its operations as computed by hand, grows with its work, and is split over devices as it should."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from simulators.calibration.operations import Kernels, Overheads, Steps
from simulators.calibration.tables import OperationTables, OutsideTables
from simulators.errors import SimulatorError
from simulators.native.architecture.uniform import Uniform
from tests.simulators.calibration import made_tables as law

SHAPE = Uniform(hidden=512, intermediate=1024, layers=3, heads=8, kv_heads=4, head_dim=64, vocab=4000, dtype_bytes=2)
OVERHEADS = Overheads(kernel=3e-6, bandwidth=0.5, step=1e-3)


def steps(root: Path, *, tp: int = 1, shape: Uniform = SHAPE, **kernels: Any) -> Steps:
    tables = OperationTables(
        root=root, framework="vllm", version=None, heads=8 // tp, kv_heads=4 // tp, head_dim=64, gpus=tp, all_reduce="graph"
    )
    return Steps(shape=shape, tables=tables, overheads=OVERHEADS, memory_bandwidth=1e9, tensor_parallel=tp, kernels=Kernels(**kernels))


def element_wise(tokens: int, tp: int) -> float:
    """Two norms with residual (4 reads and writes of the hidden state each), one gated activation (2 read, 1 written); 2 bytes each."""
    return 3 * (3 * 3e-6 + 2 * tokens * (8 * 512 + 3 * 1024 / tp) / (1e9 * 0.5))


def test_a_step_of_both_kinds_is_the_sum_computed_by_hand(tmp_path: Path) -> None:
    new, cached, batch, context = 100, 28, 20, 200
    gemms = sum(law.gemm_ms(120, n, k) for n, k in ((512 + 2 * 256, 512), (512, 512), (2048, 512), (512, 1024)))
    prompt = law.prompt_ms(128) * (1 - (28 / 128) ** 2)
    by_hand = 1e-3 * (3 * (gemms + prompt + law.decode_ms(20, 200)) + law.gemm_ms(21, 4000, 512)) + element_wise(120, 1) + 1e-3
    assert steps(law.made(tmp_path)).seconds(new=new, cached=cached, batch=batch, context=context) == pytest.approx(by_hand, rel=1e-12)


def test_over_two_devices_the_split_side_of_every_product_halves_and_messages_come_on_top(tmp_path: Path) -> None:
    gemms = sum(law.gemm_ms(16, n, k) for n, k in ((512, 512), (512, 256), (1024, 512), (512, 512)))
    messages = 7 * law.reduce_ms(16 * 512) + law.gather_ms(16 * 4000)  # two a layer, the embedding's; the logits of 16 rows
    attention = law.decode_ms(16, 100) / 2  # of half the heads
    by_hand = 1e-3 * (3 * (gemms + attention) + law.gemm_ms(16, 2000, 512) + messages) + element_wise(16, 2) + 1e-3
    two = steps(law.made(tmp_path), tp=2)
    assert two.seconds(batch=16, context=100) == pytest.approx(by_hand, rel=1e-12)
    one = steps(law.made(tmp_path)).layer_products()
    split = {name: (n / one[name][0], k / one[name][1]) for name, (n, k) in two.layer_products().items()}
    assert split == {"qkv": (0.5, 1), "out": (1, 0.5), "gate-up": (0.5, 1), "down": (1, 0.5)}
    assert "all-reduce" not in steps(law.made(tmp_path)).parts(batch=16, context=100)


def test_beside_a_prompts_chunk_a_decode_takes_a_tile_of_queries(tmp_path: Path) -> None:
    """As many rows of a prompt's attention on that context, where that is more than the decode's own; decode steps stay as they are."""
    tiled, plain = steps(law.made(tmp_path), query_tile=64), steps(law.made(tmp_path))
    assert tiled.parts(batch=20, context=900) == plain.parts(batch=20, context=900)
    beside = tiled.parts(new=100, batch=20, context=900)
    tiles = 3e-3 * 20 * law.prompt_ms(964) * (1 - (900 / 964) ** 2)  # the table has single prompts: one after the other
    assert beside["attention decode"] == pytest.approx(tiles, rel=1e-12)
    assert tiles > 2 * plain.parts(new=100, batch=20, context=900)["attention decode"]
    assert {n: s for n, s in beside.items() if n != "attention decode"} == {
        n: s for n, s in plain.parts(new=100, batch=20, context=900).items() if n != "attention decode"
    }
    least = steps(law.made(tmp_path), query_tile=1)
    assert least.parts(new=100, batch=1, context=8) == plain.parts(new=100, batch=1, context=8)  # never less than alone


def test_activations_that_fit_the_last_cache_are_read_there(tmp_path: Path) -> None:
    cached = steps(law.made(tmp_path), l2=1e6, l2_bandwidth=1e10)
    norm, gate = 2 * 4 * 512, 2 * 3 * 1024  # bytes a token
    few = 3 * (3 * 3e-6 + 100 * (2 * norm + gate) / 1e10)
    assert cached.parts(new=100)["element-wise"] == pytest.approx(few, rel=1e-12)
    many = 3 * (3 * 3e-6 + sum(1e6 / 1e10 + (400 * moved - 1e6) / 0.5e9 for moved in (norm, norm, gate)))
    assert cached.parts(new=400)["element-wise"] == pytest.approx(many, rel=1e-12)
    assert steps(law.made(tmp_path), l2=1e6).parts(new=100)["element-wise"] == pytest.approx(element_wise(100, 1), rel=1e-12)


def test_more_work_never_takes_less(tmp_path: Path) -> None:
    law_steps = steps(law.made(tmp_path))
    for name, axis in {"new": (1, 17, 300, 2000), "batch": (1, 7, 33, 64), "context": (1, 40, 900), "cached": (0, 100, 3000)}.items():
        start = {"new": 16, "cached": 0, "batch": 2, "context": 32}
        times = [law_steps.seconds(**{**start, name: x}) for x in axis]
        assert times == sorted(times)
        assert times[-1] > times[0]


def test_a_product_wider_than_the_table_is_done_in_equal_blocks(tmp_path: Path) -> None:
    wide = steps(law.made(tmp_path), shape=dataclasses.replace(SHAPE, vocab=10_000))
    assert wide.parts(batch=1, context=9)["gemm head"] == pytest.approx(3e-3 * law.gemm_ms(1, 10_000 / 3, 512), rel=1e-12)


def test_beyond_the_tables_it_says_so(tmp_path: Path) -> None:
    found = steps(law.made(tmp_path))
    with pytest.raises(OutsideTables, match="context_attention_perf was measured for isl from 1 to 4096, not for 4200"):
        found.seconds(new=200, cached=4000)
    with pytest.raises(OutsideTables, match="generation_attention_perf was measured for step from 1 to 1024"):
        found.seconds(batch=4, context=5000)


def test_what_cannot_be_split_or_is_not_16_bit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="attention heads 8 cannot be split over 3"):
        steps(law.made(tmp_path), tp=3)
    with pytest.raises(SimulatorError, match="16-bit"):
        steps(law.made(tmp_path), shape=dataclasses.replace(SHAPE, dtype_bytes=4))
