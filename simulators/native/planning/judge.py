"""Judge: simulates a deployment at one rate after another, and takes what comes out by the database's own SQL."""

import threading
from collections.abc import Callable

import duckdb
import numpy as np

from results.live import in_memory, put, table
from results.record import SLO
from simulators.native.planning.attainment import Attainment, load_error, unseen
from simulators.native.planning.capacity import SustainedRate, find_sustained_rate
from simulators.native.planning.deployment import Deployment
from simulators.native.predictor import Prediction
from workloads.columns import columns_of
from workloads.trace import Trace

TraceAt = Callable[[float, int], Trace]  # of a rate (requests/s) and a number of requests
Metrics = dict[tuple[str, str | None], float | None]  # by (metric, stat), as the view run_metrics has them
# a request that was refused is not good and took nothing
BY_ARRIVAL = """
SELECT coalesce(good, false) AS good, coalesce(e2e, 0.0) AS took
FROM request_metrics JOIN requests USING (run_id, request_id) ORDER BY arrival, request_id
"""

LATENCIES = (
    "SELECT " + ", ".join(f"quantile_cont({metric}, {q})" for metric in ("ttft", "tpot") for q in (0.5, 0.99)) + " FROM request_metrics"
)
_OF_THREAD = threading.local()


class Judge:
    """One deployment under one SLO."""

    def __init__(
        self, deployment: Deployment, trace_at: TraceAt, slo: SLO, *, wanted: float, precision: float, lengths: tuple[int, int]
    ) -> None:
        """wanted: the share of the requests that must meet the SLO. precision, lengths (fewest, most): as of `find_sustained_rate`."""
        if slo == SLO():
            raise ValueError("capacity: the SLO has no limit, so any rate meets it; give slo.ttft, slo.tpot or slo.e2e")
        self.wanted, self.devices = wanted, deployment.devices
        self.deployment, self._trace_at, self._slo, self._precision, self._lengths = deployment, trace_at, slo, precision, lengths
        self.outcome: Prediction | None = None  # of the last simulation for an attainment

    def capacity(self) -> SustainedRate | None:
        """The highest rate at which the share is `wanted`; None: there is none. Raises SimulatorError and ValueError."""
        fewest, most = self._lengths
        return find_sustained_rate(self.attainment, self.wanted, precision=self._precision, fewest=fewest, most=most)

    def attainment(self, rate: float, requests: int) -> Attainment:
        """Simulate so many requests at this rate. Raises SimulatorError and ValueError."""
        trace = self._trace_at(rate, requests)
        self.outcome = self.deployment.serve(trace, token_times=False)
        columns = self._put(self.outcome).execute(BY_ARRIVAL).fetchnumpy()
        under_way = float(np.sum(columns["took"])) / trace.duration if trace.duration > 0 else np.inf
        good = np.asarray(columns["good"], dtype=np.bool_)
        off = load_error(columns_of(trace))
        return Attainment.of(good, in_flight=under_way, load_error=off, unseen=unseen(self._slo, trace.duration))

    def served(self, rate: float, requests: int) -> Prediction:
        """A simulation of so many requests at this rate."""
        return self.deployment.serve(self._trace_at(rate, requests), token_times=False)

    def metrics_of(self, outcome: Prediction) -> Metrics:
        """Of a simulation."""
        rows = self._put(outcome).execute("SELECT metric, stat, value FROM run_metrics").fetchall()
        return {(metric, stat): value for metric, stat, value in rows}

    def latencies_of(self, outcome: Prediction) -> Metrics:
        """The median and the 99th percentile of TTFT and TPOT of a simulation, as run_metrics has them, in a tenth of the time."""
        found = self._put(outcome).execute(LATENCIES).fetchone()
        assert found is not None
        return dict(zip(((metric, stat) for metric in ("ttft", "tpot") for stat in ("p50", "p99")), found, strict=True))

    def _put(self, outcome: Prediction) -> duckdb.DuckDBPyConnection:
        connection = database_of_thread()
        put(connection, table(outcome.served.records), tokens=None, slo=self._slo, window=None)
        return connection


def database_of_thread() -> duckdb.DuckDBPyConnection:
    """This thread's database in memory, as several judge at once: making one takes as long as a short simulation."""
    if not hasattr(_OF_THREAD, "connection"):
        _OF_THREAD.connection = in_memory()
    found: duckdb.DuckDBPyConnection = _OF_THREAD.connection
    return found
