"""StationSettings: which station stands before an engine, of those whose costs were measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from simulators.native.frontend.station import Station

AUTO, NONE = "auto", "none"
ENGINES = {"vllm_v1": "vllm", "sglang": "sglang"}  # whose servers stand before a scheduler; before those of papers there are none
APIS = ("chat", "text", "ids")  # chat completions; completions of a text; completions of token ids


@dataclass(frozen=True, slots=True, kw_only=True)
class StationSettings:
    """conf/simulator/native.yaml says what each setting means, and where and how the costs were measured."""

    api: str  # of APIS; AUTO: as the requests were sent; NONE: no station
    api_servers: int  # processes
    cpu_scale: float  # how many times as long a server's CPU takes as the one that was measured
    measured: Mapping[str, Mapping[str, Mapping[str, float]]]  # engine, then API, then the costs of Station, s

    def __post_init__(self) -> None:
        if self.api not in (AUTO, NONE, *APIS):
            raise ValueError(f"simulator native: frontend.api must be one of {', '.join((AUTO, NONE, *APIS))}, got {self.api!r}")
        if not self.cpu_scale > 0:
            raise ValueError(f"simulator native: frontend.cpu_scale must be > 0, got {self.cpu_scale}")
        if self.api_servers < 1:
            raise ValueError(f"simulator native: frontend.api_servers must be >= 1, got {self.api_servers}")

    def station(self, engine: str, sent_as: str | None) -> Station | None:
        """The station before an engine of this name; None: there is none, or none that was measured.

        sent_as: how the requests were sent, one of APIS; None: past any server, so that there is no station.
        """
        if self.api == NONE or sent_as is None or engine not in self.measured:
            return None
        costs = self.measured[engine][sent_as if self.api == AUTO else self.api]
        return Station(**costs, servers=self.api_servers).scaled(self.cpu_scale)
