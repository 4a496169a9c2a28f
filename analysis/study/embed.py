"""The numbers that the page's script draws and filters: each of them once, in a compact form.

Cells, simulators, runs and metrics are named by their place in the lists of those names. Latencies in milliseconds, other times in
seconds, four significant digits. samples.py has what is shown of single requests.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import pandas as pd

from analysis import names, plots
from analysis.data import LOST, TRACKS, RunRow
from analysis.page import document
from analysis.page.modelled import not_modelled
from analysis.stats import Values
from analysis.study import palette, samples, trust
from analysis.study.data import HEADLINES, LATENCIES, StudyData
from analysis.study.samples import Places, digits

SCORE_COLUMNS = ("measured", "simulated", "error", "error_low", "error_high", "noise", "noise_multiple", "failed")
KNEE_COLUMNS = ("offered_rate", "request_rate", "output_throughput", "goodput", "capacity")
SETTINGS = {
    "max_num_seqs": "sequences",
    "max_num_batched_tokens": "batched tokens",
    "chunked_prefill": "chunked prefill",
    "prefix_caching": "prefix caching",
    "tensor_parallel": "GPUs",
}
KNEE_LATENCIES = ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p50", "e2e_p99")


def payload(study: StudyData, connection: duckdb.DuckDBPyConnection, page_folder: Path) -> dict[str, Any]:
    """Everything that the page's script needs, JSON-able with numpy arrays. page_folder: what links to run folders start from."""
    cells = {cell: place for place, cell in enumerate(study.cells["cell"])}
    simulators = {simulator: place for place, simulator in enumerate(study.simulators)}
    return {
        "study": study.name,
        "latencies": LATENCIES,
        "tracks": {
            track: {"dash": plots.DASHES[track], "symbol": plots.SYMBOLS[track], "dasharray": document.DASHARRAYS[plots.DASHES[track]]}
            for track in TRACKS
        },
        "rules": {
            "trust": trust.TRUST,
            "care": trust.CARE,
            "most": trust.MOST,
            "share": trust.SHARE,
            "lost": LOST,
            "nothing": trust.NOTHING,
        },
        "metrics": [_metric(*key) for key in HEADLINES],
        "cells": _cells(study),
        "simulators": _simulators(study),
        "scores": _scores(study, cells, simulators),
        "knees": _knees(study.knees, cells, simulators),
        "cdf": samples.distributions(study, connection, cells, simulators),
        "parity": samples.clouds(study, connection, cells, simulators),
        "waterfall": _waterfalls(study.attribution, cells, simulators),
        "gantt": samples.stretches(study, connection, cells, simulators),
        "rankings": [
            {**row, "sim": simulators[row["system"], row["track"]]} for row in study.rankings if (row["system"], row["track"]) in simulators
        ],
        **_runs(study, cells, simulators, page_folder),
    }


def to_json(values: Mapping[str, Any]) -> str:
    """As JSON that may stand in a script element; what is no number becomes null."""
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain).decode()
    return text.replace("<", "\\u003c")


def _metric(metric: str, stat: str | None) -> dict[str, Any]:
    known = names.METRICS[metric]
    key = metric if stat is None else f"{metric}_{stat}"
    return {"key": key, "metric": metric, "label": names.metric(metric, stat), "unit": known.unit, "scale": known.scale}


def _cells(study: StudyData) -> list[dict[str, Any]]:
    """Each cell with its scenario in words: all settings but the load in which cells of the study differ."""
    varied = [name for name in ("model", "hardware", "study") if study.cells[name].nunique(dropna=False) > 1]
    settings = _settings(study)
    found = []
    for row in study.cells.to_dict("records"):
        known = {
            name: _none(row[name])
            for name in ("cell", "study", "system", "version", "workload", "model", "hardware", "rho", "rate", "capacity")
        }
        where = [_where(name, _none(row[name])) for name in varied]
        words = [names.system(row["system"]), row["workload"].replace("_", " "), *where, *settings[row["cell"]]]
        saturated = _none(row["saturated"])
        found.append(
            {
                **known,
                "engine": names.system(row["system"]),
                "gpu": names.gpu(row["hardware"]),
                "concurrency": study.concurrency.get(row["cell"]),
                "same": row["cell"] in study.same,
                "loop": "closed" if row["cell"] in study.closed else "open",
                "scenario": " · ".join(words),
                "repeats": int(row["repeats"]),
                "invalid": int(row["invalid"]),
                "saturated": None if saturated is None else bool(saturated),
            }
        )
    return found


def _where(name: str, value: Any) -> str:
    return f"no {name}" if value is None else names.gpu(value) if name == "hardware" else str(value)


def _settings(study: StudyData) -> dict[str, list[str]]:
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
        values = [{**run.limits, "tensor_parallel": run.tensor_parallel} for run in group]
        crowded = len(group) > len({run.rate if run.rho is None else run.rho for run in group})
        differing = [name for name in SETTINGS if crowded and len({value[name] for value in values}) > 1]
        for run, value in zip(group, values, strict=True):
            found[str(run.cell)] = [_setting(name, value[name]) for name in differing]
    return found


def _setting(name: str, value: Any) -> str:
    """E.g. '512 batched tokens', 'no prefix caching'."""
    if isinstance(value, bool):
        return SETTINGS[name] if value else f"no {SETTINGS[name]}"
    return f"{SETTINGS[name]} unknown" if value is None else f"{value} {SETTINGS[name].removesuffix('s') if value == 1 else SETTINGS[name]}"


def _simulators(study: StudyData) -> list[dict[str, Any]]:
    covered = {(row["system"], row["track"]): row for row in study.coverage}
    found = []
    for system, track in study.simulators:
        run = next(run for run in study.runs.values() if (run.system, run.track) == (system, track))
        row = covered.get((system, track), {})
        found.append(
            {
                "system": system,
                "track": track,
                "name": names.system(system),
                "label": names.system(system, track),
                "color": palette.css(system),
                "lacks": not_modelled(run),
                "speed": row.get("speed"),
            }
        )
    return found


def _scores(study: StudyData, cells: Mapping[str, int], simulators: Places) -> dict[str, Any]:
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


def _knees(knees: pd.DataFrame, cells: Mapping[str, int], simulators: Places) -> dict[str, Any]:
    rows = knees.assign(sim=_places(knees, simulators))
    rows = rows[(rows["sim"] >= 0) | rows["track"].isna()]
    return {
        "cell": [cells[cell] for cell in rows["cell"]],
        "sim": rows["sim"].to_numpy(),
        "saturated": [_none(value) for value in rows["saturated"]],
        **{column: digits(rows[column]) for column in KNEE_COLUMNS},
        **{column: digits(1e3 * rows[column]) for column in KNEE_LATENCIES},
    }


def _waterfalls(attribution: pd.DataFrame, cells: Mapping[str, int], simulators: Places) -> list[Any]:
    found = []
    for (cell, system, track, metric), rows in attribution.groupby(["cell", "system", "track", "metric"], sort=False):
        sim = simulators.get((str(system), str(track)))
        if sim is not None:
            parts = [[part, *digits([1e3 * value])] for part, value in zip(rows["part"], rows["value"], strict=True)]
            ends = {end: digits([1e3 * rows[end].iloc[0]])[0] for end in ("simulated", "measured")}
            found.append({"cell": cells[str(cell)], "sim": sim, "metric": metric, "parts": parts, **ends})
    return found


def _runs(study: StudyData, cells: Mapping[str, int], simulators: Places, page_folder: Path) -> dict[str, Any]:
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
                "link": document.folder_of(run, page_folder),
                "ratio": law["mean_in_system"] / law["expected_in_system"] if law.get("expected_in_system") else None,
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
    return document.flat(nested)


def _places(rows: pd.DataFrame, simulators: Places) -> Values:
    return np.array([simulators.get(key, -1) for key in zip(rows["system"], rows["track"], strict=True)], dtype=int)


def _none(value: Any) -> Any:
    return None if pd.isna(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot be embedded: {type(value)}")
