"""The parts a bench is put together from that live elsewhere (seen through narrow protocols), and its load and paths."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd

from results.profile import Profile
from results.record import Run, Track
from workloads.trace import Trace


class Workload(Protocol):
    """What makes the trace (conf/workload/*.yaml)."""

    @property
    def name(self) -> str:
        """For people and for the run's id."""
        ...

    def trace(self, *, rate: float | None, num_requests: int | None, seed: int, max_model_len: int | None = None) -> Trace:
        """Requests at `rate` per second (None: the workload's own; inf: all at second 0)."""
        ...


class Simulator(Protocol):
    """What a simulator is, seen from here (simulators/system.py has the whole of it)."""

    @property
    def system(self) -> str:
        """Its name in the database."""
        ...

    @property
    def environment(self) -> str | None:
        """Its environment under .envs/, or None."""
        ...

    def tracks(self) -> tuple[Track, ...]:
        """The tracks it can be run in."""
        ...

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the measured run's requests."""
        ...


class Calibration(Protocol):
    """Where the calibrated track's step times come from, seen from here (simulators/calibration/sources.py has the whole of it)."""

    @property
    def source(self) -> str:
        """Its name."""
        ...

    @property
    def environment(self) -> str | None:
        """Its environment under .envs/, or None."""
        ...

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """The profile to calibrate from, given the engine's own; None when there is none."""
        ...


class Summary(Protocol):
    """What the report says of itself."""

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        ...

    @property
    def table(self) -> pd.DataFrame:
        """Measured beside simulated, as text."""
        ...

    @property
    def path(self) -> Path:
        """Where the page is."""
        ...


class Reporter(Protocol):
    """What scores and reports (conf/report/*.yaml)."""

    def write(self, measured_run_id: str | None = None, *, unavailable: Mapping[str, str] | None = None) -> Summary:
        """Score the database and write the report. unavailable: 'system:track' to the reason why it could not be had."""
        ...


class StudySummary(Protocol):
    """What a study's report says of itself."""

    @property
    def verdict(self) -> str:
        """The answer in plain words."""
        ...

    @property
    def path(self) -> Path:
        """Where the page is."""
        ...


class StudyReporter(Protocol):
    """What scores and reports a study (conf/report/study.yaml)."""

    def write(self, name: str | None = None) -> StudySummary:
        """Score the database and write the report on the study of this name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much is offered. rho: fraction of capacity; rate: requests/s, instead of rho; capacity: requests/s, instead of measuring it.

    duration: seconds of arrivals; num_requests: instead of duration. warmup: requests sent and discarded before the replay.
    """

    rho: float | None
    rate: float | None
    capacity: float | None
    duration: float
    num_requests: int | None
    warmup: int

    def __post_init__(self) -> None:
        if (self.rho is None) == (self.rate is None):
            raise ValueError(f"load: give one of load.rho and load.rate, got rho={self.rho}, rate={self.rate}")
        for name in ("rho", "rate", "capacity", "duration", "num_requests"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float):
                raise ValueError(f"load.{name} must be a number, got {value!r}")
            if value is not None and not value > 0:
                raise ValueError(f"load.{name} must be > 0, got {value}")

    def offered(self, capacity: float | None) -> tuple[float, float | None]:
        """(requests/s, rho) for an engine of this capacity."""
        if self.rate is not None:
            return self.rate, self.rate / capacity if capacity else None
        assert self.rho is not None and capacity is not None
        return self.rho * capacity, self.rho

    def count(self, rate: float) -> int:
        """Number of requests that `duration` holds at this rate, at least 2."""
        return self.num_requests or max(2, round(rate * self.duration))


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where results go, relative to the project's folder (conf/paths/default.yaml says which is which)."""

    runs: str
    measured: str
    database: str
    studies: str
    models: str
    logs: str
