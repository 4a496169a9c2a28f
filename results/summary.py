"""One run's metrics as tables for people."""

import duckdb
from rich.table import Table

STATS = ("mean", "p50", "p90", "p95", "p99")


def tables(connection: duckdb.DuckDBPyConnection, run_id: str) -> tuple[Table, Table]:
    """Latencies (ms) and rates of a run in this database; empty tables for a run that is not there."""
    rows = connection.execute("SELECT metric, stat, value FROM run_metrics WHERE run_id = $run_id", {"run_id": run_id}).fetchall()
    values = {(metric, stat): value for metric, stat, value in rows}
    latencies, rates = Table("latency (ms)", *STATS), Table("rate", "")
    for metric in sorted({metric for metric, stat in values if stat is not None}):
        seconds = [values.get((metric, stat)) for stat in STATS]
        latencies.add_row(metric, *(text(None if value is None else 1000 * value) for value in seconds))
    for metric in sorted(metric for metric, stat in values if stat is None):
        rates.add_row(metric, text(values[metric, None]))
    return latencies, rates


def text(value: object) -> str:
    """A value as a cell: four significant digits of a number, a dash for unknown."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)
