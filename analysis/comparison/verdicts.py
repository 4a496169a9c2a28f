"""What a difference means: better, worse, no difference, or not to be told; and how much more would tell. Read `verdicts` first.

Of 100 figures without any difference two or three would be called worse by their 95 % intervals alone, so that a check in CI would fail
every other time. So a verdict is beyond doubt for all figures at once: Holm's step-down procedure (Holm 1979, A simple sequentially
rejective multiple test procedure) over their p-values. The intervals are those of each figure by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from analysis.comparison.difference import Difference, error_with
from analysis.comparison.requests_spread import SUMS, higher_load
from analysis.comparison.sides import Repeats
from analysis.data import Key
from analysis.scoring.blocks import BLOCKS, HIDDEN, fewest
from analysis.stats import QUANTILES, STATS
from workloads.correlation import time_at

Word = Literal["better", "worse", "same", "cannot tell"]
REPEATS = tuple(range(2, 21))  # that are tried as an answer to how many would tell
TIMES = (1, 2, 5, 10, 20, 50, 100)  # as many requests, likewise


@dataclass(frozen=True, kw_only=True)
class More:
    """What would tell, were the difference what it seems to be. None: not known, or none of REPEATS and TIMES would."""

    repeats: int | None = None  # runs of each side
    times: int | None = None  # the requests of a run, times this
    requests: int | None = None  # of a run at this load, for it to have an interval at all
    why: str | None = None  # nothing can be said of it, and why


@dataclass(frozen=True, kw_only=True)
class FigureVerdict:
    """What is said of one difference of B from A. more: where it cannot be told."""

    word: Word
    chance: float | None
    more: More | None


def verdicts(found: Sequence[tuple[Difference, Sequence[Repeats]]], margin: float) -> list[FigureVerdict]:
    """The verdict of each difference (beside the cells that it is of), all judged together. margin: relative, what counts as none."""
    chances = [difference.chance(margin) for difference, _ in found]
    told = _told(chances, 1 - found[0][0].confidence) if found else []
    return [
        _verdict(difference, cells, chance, told=beyond, margin=margin, judged=sum(one is not None for one in chances))
        for (difference, cells), chance, beyond in zip(found, chances, told, strict=True)
    ]


def lower_is_better(key: Key) -> bool:
    """Whether less of a metric is better: of latencies it is, of rates it is not."""
    return key[0] not in SUMS


def _told(chances: Sequence[float | None], alpha: float) -> list[bool]:
    """Holm's procedure: which differences are beyond doubt."""
    known = sorted((chance, place) for place, chance in enumerate(chances) if chance is not None)
    told = [False] * len(chances)
    for rank, (chance, place) in enumerate(known):
        if chance > alpha / (len(known) - rank):
            break
        told[place] = True
    return told


def _verdict(found: Difference, cells: Sequence[Repeats], chance: float | None, *, told: bool, margin: float, judged: int) -> FigureVerdict:
    if told and found.relative is not None:
        return FigureVerdict(word="better" if (found.relative < 0) == lower_is_better(found.key) else "worse", chance=chance, more=None)
    if found.low is not None and found.high is not None and -margin <= found.low and found.high <= margin:
        return FigureVerdict(word="same", chance=chance, more=None)
    more = _no_interval(found, cells) if chance is None else _enough(found, margin, (1 - found.confidence) / judged)
    return FigureVerdict(word="cannot tell", chance=chance, more=more)


def _enough(found: Difference, margin: float, alpha: float) -> More:
    """The least runs a side, then the least requests, with which this difference would be beyond doubt, or known to be none."""
    size = abs(found.relative or 0.0)
    beyond = abs(size - margin)
    for times in TIMES:
        for repeats in (max(found.runs), *(n for n in REPEATS if n > max(found.runs))):
            error, freedom = error_with(found, (max(repeats, found.runs[0]), max(repeats, found.runs[1])), times)
            if beyond > error * float(special.stdtrit(freedom, 1 - alpha / 2)):
                return More(repeats=repeats, times=times)
    return More(why=f"beyond {REPEATS[-1]} runs of {TIMES[-1]} × the requests")


def _no_interval(found: Difference, cells: Sequence[Repeats]) -> More:
    if found.one is None or found.other is None:
        return More(why="unknown on one side")
    if found.relative is None:
        return More(why="A's is 0")
    load = higher_load(cells[0].runs[0], cells[1].runs[0])
    if found.key[0] not in SUMS and load is not None:
        if load >= 1:
            return More(why="at or above capacity latencies grow with the run")
        return More(requests=round(_asked_of(found.key[1], load)))
    return More(why="a longer run: too few requests, or too much alike")


def _asked_of(stat: str | None, load: float) -> float:
    """Requests that a statistic needs at this load: blocks.enough."""
    if stat == "mean" or stat is None:
        return max(2.0, BLOCKS * (time_at(load) - 1) / HIDDEN)
    return fewest(QUANTILES[STATS.index(stat) - 1], load)
