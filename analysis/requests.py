"""The requests of every run as arrays, in order of arrival: what resampling, change points and distances work on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from analysis import data
from analysis.data import RunRow
from analysis.stats import Values
from results.derived.values import gaps_of
from results.record import SLO
from results.storage.place import PlaceError, place

LATENCIES = ("ttft", "tpot", "e2e")
RATES = ("output_throughput", "request_rate", "goodput", "slo_attainment")

# One row per request: its latencies, and what it adds to each rate of metrics.sql, before that is divided by the window's length.
REQUESTS = """
SELECT
    request_id, arrival, CASE WHEN NOT failed THEN first_token END AS first_token, finished, input_tokens,
    in_window, ttft, tpot, e2e,
    CASE WHEN NOT failed THEN tokens_inside(first_token, finished, output_tokens, window_start, window_end) ELSE 0 END AS output_throughput,
    NOT failed AND finished BETWEEN window_start AND window_end AS request_rate,
    good AND in_window AS goodput,
    good AND in_window AS slo_attainment, num_token_times
FROM request_metrics AS m JOIN requests USING (run_id, request_id) JOIN windows USING (run_id)
WHERE m.run_id = ?
ORDER BY arrival, request_id
"""
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

    @property
    def has_gaps(self) -> bool:
        """Whether any of them shows two token times."""
        return bool((self.columns["num_token_times"] > 1).any())

    def only(self, mask: npt.NDArray[np.bool_]) -> "RunRequests":
        """Some of the requests."""
        return RunRequests(self.run_id, self.ids[mask], {name: column[mask] for name, column in self.columns.items()})

    def in_order_of(self, other: "RunRequests") -> "RunRequests":
        """The same requests in another run's order."""
        if np.array_equal(self.ids, other.ids):
            return self
        order = np.argsort(self.ids)[np.argsort(np.argsort(other.ids))]
        return RunRequests(self.run_id, self.ids[order], {name: column[order] for name, column in self.columns.items()})


class StoredRequests(Mapping[str, RunRequests]):
    """The requests of a database's runs, by run_id; those of a run are read when they are asked for, and kept."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self._read: dict[str, RunRequests] = {}

    def __getitem__(self, run_id: str) -> RunRequests:
        if run_id not in self._read:
            self._read[run_id] = read_requests(self.connection, run_id)
        return self._read[run_id]

    def __iter__(self) -> Iterator[str]:
        return (row["run_id"] for row in data.rows(self.connection, "SELECT run_id FROM runs ORDER BY run_id"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def read_requests(connection: duckdb.DuckDBPyConnection, run_id: str) -> RunRequests:
    """The requests of a run; none where there is no such run."""
    found: dict[str, Any] = connection.execute(REQUESTS, [run_id]).fetchnumpy()
    ids = np.asarray(found.pop("request_id")).astype(np.int64)
    return RunRequests(run_id, ids, {name: np.ma.filled(np.ma.asarray(of).astype(float), np.nan) for name, of in found.items()})


def read_gaps(connection: duckdb.DuckDBPyConnection, run: RunRow, requests: RunRequests) -> list[Values]:
    """The gaps between the tokens of each of a run's requests; an empty array for a request outside the window.

    Raises AnalysisError when the run's token times cannot be read where the database says that they are.
    """
    rows = connection.sql("SELECT * FROM requests WHERE run_id = ?", params=[run.run_id]).to_arrow_table()
    slo = SLO(ttft=run.slo_ttft, tpot=run.slo_tpot, e2e=run.slo_e2e)
    window = None if run.window_start is None or run.window_end is None else (run.window_start, run.window_end)
    try:
        owners, gaps = gaps_of(rows, place(run.path) / "tokens.parquet", slo=slo, window=window)
    except (OSError, duckdb.Error, PlaceError) as error:
        why = " ".join(str(error).split())
        raise data.AnalysisError(f"{run.path}/tokens.parquet: cannot be read ({why}); build it anew (./plumbline database)") from error
    starts, ends = (np.searchsorted(owners, requests.ids, side=side) for side in ("left", "right"))
    return [gaps[start:end] for start, end in zip(starts, ends, strict=True)]


def read_tokens(connection: duckdb.DuckDBPyConnection, run_id: str, low: float, high: float) -> Values:
    """The output tokens that each request of a run produced in [low, high], in order of arrival; NaN where that is unknown."""
    found: Any = connection.execute(TOKENS, {"run_id": run_id, "low": low, "high": high}).fetchnumpy()["tokens"]
    tokens: Values = np.ma.filled(np.ma.asarray(found).astype(float), np.nan)
    return tokens
