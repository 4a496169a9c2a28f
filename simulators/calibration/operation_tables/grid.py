"""TableGrid: a measured quantity over a rectangular grid, and what is said between its points."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

MS = 1e-3


class OutsideTables(ValueError):
    """A question beyond what was measured; the message says which table and which point."""


@dataclass(frozen=True, kw_only=True)
class TableGrid:
    """A measured quantity over a rectangular grid. axes: ascending, > 0. values: s, NaN where nothing was measured. name: for messages.

    Between the points times are interpolated linearly in the logarithms of all axes and of the time (exact for power laws, and a straight
    line in the plot that people look at). Outside there is no answer but `in_parts`.
    """

    name: str
    axes: Mapping[str, Floats]
    values: Floats

    @classmethod
    def of(cls, name: str, rows: pd.DataFrame, axes: Sequence[str]) -> "TableGrid":
        """From rows with a `latency` in ms; the median of rows that share a point (several kernels, or repeats)."""
        times = rows.groupby(list(axes))["latency"].median() * MS
        times = times[times > 0]
        ends = {axis: np.unique(rows[axis].to_numpy(float)) for axis in axes}
        full = times.reindex(pd.MultiIndex.from_product(list(ends.values()), names=list(axes)) if len(axes) > 1 else ends[axes[0]])
        return cls(name=name, axes=ends, values=full.to_numpy(float).reshape([len(e) for e in ends.values()]))

    def at(self, **point: float) -> float:
        """s at a point, every axis named. Raises OutsideTables beyond the ends, or where a neighbour was not measured."""
        sides = [self._sides(axis, ends, point[axis]) for axis, ends in self.axes.items()]
        total = 0.0
        for corner in itertools.product(*sides):
            weight = math.prod(w for _, w in corner)
            if weight:
                value = float(self.values[tuple(i for i, _ in corner)])
                if math.isnan(value):
                    raise OutsideTables(f"{self.name} was not measured around {_say(point)}")
                total += weight * math.log(value)
        return math.exp(total)

    def in_parts(self, axis: str, **point: float) -> float:
        """s at a point that may lie beyond the end of one axis: then equal parts of it, one after another (same work, same bytes moved)."""
        parts = max(1, math.ceil(point[axis] / float(self.axes[axis][-1])))
        return parts * self.at(**{**point, axis: point[axis] / parts})

    def _sides(self, axis: str, ends: Floats, x: float) -> tuple[tuple[int, float], ...]:
        """(index, weight) of the measured points on both sides of x."""
        if not ends[0] <= x <= ends[-1]:
            raise OutsideTables(f"{self.name} was measured for {axis} from {ends[0]:g} to {ends[-1]:g}, not for {x:g}")
        above = int(np.searchsorted(ends, x))
        if ends[above] == x:
            return ((above, 1.0),)
        share = math.log(x / ends[above - 1]) / math.log(ends[above] / ends[above - 1])
        return ((above - 1, 1 - share), (above, share))


def _say(point: Mapping[str, float]) -> str:
    return ", ".join(f"{axis} {x:g}" for axis, x in point.items())
