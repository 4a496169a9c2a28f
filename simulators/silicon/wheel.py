"""What a wheel of operation times calls a point's GPU and model, where it has them; and its answer as a prediction."""

from collections.abc import Mapping, Sequence

from results.silicon.points import MeasuredPoint
from results.silicon.predictions import PointPrediction
from simulators.errors import SimulatorError
from simulators.silicon.prepared import loop_throughput

MS = 1e-3  # s
ENGINES = ("vllm", "sglang")  # whose points are asked about
REASON = 160  # characters


def in_wheel(
    name: str, point: MeasuredPoint, model: str, systems: Mapping[str, str], models: Mapping[str, Mapping[str, str]]
) -> tuple[str, str]:
    """Its names of the GPU and of the model. model: that in conf/model. Raises SimulatorError where it lacks one."""
    if point.gpu not in systems:
        raise SimulatorError(f"{name}: no system of its wheel is a {point.gpu}")
    if point.experts not in models.get(model, {}):
        raise SimulatorError(f"{name}: its wheel has no configuration of {point.model} with {point.experts} weights")
    return systems[point.gpu], models[model][point.experts]


def stated(points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
    """Those of ENGINES with a stated concurrency."""
    return [point for point in points if point.loop == "closed" and point.engine in ENGINES]


def with_times(name: str, point: MeasuredPoint, half: str, *, ttft_ms: float, tpot_ms: float, output_tokens: float) -> PointPrediction:
    """Its two times of a point. output_tokens: of an answer, mean."""
    ttft, tpot = MS * ttft_ms, MS * tpot_ms
    throughput = loop_throughput(point, ttft, tpot, output_tokens)
    return PointPrediction(
        point_id=point.point_id, predictor=name, fitted_on="", half=half, ttft=ttft, tpot=tpot, throughput=throughput, reason=None
    )


def without_times(name: str, point: MeasuredPoint, half: str, reason: str) -> PointPrediction:
    """Why it says nothing of a point."""
    return PointPrediction(
        point_id=point.point_id, predictor=name, fitted_on="", half=half, ttft=None, tpot=None, throughput=None, reason=reason
    )
