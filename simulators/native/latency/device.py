"""Device: what a data sheet says of one GPU, or of a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.errors import SimulatorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Peak rates of one device."""

    name: str  # as in conf/hardware
    flops: float  # FLOP/s of dense 16-bit matrix products
    memory_bandwidth: float  # bytes/s
    memory: float  # bytes
    link_bandwidth: float | None  # bytes/s of one direction of its link to the other devices; None: it has none
    fp8_flops: float | None = None  # FLOP/s of matrix products in FP8; None: it has no such units
    int8_flops: float | None = None  # FLOP/s of matrix products in INT8; None: it has no such units
    fp4_flops: float | None = None  # FLOP/s of matrix products in FP4; None: it has no such units
    host_memory: float | None = None  # bytes of the host's memory for this device
    host_bandwidth: float | None = None  # bytes/s of one direction of its link to the host
    linked: int | None = None  # devices that the link joins; None: as many as there are
    network_bandwidth: float | None = None  # bytes/s of one direction to devices beyond those; None: no such network is known

    @classmethod
    def from_hardware(cls, hardware: Mapping[str, Any]) -> "Device":
        """From the hardware part of a run's configuration (conf/hardware). Raises SimulatorError when a figure is missing."""
        for key in ("fp16_tflops", "memory_bandwidth_gb_s", "memory_gb"):
            if not isinstance(hardware.get(key), int | float) or hardware[key] <= 0:
                raise SimulatorError(
                    f"native: hardware {hardware.get('name')} has no {key}; add it to conf/hardware, or use the calibrated track"
                )
        return cls(
            name=str(hardware.get("name")),
            flops=1e12 * hardware["fp16_tflops"],
            memory_bandwidth=1e9 * hardware["memory_bandwidth_gb_s"],
            memory=1e9 * hardware["memory_gb"],
            link_bandwidth=_scaled(hardware.get("interconnect_gb_s"), 0.5e9),  # conf/hardware counts both directions together
            fp8_flops=_scaled(hardware.get("fp8_tflops"), 1e12),
            int8_flops=_scaled(hardware.get("int8_tops"), 1e12),
            fp4_flops=_scaled(hardware.get("fp4_tflops"), 1e12),
            host_memory=_scaled(hardware.get("host_memory_gb"), 1e9),
            host_bandwidth=_scaled(hardware.get("host_link_gb_s"), 0.5e9),
            linked=hardware.get("linked_devices"),
            network_bandwidth=_scaled(hardware.get("network_gb_s"), 0.5e9),
        )

    def peak(self, arithmetic: str) -> float | None:
        """FLOP/s of matrix products in this arithmetic (of a WeightFormat); None: it has no such units."""
        peaks = {"16 bit": self.flops, "fp8": self.fp8_flops, "int8": self.int8_flops, "fp4": self.fp4_flops, "mxfp4": self.fp8_flops}
        return peaks[arithmetic]

    def served_in(self, arithmetic: str) -> str:
        """The arithmetic that engines really take: without such units weights are made 16-bit ones on the way (vLLM's Marlin kernels)."""
        return "16 bit" if self.peak(arithmetic) is None else arithmetic

    def served_peak(self, arithmetic: str) -> float:
        """FLOP/s in that one."""
        return self.peak(arithmetic) or self.flops

    def bandwidth_between(self, devices: int) -> float:
        """Bytes/s at which one of so many devices sends to the others: beyond those that the link joins, those of the network.

        Raises SimulatorError when it is not known.
        """
        near = self.linked is None or devices <= self.linked
        found = self.link_bandwidth if near else self.network_bandwidth
        if found is None:
            key = "interconnect_gb_s" if near else "network_gb_s"
            raise SimulatorError(f"native: a step on {devices} devices needs {key} of hardware {self.name}; add it to conf/hardware")
        return found


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value
