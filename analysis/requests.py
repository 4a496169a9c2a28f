"""The requests of every run as arrays, in order of arrival: what resampling, change points and distances work on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from analysis import data
from analysis.stats import Values

LATENCIES = ("ttft", "tpot", "e2e")
RATES = ("output_throughput", "request_rate", "goodput", "slo_attainment")

# One row per request: its latencies, and what it adds to each rate of metrics.sql (all rates are over the same window).
REQUESTS = """
SELECT
    m.run_id, request_id, arrival, CASE WHEN NOT failed THEN first_token END AS first_token, finished, input_tokens,
    in_window, ttft, tpot, e2e,
    CASE WHEN NOT failed THEN tokens_inside(first_token, finished, output_tokens, window_start, window_end) ELSE 0 END AS output_throughput,
    NOT failed AND finished BETWEEN window_start AND window_end AS request_rate,
    good AND in_window AS goodput,
    good AND in_window AS slo_attainment
FROM request_metrics AS m JOIN requests USING (run_id, request_id) JOIN windows USING (run_id)
ORDER BY m.run_id, arrival, request_id
"""
GAPS = "SELECT request_id, itl FROM itl WHERE run_id = ? AND in_window ORDER BY request_id, token_index"
TOKENS = """
SELECT CASE WHEN error IS NULL AND finished IS NOT NULL THEN tokens_inside(first_token, finished, output_tokens, $low, $high) END AS tokens
FROM requests WHERE run_id = $run_id ORDER BY arrival, request_id
"""


@dataclass(frozen=True, slots=True)
class RunRequests:
    """The requests of one run by column, each in order of arrival; NaN is unknown. ids: their request_ids."""

    run_id: str
    ids: npt.NDArray[np.int64]
    columns: Mapping[str, Values]

    def __getitem__(self, name: str) -> Values:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Which of them arrive inside the measurement window."""
        inside: npt.NDArray[np.bool_] = self.columns["in_window"] == 1
        return inside

    def only(self, mask: npt.NDArray[np.bool_]) -> "RunRequests":
        """Some of the requests."""
        return RunRequests(self.run_id, self.ids[mask], {name: column[mask] for name, column in self.columns.items()})

    def in_order_of(self, other: "RunRequests") -> "RunRequests":
        """The same requests in another run's order."""
        if np.array_equal(self.ids, other.ids):
            return self
        order = np.argsort(self.ids)[np.argsort(np.argsort(other.ids))]
        return RunRequests(self.run_id, self.ids[order], {name: column[order] for name, column in self.columns.items()})


def read_requests(connection: duckdb.DuckDBPyConnection) -> dict[str, RunRequests]:
    """The requests of all runs, by run_id."""
    found: dict[str, Any] = connection.execute(REQUESTS).fetchnumpy()
    runs, starts = np.unique(np.asarray(found.pop("run_id")).astype(str), return_index=True)
    ids = np.asarray(found.pop("request_id")).astype(np.int64)
    arrays = {name: np.ma.filled(np.ma.asarray(column).astype(float), np.nan) for name, column in found.items()}
    ends = [*starts[1:], len(ids)][: len(starts)]
    return {
        str(run): RunRequests(str(run), ids[start:end], {name: column[start:end] for name, column in arrays.items()})
        for run, start, end in zip(runs, starts, ends, strict=True)
    }


def read_gaps(connection: duckdb.DuckDBPyConnection, requests: RunRequests) -> list[Values]:
    """The gaps between the tokens of each request; an empty array for a request outside the window."""
    gaps = data.columns(connection, GAPS, [requests.run_id])
    starts, ends = (np.searchsorted(gaps["request_id"], requests.ids, side=side) for side in ("left", "right"))
    return [gaps["itl"][start:end] for start, end in zip(starts, ends, strict=True)]


def read_tokens(connection: duckdb.DuckDBPyConnection, run_id: str, low: float, high: float) -> Values:
    """The output tokens that each request of a run produced in [low, high], in order of arrival; NaN where that is unknown."""
    found: Any = connection.execute(TOKENS, {"run_id": run_id, "low": low, "high": high}).fetchnumpy()["tokens"]
    tokens: Values = np.ma.filled(np.ma.asarray(found).astype(float), np.nan)
    return tokens
