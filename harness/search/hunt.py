"""The loop of a search: which load is tried next, and when it is enough. Read `Hunt.run`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from harness.console import say
from harness.search.belief import Belief
from harness.search.bracket import Bracket, narrow
from harness.search.found import UNITS, SearchAnswer
from harness.search.settings import SearchSettings
from harness.search.trials import Trial, lasting
from results.record import SLO

INVALID = 3  # runs after each other that end a search
LOST = 3  # loads that fail before one request at a time is tried
DRAINS = 1.2  # times its seconds that a replay takes, about


class Tries(Protocol):
    """What tries a load: harness.search.trials.Trials, on a live engine."""

    @property
    def waits(self) -> bool:
        """Whether requests wait for others by themselves, so that one at a time cannot be asked for."""
        ...

    def at(self, load: float, seconds: float, number: int) -> Trial:
        """Try a load for so long, the number-th of the search."""
        ...

    def alone(self, number: int) -> Trial:
        """One request at a time, which is a load of 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class Hunt:
    """What is asked. name: of the search. expected: load that a simulator named."""

    asked: SearchSettings
    slo: SLO
    name: str
    expected: float | None

    def run(self, trials: Tries, belief: Belief) -> SearchAnswer:
        """Try loads until the interval is narrow, the budget or the number of runs is spent, or nothing will do."""
        asked, done, began = self.asked, list[Trial](), time.monotonic()
        bracket = Bracket(wanted=asked.attainment, most=asked.runs)
        told = partial(SearchAnswer, name=self.name, over=asked.over, slo=self.slo, bracket=bracket, expected=self.expected, trials=done)
        while len(done) < asked.runs:
            if narrow(bracket.ends, asked.precision, whole=belief.whole):
                return told(why="the interval is as narrow as search.precision asks", settled=True)
            if asked.most is not None and bracket.ends[0] == asked.most:
                return told(why="the highest load, search.most, meets the SLO", settled=True)
            load, short = belief.next(bracket)
            load = self._within_pace(load, bracket, done)
            scout = short and all(trial.share is not None for trial in done)
            seconds = lasting(asked.over, load, asked.scout if scout else asked.duration, asked.duration)
            if done and time.monotonic() - began + DRAINS * seconds > asked.budget:
                return told(why=f"search.budget, {asked.budget:g} s, is spent", settled=False)
            alone = self._is_lost(bracket, done) and not trials.waits
            trial = trials.alone(len(done)) if alone else trials.at(load, seconds, len(done))
            done.append(trial)
            if trial.share is None:  # by chance, or too short for a closed loop to settle: then there are long runs alone from now on
                say(f"  {trial.load:.4g} {UNITS[asked.over]}: INVALID: {trial.run.invalid_reason}", style="yellow")
                if all(one.share is None for one in done[-INVALID:]) and not scout and len(done) >= INVALID:
                    return told(why=f"{INVALID} runs after each other are INVALID", settled=False)
                continue
            if trial.load > 0:
                bracket.add(trial.load, trial.share, scout=scout)
            self._say(trial, bracket)
            if (found := told(why="not even the least load will do", settled=True)).nothing is not None:
                return found
        return told(why=f"search.runs, {asked.runs}, are made", settled=False)

    def _within_pace(self, load: float, bracket: Bracket, done: Sequence[Trial]) -> float:
        """A rate to try that the engine may keep up with. Far above it a run takes many times its seconds, and tells little: its requests
        stood in one queue. What it answered all the same is no evidence, and binds until a load meets the SLO.
        """
        paces = [trial.pace for trial in done if trial.pace is not None]
        if self.asked.over != "rate" or bracket.ends[0] is not None or not paces:
            return load
        return min(load, float(f"{max(paces):.4g}"))

    def _is_lost(self, bracket: Bracket, done: Sequence[Trial]) -> bool:
        """Whether it is time to try one request at a time: LOST loads failed beyond doubt, and none met the SLO."""
        if self.asked.over != "rate" or any(trial.load == 0 for trial in done) or bracket.ends[0] is not None:
            return False
        return sum(bracket.judge(share) == "fails" for share in bracket.seen.values()) >= LOST

    def _say(self, trial: Trial, bracket: Bracket) -> None:
        assert trial.share is not None
        what = f"{trial.load:.4g} {UNITS[self.asked.over]}" if trial.load else "one request at a time"
        share = bracket.seen.get(trial.load, trial.share)
        say(f"  {what}: {share.value:.1%} of {share.requests} requests good: {bracket.judge(share)}")
