"""The real simdistserve, from a clone, on traces whose answers follow by hand from its own formulas; and its adapter without it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.profile import Profile
from results.record import EngineLimits, Run
from simulators.distserve.adapter import DistServeSim
from simulators.distserve.times import PIPELINE_MS, RAY_MS, RAY_TOKEN_MS, fit_times
from simulators.errors import SimulatorError
from simulators.foreign.step_points import fit
from simulators.inputs import mean_decode_context
from tests.simulators.foreign.copies import configured, gaps, linked, most_in_flight, needs_copy
from tests.simulators.profiles import LIMITS, Law, make_measured, make_profile, with_limits

LAW = Law()  # its prefill is quadratic in the prompt, its decode linear in the cached tokens: what the simulator's formulas are
P, D = LAW.prefill, LAW.decode
EXACT = 1e-6  # s
copy = pytest.mark.e2e


@pytest.fixture
def needed() -> None:
    needs_copy("distserve_sim", "PLUMBLINE_DISTSERVE_GIT", "github.com/LLMServe/DistServe")


def make(**changes: Any) -> DistServeSim:
    made = configured("distserve_sim", **changes)
    assert isinstance(made, DistServeSim)
    return made


def simulate(
    requests: Sequence[tuple[float, int, int]],
    scratch: Path,
    *,
    track: Any = "calibrated",
    profile: Profile | None = None,
    limits: EngineLimits = LIMITS,
    **changes: Any,
) -> Run:
    measured = make_measured(requests, limits=limits, first_id=100)
    profile = make_profile(LAW) if profile is None and track == "calibrated" else profile
    return make(**changes).simulate(measured, track=track, profile=profile, scratch=scratch)


def times(run: Run, index: int) -> list[float]:
    return gaps(run.records[index])


def near(*seconds: float) -> Any:
    return pytest.approx(list(seconds), abs=EXACT)


def both(first: int, second: int) -> float:
    """A decode step of two sequences with so many cached tokens each."""
    return D(2, (first + second) / 2)


def prompts(*tokens: int) -> float:
    """A prefill step of several prompts: one fixed cost, each prompt's attention its own."""
    return sum(P(n) for n in tokens) - (len(tokens) - 1) * LAW.fixed


@copy
@pytest.mark.usefixtures("needed")
def test_traces_whose_answer_is_computed_by_hand(tmp_path: Path) -> None:
    late = 5.0 + P(100) + D(1, 100) + 0.5 * D(1, 101)  # within the second decode step of the one sent at 5 s
    run = simulate(
        [
            (3.3, 100, 4),  # the first one, and not at 0 s
            (5.0, 100, 6),
            (late, 200, 3),  # prompts first: the other one waits
            (10.0, 300, 1),  # one token: no decode step
            (15.0, 400, 2),  # three at one instant: the first alone, the others together
            (15.0, 500, 2),
            (15.0, 12, 3),
        ],
        tmp_path,
    )
    assert times(run, 0) == near(P(100), D(1, 100), D(1, 101), D(1, 102))
    assert times(run, 1) == near(P(100), D(1, 100), D(1, 101), P(200) + both(102, 200), both(103, 201), D(1, 104))
    assert times(run, 2) == near(0.5 * D(1, 101) + P(200), both(102, 200), both(103, 201))
    assert times(run, 3) == near(P(300))
    assert run.records[3].finished == run.records[3].first_token
    three = D(3, (400 + 500 + 12) / 3)
    if abs(times(run, 4)[0] - P(400)) < EXACT:  # the first was alone
        assert times(run, 4) == near(P(400), prompts(500, 12) + three)
        assert times(run, 5) == near(P(400) + prompts(500, 12), three)
    else:
        assert times(run, 4) == near(prompts(400, 500, 12), three)
        assert times(run, 5) == near(prompts(400, 500, 12), three)
    assert times(run, 6)[1:] == near(three, D(1, 13))


@copy
@pytest.mark.usefixtures("needed")
def test_it_knows_the_engine_as_well_as_its_model_can(tmp_path: Path) -> None:
    calibration = simulate([(0.0, 500, 25), (3.0, 400, 40)], tmp_path).config["simulator"]["calibration"]
    held_out = calibration["residuals"]["held_out"]
    assert held_out["prefill"]["p90"] < 1e-4  # its own overheads are not counted on top
    assert held_out["decode"]["p90"] < 1e-4
    assert held_out["mixed"]["bias"] > 0  # it makes two steps of a mixed one, and pays the fixed cost twice
    assert calibration["points_it_cannot_express"] > 0
    assert calibration["steps"] == 2 + 24 + 39
    assert calibration["steps_outside"] == 0


@copy
@pytest.mark.usefixtures("needed")
def test_a_prompt_beyond_the_budget_runs_whole_for_about_its_chunks(tmp_path: Path) -> None:
    run = simulate([(0.5, 1500, 3), (5.0, 20, 2)], tmp_path)
    assert times(run, 0)[0] == pytest.approx(P(512) + P(512, 512) + P(476, 1024), rel=0.05)
    assert times(run, 1)[0] == pytest.approx(P(20), rel=0.3)  # one parabola for both


@copy
@pytest.mark.usefixtures("needed")
def test_no_prompt_starts_while_the_kv_cache_is_full(tmp_path: Path) -> None:
    requests = [(0.5, 300, 40), (0.501, 200, 5)]
    waited = {}
    for kv_tokens in (299, 10_000):
        (tmp_path / str(kv_tokens)).mkdir()
        second = simulate(requests, tmp_path / str(kv_tokens), limits=with_limits(kv_tokens=kv_tokens)).records[1]
        waited[kv_tokens] = (second.scheduled or 0) - (second.sent or 0)
    assert waited[10_000] < P(300) + EXACT
    assert waited[299] > 39 * D(1, 300)  # until the first request is done


@copy
@pytest.mark.usefixtures("needed")
def test_no_more_sequences_at_once_than_the_engine_takes(tmp_path: Path) -> None:
    run = simulate([(0.5 + 1e-4 * i, 32, 60) for i in range(6)], tmp_path, limits=with_limits(max_num_seqs=2))
    total = max(r.finished or 0 for r in run.records) - 0.5
    assert total > 3 * 58 * D(2, 32)  # three pairs in turns; six at once would need 59 * D(6), half as long
    assert np.load(tmp_path / "tokens.npz")["decodes"].max() == 2


@copy
@pytest.mark.usefixtures("needed")
def test_about_as_many_are_let_in_as_the_engine_lets_in(tmp_path: Path) -> None:
    """It bounds cached tokens only: so many sequences of the mean context, and a step's prompts beyond that."""
    crowd = [(0.5 + 1e-3 * i, 200, 60) for i in range(16)]
    run = simulate(crowd, tmp_path, limits=with_limits(max_num_seqs=4))
    assert 4 <= most_in_flight(run) <= 4 + 512 // 200 + 1
    assert run.config["simulator"]["coverage"]["max_num_seqs"] == "partly"
    steps = np.load(tmp_path / "tokens.npz")
    assert (steps["decodes"].max(), run.config["simulator"]["coverage"]["token_budget"]) == (4, "partly")
    assert steps["prompt_tokens"].max() <= (LIMITS.max_num_batched_tokens or 0)


@copy
@pytest.mark.usefixtures("needed")
def test_the_hard_coded_cap_of_a_decode_step_is_counted(tmp_path: Path) -> None:
    limits = with_limits(kv_tokens=10**6, max_num_batched_tokens=10**5)
    run = simulate([(0.5, 20_000, 5), (0.5, 20_000, 5), (0.5, 20_000, 5)], tmp_path, limits=limits)
    assert run.config["simulator"]["steps_cut_at_50000_tokens"] > 0


@copy
@pytest.mark.usefixtures("needed")
def test_as_shipped_and_with_the_engines_limits(tmp_path: Path) -> None:
    requests = [(0.5, 512, 3), *((5.0 + 1e-3 * i, 64, 20) for i in range(6))]
    runs = {}
    for track in ("shipped", "matched"):
        (tmp_path / track).mkdir()
        runs[track] = simulate(requests, tmp_path / track, track=track, limits=with_limits(max_num_seqs=2))
    table = make()._source().checkout() / "simdistserve" / "estimators" / "profile_data" / "profiler-a100-80g.vllm.json"
    times_ms = json.loads(table.read_text())["facebook/opt-13b"]["1"]
    a, b, c = times_ms["prefill"]
    first = a + b * 512 + c * 512**2 + PIPELINE_MS + RAY_MS + RAY_TOKEN_MS * 512
    a, b, c = times_ms["decoding_smallbs"]
    decodes = [a + b * (cached + 1) + c + RAY_MS + RAY_TOKEN_MS * cached for cached in (512, 513)]
    for run in runs.values():
        assert times(run, 0) == near(first / 1e3, *(d / 1e3 for d in decodes))
    most = {track: np.load(tmp_path / track / "tokens.npz")["decodes"].max() for track in runs}
    assert most == {"shipped": 6, "matched": 2}
    assert runs["shipped"].config["simulator"]["worker"]["prefill_max_tokens"] == 66_144
    assert "facebook/opt-13b on an A100" in runs["shipped"].config["simulator"]["times_from"]
    let_in = round(2 * mean_decode_context(runs["matched"].trace_as_sent()))
    assert let_in < (LIMITS.kv_tokens or 0)
    assert runs["matched"].config["simulator"]["worker"]["decode_max_batch_size"] == let_in
    assert runs["shipped"].run_id == "vllm-law-0--distserve_sim-shipped"


@copy
@pytest.mark.usefixtures("needed")
def test_a_prompt_that_fits_no_step_of_its_own_is_refused_not_run_for_ever(tmp_path: Path) -> None:
    long = [(0.5, 40_000, 1)]
    with pytest.raises(SimulatorError, match="a prompt of 40000 tokens is longer than the 11600 of a step, and would wait for ever"):
        simulate(long, tmp_path, track="shipped", shipped_model="facebook/opt-66b", shipped_tensor_parallel=2)


KV = 2 * 4 * 4 * 64 * 2  # bytes of a token of tests.simulators.profiles.MODEL
LINK = 0.02  # GB/s, both directions; slow, so that it is seen: 10 MB/s are 0.4 ms a token


@copy
@pytest.mark.usefixtures("needed")
def test_prefill_and_decode_apart_and_the_kv_cache_sent_between_them(tmp_path: Path) -> None:
    sent = KV / (LINK / 2 * 1e9)  # s per token
    later = P(100) + 100 * sent + 1.5 * D(1, 100)  # within the second decode step of the first request
    measured = linked(make_measured([(0.5, 100, 6), (0.5 + later, 200, 2), (5.0, 300, 1)]), LINK)
    run = make(topology="pd").simulate(measured, track="calibrated", profile=make_profile(LAW), scratch=tmp_path)
    first, *rest = [D(1, 100 + i) for i in range(6)]
    # a client sees the decode instance's first token, one step after the KV cache has arrived there
    assert times(run, 0) == near(P(100) + 100 * sent + first, *rest)  # undisturbed by the other's prefill
    assert times(run, 1) == near(P(200) + 200 * sent + D(1, 200), D(1, 201))
    assert times(run, 2) == near(P(300) + 300 * sent + D(1, 300))
    assert run.config["simulator"]["pools"] == {"prefill": 1, "decode": 1, "transfer": LINK / 2 * 1e9}


def refuse(match: str, tmp_path: Path, measured: Run, profile: Profile | None, track: Any = "calibrated", **changes: Any) -> None:
    with pytest.raises(SimulatorError, match=match) as error:
        make(**changes).simulate(measured, track=track, profile=profile, scratch=tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("track", ["shipped", "matched", "calibrated"])
def test_a_request_that_it_would_run_for_ever_is_refused(tmp_path: Path, track: str) -> None:
    large = make_measured([(0.5, 100, 10), (0.6, 49_990, 12)], first_id=40)
    refuse("request 41 of 49990 [+] 12 tokens does not fit into the 50,000", tmp_path, large, make_profile(LAW), track)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shipped_model": "facebook/opt-175b"}, "it ships no times of facebook/opt-175b"),
        ({"shipped_tensor_parallel": 8}, "it ships no times of facebook/opt-13b at tensor parallelism 8"),
        ({"topology": "pd", "decode_instances": 2}, "decode_instances 1 .it looks at queues only"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make(**changes)


def test_the_fit_finds_a_law_of_its_own_shape_and_two_regimes_of_decodes() -> None:
    law = make_profile(LAW)
    found = fit_times(law, fit("x", law), budget=512, longest=512)
    assert found.prefill == pytest.approx([LAW.fixed, LAW.token, LAW.attention / 2], rel=1e-5)
    assert found.small == pytest.approx([LAW.fixed, LAW.attention, LAW.sequence - LAW.attention], rel=1e-5)
    samples = law.samples.copy()
    crowded = (samples["kind"] == "decode") & (samples["batch"] >= 16)
    samples.loc[crowded, "time"] += 0.01
    found = fit_times(dataclasses.replace(law, samples=samples), fit("x", law), budget=512, longest=512)
    assert found.threshold == 16
    assert found.large[0] - found.small[0] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("wild", [5.0, 0.2])
def test_a_wild_sample_bends_the_fit_little(wild: float) -> None:
    law = make_profile(LAW)
    samples = law.samples.copy()
    lone = (samples["kind"] == "prefill") & (samples["prefill_context"] == 0)
    samples.loc[lone & (samples["new_tokens"] == (256 if wild > 1 else 16)), "time"] *= wild
    found = fit_times(dataclasses.replace(law, samples=samples), fit("x", law), budget=512, longest=512)
    a, b, c = found.prefill
    assert a + b * 300 + c * 300**2 == pytest.approx(P(300), rel=0.05)
