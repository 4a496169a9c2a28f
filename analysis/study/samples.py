"""Single requests, down-sampled by rule: distributions, clouds and stretches of a study's cells, for embed.py.

A distribution is QUANTILES quantiles of its run's requests; a parity cloud is CLOUD requests, evenly spaced in order of arrival; a Gantt
chart is the STRETCH consecutive requests that waited longest together. One run per cell (`Study.chosen`) and those simulated on it. A study
of more than RUNS such runs has fewer quantiles and requests of each, so that its page stays as large as one of RUNS.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from analysis.data import RunRow
from analysis.stats import Values
from analysis.study.data import LATENCIES, Simulator, StudyData

QUANTILES, CLOUD, STRETCH = 201, 250, 36
RUNS = 400
FEWEST = 41  # quantiles and requests of a run, however many there are

Places = Mapping[Simulator, int]


def digits(values: Iterable[float] | Values, significant: int = 4) -> Values:
    """Rounded to so many significant digits; what is not finite becomes NaN."""
    array = np.asarray(values, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = significant - 1 - np.floor(np.log10(np.abs(array)))
        scale = np.where(np.isfinite(power), 10.0 ** np.abs(np.where(np.isfinite(power), power, 0)), 1.0)
        rounded = np.where(power >= 0, np.round(array * scale) / scale, np.round(array / scale) * scale)
        return np.where(np.isfinite(array), np.where(array == 0, 0.0, rounded), np.nan)


def distributions(study: StudyData, connection: duckdb.DuckDBPyConnection, cells: Mapping[str, int], simulators: Places) -> list[Any]:
    """For each run that is shown: its place, and QUANTILES quantiles of each latency, ms."""
    found = []
    values = connection.execute(
        "SELECT run_id, metric, value FROM latency_cdf WHERE run_id IN (SELECT unnest(?)) ORDER BY run_id, metric, value", [_shown(study)]
    ).df()
    at = np.linspace(0, 1, _thinned(QUANTILES, study))
    groups = {key: 1e3 * group["value"].to_numpy(dtype=float) for key, group in values.groupby(["run_id", "metric"], sort=False)}
    for cell in cells:
        for run, sim in _with_place(study, cell, simulators):
            quantiles = {}
            for metric in LATENCIES:
                mine = groups.get((run.run_id, metric))
                if mine is not None and len(mine):
                    quantiles[metric] = digits(mine if len(mine) <= len(at) else np.quantile(mine, at))
            found.append({"cell": cells[cell], "sim": sim, **quantiles})
    return found


def clouds(study: StudyData, connection: duckdb.DuckDBPyConnection, cells: Mapping[str, int], simulators: Places) -> list[Any]:
    """Per cell: the requests of its cloud, their measured latencies, and those of each simulator (null where it lost the request)."""
    pairs = connection.execute(
        "SELECT parity.*, arrival "
        "FROM parity JOIN requests ON requests.run_id = measured_run_id AND requests.request_id = parity.request_id "
        "WHERE measured_run_id IN (SELECT unnest(?)) ORDER BY simulated_run_id, arrival, parity.request_id",
        [list(study.chosen.values())],
    ).df()
    by_run = dict(tuple(pairs.groupby("simulated_run_id", sort=False)))
    found, size = [], _thinned(CLOUD, study)
    for cell, place in cells.items():
        simulated = [(sim, by_run[run.run_id]) for run, sim in _with_place(study, cell, simulators) if run.run_id in by_run]
        if not simulated:
            continue
        everyone = simulated[0][1]
        cloud = everyone.iloc[np.unique(np.linspace(0, len(everyone) - 1, min(len(everyone), size)).astype(int))]
        ids = cloud["request_id"]
        found.append(
            {
                "cell": place,
                "request": ids.to_numpy(),
                "measured": {metric: digits(1e3 * cloud[f"measured_{metric}"]) for metric in LATENCIES},
                "simulated": [{"sim": sim, **_cloud(rows.set_index("request_id").reindex(ids))} for sim, rows in simulated],
            }
        )
    return found


def _cloud(rows: pd.DataFrame) -> dict[str, Values]:
    return {metric: digits(1e3 * rows[f"simulated_{metric}"]) for metric in LATENCIES}


def stretches(study: StudyData, connection: duckdb.DuckDBPyConnection, cells: Mapping[str, int], simulators: Places) -> list[Any]:
    """Per cell: the requests of its stretch and, per run, their arrival, scheduled, first_token and finished, s (null where unknown)."""
    lives = connection.execute(
        "SELECT run_id, request_id, arrival, scheduled, first_token, finished FROM requests "
        "WHERE run_id IN (SELECT unnest(?)) AND error IS NULL AND finished IS NOT NULL ORDER BY run_id, arrival, request_id",
        [_shown(study)],
    ).df()
    by_run = dict(tuple(lives.groupby("run_id", sort=False)))
    found = []
    for cell, place in cells.items():
        measured = by_run.get(study.chosen.get(cell, ""))
        if measured is None:
            continue
        stretch = _longest_wait(measured)
        runs = []
        for run, sim in _with_place(study, cell, simulators):
            rows = by_run.get(run.run_id)
            if rows is not None:
                rows = rows.set_index("request_id").reindex(stretch)
                runs.append({"sim": sim, **{name: digits(rows[name], 6) for name in ("arrival", "scheduled", "first_token", "finished")}})
        found.append({"cell": place, "request": stretch, "runs": runs})
    return found


def _longest_wait(measured: pd.DataFrame) -> Values:
    """The ids of the STRETCH consecutive requests that waited longest for their first tokens, in sum."""
    waits = np.nan_to_num((measured["first_token"] - measured["arrival"]).to_numpy(dtype=float))
    length = min(STRETCH, len(waits))
    sums = np.convolve(waits, np.ones(length), mode="valid")
    start = int(np.argmax(sums))
    return np.asarray(measured["request_id"].to_numpy()[start : start + length])


def _thinned(most: int, study: StudyData) -> int:
    """How many of `most` values of a run are shown, where so many runs are."""
    return max(FEWEST, min(most, most * RUNS // max(1, len(_shown(study)))))


def _shown(study: StudyData) -> list[str]:
    """The runs of which single requests are shown: one per cell, and the simulated ones held against it."""
    chosen = set(study.chosen.values())
    return [run.run_id for run in study.runs.values() if run.run_id in chosen or run.measured_run_id in chosen]


def _with_place(study: StudyData, cell: str, simulators: Places) -> list[tuple[RunRow, int]]:
    """The run that stands for a cell (place -1) and those simulated on it."""
    chosen = study.chosen.get(cell)
    if chosen is None:
        return []
    return [(study.runs[chosen], -1), *((run, simulators[run.system, str(run.track)]) for run in study.simulated(cell))]
