"""Servers whose answer is known: queues whose highest load under an SLO a very long run tells."""

from dataclasses import dataclass, field

import numpy as np

from harness.search.share import GoodShare
from harness.search.trials import WARM_UP, Trial
from tests.runs import make_run

RUN = make_run("queue", telemetry=False)  # whatever a Trial carries
LIMIT = 1.0  # s of waiting


@dataclass
class Queue:
    """One server, Poisson arrivals, service times of a Gamma law with mean 1 / `speed`; a request is good that waits LIMIT at most."""

    speed: float = 4.0  # requests/s
    seed: int = 0
    waits: bool = False  # as Tries
    tried: list[float] = field(default_factory=list)

    def at(self, load: float, seconds: float, number: int) -> Trial:
        self.tried.append(load)
        rng = np.random.default_rng((self.seed, number))
        waiting = self.waiting(load, max(2, round(load * seconds)), rng)
        counted = waiting[int(WARM_UP * len(waiting)) :]
        return Trial(load=load, run=RUN, share=GoodShare.of(counted <= LIMIT, counted / LIMIT))

    def alone(self, number: int) -> Trial:
        self.tried.append(0.0)
        good = np.full(40, self.speed > 0)
        return Trial(load=0.0, run=RUN, share=GoodShare.of(good, np.zeros(40)))

    def waiting(self, load: float, requests: int, rng: np.random.Generator) -> "np.typing.NDArray[np.float64]":
        """Lindley's recursion: W' = max(0, W + service - gap), as the running maximum of a sum."""
        steps = rng.gamma(4.0, 1 / (4 * self.speed), requests) - rng.exponential(1 / load, requests)
        sums = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
        return sums - np.minimum.accumulate(sums)

    def share(self, load: float) -> float:
        """The true share, from a million requests."""
        return float(np.mean(self.waiting(load, 1_000_000, np.random.default_rng(1)) <= LIMIT))

    def highest(self, wanted: float) -> float:
        """The load with that share, by bisection."""
        low, high = 0.05 * self.speed, self.speed
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if self.share(middle) >= wanted else (low, middle)
        return low
