"""The metrics of requests that are in no run folder: the very SQL of metrics.sql, over a database in memory."""

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
    """A database in memory that has these requests as the run RUN_ID. tokens: as RecordTable.tokens gives them."""
    start, end = window or (None, None)
    with duckdb.connect() as connection:
        for text in _schema():
            connection.execute(text)
        connection.execute(RUN, {"ttft": slo.ttft, "tpot": slo.tpot, "e2e": slo.e2e, "start": start, "end": end})
        for name, rows in (("requests", requests), ("tokens", tokens)):
            if rows is not None:
                connection.register("given", rows)
                connection.execute(f"INSERT INTO {name} BY NAME SELECT '{RUN_ID}' AS run_id, * FROM given")
                connection.unregister("given")
        yield connection


@cache
def _schema() -> tuple[str, ...]:
    return tuple(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("schema.sql", "metrics.sql"))
