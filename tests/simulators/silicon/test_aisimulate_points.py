"""AISimulate on points: which are drawn, what it is asked, what is said where it has no times; and, where it is installed, one point."""

import dataclasses
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from results.project.folder import ROOT
from simulators.errors import SimulatorError
from simulators.silicon.aisimulate_points import AISimulatePoints
from tests.environments import python_of
from tests.simulators.silicon.test_waits import POINT


def make_predictor(**changes: Any) -> AISimulatePoints:
    """As conf/study/silicon.yaml has it; so the file and the constructor must agree."""
    study = OmegaConf.load(ROOT / "conf" / "study" / "silicon.yaml")
    whole = OmegaConf.create({"study": study})
    made = hydra.utils.instantiate(OmegaConf.merge(whole.study.predictors.aisimulate, changes))
    assert isinstance(made, AISimulatePoints)
    return made


def test_a_sample_is_drawn_by_the_seed_from_points_with_a_stated_concurrency(tmp_path: object) -> None:
    points = [dataclasses.replace(POINT, point_id=str(i), loop="batch" if i % 2 else "closed") for i in range(100)]
    drawn = make_predictor(points=8).drawn(points)
    assert len(drawn) == 8 and all(int(p.point_id) % 2 == 0 for p in drawn)
    assert drawn == make_predictor(points=8).drawn(points) != make_predictor(points=8, seed=1).drawn(points)
    assert len(make_predictor(points=80).drawn(points)) == 50


def test_it_is_asked_for_the_points_own_loop(tmp_path: Any) -> None:
    asked = make_predictor().settings(dataclasses.replace(POINT, expert_parallel=2), "glm_5_fp8", tmp_path / "trace.jsonl")
    assert asked["traffic"]["load"] == {"type": "concurrency", "concurrency": 8}
    worker = asked["engine"]["workers"]["aggregated"]
    assert worker["parallelism"] == {"replicas": 1, "tensor": 4, "attention_data": 1, "moe_expert": 2, "moe_tensor": 2}
    assert worker["kv_cache"]["capacity"]["memory_fraction"] == 0.85  # of the server's rule, as our own simulator has it
    apart = dataclasses.replace(POINT, tensor_parallel=1, data_parallel=4, expert_parallel=4, concurrency=10)
    worker = make_predictor().settings(apart, "glm_5_fp8", tmp_path / "trace.jsonl")["engine"]["workers"]["aggregated"]
    assert worker["scheduler"]["max_sequences"] == 3 and worker["parallelism"]["attention_data"] == 4


def test_what_its_wheel_does_not_have_is_said(tmp_path: Any) -> None:
    with pytest.raises(SimulatorError, match="no configuration of m with fp8_block weights"):
        make_predictor().settings(POINT, "somebody", tmp_path / "trace.jsonl")
    with pytest.raises(SimulatorError, match="no system of its wheel is a tpu"):
        make_predictor().settings(dataclasses.replace(POINT, gpu="tpu"), "glm_5_fp8", tmp_path / "trace.jsonl")


@pytest.mark.e2e
def test_a_point_is_predicted_or_its_reason_is_a_line() -> None:
    python_of("aisimulate")
    predictor = make_predictor(protocol={"least": 0.8, "rounds": 2, "seed": 0})
    small = dataclasses.replace(POINT, engine="vllm", experts="fp8", concurrency=4, input_tokens=256, output_tokens=32)
    made = predictor.predicted(small, "minimax_m2_5", "B")
    assert made.reason is None and made.ttft and made.tpot and 1e-3 < made.tpot < made.ttft < 1.0
    assert made.predictor == "aisimulate" and made.fitted_on == "" and made.half == "B"
    lacking = predictor.predicted(dataclasses.replace(small, tensor_parallel=3, devices=3), "minimax_m2_5", "B")
    assert lacking.reason and lacking.reason.startswith("aisimulate: ") and "\n" not in lacking.reason and "/tmp" not in lacking.reason
