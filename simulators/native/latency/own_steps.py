"""The step times of a measured run's own steps, as a profile: what the track `oracle` is fitted to.

An engine's step log (telemetry rows step_*, harness/engines/step_log.py) has the end of each step and what was in it. A step took the time
since the end of the step before, where the engine had work all along: it decoded, or a request had been waiting since before. Two things
that are not in the log come from the records. The contexts of decoding sequences are their tokens so far. The cached tokens under a
prompt's chunk are found by laying the prompts end to end in order of sending: a scheduler that serves first come, first served computes
them so.

Two kinds of steps are left out of the fit: steps with chunks of several prompts, as a profile's point has one; and steps that a process
logged all at once after it was held up, with the long step before them, as only their sum is known.

All times are multiplied by one number such that the fitted model gives all these steps together the time that they took. The fit gives
outliers little weight, so without that number it would give less: an engine is held up now and then.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.profile import SAMPLE_COLUMNS, Profile
from results.record import RequestRecord, Run
from simulators.errors import NotAvailable
from simulators.native import sequence
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.latency.stairs import profiled
from simulators.native.latency.step_time import StepTime
from simulators.native.sequence import Batch

Array = NDArray[np.float64]
Chunk = tuple[int, int]
Records = Sequence[RequestRecord]

COLUMNS = (
    "step_prefill_sequences",
    "step_prefill_new_tokens",
    "step_prefill_cached_tokens",
    "step_decode_batch",
    "step_decode_kv_tokens",
)
ON_STEPS = "profile_on_these_steps"
TOLD = ("step_times_multiplied_by", ON_STEPS)
LEAST = 2  # points of a kind that a fit needs
HANDOVER = 0.01  # s that a request may have been sent before it reaches the scheduler
LOGGED = 1e-3  # s that a step may be logged after its tokens are read
AT_ONCE = 0.3  # of the median decode step: a step logged sooner than this after the one before was logged together with it
SAME_WORK = 0.02  # by how much the prompts' tokens in the log and in the records may differ


def own_profile(measured: Run, profile: Profile | None, *, apart: bool = False, recomputed: bool = False) -> Profile:
    """The run's own steps as samples, and the front-end cost of the engine's profile where there is one.

    Where the run has too few steps of a kind (prompts computed alone, in a busy run), the profile's are added. apart, recomputed: as
    MeasuredStepTime has them. The provenance of what is returned says how the given profile does on these very steps (TOLD).
    Raises NotAvailable when the run has no step log, or too little in it.
    """
    steps = logged_steps(measured)
    if steps.empty:
        raise NotAvailable(
            f"native: the oracle track needs the engine's step log, and run {measured.run_id} has none; measure with engine.log_steps=true"
        )
    timed = _samples(measured, steps)
    samples = timed.loc[_apart(timed), list(SAMPLE_COLUMNS)].reset_index(drop=True)
    given = profile.samples if profile is not None else samples.iloc[:0]
    for kind in ("prefill", "decode"):
        if (samples["kind"] == kind).sum() < LEAST:
            samples = pd.concat([samples, given[(given["kind"] == kind) & ~given["held_out"].astype(bool)]], ignore_index=True)
        if (samples["kind"] == kind).sum() < LEAST:
            raise NotAvailable(
                f"native: the oracle track of run {measured.run_id} has {(samples['kind'] == kind).sum()} {kind} steps to fit, and no "
                f"profile to fill up from; it needs {LEAST}"
            )
    samples = pd.concat([samples, given[given["kind"] == "frontend"]], ignore_index=True)
    own = Profile(
        profile_id=f"{measured.run_id}-steps",
        system=measured.system,
        version=measured.version,
        model=measured.config["model"],
        hardware=measured.hardware,
        limits=measured.limits,
        samples=samples,
        source="the steps of the very run that is simulated: a diagnosis, no prediction",
        started_at=measured.started_at,
        wall_s=measured.wall_s,
        provenance={} if profile is None else profile.provenance,
    )
    scaled = _with_their_time(own, timed, _predicted(timed, MeasuredStepTime(own, apart=apart, recomputed=recomputed), recomputed))
    if profile is None:
        return scaled
    held = _held_against(timed, profiled(profile, apart=apart, recomputed=recomputed), recomputed)
    return dataclasses.replace(scaled, provenance={**scaled.provenance, ON_STEPS: held})


def profile_on_steps(measured: Run, profile: Profile, *, apart: bool = False, recomputed: bool = False) -> dict[str, dict[str, float]]:
    """What a profile says of the run's own steps: by kind `steps`, `took_s` and `profile_s`; {} for a run without a log.

    Where the two differ, the machine changed between the profile and the run, or the profile is wrong; no scheduler is to blame.
    """
    if measured.telemetry is None or (steps := logged_steps(measured)).empty:
        return {}
    return _held_against(_samples(measured, steps), profiled(profile, apart=apart, recomputed=recomputed), recomputed)


def logged_steps(measured: Run) -> pd.DataFrame:
    """One row per step of the log, by time: `time`, `before` (the end of the step before it, NaN for the first), and COLUMNS (0: none)."""
    told = measured.telemetry
    rows = told[told["name"].isin(COLUMNS)] if told is not None else pd.DataFrame(columns=["time", "name", "value"])
    steps = rows.pivot_table(index="time", columns="name", values="value", aggfunc="sum").reindex(columns=list(COLUMNS))
    steps = steps.fillna(0.0).sort_index().reset_index()
    return steps.assign(before=steps["time"].shift())


def _samples(measured: Run, steps: pd.DataFrame) -> pd.DataFrame:
    """The steps whose duration is known, as samples of a profile. chunks: of the prompts in each step."""
    times, before = steps["time"].to_numpy(dtype=np.float64), steps["before"].to_numpy(dtype=np.float64)
    batch = steps["step_decode_batch"].to_numpy(dtype=np.float64)
    new = steps["step_prefill_new_tokens"].to_numpy(dtype=np.float64)
    told = steps["step_decode_kv_tokens"].to_numpy(dtype=np.float64)
    by_records = _mean_context(measured.records, np.nan_to_num(before))
    context = np.where(told > 0, told / np.maximum(batch, 1), by_records)
    chunks = _chunks(measured.records, steps)
    seconds = times - before
    kept = (seconds > 0) & ((batch > 0) | _waited(measured.records, before, times)) & ((new > 0) | (batch > 0))
    samples = pd.DataFrame(
        {
            "kind": np.where(new == 0, "decode", np.where(batch == 0, "prefill", "mixed")),
            "new_tokens": new,
            "prefill_context": [float(found[0][1]) if found else 0.0 for found in chunks],
            "batch": batch,
            "context": np.where(batch > 0, context, 0.0),
            "time": seconds,
            "repeat": 0,
            "held_out": False,
            "chunks": chunks,
        }
    )
    timed: pd.DataFrame = samples[kept].reset_index(drop=True)
    return timed


def _apart(timed: pd.DataFrame) -> NDArray[np.bool_]:
    """Which steps have a duration of their own in the log, and at most one prompt's chunk."""
    seconds = timed["time"].to_numpy(dtype=np.float64)
    decodes = seconds[(timed["kind"] == "decode").to_numpy()]
    at_once = seconds < AT_ONCE * np.median(decodes) if len(decodes) else np.zeros(len(seconds), dtype=bool)
    return np.asarray(~at_once & ~np.append(at_once[1:], False) & (timed["chunks"].map(len).to_numpy() <= 1))


def _token_times(record: RequestRecord) -> Array:
    """When the record's tokens came; evenly spread where the run does not show it."""
    if record.token_times:
        return np.asarray(record.token_times, dtype=np.float64)
    if record.first_token is None or record.finished is None:
        return np.empty(0)
    return np.linspace(record.first_token, record.finished, record.output_tokens or 1)


def _mean_context(records: Records, moments: Array) -> Array:
    """Tokens under a sequence that decodes in the step beginning at each moment: the mean over those that do; 0 where none does."""
    times, contexts, counts = [], [], []
    for record in records:
        tokens = _token_times(record)
        if len(tokens):
            change = np.ones(len(tokens))
            change[0] = record.input_tokens or 0
            change[-1] -= (record.input_tokens or 0) + len(tokens) - 1  # its last token ends it
            present = np.zeros(len(tokens))
            present[0] += 1
            present[-1] -= 1
            times.append(tokens)
            contexts.append(change)
            counts.append(present)
    if not times:
        return np.zeros(len(moments))
    order = np.argsort(np.concatenate(times), kind="stable")
    at = np.searchsorted(np.concatenate(times)[order], moments + LOGGED, side="right")
    total, present = (np.concatenate([[0.0], np.cumsum(np.concatenate(part)[order])])[at] for part in (contexts, counts))
    return np.where(present > 0, total / np.maximum(present, 1), 0.0)


def _chunks(records: Records, steps: pd.DataFrame) -> list[tuple[Chunk, ...]]:
    """The prompts' chunks that each step computes: (new tokens, tokens in the cache under them).

    Where the log's tokens are not those of the prompts (a preempted one is computed twice), a step's chunks are taken to be of equal
    length, on top of what the log says was cached.
    """
    new = steps["step_prefill_new_tokens"].to_numpy(dtype=np.int64)
    served = sorted((r for r in records if r.sent is not None and r.first_token is not None), key=lambda r: (r.sent, r.request_id))
    cached = [r.cached_tokens or 0 for r in served]
    missing = [(r.input_tokens or 0) - c for r, c in zip(served, cached, strict=True)]
    if abs(int(new.sum()) - sum(missing)) > SAME_WORK * sum(missing):
        counts, under = (steps[f"step_prefill_{name}"].to_numpy(dtype=np.int64) for name in ("sequences", "cached_tokens"))
        return [((n // c, u // c),) * c if n else () for n, c, u in zip(new, np.maximum(counts, 1), under, strict=True)]
    found = []
    which, done = 0, 0  # the prompt that is next, and how many of its uncached tokens are computed
    for tokens in new:
        chunks = []
        while tokens > 0 and which < len(missing):
            chunk = min(int(tokens), missing[which] - done)
            if chunk:
                chunks.append((chunk, cached[which] + done))
            tokens, done = tokens - chunk, done + chunk
            if done == missing[which]:
                which, done = which + 1, 0
        found.append(tuple(chunks))
    return found


def _waited(records: Records, before: Array, times: Array) -> NDArray[np.bool_]:
    """Whether some request was at the engine, without a first token, from before the first moment until the second."""
    waits = sorted((r.sent, r.first_token) for r in records if r.sent is not None and r.first_token is not None)
    if not waits:
        return np.zeros(len(times), dtype=bool)
    sent, first_token = np.array(waits, dtype=np.float64).T
    latest = np.concatenate([[-np.inf], np.maximum.accumulate(first_token)])
    return np.asarray(latest[np.searchsorted(sent, before - HANDOVER, side="right")] >= times - LOGGED)


def _with_their_time(profile: Profile, timed: pd.DataFrame, predicted: Array) -> Profile:
    """The profile with its times multiplied by one number: the time that all timed steps took over what the fitted model gives them."""
    samples, total = profile.samples, float(predicted.sum())
    factor = float(timed["time"].sum()) / total if total > 0 else 1.0
    scaled = samples.assign(time=samples["time"].where(samples["kind"] == "frontend", samples["time"] * factor))
    return dataclasses.replace(profile, samples=scaled, provenance={**profile.provenance, "step_times_multiplied_by": factor})


def _held_against(timed: pd.DataFrame, model: StepTime, recomputed: bool) -> dict[str, dict[str, float]]:
    """Of each kind of step: how many, how long they took, and how long a model says that steps of the same composition take, s in sum."""
    kinds = timed.assign(says=_predicted(timed, model, recomputed)).groupby("kind")
    return {
        str(kind): {"steps": len(steps), "took_s": float(steps["time"].sum()), "profile_s": float(steps["says"].sum())}
        for kind, steps in kinds
    }


def _predicted(timed: pd.DataFrame, model: StepTime, recomputed: bool) -> Array:
    """The seconds that a model gives each step."""
    steps = zip(timed["chunks"], timed["batch"], timed["context"], strict=True)
    return np.array([model.seconds(_batch(chunks, int(batch), int(context), recomputed)) for chunks, batch, context in steps])


def _batch(chunks: tuple[Chunk, ...], decodes: int, context: int, recomputed: bool) -> Batch:
    """A batch of a step's composition. context: tokens under each of its decodes."""
    batch = Batch()
    for number, (tokens, under) in enumerate([*chunks, *[(1, context or 1)] * decodes]):
        batch.sequences.append(
            sequence.Sequence(index=len(batch.sequences), arrival=0.0, prompt=tokens, output=1)
        )  # any sequence will do: nothing asks which it is
        if recomputed and number < len(chunks):
            batch.count_prefill(tokens, under, recomputed=True)
        else:
            batch.count(tokens, under)
    return batch
