"""A trace through the compiled engine, and its records as columns."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from results.record_table import FIRST, RecordTable, with_later
from results.token_times import TokenTimes
from simulators.native.fast.allocate import Looped, new_sequences
from simulators.native.fast.records import Array
from simulators.native.fast.simulate import Finished, simulate
from simulators.native.kv.prefix_keys import shared_keys
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.scheduler import Limits
from simulators.native.served import Frontend, Served
from workloads.arrow import arrow
from workloads.columns import columns_of
from workloads.release import Slots
from workloads.trace import Columns, Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def serve_compiled(
    trace: Trace, limits: Limits, step_time: StepTime, frontend: Frontend, *, slots: Slots | None, token_times: bool
) -> Served:
    """See serve.py's `serve`. Raises SimulatorError. slots: of a closed loop, whose requests are all served."""
    asked = columns_of(trace)
    refusals = _refusals(asked, limits)
    if slots is None:
        looped, reached = None, frontend.reached(asked.arrival, asked.input_tokens)
    else:
        assert not refusals
        looped = Looped(first=np.array([due.time for due in slots.first]), after=frontend.after)
        reached = frontend.reached(np.zeros(len(trace)), asked.input_tokens)
    # places of the requests that are served, in the order in which they are ready, or due
    order = np.argsort(reached, kind="stable") if slots is None else np.arange(len(trace))
    order = order[[place not in refusals for place in order.tolist()]] if refusals else order
    sequences = new_sequences(reached[order], asked.input_tokens[order], asked.output_tokens[order], order)
    keys = _give_keys(sequences, trace, limits, order) if trace.block_size and limits.prefix_caching else np.empty(0, np.int64)
    finished = simulate(sequences, keys, limits, step_time, frontend.station, looped=looped)
    if slots is not None:
        asked = asked._replace(arrival=finished.sequences["due"].copy())
    times = _token_times(finished, order, len(trace), frontend.after) if token_times else None
    shown = np.full(len(trace), token_times)
    shown[list(refusals)] = False
    return Served(
        records=RecordTable(record_columns(asked, finished, order, refusals, frontend.after), times, shown),
        steps=finished.steps,
        preemptions=int(finished.sequences["preemptions"].sum()),
        end=finished.end,
        peak_kv_blocks=finished.peak_kv_blocks,
        station=finished.station,
    )


def _refusals(asked: Columns, limits: Limits) -> dict[int, str]:
    """Requests that the engine turns away: place in the trace to the reason."""
    end = asked.input_tokens + asked.output_tokens
    if limits.refusal(int(end.max())) is None:
        return {}  # a shorter one is refused for no reason that a longer one is not
    reasons = {tokens: reason for tokens in np.unique(end).tolist() if (reason := limits.refusal(tokens)) is not None}
    return {place: f"refused: {reasons[int(end[place])]}" for place in np.flatnonzero(np.isin(end, list(reasons))).tolist()}


def _give_keys(sequences: Array, trace: Trace, limits: Limits, order: Integers) -> Integers:
    """Return an array of the shared keys, and write into each sequence where its keys are."""
    keys = list(shared_keys(trace, limits.block_size))
    counts = np.array([len(k) for k in keys])
    sequences["shared_count"] = counts[order]
    sequences["shared"] = (np.cumsum(counts) - counts)[order]
    return np.concatenate(keys)


def record_columns(asked: Columns, finished: Finished, order: Integers, refusals: dict[int, str], after: float) -> pa.Table:
    """The records' columns. What is known of served requests only is NULL where there is a refusal."""
    refused = np.zeros(len(asked.request_id), bool)
    refused[list(refusals)] = True

    def of_served(values: NDArray[np.float64] | Integers) -> pa.Array:
        column = np.zeros(len(refused), values.dtype)
        column[order] = values
        return arrow(column, null=refused)

    columns = {
        "request_id": arrow(asked.request_id),
        "arrival": arrow(asked.arrival),
        "sent": arrow(asked.arrival),
        "scheduled": of_served(finished.sequences["scheduled"]),
        "first_token": of_served(finished.first_token + after),
        "finished": of_served(finished.last_token + after),
        "input_tokens": of_served(asked.input_tokens[order]),
        "output_tokens": of_served(asked.output_tokens[order]),
        "cached_tokens": of_served(finished.sequences["cached"].astype(np.int64)),
        "error": pa.array(map(refusals.get, range(len(refused))), pa.string()) if refusals else pa.nulls(len(refused), pa.string()),
    }
    return with_later(pa.table(columns, schema=FIRST))


def _token_times(finished: Finished, order: Integers, records: int, after: float) -> TokenTimes:
    """The runs, by the place of their request in the trace."""
    record = order[finished.runs["sequence"]]
    by_record = np.argsort(record, kind="stable")
    runs = finished.runs[by_record]
    return TokenTimes(
        records=records, clock=finished.sent, record=record[by_record], start=runs["start"], length=runs["length"], shift=after
    )
