"""The nouns of a result: RequestRecord, Run, EngineLimits. They hold timestamps and counts, never metrics.

Times are float seconds since the trace's start unless a name says otherwise. Unknown is None, never 0 or -1.
"""

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
    """A simulator, or one of its tracks, that cannot be had here or for this run: no failure. The message says why, and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """What happened to one request. A failure is a record too: `error` says what went wrong.

    arrival: when the trace says it arrives (the intended send time). sent: when its first byte went to the socket (a simulator: its
    arrival there). scheduled: when the engine first scheduled it, where known. first_token, finished: when the first and the last chunk
    with content were read. input_tokens, output_tokens: the server's own usage figures (None when it gave none).
    cached_tokens: prompt tokens served from the prefix cache, where reported. token_times: one per output token, ascending;
    None where the system shows none.
    """

    request_id: int
    arrival: float
    sent: float | None = None
    scheduled: float | None = None
    first_token: float | None = None
    finished: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    token_times: tuple[float, ...] | None = None
    error: str | None = None


class Records(Sequence[RequestRecord]):
    """RequestRecords that are not held as objects, but made when asked for (record_table.py)."""

    @property
    @abstractmethod
    def request_ids(self) -> NDArray[np.int64]:
        """Their ids, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What the engine resolved its configuration to; every simulator of the matched and calibrated tracks is set to the same.

    kv_tokens: KV cache capacity in tokens (num_gpu_blocks * block_size). The rest are the engine's own settings of those names.
    None: the engine did not say.
    """

    kv_tokens: int | None = None
    block_size: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    chunked_prefill: bool | None = None
    prefix_caching: bool | None = None
    tensor_parallel: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """Limits in seconds that a good request meets; None: no limit on that metric."""

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One replay of one trace on one system: what was asked, what the system resolved it to, what came out.

    system: vllm, sglang, vidur, ... version: the system's own. track, measured_run_id: of a simulated run: how it was calibrated
    (oracle: on the measured run itself, so a diagnosis and never a score) and which run it is held against (None: none, a prediction
    on its own). rho: offered load as a fraction of measured capacity;
    rate: offered requests/s.
    valid, invalid_reason: the gates' verdict. window: (start, end) of the measurement, by arrival, both ends included.
    started_at: UTC, ISO 8601. wall_s: seconds the replay or the simulation took. config: JSON-able; its keys: engine, model (the
    model's config.json), hardware, workload, load, seed, and for simulated runs simulator. telemetry: long form, columns time,
    name, value (a server's metrics during the run), or None.
    """

    run_id: str
    kind: Kind
    system: str
    version: str | None
    workload: str
    model: str
    hardware: str
    trace: Trace
    records: Sequence[RequestRecord]
    limits: EngineLimits
    started_at: str
    wall_s: float
    slo: SLO = field(default_factory=SLO)
    track: Track | None = None
    measured_run_id: str | None = None
    rho: float | None = None
    rate: float | None = None
    repeat: int = 0
    valid: bool = True
    invalid_reason: str | None = None
    window: tuple[float, float] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    telemetry: "pd.DataFrame | None" = None

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

    def trace_as_sent(self) -> Trace:
        """The requests that were really sent, at the times at which they were sent (what simulators replay), ids unchanged.

        A request that never left the client is left out; times are shifted by nothing: second 0 stays the trace's start.
        """
        sent = {r.request_id: r.sent for r in self.records if r.sent is not None}
        kept = [(r, sent[r.request_id]) for r in self.trace if r.request_id in sent]
        moved = [_at(request, max(0.0, time)) for request, time in kept]
        moved.sort(key=lambda r: (r.arrival, r.request_id))
        return Trace(name=self.trace.name, requests=tuple(moved), block_size=self.trace.block_size)


def simulated_id(measured: str, system: str, track: str) -> str:
    """The id of a simulated run, whatever its settings: of one measured run, system and track there is one at a time."""
    return f"{measured}--{system}-{track}"


def _at(request: Request, arrival: float) -> Request:
    return Request(
        request_id=request.request_id,
        arrival=arrival,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        blocks=request.blocks,
    )
