"""The real Vidur on engines whose step times follow a known law: what comes out must follow it too."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.environment import ensure
from results.profile import Profile
from results.record import RequestRecord, Run
from simulators.errors import SimulatorError
from simulators.foreign.checkout import configured
from simulators.foreign.step_times import StepTimes
from simulators.vidur.files import VidurNames, shipped_files
from simulators.vidur.tables import ProfileGrid, attention_rows, collective_rows, mlp_rows
from tests.simulators.profiles import LIMITS, Law, make_measured, make_profile, overtaken, unsent, with_limits
from tests.simulators.vidur.test_vidur import make_vidur

pytestmark = pytest.mark.e2e

LAW = Law()
LONE = (17, 40, 100, 250, 333, 500)  # prompts that meet an idle engine; most are off the profile's grid
CHUNKED = 1500  # a prompt of three steps' budgets
TOGETHER = 8  # equal requests at one instant
REQUESTS = [
    *((3.3 + 2 * i, tokens, 12) for i, tokens in enumerate((*LONE, CHUNKED))),
    (20.0, 64, 1),
    *((30.123456789, 48, 60) for _ in range(TOGETHER)),
    *((40.0 + 0.013 * i, 20 + 37 * i % 400, 1 + 11 * i % 50) for i in range(60)),
    (90_000.5, 128, 3),  # the next day: rows of another date than the trace's first would be dropped
]
FIRST_ID = 100


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    ensure("vidur")


@pytest.fixture(scope="module")
def measured() -> Run:
    return overtaken(make_measured(REQUESTS, first_id=FIRST_ID), len(REQUESTS) - 20)


@pytest.fixture(scope="module")
def simulated(measured: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(measured, make_profile(LAW), tmp_path_factory.mktemp("vidur"))


def simulate(measured: Run, profile: Profile | None, scratch: Path, *, track: Any = "calibrated", **changes: Any) -> Run:
    return make_vidur(**changes).simulate(measured, track=track, profile=profile, scratch=scratch)


def checkout() -> Path:
    """The pinned commit of microsoft/vidur, or a skip."""
    if not os.environ.get("PLUMBLINE_VIDUR_GIT"):
        pytest.skip("set PLUMBLINE_VIDUR_GIT to a clone or a bare repository of github.com/microsoft/vidur")
    [repository] = [r for r in configured() if r.name == "vidur"]
    return repository.checkout()


def ttft(record: RequestRecord) -> float:
    assert record.first_token is not None
    assert record.sent is not None
    return record.first_token - record.sent


def lone_ttft(tokens: int) -> float:
    """Of a prompt on an idle engine: its chunks, one after the other."""
    budget = LIMITS.max_num_batched_tokens or 0
    return sum(LAW.prefill(min(budget, tokens - done), done) for done in range(0, tokens, budget))


def test_every_request_comes_back_as_it_was_asked(measured: Run, simulated: Run) -> None:
    assert [r.request_id for r in simulated.records] == list(range(FIRST_ID, FIRST_ID + len(REQUESTS)))
    assert simulated.trace.sha256 == measured.trace.sha256
    for asked, record, truth in zip(measured.trace, simulated.records, measured.records, strict=True):
        assert (record.arrival, record.sent) == (asked.arrival, truth.sent)
        assert (record.input_tokens, record.output_tokens) == (asked.input_tokens, asked.output_tokens)


def test_a_request_that_was_never_sent_is_a_failed_record_at_its_place(tmp_path: Path) -> None:
    measured = unsent(make_measured([(0.5, 100, 3), (0.6, 50, 2), (0.7, 80, 1)], first_id=FIRST_ID), 1)
    run = simulate(measured, make_profile(LAW), tmp_path)
    assert run.trace.sha256 == measured.trace.sha256
    assert [r.request_id for r in run.records] == [r.request_id for r in measured.records]
    never = measured.trace.requests[1]
    assert run.records[1] == RequestRecord(request_id=never.request_id, arrival=never.arrival, error="not sent in the measured run")
    assert [r.error for r in (run.records[0], run.records[2])] == [None, None]


def test_time_runs_forwards(simulated: Run) -> None:
    for r in simulated.records:
        assert r.sent is not None and r.scheduled is not None and r.first_token is not None and r.finished is not None
        assert r.arrival <= r.sent <= r.scheduled < r.first_token <= r.finished
        assert r.token_times is not None
        assert len(r.token_times) == r.output_tokens
        assert (r.token_times[0], r.token_times[-1]) == (r.first_token, r.finished)
        assert list(r.token_times) == sorted(r.token_times)


@pytest.mark.parametrize("index", range(len(LONE)))
def test_a_lone_prompt_takes_the_time_of_its_step(simulated: Run, index: int) -> None:
    assert simulated.records[index].scheduled == simulated.records[index].sent
    assert ttft(simulated.records[index]) == pytest.approx(LAW.prefill(LONE[index]), rel=0.05)


def test_a_prompt_beyond_the_budget_is_cut_into_chunks(simulated: Run) -> None:
    assert ttft(simulated.records[len(LONE)]) == pytest.approx(lone_ttft(CHUNKED), rel=0.05)
    assert lone_ttft(CHUNKED) > 1.02 * LAW.prefill(CHUNKED)


@pytest.mark.parametrize("index", range(len(LONE) + 1))
def test_a_lone_request_takes_the_sum_of_its_steps(simulated: Run, index: int) -> None:
    record, tokens = simulated.records[index], (*LONE, CHUNKED)[index]
    steps = lone_ttft(tokens) + sum(LAW.decode(1, tokens + i) for i in range(1, 12))
    assert record.finished is not None and record.sent is not None
    assert record.finished - record.sent == pytest.approx(steps, rel=0.05)


def test_a_request_of_the_next_day_is_not_dropped(simulated: Run) -> None:
    assert ttft(simulated.records[-1]) == pytest.approx(LAW.prefill(128), rel=0.05)


def test_decodes_together_take_the_time_of_their_batch(simulated: Run) -> None:
    together = [r for r in simulated.records if r.sent == 30.123456789]
    assert len(together) == TOGETHER
    for record in together:
        gaps = np.diff(record.token_times or ())[5:50]
        assert np.mean(gaps) == pytest.approx(LAW.decode(TOGETHER, 48 + 28), rel=0.015)


def test_it_says_how_well_it_knows_the_engine(simulated: Run) -> None:
    calibration = simulated.config["simulator"]["calibration"]
    for kind, median in (("prefill", 0.05), ("decode", 0.02), ("mixed", 0.05)):
        assert calibration["residuals"]["held_out"][kind]["median"] < median
    assert calibration["profile"] == "law"
    assert calibration["steps"] > 100
    assert 0 <= calibration["steps_outside"] < 0.02 * calibration["steps"]


def test_it_says_what_it_is(measured: Run, simulated: Run) -> None:
    assert (simulated.kind, simulated.system, simulated.track, simulated.version) == ("simulated", "vidur", "calibrated", "0.0.26")
    assert simulated.measured_run_id == measured.run_id
    assert (simulated.window, simulated.slo, simulated.rho, simulated.rate) == (measured.window, measured.slo, measured.rho, measured.rate)
    simulator = simulated.config["simulator"]
    assert simulator["coverage"]["prefix_caching"] == "no"
    assert simulator["timing"]["peak_memory"] > 100e6
    assert min(simulator["timing"]["train_s"], simulator["timing"]["simulate_s"]) > 0
    assert simulated.config["engine"] == measured.config["engine"]


def test_the_same_seed_gives_the_same_bytes(measured: Run, simulated: Run, tmp_path: Path) -> None:
    again = simulate(measured, make_profile(LAW), tmp_path)
    assert again.records == simulated.records


def test_another_profile_gives_other_times_and_the_offset_is_added(measured: Run, simulated: Run, tmp_path: Path) -> None:
    thrice = simulate(measured, make_profile(LAW, scale=3), tmp_path, frontend="offset", seed=1)
    frontend = 3 * LAW.frontend
    assert thrice.config["simulator"]["coverage"]["frontend_cost"] == "partly"
    for slow, fast in zip(thrice.records[: len(LONE)], simulated.records, strict=False):
        assert ttft(slow) - frontend == pytest.approx(3 * ttft(fast), rel=0.03)


def test_a_full_kv_cache_makes_requests_wait(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 256, 8), (0.5001, 256, 8)], limits=with_limits(kv_tokens=320))
    first, second = simulate(measured, make_profile(LAW), tmp_path).records
    assert first.finished is not None and second.scheduled is not None
    assert second.scheduled == pytest.approx(first.finished, abs=1e-9)


CROWD = [(0.5 + 1e-4 * i, 120, 100) for i in range(8)]
CROWDED = with_limits(kv_tokens=1280)  # all prompts fit, their answers do not


def test_preemption_which_the_pypi_release_cannot_do_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"vidur: a request had to be preempted .* simulators.vidur.source=git; log .*log$"):
        simulate(make_measured(CROWD, limits=CROWDED), make_profile(LAW), tmp_path)


def test_one_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"vidur: took longer than its limit of 1 s of CPU time"):
        simulate(make_measured(CROWD), make_profile(LAW), tmp_path, limit=1)


def test_communication_is_not_counted_twice_and_long_requests_are_not_cut(tmp_path: Path) -> None:
    limits = with_limits(tensor_parallel=2, max_model_len=8192)
    measured = make_measured([(0.5, 20, 12), (1.5, 4500, 8)], limits=limits)
    short, long = simulate(measured, make_profile(LAW), tmp_path).records
    assert ttft(short) == pytest.approx(LAW.prefill(20), rel=0.02)
    assert ttft(long) == pytest.approx(lone_ttft(4500), rel=0.05)


def test_a_checkout_runs_the_same_laws(measured: Run, tmp_path: Path) -> None:
    run = simulate(measured, make_profile(LAW), tmp_path, source="git", checkout=str(checkout()))
    for index, tokens in enumerate((*LONE, CHUNKED)):
        assert ttft(run.records[index]) == pytest.approx(lone_ttft(tokens), rel=0.05)
    assert run.version is not None and run.version.startswith("git")
    assert run.config["simulator"]["coverage"]["preemption"] == "yes"


def test_a_checkout_preempts(tmp_path: Path) -> None:
    run = simulate(make_measured(CROWD, limits=CROWDED), make_profile(LAW), tmp_path, source="git", checkout=str(checkout()))
    assert len(run.records) == len(CROWD)
    assert any(r.token_times is None for r in run.records)
    assert any(r.token_times is not None for r in run.records)


def test_the_shipped_and_matched_tracks(tmp_path: Path) -> None:
    """With profiles in the checkout's place and format, of the law and a model of Vidur's own."""
    names = VidurNames(model="meta-llama/Meta-Llama-3-8B", device="a100", network="a100_dgx")
    copy = tmp_path / "clone"
    copy.mkdir()
    shutil.copytree(checkout() / "vidur", copy / "vidur")
    vidur = make_vidur(source="git", checkout=str(copy))
    assert vidur.tracks() == ("calibrated",)
    write_shipped(copy, names)
    assert vidur.tracks() == ("shipped", "matched", "calibrated")
    measured = make_measured([(0.5, 256, 12), (1.5, 256, 8), (1.5001, 256, 8)], limits=with_limits(kv_tokens=320, block_size=128))
    for track in ("shipped", "matched"):
        scratch = tmp_path / track
        scratch.mkdir()
        run = vidur.simulate(measured, track=track, profile=None, scratch=scratch)
        lone, first, second = run.records
        assert run.run_id == f"vllm-law-0--vidur-{track}"
        assert ttft(lone) == pytest.approx(LAW.prefill(256), rel=0.05)
        assert first.finished is not None and second.scheduled is not None
        waited = second.scheduled >= first.finished - 1e-9
        assert waited == (track == "matched")  # only there is the KV cache as small as the engine's


def write_shipped(folder: Path, names: VidurNames) -> None:
    grid = ProfileGrid(tokens=1024, chunk=512, batch=8, context=1024, granularity=64)
    times, layers = StepTimes.fit("vidur", make_profile(LAW)), 32
    shared = {"n_embd": 4096, "n_kv_head": 8, "num_tensor_parallel_workers": 1}
    mlp = mlp_rows(times, grid, layers).assign(n_head=32, n_expanded_embd=14336, vocab_size=128256, use_gated_mlp=True, **shared)
    attention = attention_rows(times, grid, layers, "git").assign(n_q_head=32, block_size=16, **shared)
    collectives = collective_rows(1, 4096, 4096)
    tables: dict[str, pd.DataFrame] = {"compute": mlp, "attention": attention, "all_reduce": collectives, "send_recv": collectives}
    for name, path in shipped_files(folder, names).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        tables[name].to_csv(path, index=False)
