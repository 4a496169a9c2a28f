"""whiz-Tuhin/vllm-traces-dashboard: a line per request with the server's timestamps, s since 1970."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.catalogue.sources import plain_folder
from results.recordings.recording import RecordingError

COLUMNS = ("request_id", "arrival", "first_token", "finished", "input_tokens", "output_tokens")
KINDS = ("per-token", "streaming", "multiturn")  # folders of traces that streamed: elsewhere the first token is the last


@dataclass(frozen=True, kw_only=True)
class TraceDashboard:
    """The traces of one model. model: as their files are called. tag: what their runs are called after their kind."""

    model: str
    tag: str

    def convert(self, repository: Path, about: Mapping[str, Any], out: Path) -> Iterator[str]:
        """See Converter."""
        for kind in KINDS:
            suffix = "" if kind == "multiturn" else "-streaming"
            (path,) = plain_folder.matching(repository, f"traces/{kind}/{self.model}{suffix}.jsonl")
            try:
                rows = sorted((json.loads(line) for line in path.read_text().splitlines() if line), key=lambda row: row["api_receive_ts"])
                start = rows[0]["api_receive_ts"]
                told = {**about, "started_at": plain_folder.moment(start)}
                plain_folder.write(out / f"{kind}-{self.tag}", told, COLUMNS, (_row(n, row, start) for n, row in enumerate(rows)))
            except (KeyError, IndexError, ValueError) as error:
                raise RecordingError(f"{path}: not a trace of this source ({error!r})") from error
            yield f"{kind}-{self.tag}"


def _row(place: int, row: Mapping[str, Any], start: float) -> list[Any]:
    times = [float(row[name]) - start for name in ("api_receive_ts", "first_token_ts", "completion_ts")]
    return [place, *times, int(row["prompt_tokens"]), int(row["output_tokens"])]
