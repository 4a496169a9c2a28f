"""Step logs of engines: what each step held and how long the engine took for it. Read `read_steps`; the form is recognised by its content.

- CSV with a line per engine step: ts (its end, s since 1970), sched_s, exec_s, n_ctx_reqs, n_ctx_toks (prompts and their tokens in it),
  n_gen_reqs (decoding sequences), n_running, kv_usage (share of the KV cache): what a patched vLLM writes of its scheduler's output;
- JSONL with an object per forward pass: start_ts, end_ts (s since 1970), duration_ms, num_tokens (tokens by request id);
- the folder of a stored run whose engine logged its steps (`engine.log_steps=true`): simulators/native/latency/own_steps.py reads that.

A step takes the time from the end of the one before to its own, where the engine was busy all along: a sequence that decodes in it was in
the one before. That holds scheduling, execution and the handling of the output. Any other step takes what is logged of it alone.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from simulators.calibration.bases import Floats
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.latency.profile_work import PROMPTS

CSV = ("ts", "sched_s", "exec_s", "n_ctx_reqs", "n_ctx_toks", "n_gen_reqs", "n_running", "kv_usage")
JSONL = ("start_ts", "end_ts", "duration_ms", "num_tokens")
GZIP = b"\x1f\x8b"
FORMS = f"a CSV with {', '.join(CSV)}, or JSONL with {', '.join(JSONL)}"


@dataclass(frozen=True, kw_only=True)
class LoggedSteps:
    """samples: a row per step in the log's order, columns as of a profile's. ends: of each, s since 1970; None: unknown. form: in words."""

    samples: pd.DataFrame
    ends: Floats | None
    form: str


def read_steps(path: Path, kv_tokens: int | None) -> LoggedSteps:
    """The steps of a log file, gzipped or not. kv_tokens: of the engine's KV cache, for logs that give shares of it.

    Raises SimulatorError for what is no such log, naming what it lacks; NotAvailable when kv_tokens is needed and unknown.
    """
    try:
        with _opened(path) as stream:
            first = stream.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise SimulatorError(f"calibration steps: {path} cannot be read ({error}); give a step log: {FORMS}") from error
    if first.startswith("{"):
        return _passes(path, first)
    names = first.strip().split(",")
    if missing := [name for name in CSV if name not in names]:
        raise SimulatorError(f"calibration steps: {path} lacks the columns {', '.join(missing)}; it must be {FORMS}")
    if kv_tokens is None:
        raise NotAvailable(f"calibration steps: {path} has shares of the KV cache, and the run does not say the engine's kv_tokens")
    return _engine_steps(path, kv_tokens)


def _engine_steps(path: Path, kv_tokens: int) -> LoggedSteps:
    with _opened(path) as stream:
        log = pd.read_csv(stream).sort_values("ts", kind="stable").reset_index(drop=True)
    batch, new, prompts = (log[name].to_numpy(dtype=np.float64) for name in ("n_gen_reqs", "n_ctx_toks", "n_ctx_reqs"))
    held = np.maximum(0.0, log["kv_usage"].to_numpy(dtype=np.float64) * kv_tokens - new)
    ends = log["ts"].to_numpy(dtype=np.float64)
    alone = (log["sched_s"] + log["exec_s"]).to_numpy(dtype=np.float64)
    before = np.append(0.0, log["n_running"].to_numpy(dtype=np.float64)[:-1])
    samples = _samples(new, prompts, np.zeros(len(log)), batch, np.where(batch > 0, held / np.maximum(batch, 1), 0.0))
    return LoggedSteps(samples=_timed(samples, ends, alone, (batch > 0) & (before > 0)), ends=ends, form="engine steps")


def _passes(path: Path, first: str) -> LoggedSteps:
    lacking = [name for name in JSONL if name not in _object(path, 1, first)]
    if lacking:
        raise SimulatorError(f"calibration steps: {path}:1 lacks {', '.join(lacking)}; it must be {FORMS}")
    rows, ends, alone, busy = [], [], [], []
    known: dict[str, int] = {}  # tokens of each request so far
    before: set[str] = set()
    for entry in _objects(path):
        tokens: Mapping[str, int] = entry["num_tokens"]
        decodes = [name for name, n in tokens.items() if n == 1 and name in known]
        prompts = [name for name in tokens if name not in decodes]
        under = sum(known.get(name, 0) for name in prompts)
        context = float(np.mean([known[name] for name in decodes])) if decodes else 0.0
        rows.append((sum(tokens[name] for name in prompts), len(prompts), under, len(decodes), context))
        ends.append(float(entry["end_ts"]))
        alone.append(1e-3 * float(entry["duration_ms"]))
        busy.append(not before.isdisjoint(decodes))
        before = set(tokens)
        known |= {name: known.get(name, 0) + n for name, n in tokens.items()}
    made = np.array(rows, dtype=np.float64)
    timed = _timed(_samples(*made.T), np.array(ends), np.array(alone), np.array(busy))
    return LoggedSteps(samples=timed, ends=np.array(ends), form="forward passes")


def _samples(new: Floats, prompts: Floats, under: Floats, batch: Floats, context: Floats) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "kind": np.where(new == 0, "decode", np.where(batch == 0, "prefill", "mixed")),
            "new_tokens": new,
            "prefill_context": under,
            "batch": batch,
            "context": context,
            PROMPTS: prompts,
            "repeat": 0,
            "held_out": False,
        }
    )


def _timed(samples: pd.DataFrame, ends: Floats, alone: Floats, busy: Any) -> pd.DataFrame:
    """With `time`: since the end of the step before where the engine was busy, else what is logged of the step alone."""
    since = np.append(np.inf, np.diff(ends))
    return samples.assign(time=np.where(np.asarray(busy, dtype=bool) & (since > 0), np.where(np.isfinite(since), since, alone), alone))


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as stream:
        zipped = stream.read(len(GZIP)) == GZIP
    return gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8")


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    with _opened(path) as stream:
        for line, text in enumerate(stream, start=1):
            if text.strip():
                yield _object(path, line, text)


def _object(path: Path, line: int, text: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise SimulatorError(f"calibration steps: {path}:{line} is no JSON object ({error.msg}); it must be {FORMS}") from error
    return found
