"""What a simulator answered to a scene, as its cases read it, and the figure and bounds that a case makes of it."""

from dataclasses import dataclass
from itertools import pairwise

from results.record import RequestRecord, Run

EPSILON = 1e-6  # s that float sums of times may differ by


class Unanswered(ValueError):
    """A request without the times that a case needs; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A simulated run. Requests go by their place in the scene. Times in s."""

    run: Run

    def record(self, place: int) -> RequestRecord:
        """Raises Unanswered when the request has no first or last token."""
        record = self.run.records[place]
        if record.first_token is None or record.finished is None or record.sent is None:
            raise Unanswered(f"request {place} was not answered: {record.error or 'no times'}")
        return record

    def sent(self, place: int) -> float:
        """When it was sent; in a closed loop that the simulator keeps, its own time."""
        return float(self.record(place).sent or 0.0)

    def first(self, place: int) -> float:
        """When its first token was read."""
        return float(self.record(place).first_token or 0.0)

    def finished(self, place: int) -> float:
        """When its last token was read."""
        return float(self.record(place).finished or 0.0)

    def ttft(self, place: int) -> float:
        """From sending to the first token."""
        return self.first(place) - self.sent(place)

    def decoding(self, place: int) -> float:
        """From the first to the last token."""
        return self.finished(place) - self.first(place)

    def tpot(self, place: int) -> float:
        """Per output token after the first."""
        return self.decoding(place) / max(1, self.run.trace.requests[place].output_tokens - 1)

    def gaps(self, place: int) -> list[float]:
        """From each token to the next. Raises Unanswered when it says no token times."""
        times = self.record(place).token_times
        if times is None:
            raise Unanswered("it says no token times")
        return [b - a for a, b in pairwise(times)]

    @property
    def places(self) -> range:
        """Of all requests."""
        return range(len(self.run.trace))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A figure of an answer and the bounds within which it lies when the case holds, both ends included."""

    value: float
    low: float
    high: float
    unit: str = "ms"

    @property
    def holds(self) -> bool:
        """Whether it is within its bounds."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        scale = 1e3 if self.unit == "ms" else 1.0
        low, high = self.low * scale, self.high * scale
        bounds = f"at least {low:.4g}" if high == float("inf") else f"{low:.4g} to {high:.4g}"
        return f"{self.value * scale:.4g}{f' {self.unit}' if self.unit else ''} ({bounds})"


def near(value: float, expected: float, tolerance: float = 0.1, *, more: float = 0.0) -> Bounded:
    """Seconds that are `expected`, up to `tolerance` of it to either side; more: s that may come on top."""
    return Bounded(value=value, low=expected * (1 - tolerance), high=expected * (1 + tolerance) + more)


def ratio(value: float, low: float, high: float = float("inf")) -> Bounded:
    """A ratio, or a number of things."""
    return Bounded(value=value, low=low, high=high, unit="")


def at_least(value: float, low: float) -> Bounded:
    """Seconds, and as many more as one likes."""
    return Bounded(value=value, low=low, high=float("inf"))
