"""Per-step batches from an engine's own log, in the long form of telemetry: time (s since the trace's second 0), name, value.

SGLang logs a line per batch, vLLM one per iteration (--enable-logging-iteration-details), once the results are there and the tokens are
on their way out: a time is the END of a step. SGLang's stamps come from its scheduler and are cut to the millisecond, so a time is up to
1 ms early; vLLM's are exact to the microsecond, but come from its API server: late by what a step takes to get there. Two steps with the
same stamp keep their order. Requests that a server refuses before it schedules them have no step.

Names, one row each per step that has the thing; a step of prefill and decode (vLLM) has both at the same time:
- step_prefill_sequences: prompts (or chunks of prompts) in it (SGLang: those new in it); step_prefill_new_tokens: tokens computed;
- step_prefill_cached_tokens (SGLang): tokens taken from the prefix cache; step_prefill_running (SGLang): requests that decode, and wait;
- step_decode_batch: sequences that decoded one token each; step_decode_kv_tokens (SGLang): tokens in the KV pool for running requests
  behind it, cached ones that nobody uses left out;
- step_prefill_queue, step_decode_queue (SGLang): requests that waited;
- step_kv_usage (vLLM): share of the KV cache in use.
How long a step took is the time since the one before it, where the engine was not idle. vLLM's own "elapsed time" is left out: with
asynchronous scheduling it is the wait for a result that is mostly there (1 ms of a step of 25 ms was seen), not the step.
"""

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.monitor.telemetry import COLUMNS

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

STEP = re.compile(r"^\[(?P<stamp>[\d-]{10} [\d:]{8}(?:\.\d{3})?)[^\]]*\] (?P<kind>Prefill|Decode) batch\b(?P<fields>.*)$", re.MULTILINE)
FIELD = re.compile(r"#(?P<name>[a-z-]+(?: token)?): (?P<value>\d+)")
ITERATION = re.compile(
    r"^(?P<stamp>\d+\.\d+) .*Iteration\(\d+\): (?P<prefills>\d+) context requests, (?P<new>\d+) context tokens, "
    r"(?P<decodes>\d+) generation requests, \d+ generation tokens, iteration elapsed time: [\d.]+ ms, "
    r".*KV cache usage: (?P<usage>[\d.]+)%",
    re.MULTILINE,
)
VLLM_STAMP = "%(created).6f "  # as VLLM_LOGGING_PREFIX: seconds since 1970 before each line; its own stamps are whole seconds
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


def nothing() -> "pd.DataFrame":
    """No steps, for an engine whose log has none."""
    import pandas as pd  # here: it takes long to import

    return pd.DataFrame(columns=list(COLUMNS)).astype({"time": float, "value": float})


def wall_clock(moment: float) -> float:
    """A time.monotonic() value as seconds since 1970, by today's difference of the two clocks."""
    return moment + time.time() - time.monotonic()


def sglang_steps(log: str, epoch: float) -> "pd.DataFrame":
    """The steps that SGLang logged from `epoch` (seconds since 1970) on. The log's stamps must be in UTC (TZ=UTC)."""
    return _frame(_sglang_rows(log, epoch))


def vllm_steps(log: str, epoch: float) -> "pd.DataFrame":
    """The steps that vLLM logged from `epoch` (seconds since 1970) on. Each line of the log must start as VLLM_STAMP says."""
    return _frame(_vllm_rows(log, epoch))


def _frame(rows: Iterable[tuple[float, str, float]]) -> "pd.DataFrame":
    import pandas as pd  # here: it takes long to import

    kept = [(time, name, value) for time, name, value in rows if time >= 0]
    return pd.DataFrame(kept, columns=list(COLUMNS)).astype({"time": float, "value": float})


def _sglang_rows(log: str, epoch: float) -> Iterator[tuple[float, str, float]]:
    for step in STEP.finditer(log):
        time = datetime.fromisoformat(step["stamp"]).replace(tzinfo=UTC).timestamp() - epoch
        names = NAMES[step["kind"]]
        for found in FIELD.finditer(step["fields"]):
            if found["name"] in names:
                yield time, f"step_{step['kind'].lower()}_{names[found['name']]}", float(found["value"])


def _vllm_rows(log: str, epoch: float) -> Iterator[tuple[float, str, float]]:
    for step in ITERATION.finditer(log):
        time = float(step["stamp"]) - epoch
        if int(step["prefills"]):
            yield time, "step_prefill_sequences", float(step["prefills"])
            yield time, "step_prefill_new_tokens", float(step["new"])
        if int(step["decodes"]):
            yield time, "step_decode_batch", float(step["decodes"])
        yield time, "step_kv_usage", float(step["usage"]) / 100
