"""The metrics of requests that are in no database: the very SQL of metrics.sql, over a database in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa

from results.record import SLO, RequestRecord
from results.record_table import RecordTable

RUN_ID = "live"
RUN = """
INSERT INTO runs BY NAME SELECT
    'live' AS run_id, 'simulated' AS kind, 'live' AS system, 'live' AS workload, 'live' AS model, 'live' AS hardware, 0 AS repeat,
    'live' AS trace_sha256, true AS valid, now()::TIMESTAMP AS started_at, 0 AS wall_s, '{}' AS config, '{}' AS provenance, '' AS path,
    $ttft AS slo_ttft, $tpot AS slo_tpot, $e2e AS slo_e2e, $start AS window_start, $end AS window_end
"""
# rows of a table of tokens, of which there are none
NO_TOKENS = "(SELECT NULL::BIGINT AS request_id, NULL::INTEGER AS token_index, NULL::DOUBLE AS time WHERE false)"

# The view of metrics.sql over rows in order (each request's together, by token_index): taking the row before each, as they come, needs no
# sorting and is seven times as fast. Gap by gap it is the same (tests/results/derived/test_values.py).
GAPS_IN_ORDER = """
CREATE OR REPLACE VIEW token_gaps AS
SELECT run_id, request_id, token_index, CASE WHEN token_index > 0 THEN time - lag(time) OVER () END AS gap FROM tokens
"""


def table(records: Sequence[RequestRecord]) -> pa.Table:
    """Records as the columns that `live_metrics` takes, times in seconds."""
    return RecordTable.of(records).columns


def live_metrics(
    requests: pa.Table,
    *,
    slo: SLO = SLO(),  # noqa: B008 - frozen
    window: tuple[float, float] | None = None,
) -> dict[tuple[str, str | None], float | None]:
    """(metric, stat) to value, as the view run_metrics has them; what needs token times (itl, fluidity) is None.

    requests: columns of record_table.COLUMNS. window: as of a Run; None: the whole of it.
    """
    with live(requests, slo=slo, window=window) as connection:
        rows = connection.execute("SELECT metric, stat, value FROM run_metrics").fetchall()
    return {(metric, stat): value for metric, stat, value in rows}


@contextmanager
def live(
    requests: pa.Table,
    *,
    tokens: pa.Table | None = None,
    slo: SLO = SLO(),  # noqa: B008 - frozen
    window: tuple[float, float] | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that has these requests as the run RUN_ID. tokens: as RecordTable.tokens gives them, in that order."""
    with in_memory() as connection:
        put(connection, requests, tokens=tokens, slo=slo, window=window)
        yield connection


def in_memory() -> duckdb.DuckDBPyConnection:
    """A database in memory with the tables of schema.sql, empty, and the views of metrics.sql.

    It works on one thread: sums added up in another order differ in their last digits.
    """
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(_text("schema.sql"))
    _put_tokens(connection, None)
    connection.execute(_text("metrics.sql"))
    connection.execute(GAPS_IN_ORDER)
    return connection


def put(
    connection: duckdb.DuckDBPyConnection, requests: pa.Table, *, tokens: pa.Table | Path | None, slo: SLO, window: Sequence[float] | None
) -> None:
    """Make these requests the run RUN_ID of a database of `in_memory`, its only one. tokens: as of `live`, or a run's tokens.parquet."""
    start, end = window or (None, None)
    # made anew, not emptied: what DuckDB remembers of older rows may change the order in which it adds up
    for name in ("runs", "requests"):
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS FROM {name} LIMIT 0")
    connection.execute(RUN, {"ttft": slo.ttft, "tpot": slo.tpot, "e2e": slo.e2e, "start": start, "end": end})
    connection.register("given_requests", requests)
    connection.execute(f"INSERT INTO requests BY NAME SELECT '{RUN_ID}' AS run_id, * FROM given_requests")
    connection.unregister("given_requests")
    _put_tokens(connection, tokens)


def _put_tokens(connection: duckdb.DuckDBPyConnection, tokens: pa.Table | Path | None) -> None:
    """Make the view `tokens` of the database: over a run's file, which is read in place, or over rows."""
    if isinstance(tokens, Path):
        file = str(tokens).replace("'", "''")
        source = f"read_parquet('{file}', hive_partitioning = false)"
    else:
        source = NO_TOKENS
        if tokens is not None:
            connection.register("given_tokens", tokens)
            source = "given_tokens"
    connection.execute(f"CREATE OR REPLACE VIEW tokens AS SELECT '{RUN_ID}' AS run_id, request_id, token_index, time FROM {source}")


@cache
def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
