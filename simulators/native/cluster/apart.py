"""Replicas behind an oblivious router, one that looks at no engine: each replica is served by itself, compiled where that is possible."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from results.record_table import RecordTable
from simulators.native.frontend.station import StationUse
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.policies import adapted
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from workloads.columns import RequestColumns, columns_of
from workloads.trace import Columns, Requests, Trace


@runtime_checkable
class ObliviousRouter(Protocol):
    """A router that looks at no engine: where each request goes is known beforehand."""

    def places(self, requests: int, instances: int) -> NDArray[np.int64]:
        """The instance of each of so many requests, in the order in which they reach it."""
        ...


def serve_apart(
    trace: Trace,
    instances: int,
    router: ObliviousRouter,
    limits: Limits,
    step_time: StepTime,
    *,
    frontend: Frontend,
    policy: str,
    token_times: bool,
) -> Served:
    """See Arrangement.serve: the same results."""
    place = _places(trace, instances, router, adapted(policy, limits), frontend)
    filled = [mine for instance in range(instances) if len(mine := np.flatnonzero(place == instance))]
    parts = [serve(_part(trace, mine), limits, step_time, frontend=frontend, policy=policy, token_times=token_times) for mine in filled]
    return dataclasses.replace(
        parts[0],
        records=RecordTable.merged([RecordTable.of(p.records) for p in parts], filled),
        steps=sum(p.steps for p in parts),
        preemptions=sum(p.preemptions for p in parts),
        end=max(p.end for p in parts),
        peak_kv_blocks=max(p.peak_kv_blocks for p in parts),
        station=StationUse.of_all([p.station for p in parts if p.station]),
    )


def _places(trace: Trace, instances: int, router: ObliviousRouter, limits: Limits, frontend: Frontend) -> NDArray[np.int64]:
    """The instance of each request, in the trace's order. The router does not see requests that the engines turn away."""
    columns = columns_of(trace)
    ends, which = np.unique(columns.input_tokens + columns.output_tokens, return_inverse=True)
    accepted = np.array([limits.refusal(end) is None for end in ends.tolist()])[which]
    order = np.argsort(frontend.reached(columns.arrival, columns.input_tokens), kind="stable")
    order = order[accepted[order]]
    place = np.zeros(len(trace), np.int64)
    place[order] = router.places(len(order), instances)
    return place


def _part(trace: Trace, rows: NDArray[np.int64]) -> Trace:
    if isinstance(trace.requests, Requests):
        some = Columns._make(column[rows] for column in trace.requests.columns)
        return dataclasses.replace(trace, requests=RequestColumns(some))
    return dataclasses.replace(trace, requests=tuple(trace.requests[row] for row in rows.tolist()))
