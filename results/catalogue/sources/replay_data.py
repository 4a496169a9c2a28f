"""inference-sim/training: what inference-perf sent, and the ground truth of each request beside it; times from the first arrival."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from results.catalogue.sources import plain_folder
from results.recordings.recording import RecordingError

COLUMNS = ("request_id", "arrival", "first_token", "finished", "input_tokens", "output_tokens", "error", "blocks")
STRIDE = 1000  # ids of blocks between two prompts
MICRO = 1e-6


@dataclass(frozen=True, kw_only=True)
class ReplayData:
    """The files replay_data/*.json of one model. model: its short name there. prompts: how many the client sends in a cycle.

    Prompts at the same place of the cycle are taken as the same where their lengths are: the client's processes change places at times.
    """

    model: str
    prompts: int = 100

    def convert(self, repository: Path, about: Mapping[str, Any], out: Path) -> Iterator[str]:
        """See Converter."""
        for path in plain_folder.matching(repository, "replay_data/*_ground_truth.json"):
            name = path.name.removesuffix("_ground_truth.json")
            try:
                asked, truth = json.loads(path.with_name(f"{name}.json").read_text()), json.loads(path.read_text())
                if asked["model_short"] != self.model:
                    continue
                plain_folder.write(out / name, _about(about, name, asked["config"]), COLUMNS, self._rows(asked, truth))
            except (OSError, KeyError, IndexError, ValueError) as error:
                raise RecordingError(f"{path}: not a ground truth of inference-sim/training ({error!r})") from error
            yield name

    def _rows(self, asked: Mapping[str, Any], truth: list[Mapping[str, Any]]) -> Iterator[list[Any]]:
        """One row per request that has an answer to score, or an error."""
        size, prompts = int(asked["config"]["block_size"]), dict[tuple[int, int], int]()
        for place, (request, came) in enumerate(zip(asked["requests"], truth, strict=True)):
            arrival, tokens = MICRO * request["arrival_time_us"], int(request["input_tokens"])
            failed = request["has_error"] or came["has_error"]
            prompt = prompts.setdefault((place % self.prompts, tokens), len(prompts))
            blocks = " ".join(str(STRIDE * prompt + block) for block in range(tokens // size))
            times = [None, None] if failed else [arrival + came["ttft_s"], arrival + came["e2e_s"]]
            counts = [max(1, tokens), max(1, int(request["output_tokens"]))]  # 0 where nothing was counted: of a failed request, say
            yield [place, arrival, *times, *counts, "failed" if failed else None, blocks]


def _about(about: Mapping[str, Any], name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    told = plain_folder.with_limits(
        about,
        tensor_parallel=config["tensor_parallelism"],
        kv_tokens=config["kv_blocks_total_gpu"] * config["block_size"],
        max_num_seqs=config["max_num_seqs"],
        max_num_batched_tokens=config["max_num_batched_tokens"],
    )
    day, time, *_ = name.split("-")
    return {**told, "started_at": f"{datetime.strptime(day + time, '%Y%m%d%H%M%S'):%Y-%m-%dT%H:%M:%SZ}"}
