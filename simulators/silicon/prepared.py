"""Prepared: a point with its schedule and sizes, ready to be timed with any factors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.silicon.points import MeasuredPoint
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.host import Host
from simulators.silicon.factors import Factors
from simulators.silicon.front import LoopFront
from simulators.silicon.schedule import MeanShares
from simulators.silicon.sizes import Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopFigures:
    """What a point's source would say of a loop: means over its requests."""

    ttft: float  # s
    tpot: float  # s
    throughput: float  # output tokens/s/GPU


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A point that can be simulated."""

    point: MeasuredPoint  # what was measured
    model: str  # its name in conf/model
    sizes: Sizes  # of its model on its GPU
    works: NDArray[np.float64]  # of its schedule: (steps, parts of step_law.WORK)
    shares: MeanShares  # of its schedule
    output_tokens: float  # of an answer, mean
    efficiency: Efficiency  # of its GPU, before any factor
    host: Host | None  # beside its GPU, before any factor
    front: LoopFront | None  # outside the engine, before any factor; None: nothing is there
    receive_interval: int  # decode steps between two looks at what has arrived
    note: str | None  # what to know of it

    def figures(self, factors: Factors) -> LoopFigures:
        """TTFT and TPOT with these factors."""
        law = self.sizes.law(factors.efficiency(self.efficiency), factors.on_host(self.host))
        seconds = law.of_steps(self.works)
        tpot = float(self.shares.tpot @ seconds)
        # a request comes at any time between two looks of the scheduler at what has arrived; the schedule has it come just before one
        waited = self.receive_interval / 2 * tpot
        outside = 0.0 if self.front is None else self.front.seconds(tpot, factors.front)
        ttft = float(self.shares.ttft @ seconds) + outside + waited
        return LoopFigures(ttft=ttft, tpot=tpot, throughput=loop_throughput(self.point, ttft, tpot, self.output_tokens))


def loop_throughput(point: MeasuredPoint, ttft: float, tpot: float, output_tokens: float) -> float:
    """Output tokens/s/GPU of a closed loop by Little's law: requests in flight over the time of one."""
    return point.concurrency * output_tokens / (ttft + tpot * (output_tokens - 1)) / point.devices
