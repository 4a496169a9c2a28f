"""Drafting: the time that a drafter takes after the model, on top of each step."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.wrapped import Wrapped
from simulators.native.sequence import Batch


class Drafting(Wrapped):
    """A StepTime: that of another one, and `seconds_per_step` for the drafts of the step's sequences (Speculation.draft_step for each).

    It is one more constant of the law, where there is a law.
    """

    def __init__(self, inner: StepTime, *, seconds_per_step: float) -> None:
        super().__init__(inner)
        self.seconds_per_step = seconds_per_step
        if (law := inner.law) is not None:
            self.law = dataclasses.replace(law, linear=(law.linear[0] + seconds_per_step, *law.linear[1:]))

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        inner = self.inner.seconds(batch)  # which counts its steps
        return inner + self.seconds_per_step if self.law is None else self.law.seconds(batch.work)

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {**self.inner.describe(), "drafting_s_per_step": self.seconds_per_step}
