"""inference-sim/residency-vllm: traces of `blis observe` (version 3), a folder per run, times in microseconds."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.catalogue.sources import plain_folder
from results.recordings.recording import RecordingError

COLUMNS = ("request_id", "arrival", "sent", "first_token", "finished", "input_tokens", "output_tokens", "error")
MICRO = 1e-6


@dataclass(frozen=True, kw_only=True)
class BlisTrace:
    """Every results/**/trace.csv; the run results/a/b/trace.csv is called a-b.

    Arrivals count from the trace's start, sending and chunks from 1970. The difference is not recorded. A request is sent at its arrival or
    later, so the least (sent - arrival) is taken: the client's own delay then counts from that of its most punctual request.
    """

    def convert(self, repository: Path, about: Mapping[str, Any], out: Path) -> Iterator[str]:
        """See Converter."""
        for path in plain_folder.matching(repository, "results/**/trace.csv"):
            name = "-".join(path.relative_to(repository / "results").parent.parts)
            with path.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            try:
                rows.sort(key=lambda row: int(row["arrival_time_us"]))
                clock = min(int(row["send_time_us"]) - int(row["arrival_time_us"]) for row in rows)
                first = int(rows[0]["arrival_time_us"])
                told = {**about, "started_at": plain_folder.moment(MICRO * (clock + first))}
                plain_folder.write(out / name, told, COLUMNS, (_row(place, row, first, clock + first) for place, row in enumerate(rows)))
            except (KeyError, IndexError, ValueError) as error:
                raise RecordingError(f"{path}: not a trace of blis observe, version 3 ({error!r})") from error
            yield name


def _row(place: int, row: Mapping[str, str], first: int, start: int) -> list[Any]:
    """first: arrival of the first request; start: the same moment on the wall clock, microseconds."""
    sent, begun, ended = (MICRO * (int(row[f"{name}_time_us"]) - start) for name in ("send", "first_chunk", "last_chunk"))
    error = None if row["status"] == "ok" else row["error_message"] or row["status"]
    times = [sent, None, None] if error is not None else [sent, begun, ended]
    counts = [int(row["server_input_tokens"] or row["input_tokens"]), int(row["output_tokens"])]
    return [place, MICRO * (int(row["arrival_time_us"]) - first), *times, *counts, error]
