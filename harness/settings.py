"""The settings of a bench that belong to none of its parts: how much load, and where things go."""

from dataclasses import dataclass


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
