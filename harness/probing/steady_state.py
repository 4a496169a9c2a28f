"""The steady state of a closed loop: the stretch in which all of its slots are taken and its latencies have settled.

A closed loop begins with an empty engine and slots that move in step, and ends with slots that stay empty. Neither is what was asked for.

The beginning is cut where MSER-5 says (White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69,
1997): of a series in order of arrival, in means of five, leave out the first d for which the rest has the smallest standard error of its
mean. It is asked of the time to the first token and of the time per output token, and the later answer counts. More than half of a series
left out means that it had not settled. The window also begins no earlier than with the last slot's first request.

The end: the window holds those requests alone that, with all that arrived before them, had ended when the last one was sent. Until then
every slot was taken, so all of their lives saw the whole loop.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from results.record import RequestRecord

BATCH = 5
LEAST = 20  # requests in the window; with fewer a p50 says little

Floats = NDArray[np.float64]


def steady_window(records: Sequence[RequestRecord], concurrency: int) -> tuple[float, float] | None:
    """(first, last) arrival, s, of the requests of a closed loop's steady state; None: it has none, or too few requests to tell.

    records: all of them, in order of arrival.
    """
    arrivals = np.array([r.arrival for r in records])
    begin = _settled(records)
    if begin is None or len(records) <= concurrency:
        return None
    first, last = max(begin, concurrency - 1), _last_whole(records)
    if last - first + 1 < LEAST:
        return None
    return float(arrivals[first]), float(arrivals[last])


def mean_in_flight(records: Sequence[RequestRecord], ended: Sequence[float | None], window: tuple[float, float]) -> float | None:
    """Requests that were in flight, sent and not ended, on average over the window's time; None for a window of no length.

    ended: when the last byte of each was read, s; None: never.
    """
    low, high = window
    if high <= low:
        return None
    spans = [(r.sent, high if end is None else end) for r, end in zip(records, ended, strict=True) if r.sent is not None]
    return sum(max(0.0, min(end, high) - max(sent, low)) for sent, end in spans) / (high - low)


def truncation(series: Floats, batch: int = BATCH) -> int | None:
    """MSER: how many values at the beginning of a series to leave out; None: it has not settled by its middle, or is too short."""
    count = len(series) // batch
    if count < 4:
        return None
    means = series[: count * batch].reshape(count, batch).mean(axis=1)
    errors = [float(np.var(means[d:])) / (count - d) for d in range(count // 2 + 1)]
    best = int(np.argmin(errors))
    return None if best == count // 2 and best > 0 else best * batch


def _settled(records: Sequence[RequestRecord]) -> int | None:
    """Place of the first request from which on TTFT and TPOT have settled."""
    first = 0
    for series in (_ttft(records), _tpot(records)):
        places, values = np.flatnonzero(~np.isnan(series)), series[~np.isnan(series)]
        cut = truncation(values) if len(values) else 0
        if cut is None:
            return None
        first = max(first, int(places[cut]) if len(values) else 0)
    return first


def _ttft(records: Sequence[RequestRecord]) -> Floats:
    return np.array([np.nan if r.error or r.first_token is None else r.first_token - r.arrival for r in records])


def _tpot(records: Sequence[RequestRecord]) -> Floats:
    """NaN for answers of one token, and of unknown length."""
    return np.array([np.nan if (gap := _gap(r)) is None else gap for r in records])


def _gap(r: RequestRecord) -> float | None:
    if r.error or r.first_token is None or r.finished is None or not r.output_tokens or r.output_tokens < 2:
        return None
    return (r.finished - r.first_token) / (r.output_tokens - 1)


def _last_whole(records: Sequence[RequestRecord]) -> int:
    """Place of the last request that, with all before it, had ended when the last one became due; -1: none."""
    over = records[-1].arrival
    late = (place for place, r in enumerate(records) if r.error is None and (r.finished is None or r.finished > over))
    return next(late, len(records)) - 1
