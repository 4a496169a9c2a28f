"""What is asked of a simulator: the requests as really sent and the engine's limits in, one record per request out."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from results import record
from results.profile import Profile
from results.record import RequestRecord, Run, Track
from results.record_table import RecordTable
from simulators.errors import SimulatorError

Support = Literal["yes", "no", "partly"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a simulator models. It is shown beside its score. A row that is not told is not modelled."""

    chunked_prefill: Support  # prompts cut into pieces that fit a step's token budget
    prefix_caching: Support  # cached tokens shared by prompts with one beginning
    kv_limit: Support  # the KV cache is as large as the engine's, and requests wait when it is full
    max_num_seqs: Support  # requests that hold KV cache and take part in steps, from their first step to their last
    token_budget: Support  # tokens of one step
    preemption: Support  # a running request gives its KV cache back when there is too little for all
    context_dependent_decode: Support  # a decode step takes longer with more cached tokens
    tensor_parallel: Support  # a layer on several devices
    pipeline_parallel: Support  # layers on several devices
    disaggregation: Support  # prefill and decode on instances of their own
    frontend_cost: Support  # what a request costs outside the steps
    token_times: Support  # when each output token comes out, not only the first and the last
    gqa: Support  # fewer KV heads than query heads
    experts: Support = "no"  # a mixture: a token passes some of a layer's feed-forward networks, a step touches those of all its tokens
    expert_parallel: Support = "no"  # whole experts on devices of their own, tokens sent to them and back
    data_parallel: Support = "no"  # engines that share experts step together, a dummy batch where one has nothing to do
    latent_attention: Support = "no"  # keys and values cached as one latent vector a token (MLA)
    windows: Support = "no"  # layers that attend to the latest tokens alone, and keep no others
    quantisation: Support = "no"  # weights or KV of fewer than 16 bits
    speculation: Support = "no"  # draft tokens that a decode verifies
    closed_loop: Support = "no"  # simulated ends make requests, or turns, due; no: they come when they were sent. Told where it matters
    notes: str = ""  # what each 'partly' means


class Simulator(Protocol):
    """One narrow seam. Hydra's `conf/simulator/*.yaml` name the classes (into the package `simulators.<name>`)."""

    @property
    def system(self) -> str:
        """Its name in the database."""
        ...

    @property
    def environment(self) -> str | tuple[str, ...] | None:
        """Name of its environment under .envs/; several, where the run says which of them it takes; None when it needs none."""
        ...

    @property
    def coverage(self) -> Coverage:
        """What it models, as configured."""
        ...

    def tracks(self) -> tuple[Track, ...]:
        """The tracks it can be run in as configured."""
        ...

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay `measured.trace_as_sent()` and return a Run of kind 'simulated' (made by `simulated_run`).

        scratch: an empty folder for its files; `scratch/log` (if written) is kept with the run. profile: needed by the calibrated track.
        Raises SimulatorError.
        """
        ...


def simulated_run(
    measured: Run,
    records: Iterable[RequestRecord],
    *,
    system: str,
    version: str | None,
    track: Track,
    wall_s: float,
    coverage: Coverage,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    looped: bool = False,
) -> Run:
    """Put a simulator's records beside the measured run: same trace, window, SLO and load, so that one line of SQL scores both.

    records: one per request of `measured.trace_as_sent()`, times in seconds since the trace's start. Their `arrival` and `sent` are
    replaced by the measured ones (latency counts from the intended arrival on both sides). A request that the client never sent
    becomes a failed record. looped: the simulator kept the measured run's closed loop, so arrivals are its own, and the window is that of
    the same requests. config: the simulator's own settings and calibration, JSON-able. Raises SimulatorError when ids differ.
    """
    table = RecordTable.of(records if isinstance(records, Sequence) else tuple(records))
    asked = {r.request_id for r in measured.records if r.sent is not None}
    simulated = set(table.request_ids.tolist())
    if asked != simulated or len(asked) != len(table):
        missing, unknown = sorted(asked - simulated)[:5], sorted(simulated - asked)[:5]
        raise SimulatorError(f"{system}: {len(asked)} requests in, {len(table)} records out; missing ids {missing}, unknown ids {unknown}")
    merged = _beside(measured.records, table)
    told = {name: support for name, support in dataclasses.asdict(coverage).items() if name != "closed_loop" or waits(measured)}
    return dataclasses.replace(
        measured,
        run_id=record.simulated_id(measured.run_id, system, track),
        kind="simulated",
        system=system,
        version=version,
        track=track,
        measured_run_id=measured.run_id,
        records=merged if looped else merged.at(arrival=[r.arrival for r in measured.records], sent=[r.sent for r in measured.records]),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_s=wall_s,
        valid=True,
        invalid_reason=None,
        window=_same_requests(measured, merged) if looped else measured.window,
        config={**measured.config, "simulator": {**config, "coverage": told}},
        provenance=provenance,
        telemetry=None,
    )


def waits(measured: Run) -> bool:
    """Whether requests of the run waited for the end of others."""
    return measured.is_closed_loop or any(request.after for request in measured.trace)


def _beside(measured: Sequence[RequestRecord], simulated: RecordTable) -> RecordTable:
    """A record per measured request, in the measured order: what the simulator said of it. One that was never sent has a failed record."""
    place = {record.request_id: number for number, record in enumerate(measured)}
    unsent = [
        RequestRecord(request_id=r.request_id, arrival=r.arrival, error="not sent in the measured run") for r in measured if r.sent is None
    ]
    parts = [simulated, RecordTable.of(unsent)] if unsent else [simulated]
    places = [np.array([place[number] for number in part.request_ids.tolist()]) for part in parts]
    return RecordTable.merged(parts, places)


def _same_requests(measured: Run, simulated: RecordTable) -> tuple[float, float] | None:
    """The window of a simulated closed loop: from the first to the last arrival of the requests in the measured run's window."""
    if measured.window is None:
        return None
    low, high = measured.window
    arrivals = [s.arrival for m, s in zip(measured.records, simulated, strict=True) if low <= m.arrival <= high]
    return (min(arrivals), max(arrivals)) if arrivals else measured.window
