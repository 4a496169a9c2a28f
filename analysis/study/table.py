"""A study as one table, for papers: simulator x statistic, coverage and speed beside it. For the terminal, Markdown, CSV and LaTeX.

Typical is the median of |error| over the cells, worst the largest; noise: |error| over the noise floor, the median over the cells that
were repeated. Below saturation every simulator puts out what is offered, so throughput and capacity count in saturated cells only.
Each simulator's are over the cells that it was scored on: the text has 'in 5/12' where those are not all.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from analysis import names
from analysis.data import Key
from analysis.study.data import StudyData
from analysis.study.trust import records

SATURATED: tuple[Key, ...] = (("output_throughput", None), ("capacity", None))
KEYS: tuple[Key, ...] = (
    *((metric, stat) for metric in ("ttft", "tpot", "e2e") for stat in ("p50", "p99")),
    ("goodput", None),
    *SATURATED,
)
LABELS: Mapping[Key, str] = {("output_throughput", None): "Output throughput, saturated", ("capacity", None): "Capacity"}
COLUMNS = ("cells", "error", "typical", "worst", "noise_multiple", "noise_cells")


def numbers(study: StudyData) -> pd.DataFrame:
    """One row per simulator, track and statistic, errors as fractions, NaN for unknown; a simulator that scored nothing has its rows too.

    Columns: system, track, metric, stat, of_cells (where it counts), cells (with an error), error (median, signed), typical, worst,
    noise_multiple, noise_cells, and of the simulator: asked (cells with a valid run), scored, same_side (of the knee, of the side_known
    cells), failed (share of its requests), speed (simulated s per s).
    """
    valid = study.valid_cells
    saturated = valid[valid["saturated"].eq(True)]
    cells = {key: saturated if key in SATURATED else valid for key in KEYS}
    found = {(record.simulator, key): record for key in KEYS for record in records(study, key, cells[key])}
    coverage = {(row["system"], row["track"]): row for row in study.coverage}
    rows = []
    for simulator in study.simulators:
        covered = _coverage(coverage.get(simulator, {}), len(valid))
        for key in KEYS:
            record = found.get((simulator, key))
            errors = (0, None, None, None, None, 0) if record is None else (
                record.cells, record.lean, record.typical, record.worst, record.multiple, record.noisy
            )  # fmt: skip
            about = dict(zip(("system", "track", "metric", "stat", "of_cells"), (*simulator, *key, len(cells[key])), strict=True))
            rows.append({**about, **dict(zip(COLUMNS, errors, strict=True)), **covered})
    return pd.DataFrame(rows).astype(dict.fromkeys(("error", "typical", "worst", "noise_multiple", "failed", "speed"), float))


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per simulator as people read it: 'typical (worst) noise multiple' per statistic, then coverage and speed."""
    rows = []
    for (system, track), mine in frame.groupby(["system", "track"], sort=False):
        one = mine.iloc[0]
        cells = {_label((row["metric"], row["stat"])): _error(row) for row in mine.to_dict("records")}
        coverage = {
            "cells": f"{one['scored']:g}/{one['asked']:g}",
            "same side of the knee": f"{one['same_side']:g}/{one['side_known']:g}",
            "failed": names.percent(one["failed"], sign=False),
            "speed": "–" if pd.isna(one["speed"]) else f"×{names.number(one['speed'])}",
        }
        rows.append({"simulator": names.system(str(system), str(track)), **cells, **coverage})
    return pd.DataFrame(rows, dtype=object)


def _coverage(row: Mapping[str, object], cells: int) -> dict[str, object]:
    known = {"asked": cells, "scored": 0, "same_side": 0, "side_known": 0, "failed": None, "speed": None}
    return {name: default if row.get(name) is None else row[name] for name, default in known.items()}


def _label(key: Key) -> str:
    metric, stat = key[0], key[1] if isinstance(key[1], str) else None
    return LABELS.get((metric, stat)) or names.metric(metric, stat)


def _error(row: Mapping[Hashable, Any]) -> str:
    """E.g. '12 % (31 %) 4.2× in 5/12'; without the multiple where no cell was repeated; a dash where there is no error."""
    if not row["cells"]:
        return "–"
    shown = f"{names.percent(row['typical'], sign=False)} ({names.percent(row['worst'], sign=False)})"
    noise = "" if pd.isna(row["noise_multiple"]) else f" {names.number(row['noise_multiple'])}×"
    return f"{shown}{noise}" + (f" in {row['cells']}/{row['of_cells']}" if row["cells"] < row["of_cells"] else "")
