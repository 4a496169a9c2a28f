"""The closed loop of a point: its requests, its limits, and which schedule serves it."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from results.silicon.points import MeasuredPoint
from simulators.errors import SimulatorError
from simulators.native.kv.groups import KVGroup
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.sglang_options import SglangOptions
from simulators.silicon.schedule import LoopSchedule, make_schedule
from simulators.silicon.servers import PointServer
from workloads.trace import Request, Trace

IN_FLIGHT = 2  # both engines schedule a step ahead by default in these versions, or were told to


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopProtocol:
    """How a source loads its servers. conf/study/silicon.yaml says where each is from."""

    least: float  # share of the longest length; lengths are uniform whole numbers from there to the longest
    rounds: int  # requests for each place in the loop
    seed: int  # of the lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopKey:
    """All that a schedule depends on. Points that share it share the schedule."""

    policy: str  # of the scheduler
    input_tokens: int  # the longest prompt
    output_tokens: int  # the longest answer
    concurrency: int  # requests in flight in one engine
    max_num_seqs: int  # sequences in one step
    max_num_batched_tokens: int  # tokens in one step
    max_prefill_tokens: int  # of SGLang's prefill steps
    block_size: int  # tokens
    kv_tokens: int  # that the blocks of the KV cache hold; where all that is in flight fits, as many as that needs
    kv_groups: tuple[KVGroup, ...]  # of Limits
    reach: int  # of StepLaw; 0: attention has no windows
    least: float  # of LoopProtocol
    rounds: int  # of LoopProtocol
    seed: int  # of LoopProtocol

    @property
    def cost(self) -> float:
        """About how long making its schedule takes, in any unit: SGLang's is not compiled."""
        return self.rounds * self.output_tokens * (1 + self.concurrency / 200) * (10 if self.policy == "sglang" else 1)

    @property
    def longest(self) -> int:
        """Tokens of the longest request."""
        return self.input_tokens + self.output_tokens


def key_of(point: MeasuredPoint, server: PointServer, protocol: LoopProtocol, *, limits: Limits, reach: int) -> LoopKey:
    """The key of a point's loop. limits: of its engine; those of its KV cache count. reach: of its StepLaw, or 0."""
    concurrency = -(-point.concurrency // point.data_parallel)
    room = (point.input_tokens + point.output_tokens + 2 * limits.block_size + 1) * max(1, len(limits.kv_groups))
    policy = "sglang" if point.engine == "sglang" else "vllm_v1"
    return LoopKey(
        policy=policy,
        input_tokens=point.input_tokens,
        output_tokens=point.output_tokens,
        concurrency=concurrency,
        max_num_seqs=min(concurrency, server.max_num_seqs or concurrency),
        max_num_batched_tokens=server.tokens_in_step(point),
        max_prefill_tokens=server.max_prefill_tokens if policy == "sglang" else 0,
        block_size=limits.block_size,
        kv_tokens=min(limits.kv_blocks * limits.block_size, concurrency * room),
        kv_groups=limits.kv_groups,
        reach=reach,
        least=protocol.least,
        rounds=protocol.rounds,
        seed=protocol.seed,
    )


def schedule_of(key: LoopKey) -> LoopSchedule | str:
    """The schedule, or why there is none."""
    limits = Limits(
        kv_blocks=key.kv_tokens // key.block_size,
        block_size=key.block_size,
        kv_groups=key.kv_groups,
        max_num_seqs=key.max_num_seqs,
        max_num_batched_tokens=key.max_num_batched_tokens,
        max_model_len=key.longest + 8,
        prefix_caching=False,
        in_flight=IN_FLIGHT,
        sglang=SglangOptions(max_prefill_tokens=max(key.max_prefill_tokens, 1)),
    )
    try:
        made = make_schedule(loop_trace(key), limits, policy=key.policy, reach=key.reach or None)
    except SimulatorError as error:
        return str(error)
    return dataclasses.replace(made, concurrency=key.concurrency)


def loop_trace(key: LoopKey) -> Trace:
    """The loop's requests, all at second 0."""
    protocol = LoopProtocol(least=key.least, rounds=key.rounds, seed=key.seed)
    return trace_of(key.input_tokens, key.output_tokens, key.rounds * key.concurrency, protocol)


def trace_of(input_tokens: int, output_tokens: int, count: int, protocol: LoopProtocol) -> Trace:
    """So many requests at second 0, with lengths up to these."""
    rng = np.random.default_rng(protocol.seed)
    lengths = [rng.integers(max(1, int(most * protocol.least)), most + 1, count).tolist() for most in (input_tokens, output_tokens)]
    requests = tuple(
        Request(request_id=i, arrival=0.0, input_tokens=a, output_tokens=b) for i, (a, b) in enumerate(zip(*lengths, strict=True))
    )
    return Trace(name="closed loop", requests=requests)
