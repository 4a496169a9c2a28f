"""Which simulator to trust for which metric: the rules, and what follows from them. words.py says it in sentences.

An error is simulated / measured - 1 of one cell. A simulator's errors over cells are summed up by three numbers: the typical one (the
median of |error|), the bound (what 9 of 10 cells stay within, their intervals included; of fewer than ten cells all), the worst one.
With few requests, or repeats that differ, an error may be small and its interval wide: then nothing is proven either way. Where the
interval is unknown, or the simulator refused or lost requests, there is no bound, and nothing is proven either.

Simulators are compared on the same cells only: one that ran on the easy cells alone would come nearest. page/study/tables.js has the same
rules.
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data import LOST, Key
from analysis.stats import Values
from analysis.study.data import Simulator, StudyData

TRUST, CARE = 0.10, 0.25  # the largest bounds with which a simulator is trusted, and used with care
MOST = 0.9  # of the cells lie within the bound
MANY = 10  # cells from which on MOST of them is fewer than all
SHARE = 0.5  # of the cells that a simulator must cover to be compared with others
NOTHING = 1e-9  # simulated / measured, at least, so that a simulated 0 has a distance
GRADES = ("trust", "care", "unproven", "not")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One simulator's errors of one statistic over the cells that it covers. An error is simulated / measured - 1."""

    simulator: Simulator  # (system, track)
    key: Key  # (metric, stat)
    cells: int  # that it covers
    asked: int  # cells that there are
    lost: int  # cells in which it refused or lost requests
    blank: int  # cells in which the error's interval is unknown
    shared: int  # cells that all compared simulators cover; 0: this one is not compared
    typical: float  # median of |error|
    lean: float  # median of the signed error
    size: float  # the least |error| that MOST of the cells do not exceed
    bound: float  # the same with the intervals included; infinite where too many cells are lost or blank
    worst: float  # the largest |error|
    distance: float  # median of |ln(simulated / measured)| over the shared cells, or over its own where it is not compared
    multiple: float | None  # median of |error| in multiples of the noise floor, over the noisy cells; None: there are none
    noisy: int  # cells that were repeated, so that their noise floor is known

    @property
    def grade(self) -> str:
        """One of GRADES, by the bound; 'unproven' when the errors lie within it and their intervals do not. Few cells: not trusted."""
        beyond = "unproven" if self.size <= CARE else "not"
        grade = "trust" if self.bound <= TRUST else "care" if self.bound <= CARE else beyond
        return "care" if grade == "trust" and not self.covers else grade

    @property
    def covers(self) -> bool:
        """Whether it was scored, on all requests, in enough of the cells to be compared with others."""
        return self.cells - self.lost >= SHARE * self.asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The nearest simulator of `among` that were compared, on the `cells` that all of them cover (the fewest of any statistic)."""

    simulator: Simulator
    among: Set[Simulator]
    cells: int


def records(study: StudyData, key: Key, cells: pd.DataFrame | None = None) -> list[Record]:
    """A record per simulator that has an error of this statistic, the nearest first; those that cannot be compared come last.

    cells: some rows of study.cells; None: all valid.
    """
    asked = set((study.valid_cells if cells is None else cells)["cell"])
    scores = study.scored(key)
    scores = scores[scores["cell"].isin(asked)]
    scores = scores.assign(lost=scores["failed"] > LOST, distance=_distances(scores["error"].to_numpy(dtype=float)))
    rows = dict(tuple(scores.groupby(["system", "track"])))
    mine = {simulator: rows[simulator] for simulator in study.simulators if simulator in rows}
    compared, common = in_common({simulator: set(of.loc[~of["lost"], "cell"]) for simulator, of in mine.items()}, len(asked))
    found = [_record(simulator, key, of, len(asked), common if simulator in compared else set()) for simulator, of in mine.items()]
    return sorted(found, key=lambda record: (record.shared == 0, record.distance, record.bound))


def in_common(covered: Mapping[Simulator, Set[str]], asked: int) -> tuple[Sequence[Simulator], Set[str]]:
    """The simulators that can be compared, and the cells that all of them cover: at least SHARE of those asked.

    Until that many cells are common, the simulator that covers fewest (the last of several) is left out.
    """
    compared = list(covered)
    while compared:
        common = set(covered[compared[0]]).intersection(*(covered[simulator] for simulator in compared))
        if len(common) >= SHARE * asked:
            return compared, common
        compared.remove(min(reversed(compared), key=lambda simulator: len(covered[simulator])))
    return (), set()


def nearest(study: StudyData, keys: Sequence[Key], cells: pd.DataFrame | None = None) -> Nearest | None:
    """The simulator with the least mean distance over these statistics, among those that can be compared in each of them.

    cells: as in `records`.
    """
    found: dict[Simulator, list[Record]] = {}
    for key in keys:
        for record in records(study, key, cells):
            if record.shared:
                found.setdefault(record.simulator, []).append(record)
    whole = {simulator: mine for simulator, mine in found.items() if len(mine) == len(keys)}
    if not whole:
        return None
    best = min(whole, key=lambda simulator: (np.mean([record.distance for record in whole[simulator]]), simulator))
    return Nearest(simulator=best, among=frozenset(whole), cells=min(record.shared for record in whole[best]))


def _record(simulator: Simulator, key: Key, rows: pd.DataFrame, asked: int, common: Set[str]) -> Record:
    errors = rows["error"].to_numpy(dtype=float)
    sizes = np.abs(errors)
    reach = np.maximum.reduce([sizes, *(np.abs(rows[column].to_numpy(dtype=float)) for column in ("error_low", "error_high"))])
    blank, lost = np.isnan(reach), rows["lost"].to_numpy(dtype=bool)
    multiples = rows["noise_multiple"].dropna().abs()
    return Record(
        simulator=simulator,
        key=key,
        cells=len(rows),
        asked=asked,
        lost=int(lost.sum()),
        blank=int(blank.sum()),
        shared=len(common),
        typical=float(np.median(sizes)),
        lean=float(np.median(errors)),
        size=_most(sizes),
        bound=_most(np.where(blank | lost, math.inf, reach)),
        worst=float(sizes.max()),
        distance=float(np.median(rows.loc[rows["cell"].isin(common), "distance"] if common else rows["distance"])),
        multiple=float(multiples.median()) if len(multiples) else None,
        noisy=len(multiples),
    )


def _most(sizes: Values) -> float:
    """The least size that MOST of the cells do not exceed. It is the size of a cell: there is no interpolation between cells."""
    return float(np.sort(sizes)[math.ceil(MOST * len(sizes)) - 1])


def _distances(errors: Values) -> Values:
    return np.abs(np.log(np.maximum(NOTHING, 1 + errors)))
