"""grantwilkins/powertrace-sim: a folder per run with vLLM's benchmark client's result, a manifest, and the engine's gauges over time."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.catalogue.sources import plain_folder
from results.recordings.recording import RecordingError

COLUMNS = ("request_id", "arrival", "first_token", "finished", "input_tokens", "output_tokens", "error")
BLOCK = 16  # tokens of a KV block, vLLM's default on GPUs; the engine's gauge counts blocks
GAUGE = "gpu_cache_usage_perc"
LIMITS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")


@dataclass(frozen=True, kw_only=True)
class PowerLedger:
    """The runs of one model on one GPU. folders: a pattern of theirs, in the repository; a run is called after the folder above its own.

    A request is sent at its `request_timestamps`, s since 1970; its first token comes `ttfts` later, and its last after all `itls`.
    """

    model: str
    folders: str

    def convert(self, repository: Path, about: Mapping[str, Any], out: Path) -> Iterator[str]:
        """See Converter."""
        for path in plain_folder.matching(repository, f"{self.folders}/manifest.json"):
            name = path.parent.parent.name
            try:
                manifest = json.loads(path.read_text())
                if manifest["model"] != self.model:
                    continue
                told = json.loads((path.parent / "requests.json").read_text())
                start = min(told["request_timestamps"])
                limits = {limit: manifest["server"][limit] for limit in LIMITS}
                known = plain_folder.with_limits(
                    {**about, "started_at": plain_folder.moment(start)},
                    **limits,
                    kv_tokens=_kv_tokens(path.parent / "engine.csv"),
                    block_size=BLOCK,
                    chunked_prefill=manifest["server"]["enable_chunked_prefill"],
                    prefix_caching=manifest["server"]["enable_prefix_caching"],
                    tensor_parallel=manifest["tp"],
                )
                plain_folder.write(out / name, known, COLUMNS, _rows(told, start))
            except (OSError, KeyError, ValueError) as error:
                raise RecordingError(f"{path.parent}: not a run of powertrace-sim ({error!r})") from error
            yield name


def _rows(told: Mapping[str, Any], start: float) -> Iterator[list[Any]]:
    """In order of arrival. A request without a first token failed."""
    columns = ("request_timestamps", "ttfts", "itls", "input_lens", "output_lens")
    requests = sorted(zip(*(told[name] for name in columns), strict=True), key=lambda request: float(request[0]))
    for place, (sent, ttft, gaps, prompt, output) in enumerate(requests):
        arrival, failed = sent - start, not ttft
        times = [None, None] if failed else [arrival + ttft, arrival + ttft + sum(gaps)]
        yield [place, arrival, *times, prompt, max(1, output), "failed" if failed else None]


def _kv_tokens(path: Path) -> int | None:
    """The KV capacity. With nothing running one block is taken, the null block, so that the gauge's least value is one over their number.

    None: the gauge was never so low.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        idle = [float(row[GAUGE]) for row in csv.DictReader(stream) if not float(row["num_requests_running"])]
    blocks = round(1 / min(idle)) if idle and min(idle) > 0 else 0
    return blocks * BLOCK if blocks and abs(blocks * min(idle) - 1) < 1e-3 else None
