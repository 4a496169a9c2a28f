"""IsseiHasegawa/vLLM-experiment: a log of requests per server, and a manifest that says which run lasted from when to when."""

import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from results.catalogue.sources import plain_folder
from results.recordings.recording import RecordingError

COLUMNS = ("request_id", "arrival", "scheduled", "first_token", "finished", "input_tokens", "output_tokens", "cached_tokens")
LATE = 0.5e-6  # s: times are written to the microsecond
CAPACITY = re.compile(r"GPU KV cache size: ([\d,]+) tokens")


@dataclass(frozen=True, kw_only=True)
class PhaseLog:
    """The runs of one model that ended well. model: as the manifest has it. warmups: requests before each run that are not of it.

    A request's times are the server's own: it arrives at `arrival_ts` and ends `e2e_s` later; its first token came `decode_s` before that,
    and it was scheduled `prefill_s` before its first token.
    """

    model: str
    warmups: int = 30

    def convert(self, repository: Path, about: Mapping[str, Any], out: Path) -> Iterator[str]:
        """See Converter."""
        path = repository / "results" / "manifest.csv"
        if not path.is_file():
            raise RecordingError(f"{repository}: no results/manifest.csv in it; the catalogue names the commit that has it")
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if (row["model"], row["status"]) == (self.model, "ok")]
        logs = {session: _requests(repository, session) for session in {row["session"] for row in rows}}
        for row in rows:
            begun, ended = float(row["start_ts"]), float(row["end_ts"])
            requests = [one for one in logs[row["session"]] if begun <= one["arrival_ts"] <= ended][self.warmups :]
            if not requests:
                continue  # its server wrote no log
            told = plain_folder.with_limits(about, tensor_parallel=int(row["tp"]), kv_tokens=_kv_tokens(repository, row))
            told["started_at"] = plain_folder.moment(requests[0]["arrival_ts"])
            plain_folder.write(out / row["run_id"], told, COLUMNS, _rows(requests))
            yield row["run_id"]


def _requests(repository: Path, session: str) -> list[dict[str, Any]]:
    """All requests of a session's servers, in order of arrival."""
    found = []
    for path in plain_folder.matching(repository, f"results/raw/session{session}/phase_logs/requests-*.jsonl.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            found += [told for line in stream if "req_id" in (told := json.loads(line))]
    return sorted(found, key=lambda one: float(one["arrival_ts"]))


def _rows(requests: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    start = float(requests[0]["arrival_ts"])
    for place, one in enumerate(requests):
        arrival = float(one["arrival_ts"]) - start
        finished = arrival + one["e2e_s"]
        first = finished - one["decode_s"]
        times = [arrival, first - one["prefill_s"], first, finished]
        for (_, earlier), (later, time) in pairwise(enumerate(times)):
            times[later] = max(time, earlier) if earlier - time < LATE else time
        yield [place, *times, one["n_prompt"], one["n_gen"], one["n_cached"]]


def _kv_tokens(repository: Path, run: Mapping[str, str]) -> int | None:
    """The KV capacity that the run's server wrote into its log when it started; None: there is no such log."""
    kind = f"server_{run['model'].rpartition('/')[2]}_tp{run['tp']}_instr-{run['instr']}_"
    logs = sorted((repository / "results" / "raw" / f"session{run['session']}").glob(f"{kind}*.log"))
    before = [log for log in logs if float(log.stem.rpartition("_")[2]) <= float(run["start_ts"])]
    found = CAPACITY.search(before[-1].read_text(encoding="utf-8", errors="replace")) if before else None
    return int(found[1].replace(",", "")) if found else None
