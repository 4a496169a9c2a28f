"""Arrangement: how many engines, and who decides what goes where; a trace served by them."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from simulators.errors import NotAvailable
from simulators.native.cluster.apart import ObliviousRouter, serve_apart
from simulators.native.cluster.instance import Instance
from simulators.native.cluster.link import Link
from simulators.native.cluster.llumnix import Llumnix
from simulators.native.cluster.lockstep import LockStep, Longest
from simulators.native.cluster.loop import Cluster
from simulators.native.cluster.placement import Placement
from simulators.native.cluster.pools import Disaggregated, Splitwise
from simulators.native.cluster.routers import ROUTERS, Random
from simulators.native.engine import EngineModel
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.policies import POLICIES, adapted
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import Queue, serve, serve_readable
from simulators.native.served import Frontend, Served
from simulators.native.stages import Stages
from workloads.release import Release
from workloads.trace import Trace

Kind = Literal["replicas", "distserve", "splitwise", "llumnix", "data_parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """kind: 'replicas' behind a `router`; 'distserve': `prefill` of the instances compute prompts, the others decode; 'splitwise': the same
    with a mixed pool between them; 'llumnix': live migration; 'data_parallel': engines that share experts, in lock-step (lockstep.py), as
    vLLM's data_parallel_size makes them of a mixture. instances: engines, all with the same limits. link_gb_s: 1e9 bytes/s of one direction
    of the link between two of them, where KV travels (None: see `on`); link_latency: s a transfer. seed: of the router 'random'.
    """

    kind: Kind = "replicas"
    instances: int = 1
    prefill: int = 1
    router: str = "round_robin"
    link_gb_s: float | None = None
    link_latency: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"arrangement.kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.instances < 1:
            raise ValueError(f"arrangement.instances must be >= 1, got {self.instances}")
        if self.router not in ROUTERS:
            raise ValueError(f"arrangement.router must be one of {', '.join(ROUTERS)}, got {self.router!r}")
        if self.kind in ("distserve", "splitwise") and not 1 <= self.prefill < self.instances:
            raise ValueError(
                f"arrangement.prefill must leave an instance for decode: 1 to {self.instances - 1} of {self.instances}, got {self.prefill}"
            )
        if self.link_gb_s is not None and self.link_gb_s <= 0:
            raise ValueError(f"arrangement.link_gb_s must be > 0, got {self.link_gb_s}")

    @property
    def hands_over(self) -> bool:
        """Whether every request decodes on another instance than it was prefilled on."""
        return self.kind == "distserve" and self.instances > 1

    def of_replicas(self, replicas: int, *, share_experts: bool) -> Self:
        """The same of an engine that has so many replicas behind its own front end, which spreads requests as vLLM's does.

        share_experts: they compute experts together, in lock-step. Raises NotAvailable where an arrangement is set.
        """
        if replicas == 1:
            return self
        if self != type(self)():
            raise NotAvailable(f"native: the {replicas} replicas of an engine are an arrangement of their own; leave arrangement as it is")
        if share_experts:
            return dataclasses.replace(self, kind="data_parallel", instances=replicas)
        return dataclasses.replace(self, instances=replicas, router="balanced")

    def on(self, hardware: Mapping[str, Any], tensor_parallel: int) -> Self:
        """The same on this hardware (conf/hardware): a link that is not given is one direction of its interconnect, of each device of an
        engine. Raises NotAvailable where KV travels and there is none.
        """
        if self.kind in ("replicas", "data_parallel") or self.link_gb_s is not None:
            return self
        both_ways = hardware.get("interconnect_gb_s")
        if not both_ways:
            raise NotAvailable(
                f"native: arrangement {self.kind} moves KV between instances: set interconnect_gb_s in conf/hardware, or link_gb_s"
            )
        return dataclasses.replace(self, link_gb_s=both_ways / 2 * tensor_parallel)

    def serve(
        self,
        trace: Trace,
        limits: Limits,
        step_time: StepTime,
        *,
        frontend: Frontend,
        policy: str = "vllm_v1",
        kv_bytes_per_token: float = 0.0,
        token_times: bool = True,
        release: Release | None = None,
    ) -> Served:
        """Simulate the trace on these engines; deterministic. limits: of each engine. kv_bytes_per_token: needed where KV travels.
        token_times: False: records need not have them. frontend: of each engine; where engines look at each other, a station's cost on an
        idle server as a delay, without its queue. release: of one engine only.

        All else as in `serve.serve`, which serves one engine; peak_kv_blocks: of the fullest engine. Raises SimulatorError.
        """
        if self.instances == 1:
            return serve(trace, limits, step_time, frontend=frontend, policy=policy, token_times=token_times, release=release)
        assert release is None, "closed loops and sessions are of one engine"
        begin = time.perf_counter()
        self._check(policy, limits)
        if self.kind == "data_parallel":
            ranks = LockStep(limits, data_parallel_size=self.instances)
            served = serve_readable(trace, limits, Longest(step_time), frontend, ranks, token_times=token_times)
            return dataclasses.replace(served, seconds=time.perf_counter() - begin)
        placement = self._placement()
        if isinstance(placement, ObliviousRouter):
            served = serve_apart(
                trace, self.instances, placement, limits, step_time, frontend=frontend, policy=policy, token_times=token_times
            )
            return dataclasses.replace(served, seconds=time.perf_counter() - begin)
        limits = adapted(policy, limits)
        queue = Queue(trace, limits, frontend.without_queue())
        cluster = self.cluster(limits, step_time, policy=policy, kv_bytes_per_token=kv_bytes_per_token)
        steps, end = 0, 0.0
        for _, step in cluster.run(queue.accepted):
            steps, end = steps + 1, max(end, step.end)
        return Served(
            records=queue.records(),
            steps=steps,
            preemptions=queue.preemptions,
            end=end,
            peak_kv_blocks=max(instance.peak_blocks for instance in cluster.instances),
            seconds=time.perf_counter() - begin,
            transfers=cluster.link.transfers if cluster.link else 0,
            migrations=cluster.migrations,
        )

    def cluster(self, limits: Limits, step_time: StepTime, *, policy: str = "vllm_v1", kv_bytes_per_token: float = 0.0) -> Cluster:
        """The engines, idle."""
        engines = [
            EngineModel(
                scheduler=POLICIES[policy](limits),
                step_time=step_time,
                in_flight=limits.in_flight,
                stages=Stages(count=limits.pipeline_parallel_size),
                where=f" of instance {i}",
            )
            for i in range(self.instances)
        ]
        instances = [Instance(index=i, engine=engine) for i, engine in enumerate(engines)]
        link = None
        if self.kind != "replicas":
            assert self.link_gb_s is not None
            link = Link(seconds_per_token=kv_bytes_per_token / (1e9 * self.link_gb_s), latency=self.link_latency)
        return Cluster(instances, self._placement(), link=link)

    def _placement(self) -> Placement:
        if self.kind == "distserve":
            return Disaggregated(self.prefill)
        if self.kind == "splitwise":
            return Splitwise(self.prefill)
        if self.kind == "llumnix":
            return Llumnix()
        return Random(self.seed) if self.router == "random" else ROUTERS[self.router]()

    def _check(self, policy: str, limits: Limits) -> None:
        if self.kind == "data_parallel" and policy != "vllm_v1":
            raise NotAvailable(f"native: arrangement data_parallel is vLLM's, so its policy must be vllm_v1; got {policy}")
        if self.kind != "replicas" and policy != "vllm_v1":
            raise NotAvailable(f"native: arrangement {self.kind} hands KV over, which only the policy vllm_v1 can take on; got {policy}")
        if self.kind not in ("replicas", "data_parallel") and limits.kv_groups:
            raise NotAvailable(f"native: arrangement {self.kind} hands over the KV of one group of layers; leave kv_groups out")
        if self.kind == "llumnix" and limits.in_flight != 1:
            raise NotAvailable(
                f"native: arrangement llumnix stops a request between two steps: in_flight must be 1, got {limits.in_flight}"
            )
