"""LoadBalancer: how vLLM's front end spreads requests over data-parallel engines (0.32; vllm/v1/engine/core_client.py, DPLBAsyncMPClient).

A request goes to the engine with the lowest score. The score is the number of requests that the front end knows to be there, or that the
engines last reported (waiting and running) where that is more; requests that wait count for up to four where the engine's KV cache is full.
The engines report through a coordinator, at most every 0.1 s. tests/simulators/native/cluster/test_lockstep.py holds it to that class.
(Versions up to 0.10 took waiting * 4 + running.)
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

REPORTED_EVERY = 0.1  # s between two reports (vllm/v1/engine/coordinator.py)
PRESSED = 0.5  # share of the KV cache in use from which on requests that wait count for more
PENALTY = 6.0  # requests that each of those counts for, for each whole share beyond


class ReportedLoad(NamedTuple):
    """What an engine reports of itself."""

    waiting: int  # requests
    running: int  # requests
    kv_usage: float  # share of its KV cache that is held


class LoadBalancer:
    """Chooses engines for one front end; `unfinished` requests of each engine are told at every choice, loads as they are reported."""

    def __init__(self, engines: int) -> None:
        self._reported = [ReportedLoad(0, 0, 0.0)] * engines
        self._sent = [0] * engines  # requests since that report
        self._first = 0  # the engine that is looked at first: of equal ones it is chosen
        self._report = -sys.float_info.max  # s; when they were last reported

    def due(self, now: float) -> bool:
        """Whether the engines report at `now`."""
        return now - self._report >= REPORTED_EVERY

    def report(self, now: float, loads: Sequence[ReportedLoad]) -> None:
        """What they report."""
        self._report, self._reported, self._sent = now, list(loads), [0] * len(loads)

    def choose(self, unfinished: Sequence[int]) -> int:
        """The engine of the next request. unfinished: requests that the front end has sent to each, less those that are complete."""
        count = len(unfinished)
        order = [(self._first + place) % count for place in range(count)]
        chosen = min(order, key=lambda engine: self._score(engine, unfinished[engine]))
        self._sent[chosen] += 1
        self._first = (self._first + 1) % count
        return chosen

    def _score(self, engine: int, unfinished: int) -> float:
        load = self._reported[engine]
        waiting = load.waiting + self._sent[engine]
        return max(unfinished, waiting + load.running) + waiting * PENALTY * max(0.0, load.kv_usage - PRESSED)
