"""What the runs of all loads say together: between which two loads the highest one lies that meets the SLO.

It is taken that the share of good requests does not rise with the load. A load meets the SLO beyond doubt when the lower bound of its
share is above the share that is asked for, and fails beyond doubt when the upper bound is below it; else it is open. Of a load that does
meet it only "fails" is wrong, and of one that does not only "meets", so the chance of a wrong judgement is that of one bound. `most`
judgements are made at the most, each at (1 - CONFIDENCE) / most: with CONFIDENCE all of them are right together (Bonferroni), whenever and
for whatever reason the search stops. So the interval from the highest load that meets to the lowest that fails holds the true one in 95 of
100 searches, wherever somebody thought that it would be.

Where a load fails beyond doubt below one that meets, the assumption does not hold, or the machine did not stay as it was. Then the interval
reaches from the loads below both to those above both, and the answer says so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.search.share import GoodShare

CONFIDENCE = 0.95
Judgement = Literal["meets", "fails", "open"]


@dataclass(kw_only=True)
class Bracket:
    """The runs that count, by load. wanted: the share of good requests that is asked for. most: runs that may be judged.

    scouts: short runs. They begin with an empty engine and end before its queue is what it becomes, so they look too good: they tell where
    to measure, and count for nothing here.
    """

    wanted: float
    most: int
    runs: dict[float, list[GoodShare]] = field(default_factory=dict)
    scouts: dict[float, list[GoodShare]] = field(default_factory=dict)

    def add(self, load: float, share: GoodShare, *, scout: bool) -> None:
        """A run of this load."""
        (self.scouts if scout else self.runs).setdefault(load, []).append(share)

    @property
    def seen(self) -> Mapping[float, GoodShare]:
        """All runs of a load together, scouts too."""
        loads = {*self.runs, *self.scouts}
        return {load: GoodShare.pooled([*self.runs.get(load, []), *self.scouts.get(load, [])]) for load in sorted(loads)}

    @property
    def shares(self) -> Mapping[float, GoodShare]:
        """All runs of a load together, by load, ascending."""
        return {load: GoodShare.pooled(self.runs[load]) for load in sorted(self.runs)}

    @property
    def chance(self) -> float:
        """That one judgement is wrong."""
        return (1 - CONFIDENCE) / self.most

    def judge(self, share: GoodShare) -> Judgement:
        """What a load's share says."""
        low, high = share.bounds(self.chance)
        return "meets" if low >= self.wanted else "fails" if high < self.wanted else "open"

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The highest load that meets below all that fail, and the lowest that fails above all that meet; None: there is none."""
        meets, fails = self._judged("meets"), self._judged("fails")
        low = max((load for load in meets if not fails or load < fails[0]), default=None)
        high = min((load for load in fails if not meets or load > meets[-1]), default=None)
        return low, high

    @property
    def contradictions(self) -> list[tuple[float, float]]:
        """A load that fails beyond doubt and a higher one that meets, for each that fails."""
        meets = self._judged("meets")
        return [(load, meets[-1]) for load in self._judged("fails") if meets and load < meets[-1]]

    def crossing(self) -> float | None:
        """Where the share is the one that is asked for: on the straight line, in logits over the load's logarithm, between the last load
        with that share or more and the first one above it with less. None: there are no such two.
        """
        low, high = self.ends
        inside = {load: s for load, s in self.shares.items() if (low or 0.0) <= load <= (high or math.inf)}
        over = max((load for load, share in inside.items() if share.value >= self.wanted), default=None)
        under = min((load for load, share in inside.items() if share.value < self.wanted and load > (over or 0.0)), default=None)
        if over is None or under is None:
            return None
        above, below = self._logit(inside[over]), -self._logit(inside[under])
        weight = above / (above + below) if above + below > 0 else 0.5
        return float(over * (under / over) ** weight)

    def _judged(self, judgement: Judgement) -> list[float]:
        return [load for load, share in self.shares.items() if self.judge(share) == judgement]

    def _logit(self, share: GoodShare) -> float:
        """How far a share is above the one that is asked for, in logits."""
        least = 0.5 / max(1, share.requests)
        inside = min(1 - least, max(least, share.value))
        return math.log(inside / (1 - inside)) - math.log(self.wanted / (1 - self.wanted))


def narrow(ends: tuple[float | None, float | None], precision: float, *, whole: bool) -> bool:
    """Whether an interval reaches no more than `precision`, a share of its middle, to either side; of whole numbers, or to the next one."""
    low, high = ends
    if low is None or high is None:
        return False
    return high - low <= precision * (low + high) or (whole and high - low <= 1)
