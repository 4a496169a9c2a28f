"""What surrounds an engine: the front-end that a request passes before and after it, and the result of serving a trace."""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.record import RequestRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """Seconds that a request spends outside the steps.

    before, before_per_token: until it reaches the scheduler, fixed and per prompt token. after: from the end of each step until the client
    reads the token.
    """

    before: float = 0.0
    before_per_token: float = 0.0
    after: float = 0.0

    def reached(self, arrival: Floats, input_tokens: Any) -> Floats:
        """When requests of these arrivals (s) and prompts reach the scheduler."""
        reached: Floats = arrival + (self.before + self.before_per_token * input_tokens)
        return reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The result of serving a trace."""

    records: Many[RequestRecord]  # one per request, in the trace's order
    steps: int  # that computed or preempted something
    preemptions: int  # in all
    end: float  # s; when the last step ended
    peak_kv_blocks: int  # held at once, at most
    seconds: float = 0.0  # s that computing all this took
    transfers: int = 0  # KV caches sent from one engine to another
    migrations: int = 0  # requests that moved to another engine while they ran
