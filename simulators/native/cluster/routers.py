"""Routers over replicas: which of several equal engines gets a request."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simulators.native import sequence
from simulators.native.cluster.balancer import LoadBalancer, ReportedLoad
from simulators.native.cluster.instance import Instance
from simulators.native.cluster.placement import NoMigration, Place, Placement


class Random(NoMigration):
    """Any replica, with equal chances."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        return Place(instances[int(self._rng.integers(len(instances)))])

    def places(self, requests: int, instances: int) -> NDArray[np.int64]:
        """See apart.ObliviousRouter."""
        return self._rng.integers(instances, size=requests)


class RoundRobin(NoMigration):
    """Each replica in turn."""

    def __init__(self) -> None:
        self._next = 0

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        chosen = instances[self._next % len(instances)]
        self._next += 1
        return Place(chosen)

    def places(self, requests: int, instances: int) -> NDArray[np.int64]:
        """See apart.ObliviousRouter."""
        return np.arange(self._next, self._next + requests) % instances


class LeastOutstanding(NoMigration):
    """The replica with the fewest tokens still to be computed, prompts and outputs (the router knows their lengths); of equal ones the
    first.
    """

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        return Place(least(instances))


class PrefixAware(NoMigration):
    """The replica whose prefix cache holds most of the prompt.

    The least loaded replica instead when that is less than `threshold` of the prompt, or when loads (tokens outstanding) are out of
    balance: the largest is more than `relative` times the smallest, and more than `absolute` tokens above it.

    After SGLang's router (sgl-router, cache_aware policy; its thresholds count requests).
    """

    def __init__(self, threshold: float = 0.5, absolute: int = 32_768, relative: float = 1.5) -> None:
        self.threshold, self.absolute, self.relative = threshold, absolute, relative

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        loads = [instance.outstanding_tokens for instance in instances]
        if max(loads) - min(loads) > self.absolute and max(loads) > self.relative * min(loads):
            return Place(instances[loads.index(min(loads))])
        held = [i.scheduler.cache.cached_tokens(arrived) for i in instances]
        if max(held) >= self.threshold * arrived.prompt:
            return Place(instances[held.index(max(held))])
        return Place(instances[loads.index(min(loads))])


class Balanced(NoMigration):
    """As vLLM's front end spreads requests over data-parallel engines that share no experts (balancer.py)."""

    def __init__(self) -> None:
        self._balancer: LoadBalancer | None = None

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        self._balancer = self._balancer or LoadBalancer(len(instances))
        if self._balancer.due(arrived.arrival):
            self._balancer.report(arrived.arrival, [_load(instance) for instance in instances])
        return Place(instances[self._balancer.choose([len(instance.sequences) for instance in instances])])


def _load(instance: Instance) -> ReportedLoad:
    running = sum(s.running for s in instance.sequences.values())
    cache = instance.scheduler.cache
    return ReportedLoad(len(instance.sequences) - running, running, cache.used_blocks / cache.blocks)


def least(instances: Sequence[Instance]) -> Instance:
    """The instance with the fewest outstanding tokens; of equal ones the first."""
    return min(instances, key=lambda instance: (instance.outstanding_tokens, instance.index))


ROUTERS: Mapping[str, Callable[[], Placement]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "least_outstanding": LeastOutstanding,
    "prefix_aware": PrefixAware,
    "balanced": Balanced,
}
