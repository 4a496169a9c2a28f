"""The schedule of a closed loop, and its times under any law of step times.

A closed loop of N requests in flight is the engine serving all requests from second 0 with max_num_seqs = N: a request is admitted when
another ends, which is when the loop would send it. No request arrives later, so what the scheduler decides does not depend on how long
steps take. So a schedule is made once, on the native engine with steps of one second, and timed for every model, GPU and efficiency whose
KV cache holds it: a sum over its steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.record_table import RecordTable
from simulators.errors import SimulatorError
from simulators.native.latency.step_law import StepLaw, row
from simulators.native.latency.windows import windowed_work
from simulators.native.scheduling.scheduler import Limits
from simulators.native.sequence import Batch
from simulators.native.serve import serve
from simulators.native.served import Frontend
from workloads.columns import columns_of
from workloads.trace import Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class WorkLog:
    """A StepTime of one second a step, which keeps what each step has to do."""

    def __init__(self, reach: int | None = None) -> None:
        """reach: of StepLaw, for attention with windows."""
        self.law = StepLaw(linear=row(1.0), reach=reach)
        self._works: list[Floats] = []

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        reach = self.law.reach
        self._works.append(np.array([batch.work if reach is None else windowed_work(batch, reach)], np.float64))
        return 1.0

    def note(self, works: Floats) -> None:
        """See StepTime."""
        self._works.append(works.copy())

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {"step_time": "one second"}

    def works(self) -> Floats:
        """(steps, parts of step_law.WORK)."""
        return np.asfortranarray(np.concatenate(self._works))  # a law reads column by column


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoopSchedule:
    """What each step computes, and in which steps requests get their tokens."""

    works: Floats  # (steps, parts of step_law.WORK)
    first: Integers  # place of the step that makes a request's first token
    last: Integers  # of its last token
    input_tokens: Integers  # of each request
    output_tokens: Integers  # of each request
    concurrency: int  # requests in flight
    preemptions: int  # in all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoopTimes:
    """A closed loop's requests. Times in s."""

    ttft: Floats  # from when a place in the loop was free to the first token, without the front end
    tpot: Floats  # NaN of an answer of one token
    seconds: float  # of the whole loop


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeanShares:
    """How much of each step is in the loop's mean TTFT and TPOT: both are sums of these shares of the steps' seconds."""

    ttft: Floats  # of each step
    tpot: Floats  # of each step


def make_schedule(trace: Trace, limits: Limits, *, policy: str, reach: int | None = None) -> LoopSchedule:
    """Serve the trace, whose requests all arrive at second 0. limits: max_num_seqs is the concurrency. reach: of
    StepLaw, where attention has windows.

    Raises SimulatorError when a request could never be served.
    """
    log = WorkLog(reach)
    served = serve(trace, limits, log, frontend=Frontend(), policy=policy, token_times=False)
    columns, asked = RecordTable.of(served.records).columns, columns_of(trace)
    if len(asked.arrival) != columns["error"].null_count:
        reason = next(error for error in columns["error"].to_pylist() if error)
        raise SimulatorError(f"native: {reason}")
    first, last = (columns[name].to_numpy().round().astype(np.int64) - 1 for name in ("first_token", "finished"))
    return LoopSchedule(
        works=log.works(),
        first=first,
        last=last,
        input_tokens=asked.input_tokens,
        output_tokens=asked.output_tokens,
        concurrency=limits.max_num_seqs,
        preemptions=served.preemptions,
    )


def timed(schedule: LoopSchedule, law: StepLaw) -> LoopTimes:
    """The loop's times under this law. A request is sent when as many others have ended as were sent before it, less the concurrency."""
    ends = np.cumsum(law.of_steps(schedule.works))
    first, last = ends[schedule.first], ends[schedule.last]
    sent = np.zeros(len(first))
    sent[schedule.concurrency :] = np.sort(last)[: max(0, len(last) - schedule.concurrency)]
    more = schedule.output_tokens - 1
    return LoopTimes(
        ttft=first - sent, tpot=np.divide(last - first, more, out=np.full(len(first), np.nan), where=more > 0), seconds=float(ends[-1])
    )


def mean_shares(schedule: LoopSchedule, weight: Floats) -> MeanShares:
    """Shares for means over the requests, each with a weight. Answers of one token have no TPOT."""
    steps, more = len(schedule.works), schedule.output_tokens - 1
    waiting = schedule.concurrency
    before = np.sort(schedule.last)[: max(0, len(weight) - waiting)]  # the step at whose end each later request is sent
    ttft = _until(schedule.first, weight, steps) - _until(before, weight[waiting:], steps)
    of_token = np.divide(weight, more, out=np.zeros(len(weight)), where=more > 0)
    tpot = _until(schedule.last, of_token, steps) - _until(schedule.first, of_token, steps)
    return MeanShares(ttft=ttft / weight.sum(), tpot=tpot / weight[more > 0].sum())


def _until(step: Integers, weight: Floats, steps: int) -> Floats:
    """Of each step, the weight of all that ends with it or later."""
    shares: Floats = np.cumsum(np.bincount(step, weight, minlength=steps).astype(np.float64)[::-1])[::-1]
    return shares
