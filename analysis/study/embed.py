"""The numbers behind the figures, once, as compact as they can be: what the page's script draws from and filters.

Cells, simulators, runs and metrics are named by their place in the lists of those names. Latencies in milliseconds, other times in
seconds, four significant digits. Down-sampling, by rule: a distribution is QUANTILES quantiles of its run's requests; a parity cloud is
CLOUD requests, evenly spaced in order of arrival; a Gantt chart is the STRETCH consecutive requests that waited longest together.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import pandas as pd

from analysis import names, page, plots
from analysis.data import TRACKS, RunRow
from analysis.stats import Values
from analysis.study import trust
from analysis.study.data import HEADLINES, LATENCIES, Study

QUANTILES, CLOUD, STRETCH = 201, 250, 36
SCORE_COLUMNS = ("measured", "simulated", "error", "error_low", "error_high", "noise", "noise_multiple")
KNEE_COLUMNS = ("offered_rate", "request_rate", "output_throughput", "goodput", "capacity")
SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "chunked_prefill", "prefix_caching")
KNEE_LATENCIES = ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p50", "e2e_p99")


def payload(study: Study, connection: duckdb.DuckDBPyConnection, page_folder: Path) -> dict[str, Any]:
    """Everything that the page's script needs, JSON-able with numpy arrays. page_folder: what links to run folders start from."""
    cells = {cell: place for place, cell in enumerate(study.cells["cell"])}
    simulators = {simulator: place for place, simulator in enumerate(study.simulators)}
    return {
        "study": study.name,
        "latencies": LATENCIES,
        "tracks": {
            track: {"dash": plots.DASHES[track], "symbol": plots.SYMBOLS[track], "dasharray": page.DASHARRAYS[plots.DASHES[track]]}
            for track in TRACKS
        },
        "rules": {"trust": trust.TRUST, "care": trust.CARE, "most": trust.MOST, "many": trust.MANY, "share": trust.SHARE},
        "metrics": [_metric(*key) for key in HEADLINES],
        "cells": _cells(study),
        "simulators": _simulators(study),
        "scores": _scores(study, cells, simulators),
        "knees": _knees(study.knees, cells, simulators),
        "cdf": _cdfs(study, connection, cells, simulators),
        "parity": _parity(study, connection, cells, simulators),
        "waterfall": _waterfalls(study.attribution, cells, simulators),
        "gantt": _gantts(study, connection, cells, simulators),
        "rankings": [
            {**row, "sim": simulators[row["system"], row["track"]]} for row in study.rankings if (row["system"], row["track"]) in simulators
        ],
        **_runs(study, cells, simulators, page_folder),
    }


def to_json(values: Mapping[str, Any]) -> str:
    """As JSON that may stand in a script element; what is no number becomes null."""
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain).decode()
    return text.replace("<", "\\u003c")


def digits(values: Iterable[float] | Values, significant: int = 4) -> Values:
    """Rounded to so many significant digits; what is not finite becomes NaN."""
    array = np.asarray(values, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = significant - 1 - np.floor(np.log10(np.abs(array)))
        scale = np.where(np.isfinite(power), 10.0 ** np.abs(np.where(np.isfinite(power), power, 0)), 1.0)
        rounded = np.where(power >= 0, np.round(array * scale) / scale, np.round(array / scale) * scale)
        return np.where(np.isfinite(array), np.where(array == 0, 0.0, rounded), np.nan)


def _metric(metric: str, stat: str | None) -> dict[str, Any]:
    known = names.METRICS[metric]
    key = metric if stat is None else f"{metric}_{stat}"
    return {"key": key, "metric": metric, "label": names.metric(metric, stat), "unit": known.unit, "scale": known.scale}


def _cells(study: Study) -> list[dict[str, Any]]:
    """Each cell with its scenario in words: all that it is but for the load, as far as cells of the study differ in it."""
    varied = {name: study.cells[name].nunique() > 1 for name in ("model", "hardware")}
    settings = _settings(study)
    found = []
    for row in study.cells.to_dict("records"):
        known = {
            name: _none(row[name]) for name in ("cell", "system", "version", "workload", "model", "hardware", "rho", "rate", "capacity")
        }
        where = [row[name] for name, differs in varied.items() if differs]
        words = [names.system(row["system"]), row["workload"].replace("_", " "), *where, *settings[row["cell"]]]
        saturated = _none(row["saturated"])
        found.append(
            {
                **known,
                "engine": names.system(row["system"]),
                "scenario": " · ".join(words),
                "repeats": int(row["repeats"]),
                "invalid": int(row["invalid"]),
                "saturated": None if saturated is None else bool(saturated),
            }
        )
    return found


def _settings(study: Study) -> dict[str, list[str]]:
    """Per cell those engine settings in which cells of one engine, workload, model, hardware and load differ, in words."""
    runs: dict[str, RunRow] = {}
    for run in study.runs.values():
        if run.kind == "measured":
            runs.setdefault(str(run.cell), run)
    alike: dict[tuple[Any, ...], list[RunRow]] = {}
    for run in runs.values():
        alike.setdefault((run.system, run.workload, run.model, run.hardware), []).append(run)
    found = {}
    for group in alike.values():
        values = {run.run_id: {**{name: run.limits[name] for name in SETTINGS}, "tensor_parallel": run.tensor_parallel} for run in group}
        crowded = len(group) > len({(run.rho, run.rate) for run in group})
        differing = [name for name in (*SETTINGS, "tensor_parallel") if crowded and len({values[run.run_id][name] for run in group}) > 1]
        for run in group:
            found[str(run.cell)] = [f"{name} {values[run.run_id][name]}" for name in differing]
    return found


def _simulators(study: Study) -> list[dict[str, Any]]:
    covered = {(row["system"], row["track"]): row for row in study.coverage}
    found = []
    for system, track in study.simulators:
        run = next(run for run in study.runs.values() if (run.system, run.track) == (system, track))
        row = covered.get((system, track), {})
        dark = plots.COLORS.get(system, plots.OTHER)
        found.append(
            {
                "system": system,
                "track": track,
                "name": names.system(system),
                "label": names.system(system, track),
                "color": f"light-dark({plots.ON_LIGHT.get(system, dark)}, {dark})",
                "lacks": page.not_modelled(run),
                "speed": row.get("speed"),
                "failed": row.get("failed"),
            }
        )
    return found


def _scores(study: Study, cells: Mapping[str, int], simulators: Mapping[Any, int]) -> dict[str, Any]:
    keys = {key: place for place, key in enumerate(HEADLINES)}
    stats = [None if pd.isna(stat) else str(stat) for stat in study.scores["stat"]]
    places = np.array([keys.get(key, -1) for key in zip(study.scores["metric"], stats, strict=True)], dtype=int)
    rows = study.scores.assign(metric_place=places, sim=_places(study.scores, simulators))
    rows = rows[(rows["metric_place"] >= 0) & (rows["sim"] >= 0)]
    return {
        "cell": [cells[cell] for cell in rows["cell"]],
        "sim": rows["sim"].to_numpy(),
        "metric": rows["metric_place"].to_numpy(),
        **{column: digits(rows[column], 5) for column in SCORE_COLUMNS},
    }


def _knees(knees: pd.DataFrame, cells: Mapping[str, int], simulators: Mapping[Any, int]) -> dict[str, Any]:
    rows = knees.assign(sim=_places(knees, simulators))
    rows = rows[(rows["sim"] >= 0) | rows["track"].isna()]
    return {
        "cell": [cells[cell] for cell in rows["cell"]],
        "sim": rows["sim"].to_numpy(),
        "saturated": [_none(value) for value in rows["saturated"]],
        **{column: digits(rows[column]) for column in KNEE_COLUMNS},
        **{column: digits(1e3 * rows[column]) for column in KNEE_LATENCIES},
    }


def _cdfs(study: Study, connection: duckdb.DuckDBPyConnection, cells: Mapping[str, int], simulators: Mapping[Any, int]) -> list[Any]:
    """Per run that is shown: its place and QUANTILES quantiles of each latency, in ms."""
    found = []
    values = connection.execute(
        "SELECT run_id, metric, value FROM latency_cdf WHERE run_id IN (SELECT unnest(?)) ORDER BY run_id, metric, value", [_shown(study)]
    ).df()
    at = np.linspace(0, 1, QUANTILES)
    groups = {key: 1e3 * group["value"].to_numpy(dtype=float) for key, group in values.groupby(["run_id", "metric"], sort=False)}
    for cell in cells:
        for run, sim in _with_place(study, cell, simulators):
            quantiles = {}
            for metric in LATENCIES:
                mine = groups.get((run.run_id, metric))
                if mine is not None and len(mine):
                    quantiles[metric] = digits(mine if len(mine) <= QUANTILES else np.quantile(mine, at))
            found.append({"cell": cells[cell], "sim": sim, **quantiles})
    return found


def _parity(study: Study, connection: duckdb.DuckDBPyConnection, cells: Mapping[str, int], simulators: Mapping[Any, int]) -> list[Any]:
    pairs = connection.execute(
        "SELECT parity.*, arrival "
        "FROM parity JOIN requests ON requests.run_id = measured_run_id AND requests.request_id = parity.request_id "
        "WHERE measured_run_id IN (SELECT unnest(?)) ORDER BY simulated_run_id, arrival, parity.request_id",
        [list(study.chosen.values())],
    ).df()
    found = []
    by_run = dict(tuple(pairs.groupby("simulated_run_id", sort=False)))
    for cell in cells:
        for run, sim in _with_place(study, cell, simulators):
            rows = by_run.get(run.run_id)
            if sim < 0 or rows is None:
                continue
            rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), CLOUD)).astype(int))]
            columns = {metric: [digits(1e3 * rows[f"{kind}_{metric}"]) for kind in ("measured", "simulated")] for metric in LATENCIES}
            found.append({"cell": cells[cell], "sim": sim, "request": rows["request_id"].to_numpy(), **columns})
    return found


def _waterfalls(attribution: pd.DataFrame, cells: Mapping[str, int], simulators: Mapping[Any, int]) -> list[Any]:
    found = []
    for (cell, system, track, metric), rows in attribution.groupby(["cell", "system", "track", "metric"], sort=False):
        if (system, track) in simulators:
            parts = [[part, *digits([1e3 * value])] for part, value in zip(rows["part"], rows["value"], strict=True)]
            ends = {end: digits([1e3 * rows[end].iloc[0]])[0] for end in ("simulated", "measured")}
            found.append({"cell": cells[str(cell)], "sim": simulators[system, track], "metric": metric, "parts": parts, **ends})
    return found


def _gantts(study: Study, connection: duckdb.DuckDBPyConnection, cells: Mapping[str, int], simulators: Mapping[Any, int]) -> list[Any]:
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
    """The ids of STRETCH requests that arrived one after the other and waited longest for their first tokens, all together."""
    waits = np.nan_to_num((measured["first_token"] - measured["arrival"]).to_numpy(dtype=float))
    length = min(STRETCH, len(waits))
    sums = np.convolve(waits, np.ones(length), mode="valid")
    start = int(np.argmax(sums))
    return np.asarray(measured["request_id"].to_numpy()[start : start + length])


def _runs(study: Study, cells: Mapping[str, int], simulators: Mapping[Any, int], page_folder: Path) -> dict[str, Any]:
    """Every run with its facts (configuration, provenance, limits); equal facts are stored once, in `facts`."""
    known: dict[tuple[str, str], int] = {}
    found = []
    for run in sorted(study.runs.values(), key=lambda run: (cells[str(run.cell)], run.repeat, run.track is not None, run.run_id)):
        facts = [known.setdefault(fact, len(known)) for fact in _facts(run)]
        law = study.littles_law.get(run.run_id, {})
        found.append(
            {
                "id": run.run_id,
                "cell": cells[str(run.cell)],
                "sim": simulators.get((run.system, str(run.track)), -1),
                "repeat": run.repeat,
                "reason": None if run.valid else run.invalid_reason or "no reason given",
                "started": f"{run.started_at:%Y-%m-%d %H:%M:%S}",
                "wall": digits([run.wall_s])[0],
                "version": run.version,
                "link": Path(os.path.relpath(Path(run.path).resolve(), page_folder.resolve())).as_posix(),
                "ratio": law.get("ratio"),
                "ok": law.get("ok"),
                "facts": facts,
            }
        )
    return {"runs": found, "facts": [list(fact) for fact in known]}


def _facts(run: RunRow) -> Iterable[tuple[str, str]]:
    config = run.config if run.kind == "measured" else {"simulator": run.config.get("simulator", {})}
    nested = {
        "trace sha256": run.trace_sha256,
        "SLO (s)": {"ttft": run.slo_ttft, "tpot": run.slo_tpot, "e2e": run.slo_e2e},
        "resolved": {**run.limits, "tensor_parallel": run.tensor_parallel},
        "configured": config,
        "provenance": run.provenance,
    }
    return page.flat(nested)


def _shown(study: Study) -> list[str]:
    """The runs of which single requests are shown: one per cell, and the simulated ones held against it."""
    chosen = set(study.chosen.values())
    return [run.run_id for run in study.runs.values() if run.run_id in chosen or run.measured_run_id in chosen]


def _with_place(study: Study, cell: str, simulators: Mapping[Any, int]) -> list[tuple[RunRow, int]]:
    """The run that stands for a cell (place -1) and those simulated on it."""
    chosen = study.chosen.get(cell)
    if chosen is None:
        return []
    return [(study.runs[chosen], -1), *((run, simulators[run.system, str(run.track)]) for run in study.simulated(cell))]


def _places(rows: pd.DataFrame, simulators: Mapping[Any, int]) -> Values:
    return np.array([simulators.get(key, -1) for key in zip(rows["system"], rows["track"], strict=True)], dtype=int)


def _none(value: Any) -> Any:
    return None if pd.isna(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot be embedded: {type(value)}")
