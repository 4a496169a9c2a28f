"""What holds of both simulators that are git repositories: their adapters as configured, and the real programs where a clone is given."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from results.profile import Profile
from results.record import EngineLimits, Run
from simulators.errors import NotAvailable, SimulatorError
from tests.simulators.foreign.copies import check_as_asked, configured, gaps, linked, needs_copy
from tests.simulators.profiles import Law, make_measured, make_profile, overtaken, without

LAWS = {"splitwise_sim": Law(attention=0.0), "distserve_sim": Law()}  # of a shape that each can express
SOURCES = {
    "splitwise_sim": ("PLUMBLINE_SPLITWISE_GIT", "github.com/Mutinifni/splitwise-sim"),
    "distserve_sim": ("PLUMBLINE_DISTSERVE_GIT", "github.com/LLMServe/DistServe"),
}


@pytest.fixture(params=LAWS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def copied(name: str) -> str:
    needs_copy(name, *SOURCES[name])
    return name


def simulate(
    name: str, measured: Run, scratch: Path, *, track: Any = "calibrated", profile: Profile | str | None = "law", **changes: Any
) -> Run:
    scratch.mkdir(exist_ok=True)
    known = make_profile(LAWS[name]) if isinstance(profile, str) else profile
    run: Run = configured(name, **changes).simulate(measured, track=track, profile=known, scratch=scratch)
    return run


def times(run: Run, index: int) -> list[float]:
    return gaps(run.records[index])


@pytest.mark.e2e
def test_every_request_comes_back_as_asked_and_twice_the_same(copied: str, tmp_path: Path) -> None:
    requests = sorted((1e-3 * (7 * i % 5) + 0.013 * i, 20 + 37 * i % 700, 1 + 11 * i % 50) for i in range(80))
    measured = overtaken(make_measured(requests, first_id=100), 20)
    run, again = (simulate(copied, measured, tmp_path / part) for part in ("one", "two"))
    assert len(run.records) == len(requests)
    check_as_asked(run)
    assert run.records == again.records
    assert run.config["simulator"]["timing"]["peak_memory"] > 50e6
    assert run.version == f"git-{run.provenance['commit'][:7]}"
    assert run.provenance["commit"] == configured(copied).commit


@pytest.mark.e2e
def test_two_prefill_instances_take_two_prompts_at_once(copied: str, tmp_path: Path) -> None:
    measured = linked(make_measured([(0.5, 500, 2), (0.5 + 1e-4, 500, 2)]), 900.0)
    one, two = (simulate(copied, measured, tmp_path / str(n), topology="pd", prefill_instances=n) for n in (1, 2))
    law = LAWS[copied]
    alone, step = law.prefill(500) + law.decode(1, 500), law.decode(2, 500)  # its first decode step may have to wait for the other's
    assert alone - 1e-4 < times(two, 1)[0] < alone + step + 1e-4
    assert alone + 0.9 * law.prefill(500) < times(one, 1)[0] < alone + law.prefill(500) + step
    assert two.system == f"{copied}_pd"


@pytest.mark.e2e
def test_it_covers_what_it_says(copied: str, tmp_path: Path) -> None:
    """A long context, the same prompt twice, and a prompt beside a decode: what the simulator makes of them is what `coverage` declares."""
    law = Law(attention=1e-6)
    busy = (20.0, 50, 400)
    requests = [(0.0, 100, 4), (5.0, 500, 4), (10.0, 500, 4), busy, (20.1, 1500, 4)]
    run = simulate(copied, make_measured(requests), tmp_path, profile=make_profile(law))
    coverage = configured(copied).coverage
    short, long, again = (times(run, i) for i in range(3))
    assert ("yes" if long[1] > 1.1 * short[1] else "no") == coverage.context_dependent_decode
    assert ("yes" if again[0] < 0.9 * long[0] else "no") == coverage.prefix_caching
    stalled = max(times(run, 3)[1:]) > 3 * law.prefill(512)  # the other's decode waits for the whole prompt, not for a chunk of it
    assert ("no" if stalled else "yes") == coverage.chunked_prefill
    assert ("yes" if len(times(run, 0)) == 4 else "no") == coverage.token_times
    assert ("no" if short[0] < law.prefill(100) + law.frontend / 2 else "yes") == coverage.frontend_cost


@pytest.mark.e2e
def test_one_that_takes_too_long_is_stopped(copied: str, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=rf"{copied}: took longer than its limit of 0.2 s of CPU time"):
        simulate(copied, make_measured([(0.5, 100, 10)]), tmp_path, limit=0.2)


def unsent(requests: Sequence[tuple[float, int, int]]) -> Run:
    run = make_measured(requests)
    return dataclasses.replace(run, records=tuple(dataclasses.replace(r, sent=None) for r in run.records))


LONE = [(0.5, 100, 10)]


@pytest.mark.parametrize(
    ("measured", "profile", "changes", "message"),
    [
        (unsent(LONE), "law", {}, "sent no request"),
        (make_measured(LONE), None, {}, "calibrated track of run vllm-law-0 needs a profile"),
        (make_measured(LONE), without(make_profile(Law()), "decode"), {}, "profile law has no decode points"),
        (make_measured(LONE), without(make_profile(Law()), "prefill"), {}, "profile law has no prefill points"),
        (make_measured(LONE, limits=EngineLimits()), "law", {}, "does not say the engine's kv_tokens, max_num_seqs"),
        (make_measured(LONE), "law", {"topology": "pd"}, "topology=pd needs the link .* interconnect_gb_s"),
    ],
)
def test_what_it_cannot_be_set_to_is_one_line_before_it_starts(
    name: str, measured: Run, profile: Any, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SimulatorError, match=message) as error:
        simulate(name, measured, tmp_path, profile=profile, **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "log").exists()


def test_without_a_copy_it_is_not_available(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.foreign.checkout.Repository.checkout.__defaults__", (tmp_path / "cache",))
    with pytest.raises(NotAvailable, match=f"set {SOURCES[name][0]} to a clone"):
        simulate(name, make_measured(LONE), tmp_path, repository=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topology": "ring"}, "topology must be colocated or pd, got 'ring'"),
        ({"topology": "pd", "prefill_instances": 0}, "prefill_instances .* must be >= 1|prefill_instances must be >= 1"),
        ({"limit": 0}, "limit (must be )?> 0 s"),
        ({"commit": "8f99e7d"}, "all 40 hexadecimal digits"),
    ],
)
def test_bad_settings_are_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        configured(name, **changes)
