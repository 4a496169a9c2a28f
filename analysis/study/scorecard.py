"""The scorecard: every simulator and track over the runs of a study, and the coverage that the conformance kit measured, as two tables.

Errors are of a run's mean latency: their size, median and 90th percentile over the runs that the simulator was scored on. MAPE: the mean
size of the errors of single requests, median over the runs. Each simulator is over its own runs, and `runs` says of how many.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from analysis import data, names
from analysis.data import AnalysisError
from analysis.study.data import check_name
from results.storage import conformance
from results.storage.conformance import Conformance, Support

QUANTITIES = ("ttft", "tpot", "e2e")
ASKED = "SELECT count(*) AS asked FROM runs WHERE kind = 'measured' AND valid AND ($1::VARCHAR IS NULL OR study = $1)"
SCORES = """
WITH scored AS (
    SELECT pairs.simulated_run_id, pairs.measured_run_id, pairs.system, pairs.track
    FROM pairs JOIN runs AS measured ON measured.run_id = pairs.measured_run_id
    WHERE pairs.valid AND refusal IS NULL AND pairs.track <> 'oracle' AND ($1::VARCHAR IS NULL OR measured.study = $1)
), told AS (
    SELECT
        run_id, version, started_at, wall_s, TRY_CAST(config ->> '$.simulator.timing.peak_memory' AS DOUBLE) AS memory,
        count(*) AS requests, count(*) FILTER (requests.error IS NOT NULL OR finished IS NULL) AS failed
    FROM runs JOIN requests USING (run_id)
    WHERE kind = 'simulated'
    GROUP BY ALL
), errors AS (
    SELECT
        fidelity.system, fidelity.track,
        {errors}
    FROM fidelity JOIN scored USING (simulated_run_id)
    GROUP BY fidelity.system, fidelity.track
)
SELECT
    scored.system, scored.track, count(*) AS runs,
    any_value(COLUMNS(errors.* EXCLUDE (system, track))),
    count(*) FILTER (mine.saturated = theirs.saturated) AS same_side,
    count(*) FILTER (mine.saturated IS NOT NULL AND theirs.saturated IS NOT NULL) AS side_known,
    sum(told.failed) / sum(told.requests) AS failed,
    median(1000 * told.wall_s / told.requests) AS seconds,
    max(memory) AS memory,
    list(DISTINCT told.version ORDER BY told.version) AS versions,
    max(told.started_at)::DATE::VARCHAR AS date
FROM scored JOIN told ON told.run_id = scored.simulated_run_id
LEFT JOIN errors ON errors.system = scored.system AND errors.track = scored.track
LEFT JOIN saturation AS mine ON mine.run_id = scored.simulated_run_id
LEFT JOIN saturation AS theirs ON theirs.run_id = scored.measured_run_id
GROUP BY scored.system, scored.track
ORDER BY scored.system, list_position(['shipped', 'matched', 'calibrated'], scored.track)
"""
FEW = 10  # runs; of fewer there is no 90th percentile
SUPPORTS: tuple[Support, ...] = ("yes", "partly", "no")


def numbers(connection: duckdb.DuckDBPyConnection, database: Path, study: str | None, folder: Path = conformance.FOLDER) -> pd.DataFrame:
    """One row per simulator and track of a scored database; errors as fractions, None for unknown.

    study: None: all measured runs. folder: of the conformance kit's files. Columns: system, track, runs, asked (valid measured runs),
    <metric>_median, <metric>_p90, <metric>_worst, <metric>_mape, same_side and side_known (runs), failed (share of the requests), seconds
    (per 1,000 requests, median), memory (bytes, largest), versions, date (of the newest run), coverage (for each version, the rows that the
    kit measured as yes, partly and no; None: it was not run on it), licence. Raises AnalysisError for a study that there is none of.
    """
    check_name(connection, database, study)
    [asked] = data.rows(connection, ASKED, [study])
    each = [
        f"{function} FILTER (metric = '{metric}' AND fidelity.stat = '{stat}') AS {metric}_{name}"
        for metric in QUANTITIES
        for name, stat, function in (
            ("median", "mean", "median(abs(error))"),
            ("p90", "mean", "quantile_cont(abs(error), 0.9)"),
            ("worst", "mean", "max(abs(error))"),
            ("mape", "mape", "median(error)"),
        )
    ]
    rows = data.rows(connection, SCORES.format(errors=",\n        ".join(each)), [study])
    if not rows:
        raise AnalysisError(f"{database}: no simulated run is scored{f' in study {study}' if study else ''}; simulate some first")
    return pd.DataFrame([{**row, **asked, "coverage": _covered(row, folder), "licence": names.LICENCES.get(row["system"])} for row in rows])


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The same as people read it: 'median (p90)' of each error."""
    rows = []
    for row in frame.to_dict("records"):
        errors = {f"{names.metric(metric)} median (p90)": _pair(row, metric) for metric in QUANTITIES} | {
            f"MAPE {names.metric(metric)}": names.percent(row[f"{metric}_mape"], sign=False) for metric in ("ttft", "e2e")
        }
        rows.append(
            {
                "simulator": names.system(row["system"], row["track"]),
                "runs": f"{row['runs']}/{row['asked']}",
                **errors,
                "same side of the knee": f"{row['same_side']}/{row['side_known']}",
                "failed": names.percent(row["failed"], sign=False),
                "measured yes/partly/no": ", ".join("/".join(map(str, counts)) if counts else "–" for counts in row["coverage"]),
                "s per 1,000 requests": names.number(row["seconds"]),
                "memory (MB)": names.number(None if pd.isna(row["memory"]) else row["memory"] / 1e6),
                "licence": row["licence"] or "–",
                "version": ", ".join(version or "unknown" for version in row["versions"]) or "–",
                "date": row["date"],
            }
        )
    return pd.DataFrame(rows, dtype=object)


def coverage(folder: Path = conformance.FOLDER) -> pd.DataFrame:
    """What each simulator that was checked declares and what the conformance kit measured of it, a row per row of Coverage."""
    found = [kit for path in sorted(folder.glob("*.json")) if (kit := _read(path.stem, folder)) is not None]
    declared = list(dict.fromkeys(name for kit in found for name in kit.declared))
    rows = [{"": name.replace("_", " "), **{_titled(kit): _beside(kit, name) for kit in found}} for name in declared]
    laws = {_titled(kit): f"{sum(tried)} of {len(tried)}" if (tried := kit.tried(None)) else "not tried" for kit in found}
    return pd.DataFrame([*rows, {"": "laws that hold", **laws}], dtype=object) if found else pd.DataFrame()


def _titled(kit: Conformance) -> str:
    return f"{names.system(kit.system)} {kit.version or ''}".strip()


def _beside(kit: Conformance, row: str) -> str:
    """'yes' where both are; 'yes, measured no' where they differ; 'yes, not tried' where no case could be."""
    declared, measured = kit.declared.get(row), kit.measured(row)
    if measured is None:
        return f"{declared or '–'}, not tried"
    return measured if declared == measured else f"{declared}, measured {measured}"


def _covered(row: Mapping[str, Any], folder: Path) -> Sequence[tuple[int, ...] | None]:
    """For each version that was scored, how many rows the kit measured as yes, partly and no; None where it was not run on that one."""
    try:
        return [_counts(conformance.of_version(row["system"], version, folder)) for version in row["versions"]]
    except ValueError as error:
        raise AnalysisError(str(error)) from error


def _counts(kit: Conformance | None) -> tuple[int, ...] | None:
    if kit is None:
        return None
    measured = [kit.measured(name) for name in kit.declared]
    return tuple(measured.count(support) for support in SUPPORTS)


def _read(system: str, folder: Path) -> Conformance | None:
    try:
        return conformance.read(system, folder)
    except ValueError as error:
        raise AnalysisError(str(error)) from error


def _pair(row: Mapping[Hashable, Any], metric: str) -> str:
    """'12 % (31 %)'; of fewer runs than FEW the largest stands for their 90th percentile."""
    middle, few = row[f"{metric}_median"], row["runs"] < FEW
    if pd.isna(middle):
        return "–"
    high = names.percent(row[f"{metric}_{'worst' if few else 'p90'}"], sign=False)
    return f"{names.percent(middle, sign=False)} ({'worst ' if few else ''}{high})"
