"""What is asked of a simulator: the requests as really sent and the engine's limits in, one record per request out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from results.profile import Profile
from results.record import Run, Track

Support = Literal["yes", "no", "partly"]


class SimulatorError(RuntimeError):
    """A simulator that failed, ran out of time or lost rows; the message says which, where its log is, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a simulator models. Shown beside its score; `notes` says what 'partly' means."""

    chunked_prefill: Support
    prefix_caching: Support
    kv_limit: Support
    preemption: Support
    context_dependent_decode: Support
    tensor_parallel: Support
    pipeline_parallel: Support
    disaggregation: Support
    frontend_cost: Support
    token_times: Support
    gqa: Support
    notes: str = ""


class Simulator(Protocol):
    """One narrow seam. Hydra's `conf/simulator/*.yaml` name the classes (into the package `simulators.<name>`)."""

    system: str
    environment: str | None  # name of its environment under .envs/, or None when it needs none
    coverage: Coverage

    def tracks(self) -> tuple[Track, ...]:
        """The tracks it can be run in as configured."""
        ...

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay `measured.trace_as_sent()` and return a Run of kind 'simulated', window, slo, rho and rate taken from `measured`.

        scratch: an empty folder for its files; `scratch/log` (if written) is kept with the run. profile: needed by the calibrated track.
        Raises SimulatorError.
        """
        ...
