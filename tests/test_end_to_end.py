"""The whole job on real parts: vLLM's CPU build measured, Vidur on the same requests, DuckDB, scores, the report."""

import json
import re
import uuid
from pathlib import Path

import pytest

from results import database
from results.record import Run
from results.storage.store import read_run, run_folders
from tests.benches import PATIENT_GATES, Bench, one_line
from tests.harness.engines.test_vllm import SERVED_NOW

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

SHORT = ("load.duration=10", "capacity.duration=5", "profile.budget=12", *PATIENT_GATES)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, str]:
    """One bench with vLLM and Vidur, and what it printed."""
    bench = Bench(folder=tmp_path_factory.mktemp("bench"), tag=uuid.uuid4().hex)
    finished = bench.run(*SHORT, "simulator=[vidur]", timeout=900)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return bench, finished.stdout


def measured_and_simulated(bench: Bench) -> tuple[Run, Run]:
    measured, simulated = (read_run(folder) for folder in run_folders(bench.runs))
    return measured, simulated


def test_a_real_vllm_answers_every_request_as_asked(done: tuple[Bench, str]) -> None:
    run, _ = measured_and_simulated(done[0])
    assert (run.kind, run.system, run.version) == ("measured", "vllm", "0.32.0")
    asked = {r.request_id: (r.input_tokens, r.output_tokens) for r in run.trace}
    for r in run.records:
        assert r.error is None
        assert (r.input_tokens, r.output_tokens) == asked[r.request_id]
        assert r.sent is not None and r.first_token is not None and r.finished is not None and r.token_times is not None
        assert r.arrival <= r.sent < r.first_token <= r.finished
        assert len(r.token_times) == r.output_tokens
        assert list(r.token_times) == sorted(r.token_times)
        assert not r.cached_tokens


def test_the_engine_says_what_it_resolved_its_limits_to(done: tuple[Bench, str]) -> None:
    run, simulated = measured_and_simulated(done[0])
    limits = run.limits
    assert (limits.max_num_seqs, limits.max_num_batched_tokens, limits.chunked_prefill) == (32, 1024, True)
    assert limits.kv_tokens is not None and limits.kv_tokens > 1024
    assert simulated.limits == limits
    assert run.telemetry is not None and "num_requests_running" in set(run.telemetry["name"])
    assert 0 <= run.provenance["core_wait"] <= 1


def test_vidur_replays_the_same_requests(done: tuple[Bench, str]) -> None:
    run, simulated = measured_and_simulated(done[0])
    assert (simulated.system, simulated.track, simulated.measured_run_id) == ("vidur", "calibrated", run.run_id)
    assert simulated.trace == run.trace
    by_id = {r.request_id: r for r in run.records}
    for r in simulated.records:
        assert r.error is None and r.sent == by_id[r.request_id].sent
        assert r.sent is not None and r.first_token is not None and r.finished is not None
        assert r.sent < r.first_token <= r.finished
        assert (r.input_tokens, r.output_tokens) == (by_id[r.request_id].input_tokens, by_id[r.request_id].output_tokens)


def test_the_database_scores_it_and_the_report_shows_it(done: tuple[Bench, str]) -> None:
    bench, printed = done
    run, _ = measured_and_simulated(bench)
    with database.connect(bench.database) as connection:
        rows = connection.execute("select metric, stat, measured, simulated, error, error_low, error_high from fidelity").fetchall()
        (config,) = connection.execute("select config from runs where kind = 'measured'").fetchone() or ("{}",)
    scored = {(metric, stat): (error, low, high) for metric, stat, _, _, error, low, high in rows}
    for metric in ("ttft", "tpot", "e2e"):
        for stat in ("p50", "p90", "p99"):
            error, low, high = scored[metric, stat]
            assert error is not None
            assert (low is None) == (high is None)  # where the requests were too much alike for so short a run, it has no interval
            assert low is None or low <= error <= high
    assert json.loads(config)["seed"] == 0
    page = bench.report.read_text()
    assert run.run_id in page and "Vidur" in page
    assert "TTFT p50" in printed and str(bench.report) in printed


def test_nothing_is_left_running_or_half_written(done: tuple[Bench, str]) -> None:
    assert done[0].left_processes() == []
    assert done[0].left_halves() == []


def test_a_recorded_run_gives_the_same_scores_again(done: tuple[Bench, str]) -> None:
    bench, _ = done
    before = measured_and_simulated(bench)
    again = bench.run("engine=recorded", f"engine.run={before[0].run_id}", "simulator=[vidur]", timeout=600)
    assert again.returncode == 0, again.stdout + again.stderr
    after = measured_and_simulated(bench)
    assert after[0].records == before[0].records
    assert after[1].records == before[1].records


def test_a_vllm_that_cannot_start_ends_in_one_line_with_its_own_words(bench: Bench) -> None:
    """Its parser, which reads every word before it says so, takes all the others: those of test_vllm.py's SERVED_NOW among them."""
    named = [f"engine.{name}={json.dumps(value)}".replace('"', "") for name, value in SERVED_NOW.items()]
    done = bench.run("engine.extra_args=[--no-such-option]", *named, "simulator=[]", timeout=300)
    assert done.returncode == 1
    line = one_line(done)
    assert re.search(r"unrecognized arguments: --no-such-option(?! --)", line) and "exit code 2" in line and ".server.log" in line
    (log,) = (bench.folder / "logs").glob("*.server.log")
    assert "no-such-option" in Path(log).read_text()
    assert bench.left_processes() == []
