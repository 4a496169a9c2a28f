"""The runs of a sweep side by side: what more requests in flight bring, and what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from results import database
from results.summary import text

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

NOTE = "Over each run's window. The page is on the last run; ./plumbline report --run RUN_ID writes another's."
RUNS = """
    SELECT
        config ->> '$.load.concurrency' AS "in flight",
        any_value(value) FILTER (metric = 'output_throughput') AS "output tokens/s",
        any_value(value) FILTER (metric = 'request_rate') AS "requests/s",
        1000 * any_value(value) FILTER (metric = 'ttft' AND stat = 'p50') AS "TTFT p50 (ms)",
        1000 * any_value(value) FILTER (metric = 'ttft' AND stat = 'p99') AS "TTFT p99 (ms)",
        1000 * any_value(value) FILTER (metric = 'tpot' AND stat = 'p50') AS "TPOT p50 (ms)",
        CASE WHEN valid THEN 'yes' ELSE 'no' END AS valid
    FROM runs JOIN run_metrics USING (run_id)
    WHERE run_id = $run_id
    GROUP BY config, valid
"""


def table(path: Path, run_ids: Sequence[str]) -> "pd.DataFrame":
    """A row for each run of this database, as text."""
    with database.connect(path) as connection:
        found = [connection.execute(RUNS, {"run_id": run_id}).df() for run_id in run_ids]
    import pandas as pd  # here: it takes long to import

    return pd.concat(found).map(text)
