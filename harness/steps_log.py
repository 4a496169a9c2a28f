"""Per-step batches from an engine's own log, in the long form of telemetry: time (s since the trace's second 0), name, value.

SGLang logs a line per batch once the step's results are there and its tokens are on their way out: a time is the END of a step. Stamps
are the server's wall clock (UTC), cut to the millisecond, so a time is up to 1 ms early; two steps that end within one millisecond
share their time and keep their order. Requests that the server aborts before it schedules them have no step.

Names, one row each per step:
- step_decode_batch: sequences that decoded one token each; step_decode_kv_tokens: tokens that running requests hold in the KV pool
  behind it; step_decode_queue: requests that waited.
- step_prefill_sequences: prompts (or parts of prompts) new in it; step_prefill_new_tokens: tokens computed; step_prefill_cached_tokens:
  tokens taken from the prefix cache; step_prefill_running: requests decoding meanwhile, which wait; step_prefill_queue.
"""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd

from harness.telemetry import COLUMNS

STEP = re.compile(r"^\[(?P<stamp>[\d-]{10} [\d:]{8}(?:\.\d{3})?)[^\]]*\] (?P<kind>Prefill|Decode) batch\b(?P<fields>.*)$", re.MULTILINE)
FIELD = re.compile(r"#(?P<name>[a-z-]+(?: token)?): (?P<value>\d+)")
NAMES = {
    "Decode": {"running-req": "batch", "token": "kv_tokens", "full token": "kv_tokens", "queue-req": "queue"},
    "Prefill": {
        "new-seq": "sequences",
        "new-token": "new_tokens",
        "cached-token": "cached_tokens",
        "running-req": "running",
        "queue-req": "queue",
    },
}


def nothing() -> pd.DataFrame:
    """No steps: of an engine that does not tell them."""
    return pd.DataFrame(columns=list(COLUMNS)).astype({"time": float, "value": float})


def wall_clock(moment: float) -> float:
    """A time.monotonic() value as seconds since 1970, by how the two clocks stand to each other now."""
    return moment + time.time() - time.monotonic()


def sglang_steps(log: str, epoch: float) -> pd.DataFrame:
    """The steps that SGLang logged from `epoch` (seconds since 1970) on. The log's stamps must be in UTC (TZ=UTC)."""
    rows = [(time, name, value) for time, name, value in _sglang_rows(log, epoch) if time >= 0]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"time": float, "value": float})


def _sglang_rows(log: str, epoch: float) -> Iterator[tuple[float, str, float]]:
    for step in STEP.finditer(log):
        time = datetime.fromisoformat(step["stamp"]).replace(tzinfo=UTC).timestamp() - epoch
        names = NAMES[step["kind"]]
        for found in FIELD.finditer(step["fields"]):
            if found["name"] in names:
                yield time, f"step_{step['kind'].lower()}_{names[found['name']]}", float(found["value"])
