"""The nouns of a result: RequestRecord, Run, EngineLimits. They hold timestamps and counts, never metrics.

Times are float seconds since the trace's start unless a name says otherwise. Unknown is None, never 0 or -1.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workloads.columns import columns_of
from workloads.trace import Request, Trace

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

Kind = Literal["measured", "simulated"]
Track = Literal["shipped", "matched", "calibrated", "oracle"]


class Unavailable(RuntimeError):
    """A simulator, or one of its tracks, cannot be had here or for this run.

    This is no failure. The message says why, and how to get it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """What happened to one request. A failure is a record too: `error` says what went wrong. Times: s since the trace's start."""

    request_id: int  # as in the trace
    arrival: float  # when the trace says that it arrives (the intended send time); in a closed loop, when its slot became free
    sent: float | None = None  # when its first byte went to the socket (a simulator: its arrival there); None: never
    scheduled: float | None = None  # when the engine first scheduled it, where known
    first_token: float | None = None  # when the first chunk with content of any kind, reasoning or answer, was read
    finished: float | None = None  # when the last chunk with content was read
    input_tokens: int | None = None  # the server's own usage figure; None: it gave none
    output_tokens: int | None = None  # the server's own usage figure; None: it gave none
    cached_tokens: int | None = None  # prompt tokens served from the prefix cache, where reported
    token_times: tuple[float, ...] | None = None  # one per output token, ascending; None: the system shows none
    error: str | None = None  # what went wrong; None: nothing
    first_output_token: float | None = None  # when the first chunk of the answer, after all reasoning, was read; None: not told apart
    adapter: str | None = None  # the LoRA adapter that it asked for; None: the model itself


class Records(Sequence[RequestRecord]):
    """RequestRecords that are not held as objects, but made when asked for (record_table.py)."""

    @property
    @abstractmethod
    def request_ids(self) -> NDArray[np.int64]:
        """The ids of the records, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What the engine resolved its configuration to; every simulator of the matched and calibrated tracks is set to the same.

    None: the engine did not say.
    """

    kv_tokens: int | None = None  # KV cache capacity in tokens (num_gpu_blocks * block_size)
    block_size: int | None = None  # tokens of a block of the KV cache
    max_num_seqs: int | None = None  # sequences in one step
    max_num_batched_tokens: int | None = None  # tokens in one step
    max_model_len: int | None = None  # tokens of one request, prompt and output
    chunked_prefill: bool | None = None  # whether a prompt may be computed over several steps
    prefix_caching: bool | None = None  # whether the KV of shared prefixes is computed once
    tensor_parallel: int = 1  # devices that split each matrix of an engine, or of each replica
    pipeline_parallel: int = 1  # stages of layers
    data_parallel: int = 1  # replicas behind one front end that schedule for themselves; the other limits are those of each
    expert_parallel: int = 1  # devices over which whole experts are spread, of all replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """Limits in seconds that a good request meets; None: no limit on that metric."""

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self._limits():
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf):
                raise ValueError(f"slo.{name} must be a number > 0 (s), or null, got {limit!r}")

    def __str__(self) -> str:
        """The limits for people, in milliseconds."""
        return ", ".join(f"{name.upper()} <= {1e3 * limit:g} ms" for name, limit in self._limits() if limit is not None) or "no limit"

    def _limits(self) -> tuple[tuple[str, float | None], ...]:
        return ("ttft", self.ttft), ("tpot", self.tpot), ("e2e", self.e2e)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One replay of one trace on one system: what was asked, what the system resolved it to, what came out."""

    run_id: str  # its name, and its folder's
    kind: Kind  # measured or simulated
    system: str  # vllm, sglang, vidur, ...
    version: str | None  # the system's own
    workload: str  # name of the workload
    model: str  # name of the model
    hardware: str  # name, as in conf/hardware
    trace: Trace  # the requests that were asked
    records: Sequence[RequestRecord]  # one per request of the trace
    limits: EngineLimits  # what the engine resolved its configuration to
    started_at: str  # UTC, ISO 8601
    wall_s: float  # s that the replay or the simulation took
    slo: SLO = field(default_factory=SLO)  # limits of a good request
    track: Track | None = None  # how a simulated run was calibrated (oracle: on the measured run itself, so a diagnosis and never a score)
    measured_run_id: str | None = None  # the run that a simulated one is held against; None: none, it is a prediction on its own
    rho: float | None = None  # offered load as a fraction of measured capacity
    rate: float | None = None  # offered requests/s
    repeat: int = 0  # number of the repeat in its cell, from 0
    valid: bool = True  # the gates' verdict
    invalid_reason: str | None = None  # why it is invalid; None: it is valid
    window: tuple[float, float] | None = None  # (start, end) of the measurement, s, by arrival, both ends included; None: the whole run
    # JSON-able; keys engine, model (its config.json), hardware, workload, load (`loop`: closed), seed, and of a simulated run simulator
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)  # where it was made and with which code; JSON-able
    telemetry: "pd.DataFrame | None" = None  # a server's metrics during the run in long form, columns time (s), name, value; None: none

    def __post_init__(self) -> None:
        asked = columns_of(self.trace).request_id.tolist()
        got = self.records.request_ids.tolist() if isinstance(self.records, Records) else [r.request_id for r in self.records]
        if sorted(asked) != sorted(got):
            missing = sorted(set(asked) - set(got))[:5]
            raise ValueError(
                f"run {self.run_id}: {len(asked)} requests asked, {len(got)} records; missing ids {missing}, unknown ids "
                f"{sorted(set(got) - set(asked))[:5]}"
            )
        if (self.kind == "simulated") != (self.track is not None) or (self.kind == "measured" and self.measured_run_id is not None):
            raise ValueError(
                f"run {self.run_id}: a simulated run, and only that, has a track and, when held against one, a measured_run_id"
            )
        if self.valid == (self.invalid_reason is not None):
            raise ValueError(f"run {self.run_id}: invalid_reason belongs to an invalid run, and to no other")

    @property
    def is_closed_loop(self) -> bool:
        """Whether a request was sent when another had ended: arrivals are then the moments at which slots became free."""
        return bool((self.config.get("load") or {}).get("loop") == "closed")

    @property
    def concurrency(self) -> int | None:
        """Requests that a closed loop kept in flight; None: an open loop, or a closed one of unknown size."""
        return self.config["load"].get("concurrency") if self.is_closed_loop else None

    def trace_as_sent(self) -> Trace:
        """The requests that were really sent, at the times at which they were sent (what simulators replay), ids unchanged.

        A request that never left the client is left out. Times are not shifted: second 0 stays the trace's start.
        """
        sent = {r.request_id: r.sent for r in self.records if r.sent is not None}
        kept = [(r, sent[r.request_id]) for r in self.trace if r.request_id in sent]
        moved = [_at(request, max(0.0, time)) for request, time in kept]
        moved.sort(key=lambda r: (r.arrival, r.request_id))
        return Trace(name=self.trace.name, requests=tuple(moved), block_size=self.trace.block_size)


def simulated_id(measured: str, system: str, track: str) -> str:
    """The id of a simulated run. Settings are no part of it: there is one run at a time of a measured run, a system and a track."""
    return f"{measured}--{system}-{track}"


def _at(request: Request, arrival: float) -> Request:
    return Request(
        request_id=request.request_id,
        arrival=arrival,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        blocks=request.blocks,
    )
