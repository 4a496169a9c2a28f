"""Roofline step times: from the model's config.json and the hardware's numbers alone.

Every operation takes the longer of its arithmetic and its memory traffic, each at a stated share of the peak; operations follow one
another. With tensor parallelism each device has 1/tp of every matrix, of the heads and of the KV; two all-reduces a layer come on top.
Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from simulators.native.batch import Batch
from simulators.native.shape import Shape
from simulators.system import SimulatorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Peak rates of one device: FLOP/s of dense 16-bit matrix products, bytes/s of its memory and of its link to the others."""

    name: str
    flops: float
    memory_bandwidth: float
    memory: float
    link_bandwidth: float | None

    @classmethod
    def from_hardware(cls, hardware: Mapping[str, Any]) -> "Device":
        """From the hardware part of a run's configuration (conf/hardware). Raises SimulatorError when a figure is missing."""
        for key in ("fp16_tflops", "memory_bandwidth_gb_s", "memory_gb"):
            if not isinstance(hardware.get(key), int | float) or hardware[key] <= 0:
                raise SimulatorError(
                    f"native: hardware {hardware.get('name')} has no {key}; add it to conf/hardware, or use the calibrated track"
                )
        link = hardware.get("interconnect_gb_s")
        return cls(
            name=str(hardware.get("name")),
            flops=1e12 * hardware["fp16_tflops"],
            memory_bandwidth=1e9 * hardware["memory_bandwidth_gb_s"],
            memory=1e9 * hardware["memory_gb"],
            link_bandwidth=None if link is None else 0.5e9 * link,  # conf/hardware counts both directions together
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Shares of the peaks that real kernels reach, and fixed costs in seconds. conf/simulator/native.yaml says where they are from."""

    gemm_flops: float
    gemm_bytes: float
    attention_flops: float
    attention_bytes: float
    link: float
    step: float
    layer: float
    all_reduce: float

    def __post_init__(self) -> None:
        for name in ("gemm_flops", "gemm_bytes", "attention_flops", "attention_bytes", "link"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"roofline.{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("step", "layer", "all_reduce"):
            if getattr(self, name) < 0:
                raise ValueError(f"roofline.{name} must be >= 0 s, got {getattr(self, name)}")


class Roofline:
    """A StepTime computed from sizes. Raises SimulatorError when tensor parallelism does not divide the heads or has no link."""

    def __init__(self, shape: Shape, device: Device, efficiency: Efficiency, *, tensor_parallel: int = 1) -> None:
        if shape.heads % tensor_parallel:
            raise SimulatorError(f"native: {shape.heads} attention heads cannot be split over {tensor_parallel} devices")
        if tensor_parallel > 1 and device.link_bandwidth is None:
            raise SimulatorError(f"native: tensor parallelism needs interconnect_gb_s of hardware {device.name}; add it to conf/hardware")
        self.shape, self.device, self.efficiency, self.tensor_parallel = shape, device, efficiency, tensor_parallel
        self._steps = 0

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        self._steps += 1
        layer = self.matrices(batch.new_tokens) + self.prefill_attention(batch) + self.decode_attention(batch)
        layer += 2 * self.all_reduce(batch.new_tokens) + self.efficiency.layer
        head = self.gemm(len(batch.sequences), self.shape.hidden, self.shape.vocab)
        return self.efficiency.step + self.shape.layers * layer + head

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {
            "step_time": "roofline",
            "efficiency": asdict(self.efficiency),
            "device": asdict(self.device),
            "tensor_parallel": self.tensor_parallel,
            "uncertainty": None,  # never held against measured steps
            "steps": self._steps,
        }

    def gemm(self, tokens: int, inputs: int, outputs: int) -> float:
        """Seconds of one product of a (tokens, inputs) matrix with weights (inputs, outputs) spread over the devices."""
        weights = inputs * outputs / self.tensor_parallel
        moved = self.shape.dtype_bytes * (weights + tokens * (inputs + outputs / self.tensor_parallel))
        return max(
            2 * tokens * weights / (self.device.flops * self.efficiency.gemm_flops),
            moved / (self.device.memory_bandwidth * self.efficiency.gemm_bytes),
        )

    def matrices(self, tokens: int) -> float:
        """Seconds of one layer's four matrix products."""
        return sum(self.gemm(tokens, inputs, outputs) for inputs, outputs in self.shape.layer_matrices)

    def prefill_attention(self, batch: Batch) -> float:
        """Seconds of one layer's attention over the batch's chunks."""
        return self._attention(batch.prefill_pairs, batch.prefill_context + batch.prefill_tokens)

    def decode_attention(self, batch: Batch) -> float:
        """Seconds of one layer's attention of the batch's decoding sequences: each new token reads all its context, itself included."""
        read = batch.decode_context + batch.decodes
        return self._attention(read, read)

    def all_reduce(self, tokens: int) -> float:
        """Seconds of one ring all-reduce of the activations: 2 (tp - 1) / tp of them cross every link. 0 on one device."""
        tp = self.tensor_parallel
        if tp == 1 or self.device.link_bandwidth is None:
            return 0.0
        crossing = 2 * (tp - 1) / tp * tokens * self.shape.hidden * self.shape.dtype_bytes
        return self.efficiency.all_reduce + crossing / (self.device.link_bandwidth * self.efficiency.link)

    def _attention(self, pairs: float, kv_tokens: float) -> float:
        """pairs: of a query and a key, each 2 products of head_dim for every head. kv_tokens: whose keys and values are read."""
        shape = self.shape
        flops = 4 * pairs * shape.heads * shape.head_dim / self.tensor_parallel
        read = kv_tokens * shape.kv_bytes_per_token / shape.layers / self.tensor_parallel
        return max(
            flops / (self.device.flops * self.efficiency.attention_flops),
            read / (self.device.memory_bandwidth * self.efficiency.attention_bytes),
        )
