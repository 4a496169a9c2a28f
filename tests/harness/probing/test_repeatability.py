"""How well a machine repeats itself: what a profile sees at its beginning and its end. The toy engine slows down halfway when told to."""

import dataclasses

import pytest

from harness.probing.probes import DecodeProbe, MixedProbe, PrefillProbe
from harness.probing.profiler import Profiler
from harness.probing.repeatability import fixed_points, repeatability, unsteady
from harness.probing.samples import FrontendCost, Observation, Sighting
from results.profile import REPEATABILITY, Profile
from tests.harness.probing.test_profiler import LIMITS, PROFILER, client
from tests.stand_ins.toy_engine import Law, toy_engine

SLOWER = 6.0  # times: far more than a busy machine adds to a median
LIMIT = 2.0  # of the change; a machine that itself changes threefold within seconds is none to measure on
LAW = Law(base=0.005, per_token=2e-5, per_context=0.0, per_sequence=0.0005, frontend=0.002, max_num_seqs=4)
FREE = FrontendCost(fixed=0.0, per_token=0.0)


def seen(**seconds: list[float]) -> list[Sighting]:
    """A look at each kind of step, once per time given."""
    return [
        Sighting(probe=0, repeat=i, observations=(Observation(kind=kind, new_tokens=8, seconds=s),))
        for kind, times in seconds.items()
        for i, s in enumerate(times)
    ]


def test_the_change_is_that_of_the_medians_whichever_way_it_went() -> None:
    beginning = seen(decode=[0.010, 0.010, 0.900], prefill=[0.2], mixed=[0.3])
    told = repeatability(beginning, seen(decode=[0.012, 0.012, 0.001], prefill=[0.1], mixed=[0.3]), FREE, 0.05)
    assert told is not None
    assert told["change"] == pytest.approx({"decode": 0.2, "prefill": 1.0, "mixed": 0.0})
    assert told["worst"] == pytest.approx(1.0) and told["limit"] == 0.05
    assert told["seconds"]["prefill"] == [0.2, 0.1]


def test_a_kind_that_was_not_seen_at_both_ends_is_left_out_and_none_at_all_is_unknown() -> None:
    told = repeatability(seen(decode=[0.1], mixed=[0.3]), seen(decode=[0.1], prefill=[0.1]), FREE, 0.05)
    assert told is not None and set(told["change"]) == {"decode"}
    assert repeatability(seen(mixed=[0.3]), seen(decode=[0.1]), FREE, 0.05) is None


def test_looks_that_met_others_on_the_core_do_not_count_where_there_are_quieter_ones() -> None:
    noisy = [dataclasses.replace(s, core_wait=0.5) for s in seen(decode=[0.9, 0.9])]
    told = repeatability(seen(decode=[0.1]), [*noisy, *seen(decode=[0.1])], FREE, 0.05)
    assert told is not None and told["worst"] == 0


def test_the_points_are_one_of_each_kind_from_the_middle_of_the_plan() -> None:
    prefill, decode, mixed = fixed_points(PROFILER._plan(LIMITS, 1100))
    assert isinstance(prefill, PrefillProbe) and isinstance(decode, DecodeProbe) and isinstance(mixed, MixedProbe)
    assert (prefill.new, prefill.context, prefill.held_out) == (256, 0, False)
    assert (list(decode.batches), decode.prompt, list(mixed.prompts)) == ([2], 32, [400])
    assert fixed_points([]) == []


def profile_of(law: Law) -> Profile:
    few: Profiler = dataclasses.replace(PROFILER, max_batch=2, max_prompt=520, repeatability=LIMIT)
    with toy_engine(law) as endpoint:
        return few.measure(endpoint, client(), model={"vocab_size": 100}, hardware="toy")


def test_an_engine_that_slows_down_halfway_is_found_and_said() -> None:
    profile = profile_of(dataclasses.replace(LAW, after_refusal=SLOWER))
    told = profile.provenance[REPEATABILITY]
    assert set(told["change"]) == {"prefill", "decode", "mixed"}
    assert all(change > LIMIT for change in told["change"].values()), told
    assert all(end > beginning for beginning, end in told["seconds"].values())
    assert "no error below that can be told" in (unsteady(profile) or "")


@pytest.fixture(scope="module")
def steady() -> Profile:
    return profile_of(LAW)


def test_an_engine_that_repeats_itself_is_not_accused(steady: Profile) -> None:
    assert steady.provenance[REPEATABILITY]["worst"] < LIMIT, steady.provenance[REPEATABILITY]
    assert unsteady(steady) is None


def test_a_profile_from_before_says_nothing(steady: Profile) -> None:
    profile = dataclasses.replace(steady, provenance={**steady.provenance, REPEATABILITY: {"limit": 0.05, "worst": 1.0, "change": {}}})
    assert unsteady(profile) is not None
    old = {name: value for name, value in profile.provenance.items() if name != REPEATABILITY}
    assert unsteady(dataclasses.replace(profile, provenance=old)) is None
    assert unsteady(dataclasses.replace(profile, provenance={**old, REPEATABILITY: None})) is None
