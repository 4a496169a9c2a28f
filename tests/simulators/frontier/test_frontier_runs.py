"""The real Frontier, where PLUMBLINE_FRONTIER names a clone of it: requests back as asked, laws, instances apart, its own profiles."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.environment import ensure
from results.record import Run
from simulators.conformance.scene import ON_H100, Scene
from simulators.errors import NotAvailable, SimulatorError
from tests.simulators.foreign.copies import check_as_asked, configured, gaps, linked
from tests.simulators.profiles import Law, make_measured, make_profile, overtaken

CLONE = os.environ.get("PLUMBLINE_FRONTIER")
LAW = Law()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CLONE is None, reason="PLUMBLINE_FRONTIER must name a clone of github.com/NetX-lab/Frontier"),
]


def simulate(measured: Run, scratch: Path, *, track: Any = "calibrated", **changes: Any) -> Run:
    ensure("frontier")
    scratch.mkdir(exist_ok=True)
    profile = make_profile(LAW) if track == "calibrated" else None
    run: Run = configured("frontier", checkout=CLONE, **changes).simulate(measured, track=track, profile=profile, scratch=scratch)
    return run


def test_every_request_comes_back_as_asked_and_twice_the_same(tmp_path: Path) -> None:
    requests = sorted((1e-3 * (7 * i % 5) + 0.013 * i, 20 + 37 * i % 700, 1 + 11 * i % 50) for i in range(60))
    measured = overtaken(make_measured(requests, first_id=100), 20)
    run, again = (simulate(measured, tmp_path / part) for part in ("one", "two"))
    check_as_asked(run)
    assert run.records == again.records
    calibration = run.config["simulator"]["calibration"]
    for kind in ("prefill", "decode"):  # its forests know the law
        assert calibration["residuals"]["held_out"][kind]["p90"] < 0.02
    assert run.version is not None and run.version.startswith("git-")


def test_apart_the_cache_is_handed_over_and_two_instances_take_two_prompts(tmp_path: Path) -> None:
    """On a link that takes a second for a prompt of 500 tokens the first token is that much later."""
    measured = make_measured([(0.5, 500, 4), (0.5 + 1e-4, 500, 4)])
    bytes_per_token = 2 * 4 * 4 * 64 * 2
    slow = 2 * 500 * bytes_per_token / 1e9  # GB/s in both directions together
    fast, late = (
        simulate(linked(measured, link), tmp_path / str(place), topology="pd", prefill_instances=2)
        for place, link in enumerate((900.0, slow))
    )
    one = simulate(linked(measured, 900.0), tmp_path / "one", topology="pd")
    first, second = (gaps(fast.records[place])[0] for place in (0, 1))
    alone = LAW.prefill(500) + LAW.decode(1, 500)
    assert fast.system == "frontier_pd" and first == pytest.approx(alone, rel=0.05) and second < alone + LAW.decode(2, 500)
    assert gaps(one.records[1])[0] > alone + 0.8 * LAW.prefill(500)
    assert gaps(late.records[0])[0] == pytest.approx(first + 1.0, rel=0.05)


def test_a_prompt_whose_first_half_was_computed_before_has_that_cached(tmp_path: Path) -> None:
    shared = Scene(
        requests=((0.5, 512, 4), (10.5, 512, 4)), limits=dataclasses.replace(ON_H100, prefix_caching=True), ids=(5, 6), shared=(16, 16)
    )
    first, second = simulate(shared.measured(), tmp_path / "shared").records
    assert (first.cached_tokens, second.cached_tokens) == (0, 256)
    assert (second.first_token or 0) - (second.sent or 0) < 0.7 * ((first.first_token or 0) - (first.sent or 0))


def test_what_it_loses_to_a_full_cache_is_said(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 300, 400), (0.501, 300, 400)])
    measured = dataclasses.replace(measured, limits=dataclasses.replace(measured.limits, kv_tokens=1024))
    with pytest.raises(SimulatorError, match=r"request 1 never ended; it loses a request that it preempts"):
        simulate(measured, tmp_path / "full")


def test_one_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"took longer than its limit of 0.2 s of CPU time"):
        simulate(make_measured([(0.5, 100, 10)]), tmp_path / "slow", limit=0.2)


def shipped(name: str) -> Run:
    """Requests of at most 64 tokens, on an H100, of a model that the clone has a tiny profile of on an H800."""
    limits = dataclasses.replace(ON_H100, kv_tokens=16384, max_num_seqs=8, max_num_batched_tokens=64)
    requests = tuple((0.5 + 0.01 * i, 20 + 5 * i, 5 + i) for i in range(8))
    measured = Scene(requests=requests, limits=limits, model="llama_3_1_8b").measured()
    model = json.loads((Path(CLONE or "") / "data/config/models" / f"{name}.json").read_text())
    return dataclasses.replace(measured, config={**measured.config, "model": model})


@pytest.mark.parametrize("name", ["Phi-tiny-MoE-instruct", "llama2_7b_dense_example"])
def test_its_own_profiles_serve_mixtures_and_dense_models_as_far_as_they_reach(name: str, tmp_path: Path) -> None:
    run = simulate(shipped(name), tmp_path / "tiny", track="matched", routing="uniform_random")
    assert run.config["simulator"]["times_from"] == f"its own, of {name} on h800"
    assert all(r.token_times is not None and len(r.token_times) == r.output_tokens for r in run.records)
    longer = dataclasses.replace(shipped(name), limits=dataclasses.replace(shipped(name).limits, max_num_batched_tokens=512))
    with pytest.raises(NotAvailable, match=rf"h800/{name}: (linear_op|moe).csv ends at .* tokens of a step"):
        simulate(longer, tmp_path / "longer", track="matched", routing="uniform_random")
