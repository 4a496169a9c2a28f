"""`python -m results import`: a run that someone else recorded becomes a measured Run. Read `import_run` top to bottom.

forms.py lists the forms of a recording; shared_blocks.py adds what prompts share.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.record import SLO, RequestRecord, Run
from results.recordings.about import NEEDED, Given
from results.recordings.forms import read_recording
from results.recordings.recording import Recording, RecordingError, chosen
from results.recordings.shared_blocks import with_blocks
from workloads.rows import to_trace
from workloads.trace import Trace

DEFAULT_SLO = "interactive"  # of conf/slo, as in conf/bench.yaml
LONG_WAIT = 1.0  # s in the queue: what counts as the first sign of saturation


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says. None: as the recording says, or all of it.

    At most one of first, last and window: the part that is scored. The trace stays whole, because what a request meets depends on all the
    others.
    """

    about: Path | None = None  # a sidecar: what the requests' file does not say of the run
    benchmark: int | None = None  # which result of a file that has several, from 1
    system: str | None = None  # vllm, sglang, ...
    started_at: str | None = None  # ISO 8601; without a zone it is UTC
    model: str | None = None  # a choice of conf/model
    hardware: str | None = None  # a choice of conf/hardware
    slo: str | None = None  # a choice of conf/slo
    run_id: str | None = None  # name of the run folder
    prompts: Path | None = None  # token ids of the prompts; see shared_blocks.py
    kv_tokens: int | None = None  # the engine's KV capacity, where the one who imports knows it
    first: int | None = None  # score the first so many requests
    last: int | None = None  # score the last so many requests
    window: tuple[float, float] | None = None  # score what arrives between these seconds

    def __post_init__(self) -> None:
        if self.kv_tokens is not None and self.kv_tokens < 1:
            raise RecordingError(f"--kv-tokens must be >= 1, got {self.kv_tokens}")
        if sum(part is not None for part in (self.first, self.last, self.window)) > 1:
            raise RecordingError("give at most one of --first, --last and --window")


def import_run(path: Path, options: Options) -> Run:
    """The Run of a recording: a file or a folder of any form. Raises RecordingError, TraceError: one line, with file and row."""
    said = {name: value for name in NEEDED if (value := getattr(options, name)) is not None}
    recording = read_recording(path, Given(about=options.about, said=said, benchmark=options.benchmark))
    if options.prompts is not None:
        recording = with_blocks(recording, options.prompts)
    if options.kv_tokens is not None:
        recording = _given(recording, options.kv_tokens)
    pairs = sorted(recording.requests, key=lambda pair: pair[0].arrival or 0.0)
    trace = to_trace(recording.path, (row for row, _ in pairs), str(recording.workload["name"]))
    records = tuple(record for _, record in pairs)
    window, part = _part(recording.path, trace, options)
    ends = [r.finished for r in records if r.finished is not None]
    rate = recording.rate if recording.rate is not None else trace.rate
    return Run(
        run_id=options.run_id or _run_id(recording) + (f"-{part}" if part else ""),
        kind="measured",
        system=recording.system,
        version=recording.version,
        workload=trace.name,
        model=recording.model,
        hardware=str(recording.hardware["name"]),
        trace=trace,
        records=records,
        limits=recording.limits,
        started_at=recording.started_at,
        wall_s=max([*ends, trace.duration]) - trace.requests[0].arrival,
        slo=SLO(**chosen("slo", options.slo or DEFAULT_SLO)) if options.slo or recording.slo is None else recording.slo,
        rho=recording.rho,
        rate=rate,
        repeat=recording.repeat,
        valid=recording.invalid_reason is None,
        invalid_reason=recording.invalid_reason,
        window=window,
        config={
            "engine": dict(recording.engine),
            "model": dict(recording.model_config),
            "hardware": dict(recording.hardware),
            "workload": dict(recording.workload),
            "load": {"rate": rate, "scored": part or "all"},
            "seed": recording.seed,
        },
        provenance=_provenance(recording, trace, records),
        telemetry=recording.telemetry,
    )


def _given(recording: Recording, kv_tokens: int) -> Recording:
    told = recording.limits.kv_tokens
    if told is not None and told != kv_tokens:
        raise RecordingError(f"--kv-tokens {kv_tokens}: the recording itself says {told}; leave it out")
    return dataclasses.replace(
        recording,
        limits=dataclasses.replace(recording.limits, kv_tokens=kv_tokens),
        assumed={**recording.assumed, "kv_tokens": f"{kv_tokens}: given when it was imported, not read back"},
        not_recorded=tuple(name for name in recording.not_recorded if name != "kv_tokens"),
    )


def _run_id(recording: Recording) -> str:
    if recording.run_id is not None:
        return recording.run_id
    moment = recording.started_at[:19].replace("-", "").replace(":", "")
    return f"{moment}-{recording.system}-{recording.workload['name']}"


def _part(path: Path, trace: Trace, options: Options) -> tuple[tuple[float, float], str | None]:
    """The window to score, and its name; without an option all arrivals, as a bench has it."""
    if options.window is not None:
        start, end = options.window
        if not any(start <= r.arrival <= end for r in trace):
            raise RecordingError(f"--window {start:g} {end:g}: no request arrives then; {path} has arrivals up to {trace.duration:g} s")
        return (start, end), f"from{start:g}to{end:g}s"
    count, name = (options.first, "first") if options.last is None else (options.last, "last")
    if count is None:
        return (0.0, trace.duration), None
    if not 1 <= count <= len(trace):
        raise RecordingError(f"--{name} must be 1 to {len(trace)}, the number of requests in {path}; got {count}")
    cut = count if name == "first" else len(trace) - count
    arrivals = [r.arrival for r in trace]
    if 0 < cut < len(trace) and arrivals[cut - 1] == arrivals[cut]:
        raise RecordingError(f"--{name} {count}: the requests on both sides of the cut arrive at {arrivals[cut]} s; take another number")
    window = (0.0, arrivals[cut - 1]) if name == "first" else (arrivals[cut], trace.duration)
    return window, f"{name}{count}"


def _provenance(recording: Recording, trace: Trace, records: tuple[RequestRecord, ...]) -> dict[str, Any]:
    return {
        "recorded_by": "someone else; imported",
        "form": recording.form,
        "files": dict(recording.files),
        "assumed": dict(recording.assumed),
        "not_recorded": list(recording.not_recorded),
        "gates": "none: nobody watched the load generator",
        **recording.provenance,
        "kv_held": _kv_held(records),
        "queueing": _queueing(records),
        "shared_prefixes": _sharing(trace),
    }


def _kv_held(records: tuple[RequestRecord, ...]) -> dict[str, Any]:
    """An estimate of the most KV held at one moment: the tokens of all requests that were between their first and last token."""
    running = [
        (r.first_token, r.finished, r.input_tokens, r.output_tokens)
        for r in records
        if r.first_token is not None and r.finished is not None and r.input_tokens is not None and r.output_tokens is not None
    ]
    most = _most_held(running)
    return {
        "peak_tokens": None if most is None else round(most),
        "is": "an estimate: outputs grow evenly from first to last token, shared prefixes count once for each, preempted ones as running",
    }


def _most_held(running: list[tuple[float, float, int, int]]) -> float | None:
    """The most tokens at the end of a request; None without one. Only those that overlap are summed: a recording may have 17,000."""
    most: float | None = None
    held: list[tuple[float, float, int, int]] = []
    coming = sorted(running, reverse=True)
    for now in sorted({end for _, end, *_ in running}):
        while coming and coming[-1][0] <= now:
            held.append(coming.pop())
        most = max(most or 0.0, _held_at(now, held))
        held = [one for one in held if one[1] > now]
    return most


def _held_at(now: float, running: list[tuple[float, float, int, int]]) -> float:
    grown = ((now - start) / (end - start) if end > start else 1.0 for start, end, *_ in running)
    return sum(prompt + output * share for (start, end, prompt, output), share in zip(running, grown, strict=True) if start <= now <= end)


def _queueing(records: tuple[RequestRecord, ...]) -> Mapping[str, Any] | None:
    """From which request on the engine was behind; None when no request's scheduling time is known."""
    waits = [(place, r, r.scheduled - r.arrival) for place, r in enumerate(records) if r.scheduled is not None]
    if not waits:
        return None
    first = next(((place, r.arrival) for place, r, wait in waits if wait > LONG_WAIT), (None, None))
    return {"longest_wait_s": max(wait for *_, wait in waits), "first_wait_over_1s": {"request": first[0], "arrival_s": first[1]}}


def _sharing(trace: Trace) -> str:
    """What the trace knows of prefixes that requests share."""
    if trace.block_size is None:
        return "unknown: the prompts were not given (--prompts), so simulators take every prompt to be new"
    seen: set[int] = set()
    shared = 0
    for request in trace:
        shared += sum(block in seen for block in request.blocks)
        seen.update(request.blocks)
    tokens = shared * trace.block_size
    total = sum(r.input_tokens for r in trace)
    return f"{tokens} of {total} prompt tokens ({tokens / total:.1%}) in blocks that an earlier request had"
