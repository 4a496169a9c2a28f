"""What the native simulator makes of a point's model, GPU and formats: memory for KV, and a law of step times."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from results.silicon.points import MeasuredPoint
from simulators.errors import NotAvailable
from simulators.native.effects.effects import Effects
from simulators.native.effects.formats import WEIGHTS
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.host import Host
from simulators.native.latency.roofline import Device, Roofline
from simulators.native.latency.shape import Shape
from simulators.native.latency.step_law import StepLaw
from simulators.native.planning import settings
from simulators.native.predictor import Predictor
from simulators.native.scheduling.scheduler import Limits
from simulators.silicon.servers import PointServer

# the sample's words for formats of weights, in those of effects; a scale for 128 x 128 weights is left out
FORMATS: Mapping[str, str | None] = {"bf16": None, "fp8": "fp8", "fp8_block": "fp8", "int4_wo": "awq_int4", "nvfp4": "nvfp4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A point's model on its GPU."""

    shape: Shape
    device: Device
    hardware: Mapping[str, Any]  # as in conf/hardware
    config: Mapping[str, Any]  # the model's config.json
    effects: Effects  # its formats
    tensor_parallel: int

    @classmethod
    def of(cls, point: MeasuredPoint, model: str, server: PointServer) -> "Sizes":
        """Raises NotAvailable, one line, for what is not modelled."""
        if point.data_parallel > 1 or point.expert_parallel > 1:
            raise NotAvailable("data and expert parallelism are not modelled")
        weights = FORMATS.get(point.weights, point.weights)
        if weights is not None and weights not in WEIGHTS:
            raise NotAvailable(f"weights in {weights} are not modelled")
        hardware, config = _chosen("hardware", point.gpu), _chosen("model", model)["config"]
        effects = Effects(weights=weights, kv=server.kv)
        return cls(
            shape=effects.shape(Shape.from_config(config)),
            device=effects.device(Device.from_hardware(hardware)),
            hardware=hardware,
            config=config,
            effects=effects,
            tensor_parallel=point.tensor_parallel,
        )

    def limits(self, predictor: Predictor, *, memory_utilization: float, block_size: int, max_model_len: int) -> Limits:
        """Limits of such an engine. Raises SimulatorError when the model does not fit."""
        defaults = replace(predictor.shipped, memory_utilization=memory_utilization, block_size=block_size)
        return defaults.limits(self.shape, self.device, tensor_parallel=self.tensor_parallel, max_model_len=max_model_len)

    def law(self, efficiency: Efficiency, host: Host | None) -> StepLaw:
        """Step times. host: None where its share is in the efficiency."""
        return Roofline(self.shape, self.device, efficiency, tensor_parallel=self.tensor_parallel, host=host).law


@cache
def _chosen(group: str, name: str) -> dict[str, Any]:
    """conf/<group>/<name>.yaml. Raises NotAvailable when it is not there."""
    if name not in settings.choices(group):
        raise NotAvailable(f"conf/{group} has no {name}")
    return settings.choice(group, name)
