"""Points of the silicon sample: each measurement once, its layout mended, its load's kind kept; another file is refused."""

from pathlib import Path

import pytest

from results.silicon.points import NEEDED, MeasuredPoint, PointError, read_points
from tests.silicon import HEADER, sample_row, write_sample


def test_a_measurement_that_is_exported_twice_is_one_point(tmp_path: Path) -> None:
    rounded = sample_row(id="b", silicon_ttft_ms="205.56", silicon_tpot_ms="17.79", backend_version="")
    exact = sample_row(id="a", silicon_ttft_ms="205.5567", silicon_tpot_ms="17.7891")
    other = sample_row(id="c", silicon_ttft_ms="231.0", silicon_tpot_ms="17.79")
    found = read_points(write_sample(tmp_path, exact, rounded, other))
    assert [(point.point_id, point.rows, point.version) for point in found] == [("a", 2, "0.19.0"), ("c", 1, "0.19.0")]
    assert found[0].ttft == pytest.approx(0.2055567) and found[0].tpot == pytest.approx(0.0177891)


def test_runs_that_one_export_names_after_another_model_are_one_point(tmp_path: Path) -> None:
    other = sample_row(id="dsr1_b200_sglang_c8", model_path="deepseek-ai/DeepSeek-V3")
    named = sample_row(id="2026_deepseek_r1_b200", model_path="deepseek-ai/DeepSeek-R1")
    (point,) = read_points(write_sample(tmp_path, other, named))
    assert (point.model, point.rows) == ("deepseek-ai/DeepSeek-R1", 2)
    (point,) = read_points(write_sample(tmp_path, sample_row(id="x", model_path="deepseek-ai/DeepSeek-V3")))
    assert point.model == "deepseek-ai/DeepSeek-V3"


@pytest.mark.parametrize(
    ("sizes", "layout"),
    [
        ({"tp_size": "8.0"}, (8, 8, 1, 1)),
        ({"tp_size": "16.0", "moe_tp_size": "4.0", "moe_ep_size": "4.0"}, (4, 4, 1, 4)),
        ({"tp_size": "4.0", "attention_dp_size": "4.0", "moe_ep_size": "16.0"}, (4, 1, 4, 4)),
        ({"tp_size": "8.0", "moe_ep_size": "8.0"}, (8, 8, 1, 8)),
        ({"tp_size": "2.0", "attention_dp_size": "", "moe_tp_size": "0", "moe_ep_size": "0"}, (2, 2, 1, 1)),
        ({"tp_size": "1.0", "attention_dp_size": "64.0", "moe_tp_size": "8.0", "moe_ep_size": "8.0"}, (8, 1, 8, 8)),
        ({"tp_size": "1.0", "attention_dp_size": "8.0", "moe_ep_size": "8.0"}, (8, 1, 8, 8)),
        ({"tp_size": "1.0", "attention_dp_size": "4.0", "moe_tp_size": "4.0"}, (4, 1, 4, 1)),
    ],
)
def test_gpus_and_who_shares_what(tmp_path: Path, sizes: dict[str, str], layout: tuple[int, ...]) -> None:
    (point,) = read_points(write_sample(tmp_path, sample_row(**sizes)))
    assert (point.devices, point.tensor_parallel, point.data_parallel, point.expert_parallel) == layout


@pytest.mark.parametrize(
    ("source", "loop", "concurrency"),
    [
        ("source_file=2026-04-06.csv; silicon_concurrency=64", "closed", 64),
        ("source_file=/home/somebody/vllm.csv; silicon_concurrency=64", "batch", 64),
        ("source_file=other.csv", "batch", 24),
    ],
)
def test_a_batch_size_is_not_a_stated_concurrency(tmp_path: Path, source: str, loop: str, concurrency: int) -> None:
    (point,) = read_points(write_sample(tmp_path, sample_row(silicon_data_source=source, batch_size="24")))
    assert (point.loop, point.concurrency) == (loop, concurrency)


def test_servers_of_which_prefill_is_apart_are_left_out(tmp_path: Path) -> None:
    assert read_points(write_sample(tmp_path, sample_row(mode="disagg"))) == []


def test_precision_is_a_word_for_most_of_the_weights(tmp_path: Path) -> None:
    rows = [sample_row(id=f"{i}", moe_quant_mode=words, isl=f"{i + 1}") for i, words in enumerate(("nvfp4", "fp8_block", "int4_wo", ""))]
    found: list[MeasuredPoint] = read_points(write_sample(tmp_path, *rows))
    assert [point.precision for point in found] == ["fp4", "fp8", "int4", "bf16"]


def test_what_is_no_sample_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PointError, match=r"missing.*installs it"):
        read_points(tmp_path / "nothing.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(PointError, match=f"lacks the columns {NEEDED[0]}"):
        read_points(tmp_path / "other.csv")
    with pytest.raises(PointError, match=r"sample.csv:2: silicon_tpot_ms must be > 0"):
        read_points(write_sample(tmp_path, sample_row(silicon_tpot_ms="0")))
    assert len(HEADER) > len(NEEDED)
