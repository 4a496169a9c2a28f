"""Roofline step times: from the model's config.json and the hardware's numbers alone.

Every operation takes the longer of its arithmetic and its memory traffic, each at a stated share of the peak; operations follow one
another. With tensor parallelism each device has 1/tp of every matrix, of the heads and of the KV; two all-reduces a layer come on top.
Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.errors import SimulatorError
from simulators.native.latency.shape import Shape
from simulators.native.latency.step_law import Row, StepLaw, row
from simulators.native.sequence import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Peak rates of one device."""

    name: str  # as in conf/hardware
    flops: float  # FLOP/s of dense 16-bit matrix products
    memory_bandwidth: float  # bytes/s
    memory: float  # bytes
    link_bandwidth: float | None  # bytes/s of its link to the other devices; None: it has none
    fp8_flops: float | None = None  # FLOP/s of matrix products in FP8; None: it has no such units
    int8_flops: float | None = None  # FLOP/s of matrix products in INT8; None: it has no such units
    gemm_flops: float | None = None  # FLOP/s of the model's own matrix products; None: those of 16 bit
    host_memory: float | None = None  # bytes of the host's memory for this device
    host_bandwidth: float | None = None  # bytes/s of one direction of its link to the host

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
            fp8_flops=_scaled(hardware.get("fp8_tflops"), 1e12),
            int8_flops=_scaled(hardware.get("int8_tops"), 1e12),
            host_memory=_scaled(hardware.get("host_memory_gb"), 1e9),
            host_bandwidth=_scaled(hardware.get("host_link_gb_s"), 0.5e9),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Shares of the peaks that real kernels reach, and fixed costs. conf/simulator/native.yaml says where they are from."""

    gemm_flops: float  # share of the peak FLOP/s in matrix products
    gemm_bytes: float  # share of the memory bandwidth in matrix products
    attention_flops: float  # share of the peak FLOP/s in attention
    attention_bytes: float  # share of the memory bandwidth in attention
    link: float  # share of the link's bandwidth in an all-reduce
    step: float  # s of every step
    layer: float  # s of every layer of a step
    all_reduce: float  # s of every all-reduce

    def __post_init__(self) -> None:
        for name in ("gemm_flops", "gemm_bytes", "attention_flops", "attention_bytes", "link"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"roofline.{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("step", "layer", "all_reduce"):
            if getattr(self, name) < 0:
                raise ValueError(f"roofline.{name} must be >= 0 s, got {getattr(self, name)}")


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


class Roofline:
    """A StepTime computed from sizes. Raises SimulatorError when tensor parallelism does not divide the heads or has no link."""

    def __init__(self, shape: Shape, device: Device, efficiency: Efficiency, *, tensor_parallel: int = 1) -> None:
        if shape.heads % tensor_parallel:
            raise SimulatorError(f"native: {shape.heads} attention heads cannot be split over {tensor_parallel} devices")
        if tensor_parallel > 1 and device.link_bandwidth is None:
            raise SimulatorError(f"native: tensor parallelism needs interconnect_gb_s of hardware {device.name}; add it to conf/hardware")
        self.shape, self.device, self.efficiency, self.tensor_parallel = shape, device, efficiency, tensor_parallel
        latency, by_token = self._all_reduce()
        self.law = StepLaw(
            linear=row(
                efficiency.step + shape.layers * (efficiency.layer + 2 * latency),
                new_tokens=shape.layers * 2 * by_token,
            ),
            terms=(
                *(self._layer_product(inputs, outputs) for inputs, outputs in shape.layer_matrices),
                self._attention(shape.prefill_pair_flops, {"prefill_pairs"}, {"prefill_context", "prefill_tokens"}),
                # a chunk reads all its context, itself included
                self._attention(shape.decode_pair_flops, {"decode_context", "decodes"}, {"decode_context", "decodes"}),
                self._product("sequences", shape.hidden, shape.vocab, device.flops, shape.dtype_bytes),
            ),
        )
        self._steps = 0

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        self._steps += 1
        return self.law.seconds(batch.work)

    def note(self, works: NDArray[np.float64]) -> None:
        """See StepTime."""
        self._steps += len(works)

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {
            "step_time": "roofline",
            "efficiency": asdict(self.efficiency),
            "device": asdict(self.device),
            "tensor_parallel": self.tensor_parallel,
            "uncertainty": None,  # these step times were never compared with measured ones
            "steps": self._steps,
        }

    def _layer_product(self, inputs: int, outputs: int) -> tuple[Row, Row]:
        """(arithmetic, traffic) of one of a layer's matrix products, in all layers."""
        peak = self.device.flops if self.device.gemm_flops is None else self.device.gemm_flops
        return self._product("new_tokens", inputs, outputs, peak, self.shape.bytes_per_weight, times=self.shape.layers)

    def _product(self, tokens: str, inputs: int, outputs: int, peak: float, weight: float, *, times: int = 1) -> tuple[Row, Row]:
        """(arithmetic, traffic) of a (tokens, inputs) matrix times weights (inputs, outputs) spread over the devices; so many of it.

        tokens: the part of a step's work that they are. peak: FLOP/s. weight: bytes of one.
        """
        weights = inputs * outputs / self.tensor_parallel
        flops = peak * self.efficiency.gemm_flops
        bandwidth = self.device.memory_bandwidth * self.efficiency.gemm_bytes
        moved = self.shape.dtype_bytes * (inputs + outputs / self.tensor_parallel)
        return (
            row(**{tokens: times * 2 * weights / flops}),
            row(times * weight * weights / bandwidth, **{tokens: times * moved / bandwidth}),
        )

    def _attention(self, pair: int, pairs: set[str], read: set[str]) -> tuple[Row, Row]:
        """(arithmetic, traffic) of all layers' attention.

        pair: FLOPs of a query and a key. pairs: the parts of a step's work that are such pairs. read: the parts that are tokens whose keys
        and values are read.
        """
        shape, device, share = self.shape, self.device, self.efficiency
        flops = shape.layers * pair / self.tensor_parallel
        moved = shape.kv_bytes_per_device(self.tensor_parallel)
        return (
            row(**dict.fromkeys(pairs, flops / (device.flops * share.attention_flops))),
            row(**dict.fromkeys(read, moved / (device.memory_bandwidth * share.attention_bytes))),
        )

    def _all_reduce(self) -> tuple[float, float]:
        """(seconds, seconds per token) of one ring all-reduce: 2 (tp - 1) / tp of the activations cross every link. 0 on one device."""
        tp = self.tensor_parallel
        if tp == 1 or self.device.link_bandwidth is None:
            return 0.0, 0.0
        crossing = 2 * (tp - 1) / tp * self.shape.hidden * self.shape.dtype_bytes
        return self.efficiency.all_reduce, crossing / (self.device.link_bandwidth * self.efficiency.link)
