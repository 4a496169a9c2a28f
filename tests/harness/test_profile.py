"""The profiler against an engine whose step times are known, and what it makes of one that fails."""

import dataclasses
from collections.abc import Iterator

import pandas as pd
import pytest

from harness.client import Client
from harness.observations import FrontendCost, Observation, Sighting, samples
from harness.profile import Profiler
from harness.shots import Gun, Shot
from harness.system import Endpoint, EngineError
from results.profile import Profile
from tests.toy_engine import Law, judge, toy_engine

LAW = Law(max_num_seqs=4)
PROFILER = Profiler(
    budget=0.0,
    repeats=2,
    prefill=[1, 128],
    held_out_prefill=[300],
    chunks=[100],
    decode_batches=[1, 2, 4, 64],
    held_out_batches=[3],
    decode_contexts=[32, 600],
    decode_tokens=1500,
    steps=12,
    mixed_prompts=[200, 8000],
    held_out_mixed=[400],
    mixed_batches=[3],
    mixed_context=32,
    max_prompt=1100,
)


def client() -> Client:
    return Client(request_timeout=60, drain_timeout=60, connect_timeout=5, connections=8, keep_alive=3, spin=0.0002, count_tokens=True)


def truth(point: pd.Series) -> float:
    """The law's time of a sample."""
    if point["kind"] == "frontend":
        return LAW.frontend
    prompts = int(point["new_tokens"] > 0)
    return LAW.step(
        new=point["new_tokens"] + point["batch"],
        context=point["prefill_context"] + point["batch"] * point["context"],
        batch=point["batch"] + prompts,
    )


@pytest.fixture(scope="module")
def profile() -> Iterator[Profile]:
    with toy_engine(LAW) as endpoint:
        yield dataclasses.replace(PROFILER, budget=600.0).measure(endpoint, client(), model={"vocab_size": 100}, hardware="toy")


@pytest.mark.parametrize("kind", ["prefill", "decode", "mixed"])
def test_step_times_are_those_of_the_law(profile: Profile, kind: str) -> None:
    points = profile.points()
    points = points[points["kind"] == kind]
    errors = points["time"] / points.apply(truth, axis=1) - 1
    judge(bool(errors.abs().median() < 0.05 and errors.abs().max() < 0.25), points.assign(error=errors).to_string())


def test_the_front_end_is_told_from_the_steps(profile: Profile) -> None:
    assert profile.frontend is not None
    assert profile.frontend > LAW.frontend
    judge(profile.frontend < LAW.frontend + 0.008, f"{profile.frontend} s, the toy's own 1 or 2 ms of HTTP included")


def test_grids_are_cut_to_the_limits_and_end_at_them(profile: Profile) -> None:
    points = profile.points()
    assert points["batch"].max() == LAW.max_num_seqs
    assert (points["batch"] * points["context"])[points["kind"] == "decode"].max() < 1500 * 1.1
    assert set(points.loc[points["kind"] == "mixed", "new_tokens"]) == {200, 400}
    prefill = points[points["kind"] == "prefill"]
    assert prefill["new_tokens"].max() == LAW.max_num_batched_tokens
    assert set(prefill["prefill_context"]) == {0, 512, 1024}
    assert (prefill["new_tokens"] + prefill["prefill_context"]).max() == 1100


def test_held_out_points_are_marked_and_new(profile: Profile) -> None:
    key = ["kind", "new_tokens", "prefill_context", "batch", "context"]
    held_out, fitted = profile.points(held_out=True)[key], profile.points(held_out=False)[key]
    assert {"prefill", "decode", "mixed"} == set(held_out["kind"])
    assert len(held_out.merge(fitted, on=key)) == 0


def test_every_point_is_probed_as_often_as_there_is_time_for(profile: Profile) -> None:
    points = profile.points()
    assert set(points.loc[points["kind"] != "frontend", "n"]) == {2}
    assert set(profile.samples["repeat"]) == {0, 1}


def test_one_pass_is_made_whatever_it_takes() -> None:
    few = dataclasses.replace(
        PROFILER, prefill=[1], chunks=[8], decode_batches=[1], decode_contexts=[32], mixed_batches=[1], max_batch=2, max_prompt=520
    )
    with toy_engine(LAW) as endpoint:
        profile = few.measure(endpoint, client(), model={"vocab_size": 100}, hardware="toy")
    assert set(profile.samples["kind"]) == {"frontend", "prefill", "decode", "mixed"}
    points = profile.points()
    assert set(points.loc[points["kind"] != "frontend", "n"]) == {1}


def test_a_failing_engine_is_one_clear_line() -> None:
    with toy_engine(Law(refuse=True)) as endpoint, pytest.raises(EngineError, match="out of luck") as caught:
        PROFILER.measure(endpoint, client(), model={"vocab_size": 100}, hardware="toy")
    assert endpoint.url in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_server_is_one_clear_line() -> None:
    with toy_engine(LAW) as endpoint:
        pass
    with pytest.raises(EngineError, match="probe of 1 \\+ 8 tokens failed") as caught:
        PROFILER.measure(endpoint, client(), model={"vocab_size": 100}, hardware="toy")
    assert "\n" not in str(caught.value)


def test_a_chunk_is_what_it_adds_to_the_chunks_before_it() -> None:
    cost = FrontendCost(fixed=0.01, per_token=1e-5)
    seen = [
        Observation(kind="prefill", new_tokens=100, seconds=0.2 + cost.of(100)),
        Observation(kind="prefill", new_tokens=50, prefill_context=100, seconds=0.35 + cost.of(150)),
        Observation(kind="prefill", new_tokens=50, prefill_context=400, seconds=1.0),
    ]
    seen.append(Observation(kind="prefill", new_tokens=50, prefill_context=400, seconds=0.3 + cost.of(450), cached=True))
    frame = samples([Sighting(probe=0, repeat=0, observations=tuple(seen))], cost)
    assert frame["time"].tolist() == pytest.approx([0.2, 0.15, 0.3])  # no base was timed for the third; the fourth needs none


def test_long_prompts_tell_what_a_prompt_token_costs_outside_the_steps() -> None:
    seen = [Observation(kind="frontend", new_tokens=n, seconds=0.01 + 2e-6 * (n - 1)) for n in (1, 1001, 4001)]
    assert FrontendCost.fit(seen) == FrontendCost(fixed=pytest.approx(0.01), per_token=pytest.approx(2e-6))  # type: ignore[arg-type]


def gun(endpoint: Endpoint) -> Gun:
    return Gun(endpoint=endpoint, client=client(), vocab_size=5000, longest=300)


def test_prompts_never_repeat_unless_pooled() -> None:
    with toy_engine(LAW) as endpoint:
        first, second = gun(endpoint), gun(endpoint)
        prompts = [tuple(g.fresh(8)) for g in (first, second) for _ in range(50)]
        assert len(set(prompts)) == 100
        assert first.pooled(3, 100) == first.pooled(3, 300)[:100] != first.pooled(4, 100)
        assert [len(r.token_times or ()) for r in first.fire([Shot(prompt=p, output=n) for n, p in enumerate(prompts[:3], 1)])] == [1, 2, 3]


@pytest.mark.parametrize("wrong", [{"prefill": []}, {"repeats": 0}, {"decode_batches": [0]}, {"budget": -1.0}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"profile.{next(iter(wrong))} must"):
        dataclasses.replace(PROFILER, **wrong)  # type: ignore[arg-type]
