"""`calibration=steps`: an engine's step log becomes a law, and a profile for all simulators."""

import dataclasses
import gzip
import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.record import Run
from results.storage.store import write_run
from simulators.calibration.from_steps import FromSteps
from simulators.calibration.step_logs import read_steps
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.latency.stairs import profiled
from tests.simulators.calibration.made_runs import calibration
from tests.simulators.native.latency.test_own_steps import LAW, served
from tests.simulators.native.latency.test_step_time import batch
from tests.simulators.native.test_native import native
from tests.simulators.profiles import make_measured

DATA = Path(os.environ.get("PLUMBLINE_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")) / "recordings" / "steps"
KV_TOKENS = 65_536
STARTED = 1_700_000_000.0  # s since 1970
SCHEDULING = 0.4e-3  # s
OUTPUT = 0.3e-3  # s between the end of a step's execution and the next


def source(log: Path, **changes: Any) -> FromSteps:
    found = calibration("calibration=steps", f"calibration.log={log}", *(f"calibration.{k}={v}" for k, v in changes.items()))
    assert isinstance(found, FromSteps)
    return found


def truth(new: float, prompts: float, decodes: float) -> float:
    """Seconds of a step: graphs of 8, 16, ... sequences, that of 24 faster than that of 16; a prompt's tokens cost more."""
    graph = 8 * math.ceil(decodes / 8)
    decode = 0.03 + 2e-5 * graph - 0.002 * (17 <= decodes <= 24)
    return decode if not new else 0.031 + 1e-4 * (new + decodes) + 1e-4 * prompts


def composition(number: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """(new tokens, prompts, decodes) of a step."""
    prompts = int(rng.integers(1, 3)) if number % 4 == 0 else 0
    return prompts * int(rng.integers(10, 250)), prompts, int(rng.integers(1, 60))


def engine_log(path: Path, *, steps: int = 3000) -> Path:
    """A CSV log: the engine is busy all along, but for 5 s before every 500th step, a prompt alone."""
    rng, now, rows = np.random.default_rng(4), STARTED, []
    for number in range(steps):
        new, prompts, decodes = composition(number, rng)
        if number % 500 == 0:
            now, new, prompts, decodes = now + 5.0, 100, 1, 0
        took = truth(new, prompts, decodes)
        now += took
        held = (decodes * 300 + new) / KV_TOKENS
        rows.append((now, SCHEDULING, took - SCHEDULING - OUTPUT, prompts, new, decodes, decodes, prompts + decodes, 0, held))
    names = ["ts", "sched_s", "exec_s", "n_ctx_reqs", "n_ctx_toks", "n_gen_reqs", "n_gen_toks", "n_running", "n_waiting", "kv_usage"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    return path


@pytest.fixture
def measured() -> Run:
    return make_measured([(0.05 * i, 40 + 7 * i, 20) for i in range(30)])


def test_the_law_of_a_log_is_found_jumps_and_all_and_told_on_steps_that_were_held_out(measured: Run, tmp_path: Path) -> None:
    profile = source(engine_log(tmp_path / "steps.csv")).profile(measured, None)
    assert profile is not None
    law = profiled(profile)
    for decodes in (1, 8, 9, 16, 17, 24, 25, 40):
        assert law.seconds(batch(*[(1, 300)] * decodes)) == pytest.approx(truth(0, 0, decodes), rel=0.002)
    for new, decodes in ((20, 5), (200, 30), (400, 10)):
        assert law.seconds(batch((new, 0), *[(1, 300)] * decodes)) == pytest.approx(truth(new, 1, decodes), rel=0.02)
    told = profile.provenance["steps_held_out"]
    assert told["points"] == 600  # a fifth
    assert told["median_abs_error"] < 0.005
    assert profile.provenance["steps_fitted"] == 2400


def test_every_simulator_gets_what_the_law_says_of_each_point(measured: Run, tmp_path: Path) -> None:
    profile = source(engine_log(tmp_path / "steps.csv")).profile(measured, None)
    assert profile is not None
    law = profiled(profile)
    decodes = profile.samples[profile.samples["kind"] == "decode"]
    assert len(decodes) > 20
    for context, decoding, time in decodes[["context", "batch", "time"]].itertuples(index=False):
        assert time == pytest.approx(law.seconds(batch(*[(1, int(context))] * int(decoding))))
    assert {"prefill", "decode", "mixed"} == set(profile.samples["kind"])


def test_native_serves_with_the_log_s_law_and_says_how_good_it_is(measured: Run, tmp_path: Path) -> None:
    profile = source(engine_log(tmp_path / "steps.csv")).profile(measured, None)
    run = native().simulate(measured, track="calibrated", profile=profile, scratch=tmp_path)
    told = run.config["simulator"]["step_time"]
    assert told["step_time"] == "given"
    assert told["residuals"]["held_out"]["median_abs_error_by_kind"]["decode"] < 0.005


def test_forward_passes_are_read_with_the_contexts_of_their_requests(tmp_path: Path) -> None:
    lines = [
        {"start_ts": 10.0, "end_ts": 10.5, "duration_ms": 400.0, "num_tokens": {"a": 100}},
        {"start_ts": 10.6, "end_ts": 10.7, "duration_ms": 90.0, "num_tokens": {"a": 1, "b": 60}},
        {"start_ts": 10.8, "end_ts": 10.9, "duration_ms": 80.0, "num_tokens": {"a": 1, "b": 40}},  # the rest of b's prompt
        {"start_ts": 11.0, "end_ts": 11.05, "duration_ms": 30.0, "num_tokens": {"a": 1, "b": 1}},
        {"start_ts": 99.0, "end_ts": 99.05, "duration_ms": 45.0, "num_tokens": {"c": 7}},  # idle before
    ]
    path = tmp_path / "passes.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    steps = read_steps(path, None).samples
    assert steps["kind"].tolist() == ["prefill", "mixed", "mixed", "decode", "prefill"]
    assert steps["new_tokens"].tolist() == [100, 60, 40, 0, 7]
    assert steps["prefill_context"].tolist() == [0, 0, 60, 0, 0]
    assert steps["context"].tolist() == [0, 100, 101, (102 + 100) / 2, 0]
    assert steps["time"].tolist() == pytest.approx([0.4, 0.2, 0.2, 0.15, 0.045])  # busy: from end to end


def test_the_steps_of_another_run_s_engine_do_as_well(tmp_path: Path) -> None:
    other = dataclasses.replace(served(), run_id="logged")
    write_run(tmp_path / "runs", other)
    scored = dataclasses.replace(make_measured([(0.05 * i, 40 + 7 * i, 20) for i in range(30)]), run_id="scored")
    profile = source(tmp_path / "runs" / "logged").profile(scored, None)
    assert profile is not None
    law = profiled(profile)
    assert law.seconds(batch(*[(1, 200)] * 8)) == pytest.approx(LAW.decode(8, 200), rel=0.1)
    assert law.seconds(batch((400, 0), *[(1, 200)] * 8)) == pytest.approx(LAW.mixed(400, 0, 8, 200), rel=0.1)
    with pytest.raises(NotAvailable, match="logged is the run that is scored"):
        source(tmp_path / "runs" / "logged").profile(dataclasses.replace(other, run_id="logged-2"), None)
    with pytest.raises(NotAvailable, match="logged cannot calibrate scored: they differ in GPU"):
        source(tmp_path / "runs" / "logged").profile(dataclasses.replace(scored, hardware="h100"), None)


def test_steps_made_while_the_scored_run_was_measured_are_left_out(measured: Run, tmp_path: Path) -> None:
    during = dataclasses.replace(measured, started_at="2023-11-14T22:13:30+00:00")  # 10 s after the log's beginning; 3.5 s long
    profile = source(engine_log(tmp_path / "steps.csv")).profile(during, None)
    assert profile is not None
    left_out = profile.provenance["steps_during_the_scored_run_left_out"]
    assert 30 < left_out < 150
    assert profile.provenance["steps_fitted"] + profile.provenance["steps_held_out"]["points"] == 3000 - left_out


def test_of_a_run_whose_script_began_earlier_the_next_busy_stretch_is_left_out(measured: Run, tmp_path: Path) -> None:
    log = engine_log(tmp_path / "steps.csv")
    last = pd.read_csv(log)["ts"][499]  # before the 5 s without a step
    early = dataclasses.replace(measured, started_at=datetime.fromtimestamp(last + 0.5, UTC).isoformat())
    profile = source(log).profile(early, None)
    assert profile is not None and profile.provenance["steps_during_the_scored_run_left_out"] == 500
    before = dataclasses.replace(measured, started_at=datetime.fromtimestamp(STARTED - 1000, UTC).isoformat())
    profile = source(log).profile(before, None)
    assert profile is not None and profile.provenance["steps_during_the_scored_run_left_out"] == 0


def test_a_published_run_is_found_in_the_log_of_its_server(measured: Run) -> None:
    """G1_r4_rep1 of the A40 recordings: its script began at 17:18:06, its server's first step was at 17:19:33."""
    log = DATA / "a40_qwen2.5_7b_tp1.csv.gz"
    if not log.is_file():
        pytest.skip(f"{log} is not there; PLUMBLINE_DATA names a folder with recordings/steps")
    run = dataclasses.replace(measured, started_at="2026-07-31T17:18:06+00:00")
    profile = source(log, kv_tokens=491_200).profile(run, None)
    assert profile is not None and profile.provenance["steps_during_the_scored_run_left_out"] == 2303


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("a,b\n1,2\n", "lacks the columns ts, sched_s, exec_s, n_ctx_reqs, n_ctx_toks, n_gen_reqs, n_running, kv_usage; it must be a CSV"),
        ("ts,sched_s,exec_s,n_ctx_reqs,n_ctx_toks,n_gen_reqs,kv_usage\n", "lacks the columns n_running; it must be a CSV"),
        ('{"start_ts": 1}\n', ":1 lacks end_ts, duration_ms, num_tokens; it must be"),
        ('{"start_ts": 1, "end_ts": 2, "duration_ms": 1, "num_tokens": {"a": 5}}\n{"start\n', ":2 is no JSON object"),
    ],
)
def test_what_is_no_step_log_is_refused_in_one_line(content: str | None, said: str, measured: Run, tmp_path: Path) -> None:
    path = tmp_path / "log"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SimulatorError) as caught:
        source(path).profile(measured, None)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shares_of_a_cache_of_unknown_size_are_refused(measured: Run, tmp_path: Path) -> None:
    unknown = dataclasses.replace(measured, limits=dataclasses.replace(measured.limits, kv_tokens=None))
    log = engine_log(tmp_path / "steps.csv", steps=600)
    with pytest.raises(NotAvailable, match="does not say the engine's kv_tokens"):
        source(log).profile(unknown, None)
    assert source(log, kv_tokens=KV_TOKENS).profile(unknown, None) is not None


@pytest.mark.parametrize(
    ("name", "median", "p90"),
    [("a40_qwen2.5_7b_tp1.csv.gz", 0.02, 0.06), ("l40s_qwen2.5_7b_fwd.jsonl.gz", 0.02, 0.06)],
)
def test_real_logs_are_met_on_their_held_out_part(name: str, median: float, p90: float, measured: Run) -> None:
    """Measured with a fifth held out: A40 0.8 and 2.6 %, L40S 0.4 and 1.3 %."""
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not there; PLUMBLINE_DATA names a folder with recordings/steps")
    profile = source(DATA / name, kv_tokens=491_200).profile(measured, None)
    assert profile is not None
    told = profile.provenance["steps_held_out"]
    assert told["median_abs_error"] <= median
    assert told["p90_abs_error"] <= p90
