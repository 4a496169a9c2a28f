"""The metrics of requests that are in no run folder: the very SQL of metrics.sql, over a database in memory."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa

from results.record import SLO, RequestRecord

COLUMNS = (
    "request_id",
    "arrival",
    "sent",
    "scheduled",
    "first_token",
    "finished",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "error",
)
RUN = """
INSERT INTO runs BY NAME SELECT
    'live' AS run_id, 'simulated' AS kind, 'live' AS system, 'live' AS workload, 'live' AS model, 'live' AS hardware, 0 AS repeat,
    'live' AS trace_sha256, true AS valid, now()::TIMESTAMP AS started_at, 0 AS wall_s, '{}' AS config, '{}' AS provenance, '' AS path,
    $ttft AS slo_ttft, $tpot AS slo_tpot, $e2e AS slo_e2e, $start AS window_start, $end AS window_end
"""


def table(records: Iterable[RequestRecord]) -> pa.Table:
    """Records as the columns that `live_metrics` takes, times in seconds."""
    rows = list(records)
    return pa.table({name: [getattr(record, name) for record in rows] for name in COLUMNS})


def live_metrics(
    requests: pa.Table,
    *,
    slo: SLO = SLO(),  # noqa: B008 - frozen
    window: tuple[float, float] | None = None,
) -> dict[tuple[str, str | None], float | None]:
    """(metric, stat) to value, as the view run_metrics has them; what needs token times (itl, fluidity) is None.

    requests: columns COLUMNS. window: as of a Run; None: the whole of it.
    """
    start, end = window or (None, None)
    with duckdb.connect() as connection:
        for text in _schema():
            connection.execute(text)
        connection.execute(RUN, {"ttft": slo.ttft, "tpot": slo.tpot, "e2e": slo.e2e, "start": start, "end": end})
        connection.register("given", requests)
        connection.execute("INSERT INTO requests BY NAME SELECT 'live' AS run_id, * FROM given")
        rows = connection.execute("SELECT metric, stat, value FROM run_metrics").fetchall()
    return {(metric, stat): value for metric, stat, value in rows}


@cache
def _schema() -> tuple[str, ...]:
    return tuple(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("schema.sql", "metrics.sql"))
