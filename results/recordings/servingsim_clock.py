"""The three clocks of a recording of LLMServingSim's `bench`, put on one.

Arrivals are on the wall clock, what the engine did is on its monotonic clock, and the ticks of timeseries.csv have a clock of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.recordings.recording import RecordingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """One line as it is written. Times: s of the engine's clock; None where vLLM had set none (0.0)."""

    line: int  # number in the file
    request_id: int  # as written
    arrival: float  # s since the run's start
    input_tokens: int  # of the prompt
    output_tokens: int  # generated
    queued: float | None  # when the engine took it up
    scheduled: float | None  # when it was first scheduled
    first_token: float | None  # when its first token was there
    last_token: float | None  # when its last token was there


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """The engine's monotonic clock against the wall clock of the arrivals. Their difference was not recorded.

    A request is queued in the engine after it arrived, so monotonic - wall <= queued - arrival for every request. The smallest of
    these differences is taken: the fastest request then spends 0 s between arrival and queue. Every latency from arrival is too short
    by the same unknown time: what the fastest request really spent there.
    """

    arrival: float  # of the first request, on the wall clock: the run's second 0
    reference_arrival: float  # of the request with the smallest difference
    reference_queued: float

    @classmethod
    def of(cls, path: Path, rows: Sequence[Stamped]) -> "ClockOffset":
        """Raises RecordingError when no request was queued."""
        queued = [(row.queued, row.arrival) for row in rows if row.queued is not None]
        if not queued:
            raise RecordingError(f"{path}: no request has a queued_ts, so the engine's clock cannot be set against the arrivals'")
        stamp, arrival = min(queued, key=lambda pair: pair[0] - pair[1])
        return cls(arrival=min(row.arrival for row in rows), reference_arrival=arrival, reference_queued=stamp)

    def seconds(self, stamp: float | None) -> float | None:
        """Seconds since the run's start of a moment on the engine's clock."""
        return None if stamp is None else (stamp - self.reference_queued) + (self.reference_arrival - self.arrival)

    def describe(self, last: float | None, finished_at: float | None) -> dict[str, Any]:
        """For the run's provenance. last: seconds of the last token; finished_at: when the recorder was done, on the wall clock."""
        at_most = None if last is None or finished_at is None else finished_at - self.arrival - last
        return {
            "arrivals": "wall clock",
            "engine": "monotonic clock; the offset was not recorded",
            "offset_s": self.reference_queued - self.reference_arrival,
            "offset_is": "monotonic - wall = min(queued - arrival): the most it can be",
            "latencies_too_short_by": "the same for every request: what the fastest one spent between arrival and queue",
            "too_short_by_at_most_s": at_most,  # the last token came before the recorder was done
        }


def start_of_ticks(ticks: pd.DataFrame, rows: Sequence[Stamped]) -> tuple[float, float] | None:
    """Two moments (engine's clock) between which the ticks' clock was 0; None when no moment fits.

    vLLM counts a prompt's tokens when its first token comes. So the sum of prompt tokens at a tick says which requests had a first token.
    """
    done = sorted((row.first_token, row.input_tokens) for row in rows if row.first_token is not None)
    stamps, sums = [stamp for stamp, _ in done], list(accumulate(tokens for _, tokens in done))
    length = ticks["t"].diff().median() if len(ticks) > 1 else 1.0
    counted = (ticks["prompt_throughput"] * length).cumsum().round()
    low, high = -np.inf, np.inf
    for end, tokens in zip(ticks["t"], counted, strict=True):
        if tokens == 0:
            continue
        place = int(np.searchsorted(sums, tokens))
        if place == len(sums) or sums[place] != tokens:
            return None
        low = max(low, stamps[place] - end)
        if place + 1 < len(stamps):
            high = min(high, stamps[place + 1] - end)
    return (float(low), float(high)) if -np.inf < low <= high < np.inf else None
