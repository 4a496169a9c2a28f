"""Schedules of closed loops: timed under a law they are what the engine itself serves, and a loop keeps its concurrency."""

import numpy as np
import pytest

from results.record_table import RecordTable
from simulators.errors import SimulatorError
from simulators.native.latency.step_law import WORK, StepLaw, row
from simulators.native.scheduling.scheduler import Limits
from simulators.native.sequence import Batch
from simulators.native.serve import serve
from simulators.native.served import Frontend
from simulators.silicon.schedule import WorkLog, make_schedule, mean_shares, timed
from workloads.trace import Request, Trace

# a law with every part: prompts' own pieces, a host that is sometimes slower than the device, a term whose arms cross
LAW = StepLaw(
    linear=row(1e-3, sequences=1e-5),
    pieces=((64.0, 2e-3, 2e-5), (0.0, 1e-3, 1e-6)),
    prompt_pieces=((0.0, 1.5e-3, 3e-5),),
    terms=((row(decode_context=1e-7), row(1e-4, decodes=2e-5)),),
    floor=row(2e-3, prompt_steps=1e-3),
)


class TimedBy(WorkLog):
    """A StepTime of another law."""

    def __init__(self) -> None:
        super().__init__()
        self.law = LAW

    def seconds(self, batch: Batch) -> float:
        return LAW.of(batch)


def loop(concurrency: int, *, kv_blocks: int) -> tuple[Trace, Limits]:
    rng = np.random.default_rng(5)
    lengths = zip(rng.integers(60, 200, 4 * concurrency).tolist(), rng.integers(20, 60, 4 * concurrency).tolist(), strict=True)
    trace = Trace(
        name="loop", requests=tuple(Request(request_id=i, arrival=0.0, input_tokens=a, output_tokens=b) for i, (a, b) in enumerate(lengths))
    )
    limits = Limits(
        kv_blocks=kv_blocks,
        block_size=16,
        max_num_seqs=concurrency,
        max_num_batched_tokens=256,
        max_model_len=1024,
        prefix_caching=False,
        in_flight=2,
    )
    return trace, limits


@pytest.mark.parametrize(("policy", "kv_blocks"), [("vllm_v1", 1000), ("vllm_v1", 40), ("sglang", 1000), ("sglang", 60)])
def test_a_schedule_timed_under_a_law_is_what_the_engine_serves(policy: str, kv_blocks: int) -> None:
    trace, limits = loop(6, kv_blocks=kv_blocks)
    schedule = make_schedule(trace, limits, policy=policy)
    times = timed(schedule, LAW)
    served = RecordTable.of(serve(trace, limits, TimedBy(), frontend=Frontend(), policy=policy, engine="readable").records).columns
    first, last = served["first_token"].to_numpy(), served["finished"].to_numpy()
    sent = np.concatenate([np.zeros(6), np.sort(last)[: len(first) - 6]])
    assert times.ttft == pytest.approx(first - sent, rel=1e-9)
    assert times.tpot == pytest.approx((last - first) / (schedule.output_tokens - 1), rel=1e-9)
    assert times.seconds == pytest.approx(last.max(), rel=1e-9)


def test_the_compiled_engine_makes_the_same_schedule() -> None:
    trace, limits = loop(120, kv_blocks=4000)
    assert sum(r.output_tokens for r in trace) < 20_000
    small = make_schedule(trace, limits, policy="vllm_v1")
    repeated = Trace(
        name="x",
        requests=tuple(
            Request(request_id=i, arrival=0.0, input_tokens=r.input_tokens, output_tokens=r.output_tokens)
            for i, r in enumerate([*trace, *trace])
        ),
    )
    large = make_schedule(repeated, limits, policy="vllm_v1")  # enough tokens for the compiled engine
    shared = small.first.max() // 2
    assert np.array_equal(small.works[:shared], large.works[:shared])


def test_no_more_than_the_concurrency_is_in_flight_and_that_nearly_always() -> None:
    trace, limits = loop(6, kv_blocks=1000)
    schedule = make_schedule(trace, limits, policy="vllm_v1")
    sequences = schedule.works[:, WORK.index("sequences")]
    assert sequences.max() == 6
    busy = sequences[: np.sort(schedule.last)[-6]]  # until nothing waits any more
    assert (busy == 6).mean() > 0.8


def test_many_steps_at_once_take_as_long_as_one_by_one() -> None:
    trace, limits = loop(6, kv_blocks=1000)
    works = make_schedule(trace, limits, policy="vllm_v1").works
    assert LAW.of_steps(works) == pytest.approx([LAW.seconds(work) for work in works.tolist()], rel=1e-12)


def test_a_request_that_no_cache_could_hold_is_said() -> None:
    trace, limits = loop(6, kv_blocks=4)
    with pytest.raises(SimulatorError, match="do not fit the KV cache"):
        make_schedule(trace, limits, policy="vllm_v1")


def test_means_are_sums_of_shares_of_the_steps() -> None:
    trace, limits = loop(6, kv_blocks=40)
    schedule = make_schedule(trace, limits, policy="vllm_v1")
    times, seconds = timed(schedule, LAW), LAW.of_steps(schedule.works)
    weight = np.linspace(1, 3, len(trace))
    shares = mean_shares(schedule, weight)
    assert shares.ttft @ seconds == pytest.approx(np.average(times.ttft, weights=weight), rel=1e-9)
    assert shares.tpot @ seconds == pytest.approx(np.average(times.tpot, weights=weight), rel=1e-9)
