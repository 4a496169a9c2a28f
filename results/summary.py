"""What of one run's metrics is shown to people; tables of it."""

import duckdb
from rich.table import Table

LATENCIES = """
    SELECT metric, mean, p50, p90, p95, p99
    FROM (SELECT metric, stat, 1000 * value AS value FROM run_metrics WHERE run_id = $run_id AND stat IS NOT NULL)
    PIVOT (any_value(value) FOR stat IN ('mean', 'p50', 'p90', 'p95', 'p99'))
    ORDER BY metric
"""
RATES = "SELECT metric, value FROM run_metrics WHERE run_id = $run_id AND stat IS NULL ORDER BY metric"


def tables(connection: duckdb.DuckDBPyConnection, run_id: str) -> tuple[Table, Table]:
    """Latencies (ms) and rates of a run in this database. A run that is not there has none: empty tables."""
    made = Table("latency (ms)", "mean", "p50", "p90", "p95", "p99"), Table("rate", "")
    for table, query in zip(made, (LATENCIES, RATES), strict=True):
        for row in connection.execute(query, {"run_id": run_id}).fetchall():
            table.add_row(*("-" if cell is None else cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row))
    return made
