"""Where to measure next: a belief about the load at which the share falls below what is asked for, changed by each run.

Probabilistic bisection (Horstein 1963, doi:10.1109/TIT.1963.1057832; Waeber, Frazier and Henderson 2013, doi:10.1137/120861898): measure at
the median of the belief, then weigh the loads on either side by how likely the run says that the answer lies there. Only the side counts,
so that no law of how the share falls is assumed. It begins as a Cauchy law around what a simulator expects, in the load's logarithm. Such a
law has heavy tails: an expectation that is off by 5 times is left in a few runs, each step larger than the last.

The belief chooses loads and nothing else. The answer is the bracket's (bracket.py), which knows of runs alone.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness.search.bracket import Bracket

SPAN = math.log(1024)  # of the loads that are thought of, to either side of the first
POINTS = 4096
SURE = 0.99  # at the most that one run says of the side
TRUSTED, UNKNOWN = 0.3, 1.0  # scale of the law: half of it lies within this factor, as a logarithm; of a simulator's answer, of a guess
NEAR = 0.5  # of the precision: a load so near to one that was measured is that one, so that its runs tell together
WIDE = 4.0  # times the precision: from 10 to 90 % of the belief, in logarithms, where its median is measured rather than ends about it
DOUBLINGS = 6  # of that distance
TURN = 2  # runs
INSIDE = 0.7  # of the precision: so far to either side of the median are the loads that the interval shall end at


@dataclass(frozen=True, kw_only=True)
class Belief:
    """Settings of the choice.

    start: load at which it begins, above 0. scale: TRUSTED or UNKNOWN. precision: as asked for. whole: loads are whole numbers.
    top: highest load that may be tried; None: any.
    """

    start: float
    scale: float
    precision: float
    whole: bool
    top: float | None

    def next(self, bracket: Bracket) -> tuple[float, bool]:
        """The load to measure now, and whether a short run will do: so long as each says beyond doubt on which side the answer lies."""
        low, middle, high = (self._inside(load, bracket) for load in self._quantiles(bracket))
        scouting = not bracket.runs and all(bracket.judge(share) != "open" for share in bracket.seen.values())
        load = self._stepped(self._load(middle, bracket), bracket) if self.whole else self._load(middle, bracket)
        if math.log(high / low) > WIDE * self.precision and load not in bracket.runs and not (self.whole and high - low <= 1):
            return load, scouting and load != self.top
        return self._end(middle, bracket), False

    def _stepped(self, load: float, bracket: Bracket) -> float:
        """The whole number itself, or the next one on the side on which the answer lies, where this one is known beyond doubt."""
        share = bracket.seen.get(load)
        said = "open" if share is None else bracket.judge(share)
        return max(1.0, self._load(load + {"meets": 1, "fails": -1, "open": 0}[said], bracket))

    def _end(self, middle: float, bracket: Bracket) -> float:
        """A load at which the wider side of the interval may end.

        The nearer to the median, the narrower the interval, and the more runs until a load there is beyond doubt. So loads at once, twice,
        four times the distance take turns: a further one has a run when the next nearer one has TURN more.
        """
        low, high = bracket.ends
        below = low is None or (high is not None and math.log(middle / low) > math.log(high / middle))
        found = []
        for times in range(DOUBLINGS):
            load = self._load(self._at(middle, times, below=below), bracket)
            if (low or 0.0) < load < (high or math.inf):  # else it is known beyond doubt
                found.append((len(bracket.runs.get(load, [])) + TURN * times, load))
        between = math.sqrt((low or middle) * (high or middle))
        return min(found, key=lambda pair: pair[0])[1] if found else float(round(between) if self.whole else between)

    def _at(self, middle: float, times: int, *, below: bool) -> float:
        """The load on this side of the median at 2^times the least distance; of whole numbers the next one is the nearest."""
        doubled = 1 << times
        if self.whole:
            return max(1.0, math.floor(middle) + (1 - doubled if below else doubled))
        step = float((1 + INSIDE * self.precision) ** doubled)
        return middle / step if below else middle * step

    def _inside(self, load: float, bracket: Bracket) -> float:
        """The nearest load that is within what is known beyond doubt."""
        low, high = bracket.ends
        return min(max(load, low or 0.0), high or math.inf)

    def _quantiles(self, bracket: Bracket) -> tuple[float, float, float]:
        """Of the belief: at 10, 50 and 90 %."""
        logs = np.linspace(math.log(self.start) - SPAN, math.log(self.start) + SPAN, POINTS)
        weights = 1 / (1 + ((logs - math.log(self.start)) / self.scale) ** 2)
        for load, share in bracket.seen.items():
            above = min(SURE, max(1 - SURE, share.chance_above(bracket.wanted)))
            weights = weights * np.where(logs >= math.log(load), above, 1 - above)
            weights = weights / weights.sum()
        grown = np.cumsum(weights / weights.sum())
        low, middle, high = (float(np.exp(logs[min(POINTS - 1, int(np.searchsorted(grown, q)))])) for q in (0.1, 0.5, 0.9))
        return low, middle, high

    def _load(self, load: float, bracket: Bracket) -> float:
        """The load that is measured for this one: a whole one, or one that was measured before and is as good as it."""
        if self.top is not None:
            load = min(load, self.top)
        if self.whole:
            return max(1, round(load))
        load = load if load == self.top else float(f"{load:.4g}")
        near = min(bracket.runs, key=lambda known: abs(math.log(known / load)), default=load)
        return near if abs(math.log(near / load)) <= NEAR * self.precision else load
