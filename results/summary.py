"""What of one run's metrics is shown to people."""

import duckdb
from rich.table import Table

LATENCIES = """
    SELECT metric, mean, p50, p90, p95, p99
    FROM (SELECT metric, stat, 1000 * value AS value FROM run_metrics WHERE run_id = $run_id AND stat IS NOT NULL)
    PIVOT (any_value(value) FOR stat IN ('mean', 'p50', 'p90', 'p95', 'p99'))
    ORDER BY metric
"""
RATES = "SELECT metric, value FROM run_metrics WHERE run_id = $run_id AND stat IS NULL ORDER BY metric"
STATS = ("mean", "p50", "p90", "p95", "p99")


def tables(connection: duckdb.DuckDBPyConnection, run_id: str) -> tuple[Table, Table]:
    """Latencies (ms) and rates of a run in this database. A run that is not there has none: empty tables."""
    rows = connection.execute("SELECT metric, stat, value FROM run_metrics WHERE run_id = $run_id", {"run_id": run_id}).fetchall()
    values = {(metric, stat): value for metric, stat, value in rows}
    latencies, rates = Table("latency (ms)", *STATS), Table("rate", "")
    for metric in sorted({metric for metric, stat in values if stat is not None}):
        latencies.add_row(metric, *(_text(values.get((metric, stat)), scale=1000) for stat in STATS))
    for metric in sorted(metric for metric, stat in values if stat is None):
        rates.add_row(metric, _text(values[metric, None]))
    return latencies, rates


def _text(value: float | None, *, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.4g}"
