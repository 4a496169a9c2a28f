"""`./plumbline import --simulated-by NAME FILE --of RUN_ID`: somebody's predictions become a simulated run of a measured one.

It is scored like any other. Read `predicted_run`; predictions.py has the forms of the file.
"""

import dataclasses
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import get_args

from results.record import RequestRecord, Run, Track, simulated_id
from results.recordings.predictions import RequestPrediction, read_predictions
from results.recordings.recording import RecordingError, sha256
from results.storage.place import Place
from results.storage.run_tables import StoreError
from results.storage.store import read_meta
from workloads.trace import Request

NAME = re.compile(r"[a-z][a-z0-9_]*")
TRACKS = tuple(track for track in get_args(Track) if track != "oracle")
OTHER_UNIT = 300.0  # times the measured median latency, or one of so many parts of it: no simulator is so wrong, milliseconds are
ROUNDING = 1e-6  # s that times which should ascend may be apart by
SHOWN = 5  # ids in an error


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who predicted, as the command line says. None: not said."""

    name: str  # the system's name in the database
    track: Track  # what the predictions were calibrated on: shipped (nothing), matched (the engine's limits), calibrated
    took: float | None  # s that the simulation took
    version: str | None = None  # of the simulator

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name) is None:
            raise RecordingError(f"--simulated-by {self.name}: give a name of lower-case letters, digits and _, such as my_simulator")
        if self.track not in TRACKS:
            raise RecordingError(f"--track {self.track}: there are {', '.join(TRACKS)}")
        if self.took is None or not 0 < self.took < float("inf"):
            raise RecordingError("give --took SECONDS, what the simulation took (> 0): it is shown beside the score")


def predicted_run(path: Path, measured: Run, author: Author) -> Run:
    """The simulated run. Raises RecordingError or TraceError, in one line, for what cannot be a prediction of this run."""
    if measured.kind != "measured":
        raise RecordingError(f"--of {measured.run_id}: a {measured.kind} run; give the measured run that the predictions are of")
    read = read_predictions(path)
    asked = {r.request_id: r for r in measured.trace}
    sent = {r.request_id: r.sent for r in measured.records if r.sent is not None}
    found = _by_id(path, read.requests, known=asked.keys(), needed=sent.keys(), run_id=measured.run_id)
    records = tuple(
        _unsent(record) if record.sent is None else _record(found[record.request_id], record, record.sent, asked[record.request_id])
        for record in measured.records
    )
    _check_unit(path, measured, records)
    assert author.took is not None
    return dataclasses.replace(
        measured,
        run_id=simulated_id(measured.run_id, author.name, author.track),
        kind="simulated",
        system=author.name,
        version=author.version,
        track=author.track,
        measured_run_id=measured.run_id,
        records=records,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_s=author.took,
        valid=True,
        invalid_reason=None,
        config={**measured.config, "simulator": {"name": author.name, "imported": True, "form": read.form}},
        provenance={"predicted_by": "someone else; imported", "files": {path.name: sha256(path)}},
        telemetry=None,
    )


def may_be_replaced(folder: Place) -> None:
    """Raise StoreError where a run of this id was simulated here: an import takes the place of an import only."""
    try:
        meta = read_meta(folder)
    except (FileNotFoundError, StoreError):
        return
    if not ((meta.get("config") or {}).get("simulator") or {}).get("imported"):
        raise StoreError(f"{folder}: it was simulated here; give --simulated-by another name")


def _by_id(
    path: Path, predictions: Sequence[RequestPrediction], *, known: Set[int], needed: Set[int], run_id: str
) -> dict[int, RequestPrediction]:
    """The predictions by request: one each of those that were sent, and of no others. Raises RecordingError."""
    found: dict[int, RequestPrediction] = {}
    for one in predictions:
        if one.request_id in found:
            raise RecordingError(f"{one.where}: request {one.request_id} a second time; give each request one row")
        found[one.request_id] = one
    if unknown := sorted(found.keys() - known):
        raise RecordingError(
            f"{path}: {len(unknown)} ids that run {run_id} does not have: {_some(unknown)}; take the ids of its trace.parquet"
        )
    if missing := sorted(needed - found.keys()):
        raise RecordingError(
            f"{path}: {len(missing)} of {len(needed)} requests of run {run_id} are missing: {_some(missing)}; give each a row (one that "
            "was refused: with an error)"
        )
    return found


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")


def _unsent(record: RequestRecord) -> RequestRecord:
    """Of a request that never left the client: there is nothing to predict."""
    return RequestRecord(request_id=record.request_id, arrival=record.arrival, error="not sent in the measured run")


def _record(found: RequestPrediction, measured: RequestRecord, sent: float, asked: Request) -> RequestRecord:
    """The prediction beside the measured arrival and sending. Raises RecordingError for other tokens, and times that cannot be."""
    for name in ("input_tokens", "output_tokens"):
        told, wanted = getattr(found, name), getattr(asked, name)
        if told is not None and told != wanted:
            raise RecordingError(
                f"{found.where}: request {asked.request_id} has {name} {told}, in the run {wanted}: not the same requests; "
                "simulate those of the run (its trace.parquet)"
            )
    start = 0.0 if found.since_start else sent
    first, last = (None if time is None else start + time for time in (found.first, found.last))
    tokens = None if found.tokens is None else tuple(start + time for time in found.tokens)
    if tokens is not None and len(tokens) != asked.output_tokens:
        raise RecordingError(f"{found.where}: request {asked.request_id} has {asked.output_tokens} tokens, but {len(tokens)} token times")
    moments = [sent, *(time for time in (first, *(tokens or ()), last) if time is not None)]
    if any(later < earlier - ROUNDING for earlier, later in pairwise(moments)):
        raise RecordingError(f"{found.where}: request {asked.request_id}: its times must ascend: sent, first token, last token")
    return RequestRecord(
        request_id=measured.request_id,
        arrival=measured.arrival,
        sent=sent,
        first_token=first,
        finished=None if found.error else last,
        input_tokens=None if found.error else asked.input_tokens,
        output_tokens=None if found.error else asked.output_tokens,
        token_times=tokens,
        error=found.error,
    )


def _check_unit(path: Path, measured: Run, records: Sequence[RequestRecord]) -> None:
    """Raise RecordingError when the latencies are in another unit than seconds."""
    real, said = (_median_latency(side) for side in (measured.records, records))
    if real and said is not None and not 1 / OTHER_UNIT < said / real < OTHER_UNIT:
        raise RecordingError(f"{path}: the median latency is {said:.3g} s, measured {real:.3g} s; give seconds")


def _median_latency(records: Sequence[RequestRecord]) -> float | None:
    ends = [r.finished - r.sent for r in records if r.finished is not None and r.sent is not None]
    return median(ends) if ends else None
