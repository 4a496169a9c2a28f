"""The settings of a bench that belong to none of its parts: how much load, and where things go."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from workloads.release import ClosedLoop

AMPLE = 1.5  # times the capacity: requests that are prepared for a closed loop that ends by time


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much is offered: a rate, at which requests come whatever became of those before (an open loop), or a closed loop."""

    rho: float | None  # fraction of capacity
    rate: float | None  # requests/s, instead of rho
    capacity: float | None  # requests/s, instead of measuring it
    duration: float  # s of arrivals
    num_requests: int | None  # instead of duration
    warmup: int  # requests sent and discarded before the replay
    concurrency: int | Sequence[int] | None = None  # requests that a closed loop keeps in flight, instead of rho and rate; several: a sweep
    ramp: float = 0.0  # s over which a closed loop fills

    def __post_init__(self) -> None:
        if self.concurrency is not None:
            self._check_loop()
        elif self.rho is None and self.rate is None:
            raise ValueError("load: give load.rho (a share of the capacity) or load.rate (requests/s)")
        elif self.rho is not None and self.rate is not None:
            raise ValueError(f"load: load.rho={self.rho} and load.rate={self.rate} are two loads; give load.rho=null to offer the rate")
        for name in ("rho", "rate", "capacity", "duration", "num_requests"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float):
                raise ValueError(f"load.{name} must be a number, got {value!r}")
            if value is not None and not value > 0:
                raise ValueError(f"load.{name} must be > 0, got {value}")

    def _check_loop(self) -> None:
        if self.rate is not None:
            raise ValueError(f"load: a closed loop has no rate: give one of load.concurrency and load.rate, got rate={self.rate}")
        if not self._concurrencies or not all(type(number) is int and number >= 1 for number in self._concurrencies):
            raise ValueError(f"load.concurrency must be a number >= 1, or a list of such numbers, got {self.concurrency!r}")
        if not isinstance(self.ramp, int | float) or not 0 <= self.ramp < self.duration:
            raise ValueError(f"load.ramp must be >= 0 s and shorter than load.duration, got {self.ramp!r}")

    @property
    def _concurrencies(self) -> Sequence[Any]:
        return (self.concurrency,) if isinstance(self.concurrency, int) else list(self.concurrency or ())

    def each(self) -> "list[Load]":
        """The loads of a sweep; of any other load itself."""
        return [self] if self.concurrency is None else [replace(self, concurrency=number) for number in self._concurrencies]

    @property
    def needs_capacity(self) -> bool:
        """Whether the engine's capacity must be known: for a rate, or for how many requests a closed loop can come to in its time."""
        return self.num_requests is None if self.concurrency is not None else True

    def loop(self) -> ClosedLoop | None:
        """The closed loop that one load of `each` asks for; None: it is an open one. `num_requests` ends it, or else `duration`."""
        if self.concurrency is None:
            return None
        assert isinstance(self.concurrency, int)
        return ClosedLoop(concurrency=self.concurrency, ramp=self.ramp, duration=None if self.num_requests else self.duration)

    def offered(self, capacity: float | None) -> tuple[float | None, float | None]:
        """(requests/s, rho) for an engine of this capacity; a closed loop offers neither."""
        if self.concurrency is not None:
            return None, None
        if self.rate is not None:
            return self.rate, self.rate / capacity if capacity else None
        assert self.rho is not None and capacity is not None
        return self.rho * capacity, self.rho

    def count(self, rate: float) -> int:
        """Number of requests that `duration` holds at this rate, at least 2."""
        return self.num_requests or max(2, round(rate * self.duration))

    def most(self, capacity: float | None) -> int:
        """Number of requests that a closed loop does not come to the end of within `duration`: it serves no more than the capacity."""
        assert isinstance(self.concurrency, int) and (self.num_requests or capacity)
        return self.num_requests or self.count(AMPLE * (capacity or 0.0)) + self.concurrency

    def as_asked(self) -> dict[str, Any]:
        """The settings of one load of `each` as its run keeps them: `loop` marks a closed one."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.concurrency is None:
            return {name: value for name, value in settings.items() if name not in ("concurrency", "ramp")}
        return settings | {"loop": "closed", "rho": None}  # nobody asked for conf/bench.yaml's


def check_price(hardware: Mapping[str, Any]) -> None:
    """See that what a device costs is a number of dollars, or not known. Raises ValueError."""
    price = hardware.get("price_per_hour")
    if price is not None and (isinstance(price, bool) or not isinstance(price, int | float) or not 0 < price < math.inf):
        raise ValueError(f"hardware.price_per_hour must be > 0, USD of one device for an hour, or null (unknown); got {price!r}")


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where results go, relative to the project's folder (conf/paths/default.yaml says which is which)."""

    runs: str
    measured: str
    database: str
    studies: str
    models: str
    logs: str
    searches: str = "results/searches"
