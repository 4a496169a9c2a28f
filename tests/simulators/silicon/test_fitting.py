"""The fit of factors: what made the points is found again, only what is named moves, and a name that is none is refused."""

import dataclasses

import numpy as np
import pytest

from results.silicon.points import MeasuredPoint
from simulators.native.latency.efficiency import efficiency_of
from simulators.native.planning import settings
from simulators.silicon.factors import Factors
from simulators.silicon.fitting import fit
from simulators.silicon.launches import kernels_a_layer
from simulators.silicon.loops import LoopProtocol, key_of, schedule_of
from simulators.silicon.prepared import Prepared
from simulators.silicon.schedule import LoopSchedule, mean_shares
from simulators.silicon.servers import PointServer
from simulators.silicon.sizes import Sizes
from tests.simulators.native.test_native import native
from tests.simulators.silicon.test_waits import FRONT, POINT


def prepared(concurrency: int, truth: Factors) -> Prepared:
    """A point that was measured as this simulator has it, with these factors."""
    point = dataclasses.replace(
        POINT, engine="vllm", weights="bf16", experts="bf16", concurrency=concurrency, input_tokens=256, output_tokens=48
    )
    predictor, server = native(), PointServer()
    sizes = Sizes.of(point, "llama_3_1_8b", server)
    limits = sizes.limits(predictor, "vllm", server, max_model_len=304)
    schedule = schedule_of(key_of(point, server, LoopProtocol(least=0.8, rounds=3, seed=0), limits=limits, reach=0))
    assert isinstance(schedule, LoopSchedule)
    host = predictor.host_beside(sizes.hardware, overlapped=True, engine={})
    assert host is not None
    made = Prepared(
        point=point,
        model="llama_3_1_8b",
        sizes=sizes,
        works=schedule.works,
        shares=mean_shares(schedule, np.ones(len(schedule.first))),
        output_tokens=float(np.mean(schedule.output_tokens)),
        efficiency=efficiency_of(settings.choice("hardware", "b200"), predictor.roofline, predictor.architectures),
        host=dataclasses.replace(host, launch_piecewise=7e-6 * kernels_a_layer(sizes.decoder)),
        front=FRONT,
        receive_interval=1,
        note=None,
    )
    found = made.figures(truth)
    return dataclasses.replace(made, point=dataclasses.replace(point, ttft=found.ttft, tpot=found.tpot))


def off(points: list[Prepared], factors: Factors) -> float:
    """The mean size of the errors of both times."""
    figures = [(p.figures(factors), p.point) for p in points]
    return float(np.mean([(abs(f.tpot / q.tpot - 1), abs(f.ttft / q.ttft - 1)) for f, q in figures]))


def test_only_what_is_named_is_fitted_and_it_comes_nearer() -> None:
    truth = Factors(host=2.0, front=2.5)
    points = [prepared(n, truth) for n in (2, 8, 24)]
    found = fit(points, ["host", "launch", "front"])
    assert found.front > 1.3 and found.gemm_flops == found.link == found.layer == 1.0
    assert off(points, found) < off(points, Factors()) / 2 and off(points, truth) < 1e-9
    assert fit(points, []) == Factors() == fit([], ["host"])


def test_a_name_that_is_no_factor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"study\.fitted: speed is no factor; they are gemm_flops"):
        fit([], ["speed"])


def test_the_points_own_times_are_longer_on_a_busier_server() -> None:
    point: MeasuredPoint = prepared(8, Factors()).point
    assert prepared(8, Factors(front=3.0)).point.ttft > point.ttft and prepared(8, Factors(front=3.0)).point.tpot == point.tpot
