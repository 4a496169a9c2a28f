"""Step laws near one that is known: what a search asks for a hundred times, where fitting each anew takes ten times a simulation."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from simulators.calibration.bases import Floats
from simulators.native.latency.step_law import StepLaw
from simulators.native.sequence import Batch

ASIDE = 0.5  # how far from the known one its slopes are taken


class LawAround:
    """Laws as linear functions of numbers: exact at `start`, straight on from there. law: of numbers; its knots must not move with them."""

    def __init__(self, start: Floats, law: Callable[[Floats], StepLaw]) -> None:
        self._start, self._middle = start, law(start)
        ends = [law(start + ASIDE * one) for one in np.eye(len(start))]
        known = np.array(list(_leaves(self._middle)))
        self._known, self._slopes = known, np.stack([(np.array(list(_leaves(end))) - known) / ASIDE for end in ends])

    def at(self, numbers: Floats) -> StepLaw:
        """The law of these numbers."""
        leaves = iter((self._known + (numbers - self._start) @ self._slopes).tolist())
        fields = {f.name: _filled(getattr(self._middle, f.name), leaves) for f in dataclasses.fields(StepLaw)}
        return StepLaw(**fields)


class OfLaw:
    """A StepTime that is a law and nothing else."""

    def __init__(self, law: StepLaw) -> None:
        self.law = law

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        return self.law.of(batch)

    def note(self, works: Floats) -> None:
        """See StepTime: whoever searches has no use for the count."""

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {"step_time": "a law"}


def _leaves(law: StepLaw) -> Iterator[float]:
    """All its numbers, in order."""
    for field in dataclasses.fields(StepLaw):
        yield from _within(getattr(law, field.name))


def _within(value: Any) -> Iterator[float]:
    if isinstance(value, Sequence):
        for part in value:
            yield from _within(part)
    elif value is not None:
        yield float(value)


def _filled(like: Any, leaves: Iterator[float]) -> Any:
    """The same nested tuples with these numbers."""
    if isinstance(like, Sequence):
        return tuple(_filled(part, leaves) for part in like)
    return None if like is None else next(leaves)
