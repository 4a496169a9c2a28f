"""Pipelines: each stage computes one micro-batch at a time, and a request is in one of them only."""

import dataclasses
from typing import Any

import pytest

from simulators.errors import NotAvailable
from simulators.native.engine import run
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.speculation import Speculation
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.serve import serve
from simulators.native.served import Frontend
from simulators.native.stages import Stages
from tests.simulators.native.cases import Linear
from tests.simulators.native.scheduling.test_policies import requests
from tests.simulators.native.test_native import measured, native

LIMITS = Limits(kv_blocks=1000, block_size=16, max_num_seqs=8, max_num_batched_tokens=64, max_model_len=512)
STEP = Linear(fixed=0.012)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batches_follow_each_other_a_stage_apart(count: int) -> None:
    stages = Stages(count=count)
    ends = [stages.compute(1.0, 0.3) for _ in range(4)]
    assert ends == pytest.approx([1.3 + n * 0.3 / count for n in range(4)])
    assert stages.next_start(1.0) == pytest.approx(1.0 + 4 * 0.3 / count) and stages.last_end == ends[-1]
    assert stages.compute(9.0, 0.3) == pytest.approx(9.3)  # all are idle by then


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("asynchronous", [0, 1])
def test_a_request_s_token_is_known_before_its_next_one_enters_the_first_stage(stages: int, asynchronous: int) -> None:
    limits = dataclasses.replace(LIMITS, pipeline_parallel_size=stages, in_flight=stages + asynchronous)
    trace = requests(*[(0.004 * i, 40, 12) for i in range(9)])
    sequences = list(make_sequences(trace, block_size=16))
    busy: dict[int, float] = {}
    for step in run(sequences, VllmV1(limits), STEP, in_flight=limits.in_flight, stages=Stages(count=stages)):
        for sequence in step.batch.samplers:
            assert step.start >= busy.get(sequence.index, 0.0) - 1e-12
            busy[sequence.index] = step.end
    assert all(len(s.token_times) == 12 for s in sequences)


def test_stages_share_many_requests_and_do_not_speed_up_one() -> None:
    def end(stages: int, count: int) -> float:
        limits = dataclasses.replace(LIMITS, pipeline_parallel_size=stages, in_flight=stages, max_num_seqs=32)
        trace = requests(*[(0.0, 16, 40)] * count)
        return serve(trace, limits, Linear(fixed=0.0, per_token=0.001), frontend=Frontend()).end

    assert end(4, 1) == pytest.approx(end(1, 1))
    assert end(1, 16) / 4 < end(4, 16) < end(1, 16) / 2.5  # in four micro-batches


def test_the_setting_in_the_bench(tmp_path: Any) -> None:
    made = native(pipeline_parallel_size=2).simulate(measured(), track="matched", profile=None, scratch=tmp_path)
    limits = made.config["simulator"]["limits"]
    assert limits["pipeline_parallel_size"] == 2 and limits["in_flight"] in (2, 3)
    with pytest.raises(NotAvailable, match="the policy sarathi has no pipeline; leave pipeline_parallel_size out"):
        native(policy="sarathi", pipeline_parallel_size=2).simulate(measured(), track="matched", profile=None, scratch=tmp_path)


def test_what_a_pipeline_cannot_have_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"pipeline_parallel_size 3 needs as many steps in flight \(in_flight 2\)"):
        dataclasses.replace(LIMITS, pipeline_parallel_size=3, in_flight=2)
    with pytest.raises(ValueError, match="rules speculation out"):
        speculation = Speculation(num_speculative_tokens=2, acceptance_rate=0.5)
        dataclasses.replace(LIMITS, pipeline_parallel_size=2, in_flight=2, speculation=speculation)
    with pytest.raises(ValueError, match="stages must be >= 1"):
        Stages(count=0)
