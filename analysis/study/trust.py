"""Which simulator to trust for which metric: the rules, and what follows from them. words.py says it in sentences.

An error is simulated / measured - 1 of one cell. A simulator's errors over cells are summed up by three numbers: the typical one (the
median of |error|), the bound (what 9 of 10 cells stay within, their intervals included; of fewer than ten cells all), the worst one.
An error is small and its interval wide where there are few requests, or where repeats differ: then nothing is proven either way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data import Key
from analysis.stats import Values
from analysis.study.data import Simulator, Study

TRUST, CARE = 0.10, 0.25  # a bound up to which a simulator is trusted, and used with care; beyond, not
MOST = 0.9  # of the cells lie within the bound
MANY = 10  # cells from which on MOST of them is fewer than all
SHARE = 0.5  # of the cells that a simulator must cover to be called the nearest
GRADES = ("trust", "care", "unproven", "not")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One simulator's errors of one statistic over `cells` of the `asked` cells. lean: the median signed error. multiple: the median of
    the error in multiples of the noise floor over `noisy` cells, those with repeats; None without any. size: as `bound`, without intervals.
    """

    simulator: Simulator
    key: Key
    cells: int
    asked: int
    typical: float
    lean: float
    size: float
    bound: float
    worst: float
    distance: float
    multiple: float | None
    noisy: int

    @property
    def grade(self) -> str:
        """One of GRADES, by the bound; 'unproven' when only the intervals reach beyond. One that covers few cells is not trusted."""
        beyond = "unproven" if self.size <= CARE else "not"
        grade = "trust" if self.bound <= TRUST else "care" if self.bound <= CARE else beyond
        return "care" if grade == "trust" and not self.covers else grade

    @property
    def covers(self) -> bool:
        """Whether it was scored on enough of the cells to be compared with others."""
        return self.cells >= SHARE * self.asked


def records(study: Study, key: Key, cells: pd.DataFrame | None = None) -> list[Record]:
    """A record per simulator that has an error of this statistic, the nearest first. cells: some rows of study.cells; None: all valid."""
    asked = set((study.valid_cells if cells is None else cells)["cell"])
    metric, stat = key
    scores = study.scores
    same_stat = scores["stat"].isna() if stat is None else scores["stat"].eq(stat)
    scores = scores[scores["metric"].eq(metric) & same_stat & scores["cell"].isin(asked) & scores["error"].notna()]
    found = [
        _record((str(system), str(track)), key, rows, len(asked))
        for (system, track), rows in scores.groupby(["system", "track"], sort=True)
    ]
    return sorted(found, key=lambda record: (not record.covers, record.distance, record.bound, record.simulator))


def nearest(study: Study, keys: Sequence[Key]) -> Simulator | None:
    """The simulator with the least mean distance over these statistics, among those that cover enough cells in each of them."""
    distances: dict[Simulator, list[float]] = {}
    for key in keys:
        for record in records(study, key):
            if record.covers:
                distances.setdefault(record.simulator, []).append(record.distance)
    whole = {simulator: float(np.mean(values)) for simulator, values in distances.items() if len(values) == len(keys)}
    return min(whole, key=lambda simulator: (whole[simulator], simulator)) if whole else None


def _record(simulator: Simulator, key: Key, rows: pd.DataFrame, asked: int) -> Record:
    errors = rows["error"].to_numpy(dtype=float)
    sizes = np.abs(errors)
    reach = np.fmax.reduce([sizes, *(np.abs(rows[column].to_numpy(dtype=float)) for column in ("error_low", "error_high"))])
    multiples = rows["noise_multiple"].dropna().abs()
    return Record(
        simulator=simulator,
        key=key,
        cells=len(rows),
        asked=asked,
        typical=float(np.median(sizes)),
        lean=float(np.median(errors)),
        size=_most(sizes),
        bound=_most(reach),
        worst=float(sizes.max()),
        distance=float(np.median([_log_ratio(error) for error in errors])),
        multiple=float(multiples.median()) if len(multiples) else None,
        noisy=len(multiples),
    )


def _most(sizes: Values) -> float:
    return float(np.quantile(sizes, MOST) if len(sizes) >= MANY else sizes.max())


def _log_ratio(error: float) -> float:
    return abs(math.log1p(error)) if error > -1 else math.inf
