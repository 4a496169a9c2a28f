"""What the native simulator makes of a point's model, GPU and formats: memory for KV, and a law of step times."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from results.silicon.points import MeasuredPoint
from simulators.errors import NotAvailable
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.formats import WEIGHTS
from simulators.native.architecture.reader import decoder_of
from simulators.native.effects.effects import Effects
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.host import Host
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.step_law import StepLaw
from simulators.native.memory.hybrid import why_whole
from simulators.native.planning import settings
from simulators.native.predictor import Predictor
from simulators.native.scheduling.scheduler import Limits
from simulators.silicon.servers import PointServer

# the sample's words for formats of weights, in those of effects; a scale for 128 x 128 weights is left out
FORMATS: Mapping[str, str | None] = {"bf16": None, "fp8": "fp8", "fp8_block": "fp8", "int4_wo": "awq_int4", "nvfp4": "nvfp4"}
# quant_method of a config.json that is this format already, and says itself which matrices are in it; the sample has no word for MXFP4
OWN: Mapping[str, tuple[str, ...]] = {"fp8": ("fp8", "fp8_block"), "mxfp4": ("nvfp4",), "compressed-tensors": ("int4_wo",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A point's model on its GPUs."""

    decoder: Decoder
    device: Device
    hardware: Mapping[str, Any]  # as in conf/hardware
    parallel: Parallelism

    @classmethod
    def of(cls, point: MeasuredPoint, model: str, server: PointServer) -> "Sizes":
        """Raises SimulatorError, one line, for what is not modelled."""
        hardware, config = _chosen("hardware", point.gpu), _chosen("model", model)["config"]
        device = Device.from_hardware(hardware)
        decoder = _decoder(model, _weights(point, config), server.kv, device)
        parallel = Parallelism(tensor=point.tensor_parallel, data=point.data_parallel, expert=point.expert_parallel)
        return cls(decoder=decoder, device=device, hardware=hardware, parallel=parallel)

    def limits(self, predictor: Predictor, engine: str, server: PointServer, *, max_model_len: int) -> Limits:
        """Limits of such an engine. Raises SimulatorError when the model does not fit."""
        defaults = replace(predictor.shipped, memory_utilization=server.memory_utilization, block_size=server.block_size)
        if engine == "sglang":
            defaults = replace(defaults, activations=0.0)  # its mem_fraction_static is of weights and KV only
        policy = "sglang" if engine == "sglang" else "vllm_v1"
        tensor = self.parallel.tensor
        whole = why_whole(self.decoder, tensor=tensor, policy=policy, arrangement="replicas", prefix_caching=False, drafter=None)
        return defaults.limits(self.decoder, self.device, parallel=self.parallel, max_model_len=max_model_len, grouped=whole is None)

    def law(self, efficiency: Efficiency, host: Host | None) -> StepLaw:
        """Step times. host: None where its share is in the efficiency. Raises SimulatorError for what the roofline does not know."""
        return Roofline(self.decoder, self.device, efficiency, parallel=self.parallel, host=host).law


def _weights(point: MeasuredPoint, config: Mapping[str, Any]) -> str | None:
    """The format that all matrices get; None: they stay as config.json has them."""
    method = str((config.get("quantization_config") or {}).get("quant_method") or "")
    return None if point.weights in OWN.get(method, ()) else FORMATS.get(point.weights, point.weights)


@cache
def _decoder(model: str, weights: str | None, kv: str | None, device: Device) -> Decoder:
    """The model in these formats. Raises SimulatorError where the device or the roofline does not know them."""
    if weights is not None and weights not in WEIGHTS:
        raise NotAvailable(f"weights in {weights} are not modelled")
    effects = Effects(weights=weights, kv=kv)
    effects.check(device)
    decoder = effects.shape(decoder_of(_chosen("model", model)["config"]))
    if len({a.reach for a, _ in decoder.caching if a.reach is not None}) > 1:
        raise NotAvailable("windows of several sizes are not modelled")
    return decoder


@cache
def _chosen(group: str, name: str) -> dict[str, Any]:
    """conf/<group>/<name>.yaml. Raises NotAvailable when it is not there."""
    if name not in settings.choices(group):
        raise NotAvailable(f"conf/{group} has no {name}")
    return settings.choice(group, name)
