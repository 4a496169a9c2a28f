"""The path between devices through the host's memory: where an engine's environment has NCCL_P2P_DISABLE=1, and no custom all-reduce.

NCCL's sender then writes into memory that the host shares with the receiver, which reads it (NCCL's SHM transport, src/transport/shm.cc):
every byte crosses the PCIe links of both devices. Its ring all-reduce costs a start and two steps of PCIe latency.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from simulators.errors import SimulatorError
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.roofline import Device

P2P = "nccl_p2p"  # in the `engine` part of a run's configuration: false where its environment has NCCL_P2P_DISABLE=1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPath:
    """conf/simulator/native.yaml says where each number is from."""

    link: float  # share of one direction of a device's link to the host in an all-reduce
    all_reduce: float  # s of every all-reduce

    def __post_init__(self) -> None:
        if not 0 < self.link <= 1:
            raise ValueError(f"host_path.link must be in (0, 1], got {self.link}")
        if self.all_reduce < 0:
            raise ValueError(f"host_path.all_reduce must be >= 0 s, got {self.all_reduce}")

    def taken(self, device: Device, efficiency: Efficiency, engine: Mapping[str, Any]) -> tuple[Device, Efficiency]:
        """The device and its efficiencies, with this path in place of its link where the engine takes it. engine: its part of a run's
        configuration. Raises SimulatorError where the device's link to the host is not known.
        """
        if engine.get(P2P) is not False:
            return device, efficiency
        if device.host_bandwidth is None:
            raise SimulatorError(
                f"native: with engine.{P2P}=false devices talk through the host's memory, and hardware {device.name} has no "
                "host_link_gb_s; add it to conf/hardware"
            )
        return replace(device, link_bandwidth=device.host_bandwidth), replace(efficiency, link=self.link, all_reduce=self.all_reduce)
