"""What real kernels reach of a device's peaks: the roofline's numbers, and how they are chosen by the device's architecture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simulators.errors import SimulatorError

# The kinds of devices that share their numbers: the generation of the chip, and its memory. By name in
# conf/hardware; a hardware file of one's own says its `architecture`.
ARCHITECTURES: Mapping[str, str] = {
    "a100": "ampere_hbm",
    "a100_sxm4_40gb": "ampere_hbm",
    "a100_80gb_pcie": "ampere_hbm",
    "a100_pcie_40gb": "ampere_hbm",
    "a30": "ampere_hbm",
    "a10": "ampere_gddr6",
    "a40": "ampere_gddr6",
    "l4": "ada_gddr6",
    "l40s": "ada_gddr6",
    "rtx_4090": "ada_gddr6",
    "h100": "hopper_hbm",
    "h200": "hopper_hbm",
    "b200": "blackwell_hbm",
    "b300": "blackwell_hbm",
    "gb200": "blackwell_hbm",
    "gb300": "blackwell_hbm",
    "rtx_5090": "blackwell_gddr7",
    "rtx_pro_6000": "blackwell_gddr7",
}
SHARES = ("gemm_flops", "gemm_bytes", "attention_flops", "attention_bytes", "link")
OPTIONAL = ("attention_tokens", "activations", "expert_flops", "expert_bytes")  # above 0 where they are stated
COSTS = ("step", "layer", "all_reduce", "gemm_start", "attention_start")
SIZES = ("expert_tile", "expert_narrowness")


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
    gemm_start: float = 0.0  # s of every matrix product
    blend: float | None = None  # exponent of the norm of a product's arithmetic and traffic; None: the longer of the two
    attention_start: float = 0.0  # s of a layer's attention
    # a prompt's own queries, keys, values and outputs in bytes/s over the memory bandwidth; None: they take no time
    attention_tokens: float | None = None
    activations: float | None = None  # share of the memory bandwidth of kernels that only move activations; None: they take no time
    expert_flops: float | None = None  # share of the peak FLOP/s in grouped products of experts; None: as gemm_flops
    expert_bytes: float | None = None  # share of the memory bandwidth in these; None: as gemm_bytes
    expert_start: float | None = None  # s of a layer's experts, its router's sorting of the tokens included; None: two products' gemm_start
    expert_tile: float = 0.0  # tokens that each touched expert computes beyond its own: a kernel takes whole tiles of rows
    # elements: experts with that intermediate size on a device take twice as long for a multiplication as infinitely wide ones
    expert_narrowness: float = 0.0
    # by the arithmetic of a WeightFormat, what differs of the products' numbers there; shares are of the peak in that arithmetic
    narrow: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    query_tile: int = 1  # rows of queries that attention computes for a decode beside a prompt's chunk

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"roofline.{name} must be in (0, 1], got {getattr(self, name)}")
        for name, unit in (*((name, " s") for name in COSTS), *((name, "") for name in SIZES)):
            if getattr(self, name) < 0:
                raise ValueError(f"roofline.{name} must be >= 0{unit}, got {getattr(self, name)}")
        for name, least in (("blend", 1.0), *((name, 0.0) for name in OPTIONAL), ("query_tile", 1)):
            value = getattr(self, name)
            if value is not None and (value < least or value == 0):
                raise ValueError(f"roofline.{name} must be {'>' if least == 0 else '>='} {least:g}, got {value}")

    def of(self, arithmetic: str) -> "Efficiency":
        """The numbers of products in this arithmetic."""
        numbers: dict[str, Any] = {"narrow": {}, **self.narrow[arithmetic]} if arithmetic in self.narrow else {}
        return replace(self, **numbers)

    def product(self, arithmetic: float, traffic: float) -> float:
        """Seconds of a matrix product, of its seconds of arithmetic and of memory traffic."""
        return self.gemm_start + self._both(arithmetic, traffic)

    def experts(self, arithmetic: float, traffic: float) -> float:
        """The same of a layer's experts, all their products in sum."""
        return (2 * self.gemm_start if self.expert_start is None else self.expert_start) + self._both(arithmetic, traffic)

    def _both(self, arithmetic: float, traffic: float) -> float:
        longer, shorter = max(arithmetic, traffic), min(arithmetic, traffic)
        if self.blend is None or shorter == 0:
            return longer
        return longer * math.pow(1 + math.pow(shorter / longer, self.blend), 1 / self.blend)


def architecture_of(hardware: Mapping[str, Any]) -> str | None:
    """The architecture that the hardware says or that its name is known for; None: neither."""
    return hardware.get("architecture") or ARCHITECTURES.get(str(hardware.get("name")))


def efficiency_of(hardware: Mapping[str, Any], general: Efficiency, architectures: Mapping[str, Mapping[str, Any]]) -> Efficiency:
    """The numbers of the hardware's architecture, and the general ones where it has none. Raises SimulatorError for an unknown name."""
    name = architecture_of(hardware)
    if name is None:
        return general
    if name not in architectures:
        raise SimulatorError(
            f"native: hardware {hardware.get('name')} has the architecture {name}, of which there are no numbers; "
            f"conf/simulator/native.yaml has {', '.join(architectures)}"
        )
    return replace(general, **architectures[name])
