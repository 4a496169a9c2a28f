"""Readers of operation tables: exact for power laws, no answer outside, which version is taken, and the rules of each kind."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from simulators.calibration.operation_tables.attention import AttentionTimes, Heads
from simulators.calibration.operation_tables.collectives import Collective
from simulators.calibration.operation_tables.experts import ExpertTimes, Mixture
from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.formats import TableFormats
from simulators.calibration.operation_tables.grid import OutsideTables, TableGrid
from simulators.calibration.operation_tables.latent import LatentSizes, LatentTimes
from simulators.calibration.operation_tables.products import ProductTimes
from simulators.errors import NotAvailable
from simulators.native.architecture.formats import WEIGHTS, WeightFormat, grouped, plain
from tests.simulators.calibration import made_tables as law

MIXTURE = Mixture(hidden=512, intermediate=256, experts=8, top_k=2)
HEADS = Heads(queries=8, kv=4, dim=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return law.made(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def files(made: Path) -> TableFiles:
    return of(made)


def of(root: Path, version: str | None = "0.19.0") -> TableFiles:
    return TableFiles(root=root, framework="vllm", version=version)


def ms(value: float) -> object:
    return pytest.approx(1e-3 * value, rel=1e-12)


def test_between_its_points_a_power_law_is_met_exactly_and_at_them_the_table(files: TableFiles) -> None:
    products, attention = ProductTimes.read(files), AttentionTimes.read(files, HEADS)
    for m, n, k in itertools.product((1, 3, 64, 100), (8, 77, 4096), (1, 9, 4000)):
        assert products.seconds(m, n, k) == ms(law.gemm_ms(m, n, k))
    assert attention.decode(5, 100) == ms(law.decode_ms(5, 100))
    assert Collective.all_reduce(files, 2, "graph").seconds(5000) == ms(law.reduce_ms(5000))
    assert Collective.nccl(files, 4, "reduce_scatter").seconds(5000) == ms(law.gather_ms(5000, "reduce_scatter"))
    assert ExpertTimes.read(files, MIXTURE).seconds(100) == ms(law.experts_ms(100))


def test_beyond_the_largest_message_product_or_batch_of_experts_come_equal_parts(files: TableFiles) -> None:
    assert ProductTimes.read(files).seconds(8, 10_000, 8) == ms(3 * law.gemm_ms(8, 10_000 / 3, 8))
    assert Collective.nccl(files, 2, "all_gather").seconds(2**22) == ms(4 * law.gather_ms(2**20))
    assert Collective.nccl(files, 2, "all_gather").seconds(1) == ms(law.gather_ms(64))
    assert ExpertTimes.read(files, MIXTURE).seconds(3 * 4096) == ms(3 * law.experts_ms(4096))


@pytest.mark.parametrize("point", [(5000, 8, 8), (8, 8, 4097), (0.5, 8, 8)])
def test_outside_there_is_no_answer(files: TableFiles, point: tuple[float, float, float]) -> None:
    with pytest.raises(OutsideTables, match=r"tiny_gpu/gemm/vllm/0.19.0/gemm_perf was measured for [mnk] from 1 to 4096"):
        ProductTimes.read(files).seconds(*point)


def test_a_hole_in_a_table_is_outside_but_its_measured_neighbours_are_not() -> None:
    rows = pd.DataFrame([(1, 1, 1.0), (1, 10, 2.0), (10, 1, 4.0)], columns=["a", "b", "latency"])
    grid = TableGrid.of("holey", rows, ("a", "b"))
    assert grid.at(a=10, b=1) == ms(4)
    assert grid.at(a=1, b=10**0.5) == ms(8**0.5 / 2 * 2**0.0)
    with pytest.raises(OutsideTables, match="holey was not measured around a 5, b 5"):
        grid.at(a=5, b=5)


def test_the_nearest_version_that_has_the_rows_is_taken_and_named(tmp_path: Path) -> None:
    for version, scale in (("0.9.0", 1.0), ("0.10.0", 2.0), ("0.24.0", 3.0)):
        root = law.made(tmp_path, version=version, scale=scale)
    took = {v: ProductTimes.read(of(root, v)).seconds(8, 8, 8) / (1e-3 * law.gemm_ms(8, 8, 8)) for v in ("0.9.0", "0.11.2", "0.31.0", None)}
    assert took == pytest.approx({"0.9.0": 1.0, "0.11.2": 2.0, "0.31.0": 3.0, None: 3.0})
    asked = of(root, "0.10.0")
    law.save(
        root, "gemm/vllm", "0.10.0", "gemm_perf", pd.DataFrame([(8, 8, 8, "int8", 1.0)], columns=["m", "n", "k", "gemm_dtype", "latency"])
    )
    assert ProductTimes.read(asked).seconds(8, 8, 8) == ms(law.gemm_ms(8, 8, 8))  # of 0.9.0
    Collective.nccl(asked, 2, "all_gather")
    Collective.all_reduce(asked, 2, "graph")
    assert asked.used() == [
        "tiny_gpu/comm/nccl/2.29.2/nccl_perf",
        "tiny_gpu/comm/vllm/0.10.0/custom_allreduce_perf",
        "tiny_gpu/gemm/vllm/0.9.0/gemm_perf",
    ]
    assert asked.of_other_versions() == ["tiny_gpu/gemm/vllm/0.9.0/gemm_perf"]


def test_products_that_were_started_one_by_one_are_passed_over(tmp_path: Path) -> None:
    root = law.made(tmp_path)
    rows = pd.DataFrame([(m, 1024, 1024, "fp8_block", 0.06) for m in (1, 64)], columns=["m", "n", "k", "gemm_dtype", "latency"])
    law.save(root, "gemm/vllm", "0.20.0", "gemm_perf", rows)
    assert ProductTimes.read(of(root, "0.20.0"), "fp8_block").grid.name == "tiny_gpu/gemm/vllm/0.19.0/gemm_perf"
    law.save(root, "gemm/vllm", "0.20.0", "gemm_perf", rows.assign(latency=0.02))
    assert ProductTimes.read(of(root, "0.20.0"), "fp8_block").grid.name == "tiny_gpu/gemm/vllm/0.20.0/gemm_perf"


NOT_THERE: dict[str, tuple[Callable[[TableFiles], object], str]] = {
    "heads": (lambda f: AttentionTimes.read(f, Heads(queries=12, kv=6, dim=64)), "num_heads 12, num_key_value_heads 6, head_dim 64"),
    "kernel": (lambda f: Collective.all_reduce(f, 2, "magic"), "no kernel source that ends in 'magic'"),
    "devices": (lambda f: Collective.nccl(f, 16, "all_gather"), "no nccl_perf with num_gpus 16, op_name all_gather"),
    "format": (lambda f: ProductTimes.read(f, "nvfp4"), r"no gemm_perf with gemm_dtype nvfp4; .* \(timed in CUDA graphs\)"),
    "split": (
        lambda f: ExpertTimes.read(f, Mixture(hidden=512, intermediate=256, experts=8, top_k=2, tensor=8)),
        r"moe_tp_size 8.*; measured were \(tensor, expert\) parallelism \[\(1, 1\), \(1, 2\), \(1, 4\), \(2, 1\)\], formats bfloat16",
    ),
    "experts": (lambda f: ExpertTimes.read(f, Mixture(hidden=512, intermediate=128, experts=4, top_k=2)), r"\[\(512, 256, 2, 8\)\]"),
    "width": (lambda f: ExpertTimes.read(f, Mixture(hidden=640, intermediate=256, experts=8, top_k=2)), "measured were hidden sizes 512"),
    "latent": (
        lambda f: LatentTimes.read(f, LatentSizes(rank=256), heads=16),
        "was measured for LatentSizes.hidden=7168",
    ),
}


@pytest.mark.parametrize("what", NOT_THERE)
def test_what_no_version_has_is_not_available_and_what_there_is_is_said(files: TableFiles, what: str) -> None:
    read, said = NOT_THERE[what]
    with pytest.raises(NotAvailable, match=said):
        read(files)


def test_experts_are_those_of_the_split_the_format_and_the_distribution(files: TableFiles) -> None:
    for tensor, expert in law.SPLITS:
        mixture = Mixture(hidden=512, intermediate=256, experts=8, top_k=2, tensor=tensor, expert=expert, dtype="fp8")
        assert ExpertTimes.read(files, mixture).seconds(40) == ms(0.5 * law.experts_ms(40, tensor, expert))
    assert ExpertTimes.read(files, MIXTURE, "power_law_1.2").seconds(40) == ms(2 * law.experts_ms(40))


def test_a_chunk_of_a_prompt_takes_its_share_of_the_pairs(files: TableFiles) -> None:
    attention = AttentionTimes.read(files, HEADS)
    assert attention.prompt(100, 28) == ms(law.prompt_ms(128) * (1 - (28 / 128) ** 2))


def test_a_window_that_was_measured_is_taken_and_another_made_of_whole_contexts(files: TableFiles) -> None:
    measured = AttentionTimes.read(files, Heads(queries=8, kv=4, dim=64, window=32))
    assert measured.decode(5, 100) == ms(law.decode_ms(5, 100) / 4)
    assert measured.prompt(200, 0) == ms(law.prompt_ms(200) / 4)
    other, whole = AttentionTimes.read(files, Heads(queries=8, kv=4, dim=64, window=64)), AttentionTimes.read(files, HEADS)
    assert other.decode(5, 1000) == other.decode(5, 64) == whole.decode(5, 64)
    assert other.prompt(50, 0) == whole.prompt(50, 0)
    assert other.prompt(100, 3000) == other.prompt(100, 64) < whole.prompt(100, 3000)
    pairs = (164**2 - 100**2 - 64**2) / 164**2  # of all of 164 tokens: all but the chunk's beyond the window, and the cached ones'
    assert other.prompt(100, 64) == ms(law.prompt_ms(164) * pairs)


def test_latent_attention_pays_its_start_once_in_a_step_of_both_kinds(files: TableFiles) -> None:
    latent = LatentTimes.read(files, LatentSizes(), heads=16)
    assert latent.prompt(100, 0) == ms(law.latent_prompt_ms(100))
    assert latent.prompt(100, 400) == ms(law.latent_prompt_ms(500) - law.latent_prompt_ms(400))
    assert latent.prompt(100, 1) >= latent.prompt(100, 0)
    both = law.latent_prompt_ms(100) + law.latent_decode_ms(5, 100) - law.latent_decode_ms(1, 1)
    assert latent.step(100, 0, 5, 100) == ms(both)
    assert latent.step(0, 0, 5, 100) == latent.decode(5, 100) == ms(law.latent_decode_ms(5, 100))


def test_formats_are_named_as_in_the_tables() -> None:
    blocks = TableFormats.of({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})
    named = TableFormats.of({"quantization_config": None})
    assert (named.dense(plain(2)), named.dense(WEIGHTS["fp8"]), blocks.dense(WEIGHTS["fp8"])) == ("bfloat16", "fp8", "fp8_block")
    assert (named.dense(WEIGHTS["nvfp4"]), named.experts(WEIGHTS["mxfp4"])) == ("nvfp4", "w4a16_mxfp4")
    assert named.experts(WEIGHTS["awq_int4"]) == named.experts(grouped(4, 32, zeros=False)) == "int4_wo"
    for weights, said in ((WEIGHTS["awq_int4"], "4-bit integers"), (WeightFormat(bytes=1, arithmetic="16 bit"), "8-bit integers")):
        with pytest.raises(NotAvailable, match=f"no times of dense products with weights in {said}; there are 16 bit, FP8"):
            named.dense(weights)
