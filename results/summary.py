"""One run's metrics as tables for people."""

import duckdb
from rich.table import Table

STATS = ("mean", "p50", "p90", "p95", "p99")
UNITS = {  # of the rates of metrics.sql; the others are shares
    "output_throughput": "tokens/s",
    "total_throughput": "tokens/s",
    "request_rate": "requests/s",
    "offered_rate": "requests/s",
    "goodput": "requests/s",
    "duration": "s",
}
COSTS = """
SELECT
    energy_per_input_token AS "energy_per_input_token (J)", energy_per_output_token AS "energy_per_output_token (J)",
    cost_per_million_input_tokens AS "cost_per_million_input_tokens (USD)",
    cost_per_million_output_tokens AS "cost_per_million_output_tokens (USD)"
FROM run_energy JOIN run_cost USING (run_id) WHERE run_id = $run_id
"""


def tables(connection: duckdb.DuckDBPyConnection, run_id: str) -> tuple[Table, Table]:
    """Latencies (ms) and rates of a run, with energy and cost where they are known; empty tables for a run that is not there."""
    rows = connection.execute("SELECT metric, stat, value FROM run_metrics WHERE run_id = $run_id", {"run_id": run_id}).fetchall()
    values = {(metric, stat): value for metric, stat, value in rows}
    latencies, rates = Table("latency (ms)", *STATS), Table("rate", "")
    for metric in sorted({metric for metric, stat in values if stat is not None}):
        seconds = [values.get((metric, stat)) for stat in STATS]
        latencies.add_row(metric, *(text(None if value is None else 1000 * value) for value in seconds))
    for metric in sorted(metric for metric, stat in values if stat is None):
        rates.add_row(f"{metric} ({UNITS[metric]})" if metric in UNITS else metric, text(values[metric, None]))
    for name, value in costs(connection, run_id).items():
        rates.add_row(name, text(value))
    return latencies, rates


def costs(connection: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, float]:
    """What a run took of power and money by the token, each with its unit in its name: what is known of it."""
    found = connection.execute(COSTS, {"run_id": run_id})
    names = [column[0] for column in found.description]
    return {name: value for row in found.fetchall() for name, value in zip(names, row, strict=True) if value is not None}


def text(value: object) -> str:
    """A value as a cell: four significant digits of a number, a dash for unknown."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)
