"""Replicas served each by itself give what the cluster's loop gives."""

import dataclasses

import pytest

from simulators.native.cluster.apart import ObliviousRouter
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.cluster.routers import ROUTERS
from simulators.native.serve import Queue
from simulators.native.served import Frontend
from tests.simulators.native.cases import random_case

FRONTEND = Frontend(before=0.011, before_per_token=0.0003, after=0.007)


@pytest.mark.parametrize("router", ["round_robin", "random"])
@pytest.mark.parametrize("seed", range(15))
def test_apart_as_together(seed: int, router: str) -> None:
    case = random_case(seed)
    limits = dataclasses.replace(case.limits, reserve_full_prompt=True, max_model_len=case.limits.max_model_len - seed % 3 * 40)
    arrangement = Arrangement(instances=1 + seed % 4, router=router, seed=seed)
    served = arrangement.serve(case.trace, limits, case.step_time, frontend=FRONTEND)
    queue, cluster = Queue(case.trace, limits, FRONTEND), arrangement.cluster(limits, case.step_time)
    steps = list(cluster.run(queue.accepted))
    assert list(served.records) == list(queue.records())
    assert (served.steps, served.preemptions) == (len(steps), queue.preemptions)
    assert served.end == max((step.end for _, step in steps), default=0.0)
    assert served.peak_kv_blocks == max(instance.peak_blocks for instance in cluster.instances)


def test_only_routers_that_look_at_no_engine_are_oblivious() -> None:
    assert {name for name, router in ROUTERS.items() if isinstance(router(), ObliviousRouter)} == {"round_robin", "random"}
