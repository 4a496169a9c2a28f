"""Judge: simulates a deployment at one rate after another, and takes what comes out by the database's own SQL."""

from collections.abc import Callable
from functools import cached_property

import duckdb
import numpy as np

from results.live import in_memory, put, table
from results.record import SLO
from simulators.native.planning.attainment import Attainment
from simulators.native.planning.capacity import SustainedRate, find_sustained_rate
from simulators.native.planning.deployment import Deployment
from workloads.trace import Trace

TraceAt = Callable[[float, int], Trace]  # of a rate (requests/s) and a number of requests
Metrics = dict[tuple[str, str | None], float | None]  # by (metric, stat), as the view run_metrics has them
# a request that was refused is not good and took nothing
BY_ARRIVAL = """
SELECT coalesce(good, false) AS good, coalesce(e2e, 0.0) AS took
FROM request_metrics JOIN requests USING (run_id, request_id) ORDER BY arrival, request_id
"""


class Judge:
    """One deployment under one SLO. The database in memory is made once: making it takes ten times as long as a short simulation."""

    def __init__(
        self, deployment: Deployment, trace_at: TraceAt, slo: SLO, *, wanted: float, precision: float, lengths: tuple[int, int]
    ) -> None:
        """wanted: the share of the requests that must meet the SLO. precision, lengths (fewest, most): as of `find_sustained_rate`."""
        if slo == SLO():
            raise ValueError("capacity: the SLO has no limit, so any rate meets it; give slo.ttft, slo.tpot or slo.e2e")
        self.wanted, self.devices = wanted, deployment.devices
        self._deployment, self._trace_at, self._slo, self._precision, self._lengths = deployment, trace_at, slo, precision, lengths

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return in_memory()  # in the thread that judges, as several do at once

    def capacity(self) -> SustainedRate | None:
        """The highest rate at which the share is `wanted`; None: there is none. Raises SimulatorError and ValueError."""
        fewest, most = self._lengths
        return find_sustained_rate(self.attainment, self.wanted, precision=self._precision, fewest=fewest, most=most)

    def attainment(self, rate: float, requests: int) -> Attainment:
        """Simulate so many requests at this rate. Raises SimulatorError and ValueError."""
        trace = self._trace_at(rate, requests)
        columns = self._served(trace).execute(BY_ARRIVAL).fetchnumpy()
        under_way = float(np.sum(columns["took"])) / trace.duration if trace.duration > 0 else np.inf
        return Attainment.of(np.asarray(columns["good"], dtype=np.bool_), in_flight=under_way)

    def metrics(self, rate: float, requests: int) -> Metrics:
        """Of a simulation of so many requests at this rate."""
        rows = self._served(self._trace_at(rate, requests)).execute("SELECT metric, stat, value FROM run_metrics").fetchall()
        return {(metric, stat): value for metric, stat, value in rows}

    def _served(self, trace: Trace) -> duckdb.DuckDBPyConnection:
        records = self._deployment.serve(trace, token_times=False).served.records
        put(self._connection, table(records), tokens=None, slo=self._slo, window=None)
        return self._connection
