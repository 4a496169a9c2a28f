"""The values of all metrics of one stored run: the very SQL of metrics.sql, over this run alone.

A run's values depend on nothing but the run: not on the others in a database, nor on the number of threads.
"""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from results import live
from results.record import SLO
from results.storage.place import Place

HERE = Path(__file__)
DEFINED_BY = (HERE.parent.parent / "metrics.sql", HERE.parent.parent / "live.py", HERE)
Values = list[tuple[str, str | None, float | None]]  # metric, stat (None: a rate), value (None: unknown)
SCHEMA = pa.schema([("run_id", pa.string()), ("metric", pa.string()), ("stat", pa.string()), ("value", pa.float64())])

OUT_OF_ORDER = """
SELECT count(*)
FROM (
    SELECT token_index, request_id = lag(request_id) OVER () AND token_index = 1 + lag(token_index) OVER () AS follows FROM tokens
)
WHERE token_index > 0 AND follows IS NOT true
"""

_of_this_thread = threading.local()  # its database in memory: making the views takes longer than asking them about a small run


class OrderError(ValueError):
    """Token times that do not follow each other, request by request."""


def definition() -> str:
    """Digest of the SQL that defines the metrics and of the code that runs it: with another one, stored values are computed anew."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in DEFINED_BY)).hexdigest()[:12]


def values_of(meta: Mapping[str, Any], requests: pa.Table, tokens: Path) -> Values:
    """Metric, stat and value of all metrics of a stored run, as the view run_metrics has them.

    meta: the content of its run.json. requests: its rows; tokens: its tokens.parquet, each request's rows together and in the order of
    token_index. Raises OrderError when they are not, duckdb.Error when the file cannot be read.
    """
    connection = _in_memory()
    live.put(connection, requests.drop_columns("run_id"), tokens=tokens, slo=SLO(**meta["slo"]), window=meta["window"])
    if connection.execute(OUT_OF_ORDER).fetchall() != [(0,)]:
        raise OrderError(f"{tokens}: its rows are not in the order of requests and tokens")
    rows: Values = connection.execute("SELECT metric, stat, value FROM run_metrics").fetchall()
    return rows


def gaps_of(
    requests: pa.Table, tokens: Place, *, slo: SLO, window: tuple[float, float] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(request_id, gap in s) of the rows of the view itl that are inside the window, ordered by request_id and token_index.

    requests: the run's rows of that table; tokens: its tokens.parquet, in the order that values_of asks for. Raises duckdb.Error, OSError,
    PlaceError when that cannot be read.
    """
    source = tokens if isinstance(tokens, Path) else pq.read_table(tokens.open(), partitioning=None)
    connection = _in_memory()
    live.put(connection, requests.drop_columns("run_id"), tokens=source, slo=slo, window=window)
    found = connection.execute("SELECT request_id, itl FROM itl WHERE in_window ORDER BY request_id, token_index").fetchnumpy()
    return np.asarray(found["request_id"], np.int64), np.asarray(found["itl"], np.float64)


def _in_memory() -> duckdb.DuckDBPyConnection:
    if not hasattr(_of_this_thread, "connection"):
        _of_this_thread.connection = live.in_memory()
    connection: duckdb.DuckDBPyConnection = _of_this_thread.connection
    return connection
