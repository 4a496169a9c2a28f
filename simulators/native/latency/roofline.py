"""Roofline step times: from the model's config.json and the hardware's numbers alone.

    product   = start + (arithmetic ** blend + traffic ** blend) ** (1 / blend)
    attention = start + query-key pairs of prompts + their activations + the longer of the decodes' arithmetic and KV traffic

Every operation takes its arithmetic and its memory traffic, each at a stated share of the peak; operations follow one another. A product
takes the longer of the two, smoothly: between the roofs it reaches neither (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009,
has the two roofs; the blend is a p-norm, as the tables of simulators/calibration/efficiencies/ show it). Attention of a prompt does both
one after the other: its softmax and its loads and stores are not products (FlashAttention-2, arXiv 2307.08691, section 3.1). Beside a
prompt each decode is a whole tile of queries (Efficiency.query_tile). Kernels that only move activations (norms, the gated activation)
come on top, and so does the host (host.py).

With tensor parallelism each device has 1/tp of every matrix, of the heads and of the KV; two all-reduces a layer come on top.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.errors import SimulatorError
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.host import Host
from simulators.native.latency.shape import Shape
from simulators.native.latency.step_law import Pieces, Row, StepLaw, row
from simulators.native.sequence import Batch

# tokens between which the time of a step's products is taken to be straight: it bends where memory and arithmetic take equally long
TOKENS = (0.0, *(float(m) for m in range(1, 17)), *(round(16 * 1.125**i) * 1.0 for i in range(1, 66)))

KEY_BLOCK = (
    128  # keys that FlashAttention 2 takes at once (kBlockN, as kBlockM of query_tile): a context's last ones are half a block on average
)


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
    fp4_flops: float | None = None  # FLOP/s of matrix products in FP4; None: it has no such units
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
            fp4_flops=_scaled(hardware.get("fp4_tflops"), 1e12),
            host_memory=_scaled(hardware.get("host_memory_gb"), 1e9),
            host_bandwidth=_scaled(hardware.get("host_link_gb_s"), 0.5e9),
        )

    def peak(self, arithmetic: str) -> float | None:
        """FLOP/s of matrix products in this arithmetic (of a WeightFormat); None: it has no such units."""
        return {"16 bit": self.flops, "fp8": self.fp8_flops, "int8": self.int8_flops, "fp4": self.fp4_flops}[arithmetic]


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


class Roofline:
    """A StepTime computed from sizes. Raises SimulatorError when tensor parallelism does not divide the heads or has no link.

    host: what the host does in a step; None: nothing but efficiency.step.
    """

    def __init__(self, shape: Shape, device: Device, efficiency: Efficiency, *, tensor_parallel: int = 1, host: Host | None = None) -> None:
        if shape.heads % tensor_parallel:
            raise SimulatorError(f"native: {shape.heads} attention heads cannot be split over {tensor_parallel} devices")
        if tensor_parallel > 1 and device.link_bandwidth is None:
            raise SimulatorError(f"native: tensor parallelism needs interconnect_gb_s of hardware {device.name}; add it to conf/hardware")
        self.shape, self.device, self.efficiency, self.tensor_parallel, self.host = shape, device, efficiency, tensor_parallel, host
        latency, by_token = self._all_reduce()
        beside = efficiency.query_tile - 1.0  # rows more, beside a prompt
        start = shape.layers * (efficiency.layer + 2 * latency + efficiency.attention_start)
        linear = row(
            efficiency.step + start + efficiency.gemm_start,  # gemm_start: of the output layer
            new_tokens=shape.layers * (2 * by_token + self._activations()),
            prefill_tokens=self._prompt_activations(),
        )
        self.law = StepLaw(
            linear=linear if host is None else tuple(a + b for a, b in zip(linear, host.serial, strict=True)),
            floor=row() if host is None else host.floor(shape.layers),
            pieces=self._layer_products(),
            terms=(
                self._attention(shape.prefill_pair_flops, {"prefill_pairs": 1.0}, {"prefill_context", "prefill_tokens"}),
                # a chunk reads all its context, itself included
                self._attention(
                    shape.decode_pair_flops,
                    {"decode_context": 1.0, "decodes": 1.0, "mixed_context": beside, "mixed_decodes": beside * KEY_BLOCK / 2},
                    {"decode_context", "decodes"},
                ),
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
            "host": None if self.host is None else asdict(self.host),
            "tensor_parallel": self.tensor_parallel,
            "uncertainty": None,  # these step times were never compared with measured ones
            "steps": self._steps,
        }

    def _layer_products(self) -> Pieces:
        """Seconds of all layers' matrix products over the tokens of a step, straight between TOKENS."""
        peak = self.device.flops if self.device.gemm_flops is None else self.device.gemm_flops
        products = [
            self._product("new_tokens", inputs, outputs, peak, self.shape.bytes_per_weight) for inputs, outputs in self.shape.layer_matrices
        ]

        def seconds(tokens: float) -> float:
            return self.shape.layers * sum(self.efficiency.product(*(arm[0] + arm[1] * tokens for arm in arms)) for arms in products)

        times = [seconds(m) for m in TOKENS]
        slopes = [(after - before) / (b - a) for (a, before), (b, after) in pairwise(zip(TOKENS, times, strict=True))]
        return tuple(zip(TOKENS, times, [*slopes, slopes[-1]], strict=True))[::-1]

    def _product(self, tokens: str, inputs: int, outputs: int, peak: float, weight: float) -> tuple[Row, Row]:
        """(arithmetic, traffic) of a (tokens, inputs) matrix times weights (inputs, outputs) spread over the devices.

        tokens: the part of a step's work that they are. peak: FLOP/s. weight: bytes of one.
        """
        weights = inputs * outputs / self.tensor_parallel
        flops = peak * self.efficiency.gemm_flops
        bandwidth = self.device.memory_bandwidth * self.efficiency.gemm_bytes
        moved = self.shape.dtype_bytes * (inputs + outputs / self.tensor_parallel)
        return row(**{tokens: 2 * weights / flops}), row(weight * weights / bandwidth, **{tokens: moved / bandwidth})

    def _attention(self, pair: int, pairs: Mapping[str, float], read: set[str]) -> tuple[Row, Row]:
        """(arithmetic, traffic) of all layers' attention.

        pair: FLOPs of a query and a key. pairs: the parts of a step's work that are such pairs, and how often each is computed. read: the
        parts that are tokens whose keys and values are read.
        """
        shape, device, share = self.shape, self.device, self.efficiency
        flops = shape.layers * pair / self.tensor_parallel / (device.flops * share.attention_flops)
        moved = shape.kv_bytes_per_device(self.tensor_parallel)
        return (
            row(**{name: flops * times for name, times in pairs.items()}),
            row(**dict.fromkeys(read, moved / (device.memory_bandwidth * share.attention_bytes))),
        )

    def _activations(self) -> float:
        """Seconds a token of a layer's kernels that only move activations: two norms with the residual added, the gated activation."""
        share, shape = self.efficiency.activations, self.shape
        if share is None:
            return 0.0
        elements = 2 * 4 * shape.hidden + 3 * shape.intermediate / self.tensor_parallel  # read and written, a token
        return shape.dtype_bytes * elements / (self.device.memory_bandwidth * share)

    def _prompt_activations(self) -> float:
        """Seconds a token that attention of prompts takes for its queries, keys, values and outputs, in all layers."""
        share, shape = self.efficiency.attention_tokens, self.shape
        if share is None:
            return 0.0
        elements = 2 * shape.head_dim * (shape.heads + shape.kv_heads) / self.tensor_parallel
        return shape.layers * shape.dtype_bytes * elements / (self.device.memory_bandwidth * share)

    def _all_reduce(self) -> tuple[float, float]:
        """(seconds, seconds per token) of one ring all-reduce: 2 (tp - 1) / tp of the activations cross every link. 0 on one device."""
        tp = self.tensor_parallel
        if tp == 1 or self.device.link_bandwidth is None:
            return 0.0, 0.0
        crossing = 2 * (tp - 1) / tp * self.shape.hidden * self.shape.dtype_bytes
        return self.efficiency.all_reduce, crossing / (self.device.link_bandwidth * self.efficiency.link)
