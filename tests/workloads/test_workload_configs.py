"""Every workload in conf/ can be made by its name; the synthetic ones fit a model of 4096 tokens; the real files say what they should."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from results.project.folder import ROOT
from workloads.trace import Trace, TraceError

CONFIGS = sorted(p.stem for p in (ROOT / "conf" / "workload").glob("*.yaml"))
SYNTHETIC = ["azure_code_like", "azure_conv_like", "fixed", "mooncake_like", "sessions", "subagents"]
DATA = Path(os.environ.get("PLUMBLINE_DATA", ROOT / ".." / "shared" / "data"))


def workload(name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf" / "workload"), version_base="1.3"):
        return instantiate(compose(name, overrides=list(overrides)))


def real(name: str, file: str, *overrides: str) -> Trace:
    path = DATA / "traces" / file
    if not path.exists():
        pytest.skip(f"{path} is not there: put the trace there (conf/workload/{name}.yaml says where it is from) or set PLUMBLINE_DATA")
    trace: Trace = workload(name, f"source.path={path}", *overrides).trace(rate=None, num_requests=None, seed=0)
    return trace


def reuse(trace: Trace) -> float:
    """The share of blocks that an earlier prompt had: the ceiling of an endless prefix cache."""
    ids = [block for r in trace for block in r.blocks]
    return 1 - len(set(ids)) / len(ids)


def gap_cv(trace: Trace) -> float:
    gaps = np.diff([r.arrival for r in trace])
    return float(gaps.std() / gaps.mean())


@pytest.mark.parametrize("name", CONFIGS)
def test_each_config_makes_a_workload_of_its_own_name(name: str) -> None:
    given = ["source.path=x.csv"] if name in ("csv", "agents", "spans") else ["source.tokenizer=t.json"] if "sharegpt" in name else []
    made = workload(name, *given)
    assert made.name == name


@pytest.mark.parametrize("name", SYNTHETIC)
def test_the_synthetic_ones_fit_a_model_of_4096_tokens(name: str) -> None:
    for seed in range(5):
        trace = workload(name).trace(rate=3.0, num_requests=2000, seed=seed, max_model_len=4096)
        assert len(trace) == 2000


@pytest.mark.parametrize(
    ("name", "input_tokens", "output_tokens"), [("azure_conv_like", 300, 40), ("azure_code_like", 530, 26.5), ("mooncake_like", 300, 40)]
)
def test_the_synthetic_ones_have_the_means_they_state(name: str, input_tokens: float, output_tokens: float) -> None:
    trace = workload(name).trace(rate=3.0, num_requests=20_000, seed=0)
    assert np.mean([r.input_tokens for r in trace]) == pytest.approx(input_tokens, rel=0.1)
    assert np.mean([r.output_tokens for r in trace]) == pytest.approx(output_tokens, rel=0.05)


def test_mooncake_like_shares_about_what_it_states() -> None:
    assert np.mean([reuse(workload("mooncake_like").trace(rate=3.0, num_requests=1000, seed=s)) for s in range(5)]) == pytest.approx(
        0.39, abs=0.03
    )


def test_a_missing_file_is_told_in_one_line_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        workload("mooncake", f"source.path={tmp_path}/absent.jsonl").trace(rate=None, num_requests=None, seed=0)
    assert "\n" not in str(caught.value)
    assert "https://github.com/kvcache-ai/Mooncake" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "n", "rate", "cv", "input_tokens", "output_tokens"),
    [
        ("azure_conv", "azure_llm_2023_conv.csv", 19_366, 5.53, 1.094, 1154.7, 211.1),
        ("azure_code", "azure_llm_2023_code.csv", 8_819, 2.57, 13.15, 2047.8, 27.9),
        ("mooncake", "mooncake_conversation.jsonl", 12_031, 3.40, None, 12_035.1, 342.6),
        ("mooncake", "mooncake_synthetic.jsonl", 3_993, 3.90, 1.0, 15_325.5, 149.1),
    ],
)
def test_the_real_traces_have_their_known_statistics(
    name: str, file: str, n: int, rate: float, cv: float | None, input_tokens: float, output_tokens: float
) -> None:
    trace = real(name, file)
    assert len(trace) == n
    assert trace.rate == pytest.approx(rate, rel=0.005)
    assert np.mean([r.input_tokens for r in trace]) == pytest.approx(input_tokens, rel=1e-4)
    assert np.mean([r.output_tokens for r in trace]) == pytest.approx(output_tokens, rel=2e-3)
    if cv is not None:
        assert gap_cv(trace) == pytest.approx(cv, rel=0.06)


@pytest.mark.parametrize(("file", "ceiling"), [("mooncake_conversation.jsonl", 0.366), ("mooncake_synthetic.jsonl", 0.640)])
def test_mooncakes_prefix_ceiling(file: str, ceiling: float) -> None:
    trace = real("mooncake", file)
    assert reuse(trace) == pytest.approx(ceiling, abs=0.0005)
    assert all(len(r.blocks) == -(-r.input_tokens // 512) for r in trace)


def test_mooncakes_ticks_are_kept_unless_spread() -> None:
    ticks = real("mooncake", "mooncake_conversation.jsonl")
    spread = real("mooncake", "mooncake_conversation.jsonl", "spread=3.0")
    assert len({r.arrival for r in ticks}) == 1180
    assert len({r.arrival for r in spread}) == len(spread)
    assert 0 < spread.duration - ticks.duration < 3


def test_mooncake_made_small_fits_and_keeps_its_sharing() -> None:
    small = real("mooncake", "mooncake_conversation.jsonl", "scale_input=0.03125", "scale_output=0.1")
    assert small.block_size == 16
    assert reuse(small) == pytest.approx(0.366, abs=0.005)


def test_a_real_trace_at_another_rate_keeps_its_burstiness() -> None:
    path = DATA / "traces" / "azure_llm_2023_code.csv"
    real("azure_code", path.name)  # skips when it is not there
    trace = workload("azure_code", f"source.path={path}").trace(rate=10.0, num_requests=None, seed=0)
    assert trace.rate == pytest.approx(10.0, rel=1e-9)
    assert gap_cv(trace) == pytest.approx(13.15, rel=0.001)
