"""What a request of a closed loop waits for beside the engine's own steps, and which settings its server has."""

import dataclasses

import pytest

from results.silicon.points import MeasuredPoint
from simulators.native.architecture.reader import decoder_of
from simulators.native.frontend.station import Station
from simulators.native.planning import settings
from simulators.silicon.front import MOST_BUSY, LoopFront
from simulators.silicon.launches import kernels_a_layer
from simulators.silicon.servers import server_of

STATION = Station(request=3e-3, prompt_token=4e-6, step=5e-4, token=5e-5, hand_over=2e-4)
FRONT = LoopFront(station=STATION, prompt_tokens=1000.0, output_tokens=900.0, in_flight=4, engines=1)
POINT = MeasuredPoint(
    point_id="a",
    rows=1,
    engine="sglang",
    version=None,
    model="m",
    gpu="b200",
    weights="fp8",
    experts="fp8_block",
    loop="closed",
    concurrency=8,
    input_tokens=1024,
    output_tokens=1024,
    devices=4,
    tensor_parallel=4,
    data_parallel=1,
    expert_parallel=1,
    ttft=0.1,
    tpot=0.01,
)


def test_a_request_waits_longer_where_more_tokens_are_streamed() -> None:
    alone = FRONT.idle()
    waits = [dataclasses.replace(FRONT, in_flight=n).seconds(0.01) for n in (1, 4, 16, 64)]
    assert alone < waits[0] and waits == sorted(waits) and waits[0] == pytest.approx(alone, rel=0.1)
    assert dataclasses.replace(FRONT, in_flight=10_000).seconds(0.01) == pytest.approx(alone / (1 - MOST_BUSY))
    rare = dataclasses.replace(FRONT, in_flight=64, stream_interval=20)
    assert alone < rare.seconds(0.01) < waits[-1]
    assert FRONT.seconds(0.01, 2.0) > 2 * FRONT.seconds(0.01)  # a slower CPU is busier, too


def test_a_busy_share_is_the_work_of_a_step_over_its_time() -> None:
    requests = 4 / 900 * (3e-3 + 4e-6 * 1000)
    assert FRONT.busy(0.01) == pytest.approx((5e-4 + 4 * 5e-5 + requests) / 0.01)


def test_a_layer_with_experts_or_latents_has_more_kernels() -> None:
    kernels = {name: kernels_a_layer(decoder_of(settings.choice("model", name)["config"])) for name in MODELS}
    assert kernels["llama_3_1_70b"] < kernels["minimax_m2_5"] < kernels["deepseek_v3"]


MODELS = ("llama_3_1_70b", "minimax_m2_5", "deepseek_v3")


def test_a_later_rule_counts_where_its_conditions_hold() -> None:
    rules = [
        {"engine": "sglang", "receive_interval": 10},
        {"engine": "sglang", "from_concurrency": 16, "receive_interval": 30},
        {"engine": "sglang", "tensor_parallel": 8, "memory_utilization": 0.5},
    ]
    more, wide = dataclasses.replace(POINT, concurrency=16), dataclasses.replace(POINT, tensor_parallel=8)
    assert [server_of(p, "m", rules).receive_interval for p in (POINT, more)] == [10, 30]
    assert [server_of(p, "m", rules).memory_utilization for p in (POINT, wide)] == [0.9, 0.5]
    with pytest.raises(ValueError, match="recieve_interval is no setting"):
        server_of(POINT, "m", [{"recieve_interval": 1}])
