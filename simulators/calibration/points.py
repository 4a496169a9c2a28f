"""The Profile made of step times that were not measured, and which steps it has: every such source goes through here."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import pandas as pd

from results.profile import BENDS, SAMPLE_COLUMNS, Profile
from results.record import Run
from simulators.calibration.operation_tables.grid import OutsideTables
from simulators.inputs import known_limits


class StepSeconds(Protocol):
    """How long a step takes."""

    def __call__(self, *, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> float:
        """s of `new` tokens of a prompt on `cached` ones, and `batch` sequences, one token each on `context`. Raises OutsideTables."""
        ...


PROMPTS = (1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)  # tokens
HELD_OUT_PROMPTS = (48, 96, 192, 384, 768, 1536, 3072, 6144)
CACHED = (0, 512, 1024, 2048, 4096, 8192)  # tokens
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # sequences
HELD_OUT_BATCHES = (3, 6, 12, 24, 48, 96, 192, 384)
CONTEXTS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)  # tokens
MIXED_CONTEXTS = (128, 512, 2048)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One step; the fields are those of a profile's samples."""

    kind: str
    new_tokens: int = 0
    prefill_context: int = 0
    batch: int = 0
    context: int = 0
    held_out: bool = False


def points(
    *, tokens: int, sequences: int, longest: int, kv_tokens: int | None, bends: Iterable[int] = (), jumps: Iterable[int] = ()
) -> Iterator[Point]:
    """Steps of at most `tokens` tokens and `sequences` sequences, each of at most `longest` tokens, all in `kv_tokens` of KV cache.

    bends: numbers of tokens; prompts of each, with nothing cached, are added. jumps: numbers of sequences; decodes of one more are added.
    """
    room = float("inf") if kv_tokens is None else kv_tokens
    prompts = {n: False for n in (*PROMPTS, tokens) if n <= tokens} | {n: True for n in HELD_OUT_PROMPTS if n < tokens}
    batches = {b: False for b in sorted({*BATCHES, *(b + 1 for b in jumps), sequences}) if b <= sequences} | {
        b: True for b in HELD_OUT_BATCHES if b < sequences
    }
    for n, held_out in prompts.items():
        for cached in CACHED:
            if cached == 0 or cached + n <= longest:
                yield Point(kind="prefill", new_tokens=n, prefill_context=cached, held_out=held_out)
    for n in bends:
        if n <= min(tokens, longest) and n not in prompts:
            yield Point(kind="prefill", new_tokens=n)
    for b, held_out in batches.items():
        for c in (*(c for c in CONTEXTS if c < longest), longest):
            if b * c <= room:
                yield Point(kind="decode", batch=b, context=c, held_out=held_out)
    for n in (n for n in prompts if n >= PROMPTS[1]):
        for b in (b for b in batches if b >= 4 or b == sequences):
            for c in MIXED_CONTEXTS:
                if n + b <= tokens and c <= longest and b * c <= room:
                    yield Point(kind="mixed", new_tokens=n, batch=b, context=c, held_out=prompts[n] or batches[b])


def compose(
    measured: Run,
    seconds: StepSeconds,
    *,
    profile_id: str,
    source: str,
    provenance: Mapping[str, Any],
    bends: Sequence[int] = (),
    jumps: Sequence[int] = (),
) -> Profile:
    """The profile of `seconds` over the steps that the run's engine can make.

    bends: tokens of a step between which `seconds` is smooth, where that is known (the sizes that a table has); our own simulator then
    fits a piece to each stretch (simulators/native/latency/measured.py). jumps: sequences of a decode step beyond which `seconds` may jump.

    Steps that a table does not reach are left out, and counted in the provenance with the first reason; simulators then count the
    steps for which they go beyond what a profile has. Raises NotAvailable when the run does not say its engine's limits.
    """
    sequences, tokens = known_limits("calibration", measured, ("max_num_seqs", "max_num_batched_tokens"))
    longest = max(r.input_tokens + r.output_tokens for r in measured.trace)
    rows, outside = [], []
    for point in points(tokens=tokens, sequences=sequences, longest=longest, kv_tokens=measured.limits.kv_tokens, bends=bends, jumps=jumps):
        try:
            time = seconds(new=point.new_tokens, cached=point.prefill_context, batch=point.batch, context=point.context)
        except OutsideTables as error:
            outside.append(str(error))
            continue
        rows.append({**dataclasses.asdict(point), "time": time, "repeat": 0})
    return Profile(
        profile_id=profile_id,
        system=measured.system,
        version=measured.version,
        model=measured.config["model"],
        hardware=measured.hardware,
        limits=measured.limits,
        samples=pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)),
        source=source,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_s=0.0,
        provenance={
            **provenance,
            BENDS: list(bends),
            "points": len(rows),
            "points_outside": len(outside),
            "outside": outside[0] if outside else None,
        },
    )
