"""AIConfigurator on points: what it is asked, what is said where it has no times; and, where it is installed, some points."""

import dataclasses
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from results.project.folder import ROOT
from simulators.silicon.aiconfigurator_points import AIConfiguratorPoints
from tests.environments import python_of
from tests.simulators.silicon.test_waits import POINT

HALVES = {"A": ["llama_3_1_70b"], "B": ["minimax_m2_5"]}
SMALL = dataclasses.replace(
    POINT,
    engine="vllm",
    gpu="h200",
    model="dense",
    experts="fp8",
    weights="fp8",
    concurrency=8,
    input_tokens=1000,
    output_tokens=500,
    tensor_parallel=2,
    data_parallel=1,
    expert_parallel=1,
    devices=2,
)


def make_predictor() -> AIConfiguratorPoints:
    """As conf/study/silicon.yaml has it; so the file and the constructor must agree."""
    study: Any = OmegaConf.create({"study": OmegaConf.load(ROOT / "conf" / "study" / "silicon.yaml")})
    made = hydra.utils.instantiate(study.study.predictors.aiconfigurator)
    assert isinstance(made, AIConfiguratorPoints)
    return made


def test_what_it_has_no_times_of_is_said_and_costs_no_program() -> None:
    points = [dataclasses.replace(SMALL, gpu="tpu"), dataclasses.replace(SMALL, experts="int3")]
    made = make_predictor().predict([*points, dataclasses.replace(SMALL, loop="batch")], {"dense": "llama_3_1_70b"}, HALVES)
    assert [one.reason for one in made] == [
        "aiconfigurator: no system of its wheel is a tpu",
        "aiconfigurator: its wheel has no configuration of dense with int3 weights",
    ]
    assert all(one.tpot is None and one.half == "A" for one in made)


@pytest.mark.e2e
def test_points_are_estimated_or_their_reason_is_a_line() -> None:
    python_of("aisimulate")
    mixture = dataclasses.replace(SMALL, model="mixture", tensor_parallel=3, devices=3)
    busy = dataclasses.replace(SMALL, concurrency=128)
    slow, fast, lost = make_predictor().predict([busy, SMALL, mixture], {"dense": "llama_3_1_70b", "mixture": "minimax_m2_5"}, HALVES)
    assert slow.tpot and fast.tpot and slow.throughput and fast.throughput and slow.ttft and fast.ttft
    assert 1e-3 < fast.tpot < slow.tpot < fast.ttft < 5 and slow.throughput > fast.throughput
    assert lost.reason and "\n" not in lost.reason and lost.half == "B"
