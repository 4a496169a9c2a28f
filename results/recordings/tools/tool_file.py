"""ToolFile: what a load generator's file says of a run. `recording_of` adds what the one who imports says, and asks for the rest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from results.record import RequestRecord
from results.recordings.about import NEEDED, Given, described, read_about, unknown_limits
from results.recordings.recording import Recording, RecordingError, check_order, named_like, sha256
from workloads.rows import Row

HOW = {
    "system": "--system vllm (or sglang, ...)",
    "model": "--model NAME (of conf/model/)",
    "hardware": "--hardware NAME (of conf/hardware/)",
    "started_at": "--started-at 2026-04-25T18:47:18Z",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One request as a tool timed it. Times: s on the tool's clock. None: it never came, or is not recorded."""

    line: int  # in the file; or its place there, from 1
    sent: float | None  # when it left the client
    arrival: float | None = None  # when the tool meant to send it
    first_token: float | None = None  # when the first token came
    finished: float | None = None  # when the last token came
    token_times: tuple[float, ...] | None = None  # one per output token
    input_tokens: int | None = None  # of the prompt
    output_tokens: int | None = None  # generated; of a failed request: asked for, or seen before it failed
    cached_tokens: int | None = None  # of the prompt, served from the prefix cache
    error: str | None = None  # what went wrong


@dataclass(frozen=True, kw_only=True)
class ToolFile:
    """What a tool's file says, in the tool's own words where a name of conf/ is wanted."""

    path: Path  # the file
    tool: str  # which tool, and which version of it where that is known
    requests: Sequence[Timed]  # in any order
    said: Mapping[str, Any]  # of the run, with the keys of a sidecar
    closed: bool  # a request was sent when another had ended
    load: str  # how requests were offered, in words
    beside: tuple[Path, ...] = ()  # other files of the run that were read
    assumed: Mapping[str, str] = field(default_factory=dict)  # as in Recording
    notes: Mapping[str, Any] = field(default_factory=dict)  # for the run's provenance


def recording_of(told: ToolFile, given: Given) -> Recording:
    """The recording of a tool's file. Raises RecordingError: what is wrong and where, or what must be given."""
    added = read_about(given.about, given)
    said = {key: value for key, value in told.said.items() if value is not None} | added
    missing = [key for key in NEEDED if key not in said]
    if missing:
        how = ", ".join(HOW[key] for key in missing)
        raise RecordingError(f"{told.path} ({told.tool}) does not say {', '.join(missing)}; give {how}, or --about FILE")
    if "model" not in added:
        said["model"] = named_like("model", str(said["model"]), "--model")
    if not told.requests:
        raise RecordingError(f"{told.path} ({told.tool}): it has no requests")
    arrivals = [_arrival(request, told.closed) for request in told.requests]
    start = min((arrival for arrival in arrivals if arrival is not None), default=0.0)
    pairs = tuple(_pair(told.path, *both, start, place) for place, both in enumerate(zip(told.requests, arrivals, strict=True)))
    if all(record.error is not None for _, record in pairs):
        said.setdefault("invalid_reason", "every request failed")
    fields = described(str(given.about or told.path), said)
    about = () if given.about is None else (given.about,)
    return Recording(
        path=told.path,
        requests=pairs,
        form=told.tool,
        workload={"name": str(said.get("workload") or told.path.stem)},
        files={file.name: sha256(file) for file in (told.path, *told.beside, *about)},
        assumed={name: why for name, why in {**told.assumed, **dict(_assumed(told))}.items() if name not in added},
        not_recorded=(*(["version"] if fields["version"] is None else []), *unknown_limits(fields["limits"])),
        provenance={"load": said.get("load", told.load), **told.notes, **dict(_token_times(told))},
        **fields,
    )


def _arrival(request: Timed, closed: bool) -> float | None:
    """A closed loop means no time: its next request is due when a client is free, which is when it sends."""
    if request.arrival is None or closed:
        return request.sent
    return request.arrival if request.sent is None else min(request.arrival, request.sent)


def _pair(path: Path, request: Timed, arrival: float | None, start: float, place: int) -> tuple[Row, RequestRecord]:
    where = f"{path}:{request.line}"
    if arrival is None:
        raise RecordingError(f"{where}: it does not say when the request was sent")
    error = request.error
    if error is None and request.output_tokens == 0:
        error = "it ended without a token"
    if error is None and request.finished is None:
        raise RecordingError(f"{where}: it does not say when the last token came, and no error says why")
    times = {"arrival": arrival, "sent": request.sent, "first_token": request.first_token, "finished": request.finished}
    check_order(where, times)
    if any(later < earlier for earlier, later in pairwise(request.token_times or ())):
        raise RecordingError(f"{where}: a token comes before the one before it; check the clock")
    moved = {name: None if time is None else time - start for name, time in times.items()}
    row = Row(
        line=request.line,
        request_id=place,
        arrival=arrival - start,
        input_tokens=_whole(where, "input_tokens", request.input_tokens, error),
        output_tokens=_whole(where, "output_tokens", request.output_tokens, error),
    )
    return row, RequestRecord(
        request_id=place,
        arrival=arrival - start,
        sent=moved["sent"],
        first_token=moved["first_token"],
        finished=moved["finished"],
        input_tokens=row.input_tokens if error is None else None,
        output_tokens=row.output_tokens if error is None else None,
        cached_tokens=request.cached_tokens,
        token_times=None if request.token_times is None or error is not None else tuple(time - start for time in request.token_times),
        error=error,
    )


def _whole(where: str, name: str, count: int | None, error: str | None) -> int:
    """A count of a trace, which has at least one token of each; of a failed request at least 1 is taken."""
    if count is None and error is None:
        raise RecordingError(f"{where}: it does not say {name}")
    return max(count or 0, 1) if error is not None else int(count or 0)


def _assumed(told: ToolFile) -> Iterator[tuple[str, str]]:
    if told.closed:
        yield "arrival", "the time of sending: in a closed loop a request is due when another one has ended"
    elif all(request.arrival is None for request in told.requests):
        yield "arrival", "the time of sending: when requests were due is not recorded"
    if failed := sum(request.error is not None for request in told.requests):
        yield (
            "output_tokens",
            f"of {failed} failed: what was asked for where that is recorded, else what came before the failure, at least 1",
        )
    if any(request.error is not None and request.input_tokens is None for request in told.requests):
        yield "input_tokens", "of failed requests without a count: 1"


def _token_times(told: ToolFile) -> Iterator[tuple[str, str]]:
    good = [request for request in told.requests if request.error is None]
    timed = sum(request.token_times is not None for request in good)
    if good and timed < len(good):
        yield "token_times", f"of {timed} of {len(good)} requests; of the others the file has no time for each token"
