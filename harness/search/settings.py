"""What a search is asked, and how long it may take (conf/search.yaml)."""

from dataclasses import dataclass
from typing import Any

from results.record import Track

OVER = ("rate", "concurrency")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """conf/search.yaml says what each setting means. Raises ValueError, in one line."""

    over: str  # rate or concurrency
    attainment: float  # share of the requests that must meet the SLO
    precision: float  # of the interval to either side
    budget: float  # s
    duration: float  # s of a run that ends the interval
    scout: float  # s of a run that finds out where it lies
    runs: int  # at the most
    most: float | None  # highest load that is tried
    capacity: float | None  # requests/s, instead of measuring it
    warmup: int  # requests
    track: Track  # of the simulator
    requests: int  # of one simulation

    def __post_init__(self) -> None:
        if self.over not in OVER:
            raise ValueError(f"search.over must be one of {', '.join(OVER)}, got {self.over!r}")
        for name in ("attainment", "precision"):
            if not _number(getattr(self, name)) or not 0 < getattr(self, name) < 1:
                raise ValueError(f"search.{name} must be between 0 and 1, got {getattr(self, name)!r}")
        for name in ("budget", "duration", "scout"):
            if not _number(getattr(self, name)) or not getattr(self, name) > 0:
                raise ValueError(f"search.{name} must be > 0 s, got {getattr(self, name)!r}")
        for name, least in (("runs", 2), ("warmup", 0), ("requests", 100)):
            if type(getattr(self, name)) is not int or getattr(self, name) < least:
                raise ValueError(f"search.{name} must be a whole number >= {least}, got {getattr(self, name)!r}")
        if self.most is not None:
            self._check_most(self.most)

    def _check_most(self, most: Any) -> None:
        if self.over == "concurrency" and (not _number(most) or most != int(most) or most < 1):
            raise ValueError(f"search.most must be a concurrency >= 1, a whole number, got {most!r}")
        if not _number(most) or not most > 0:
            raise ValueError(f"search.most must be a rate > 0 requests/s, got {most!r}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
