"""The profiler against an engine whose step times are known, and what it makes of one that fails."""

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import pytest

from harness.engine import Endpoint, EngineError
from harness.probing.probe_requests import ProbeRequest, ProbeSender
from harness.probing.probes import DecodeProbe, PrefillProbe
from harness.probing.profiler import Profiler, unfinished
from harness.probing.samples import FrontendCost, Observation, Sighting, samples
from harness.replay.client import Client
from results.profile import Profile
from results.record import EngineLimits
from tests.patience import TRIES
from tests.stand_ins.toy_engine import Law, judge, toy_engine

# times so long, and different enough, that what a busy machine adds to them is little
LAW = Law(base=0.03, per_token=1e-4, per_context=2e-5, per_sequence=0.005, frontend=0.02, max_num_seqs=4)
RECOMPUTES = dataclasses.replace(LAW, per_context=1e-5, per_recomputed=1e-4, parse=3e-5, prefix_caching=True)
LIMITS = EngineLimits(block_size=32, max_num_seqs=4, max_num_batched_tokens=512, max_model_len=2048, kv_tokens=65536)
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


def measured(law: Law, profiler: Profiler, *, vocab_size: int, right: Callable[[Profile], bool]) -> Profile:
    """A profile of the toy; measured anew, `TRIES` times in all, while its times are not right: the machine may have stood still."""
    for _ in range(TRIES):
        with toy_engine(law) as endpoint:
            profile = profiler.measure(endpoint, client(), model={"vocab_size": vocab_size}, hardware="toy")
        if right(profile):
            break
    return profile


def errors_of(profile: Profile, kind: str) -> pd.Series:
    """Relative errors of the times of a kind's points."""
    points = profile.points()
    points = points[points["kind"] == kind]
    return points["time"] / points.apply(truth, axis=1) - 1


def as_the_law_says(profile: Profile) -> bool:
    errors = [errors_of(profile, kind).abs() for kind in ("prefill", "decode", "mixed", "frontend")]
    return all(e.median() < 0.08 and e.max() < 0.2 for e in errors[:3]) and errors[3].max() < 1


@pytest.fixture(scope="module")
def profile() -> Profile:
    return measured(LAW, dataclasses.replace(PROFILER, budget=600.0), vocab_size=100, right=as_the_law_says)


@pytest.mark.parametrize("kind", ["prefill", "decode", "mixed"])
def test_step_times_are_those_of_the_law(profile: Profile, kind: str) -> None:
    errors = errors_of(profile, kind)
    judge(errors.abs().median() < 0.08 and errors.abs().max() < 0.3, profile.points().assign(error=errors).to_string())


def test_the_front_end_is_told_from_the_steps(profile: Profile) -> None:
    assert profile.frontend is not None
    assert LAW.frontend < profile.frontend < 2 * LAW.frontend  # the toy's own 1 or 2 ms of HTTP included


def test_the_smallest_prefill_is_never_lost_in_the_front_end(profile: Profile) -> None:
    points = profile.points()
    smallest = points[(points["kind"] == "prefill") & (points["new_tokens"] == 1)]
    assert smallest["n"].item() >= 9
    assert smallest["time"].item() == pytest.approx(LAW.step(new=1, context=0, batch=1), rel=0.2)


def test_grids_are_cut_to_the_limits_and_end_at_them(profile: Profile) -> None:
    points = profile.points()
    assert points["batch"].max() == LAW.max_num_seqs
    assert (points["batch"] * points["context"])[points["kind"] == "decode"].max() < 1500 * 1.1
    assert set(points.loc[points["kind"] == "mixed", "new_tokens"]) == {200, 400}
    prefill = points[points["kind"] == "prefill"]
    assert prefill["new_tokens"].max() == LAW.max_num_batched_tokens
    assert set(prefill["prefill_context"]) == {0, 512, 1024}
    whole = set(prefill.loc[prefill["prefill_context"] == 0, "new_tokens"])
    assert whole == {1, 128, 256, 300, 512}  # 256: between the grid's last and the token budget no hole is left
    assert (prefill["new_tokens"] + prefill["prefill_context"]).max() == 1100


def test_held_out_points_are_marked_and_new(profile: Profile) -> None:
    key = ["kind", "new_tokens", "prefill_context", "batch", "context"]
    held_out, fitted = profile.points(held_out=True)[key], profile.points(held_out=False)[key]
    assert {"prefill", "decode", "mixed"} == set(held_out["kind"])
    assert len(held_out.merge(fitted, on=key)) == 0


def test_every_point_has_samples_of_every_pass(profile: Profile) -> None:
    samples = profile.samples
    assert set(samples["repeat"]) == {0, 1}
    passes = samples.groupby(["kind", "new_tokens", "prefill_context", "batch", "context"])["repeat"].nunique()
    if passes.min() < 2 and (noisy := profile.provenance["noisy_runs"]):
        pytest.skip(f"others had the engine's core in {noisy} runs of a probe, which were left out; stop what else runs")
    assert passes.min() == 2, passes.to_string()
    assert (profile.points()["n"][profile.points()["kind"] == "decode"] >= 4).all()


def test_the_provenance_says_how_much_was_measured(profile: Profile) -> None:
    counts = profile.points().groupby("kind")["n"]
    assert profile.provenance["samples_per_point"] == {kind: [n.min(), n.median()] for kind, n in counts}
    assert profile.provenance["probe_runs"] == 2 * profile.provenance["probes"]
    assert profile.provenance["probes_not_run"] == []
    assert unfinished(profile) is None


def test_without_time_one_probe_of_each_kind_is_run() -> None:
    few = dataclasses.replace(PROFILER, max_batch=2, max_prompt=520)
    with toy_engine(LAW) as endpoint:
        profile = few.measure(endpoint, client(), model={"vocab_size": 100}, hardware="toy")
    assert set(profile.samples["kind"]) == {"frontend", "prefill", "decode", "mixed"}
    assert set(profile.samples["repeat"]) == {0}
    assert profile.provenance["probe_runs"] == 5  # the last of them: prompts to refuse
    assert len(profile.provenance["probes_not_run"]) == profile.provenance["probes"] - 5
    left = profile.provenance["probes"] - 5
    assert re.match(rf"{left} of .* probes were not run in profile.budget=0 s: .*guessed", unfinished(profile) or "")


@dataclass
class Dummy:
    """A probe that takes `seconds`, and writes down that it was run, from when to when."""

    name: str
    runs: list[str]
    seconds: float = 0.0
    times: list[tuple[float, float]] = field(default_factory=list)

    def run(self, sender: ProbeSender) -> list[Observation]:
        begin = time.monotonic()
        self.runs.append(self.name)
        time.sleep(self.seconds)
        self.times.append((begin, time.monotonic()))
        return [Observation(kind="prefill", new_tokens=1, seconds=1.0)]


def run_dummies(profiler: Profiler, probes: list[Dummy]) -> float:
    """Run the probes; return when the budget was over, as time.monotonic() has it."""
    with toy_engine(LAW) as endpoint:
        begin = time.monotonic()
        profiler._probe(probes, sender(endpoint), begin, None)
    return begin + profiler.budget


def test_probes_are_run_in_turn() -> None:
    runs: list[str] = []
    run_dummies(dataclasses.replace(PROFILER, budget=600.0, repeats=3), [Dummy(name, runs) for name in "abc"])
    assert runs == list("abcabcabc")


def test_what_does_not_fit_into_the_budget_is_left_out() -> None:
    runs: list[str] = []
    slow, quick = Dummy("slow", runs, 0.3), Dummy("quick", runs, 0.01)
    over = run_dummies(dataclasses.replace(PROFILER, budget=0.5, repeats=1000), [slow, quick])
    assert runs[0] == "slow"
    assert all(begin + 0.3 <= over for begin, _ in slow.times[1:])
    longest = max((end - begin for begin, end in quick.times), default=0.01)
    last = max(end for begin, end in [*slow.times, *quick.times])
    assert last + longest + 0.1 > over  # what still fitted was run


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


def parse_error(profile: Profile) -> float:
    """Of the front-end's time per prompt token, relative."""
    return float(profile.provenance["frontend_per_prompt_token"]) / RECOMPUTES.parse - 1


def chunk_errors(profile: Profile) -> pd.Series:
    """Relative errors of the times of the chunks behind a cached prefix, by its length."""
    points = profile.points()
    chunks = points[(points["kind"] == "prefill") & (points["prefill_context"] > 0)].set_index("prefill_context")
    law = [RECOMPUTES.step(new=n, context=c, batch=1, recomputed=c) for n, c in zip(chunks["new_tokens"], chunks.index, strict=True)]
    return chunks["time"] / law - 1


@pytest.fixture(scope="module")
def recomputed() -> Profile:
    """Of an engine that has a prefix cache, and computes with all of a prompt's cached beginning whenever it computes on it."""
    few = dataclasses.replace(PROFILER, prefill=[128], held_out_prefill=[], decode_batches=[1], held_out_batches=[], decode_contexts=[32])
    return measured(
        RECOMPUTES,
        dataclasses.replace(few, budget=600.0, repeats=1),
        vocab_size=5000,
        right=lambda profile: abs(parse_error(profile)) < 0.25 and bool((chunk_errors(profile).abs() < 0.1).all()),
    )


def test_what_a_cached_prefix_costs_a_step_is_no_front_end(recomputed: Profile) -> None:
    judge(abs(parse_error(recomputed)) < 0.25, f"off by {parse_error(recomputed):+.0%} of {RECOMPUTES.parse} s a token")
    assert recomputed.provenance["refusals"] == 6


def test_what_a_cached_prefix_costs_is_in_the_steps(recomputed: Profile) -> None:
    errors = chunk_errors(recomputed)
    assert set(errors.index) == {512, 1024}
    judge(bool((errors.abs() < 0.1).all()), f"errors by the prefix's length: {errors.to_dict()}")


@pytest.mark.parametrize("budget", [512, 4096])
def test_a_chunk_behind_a_cached_prefix_is_probed_early_whatever_the_budget(budget: int) -> None:
    """Nothing else tells a prompt's attention from what its tokens cost."""
    limits = dataclasses.replace(LIMITS, max_num_batched_tokens=budget, prefix_caching=True)
    probes = PROFILER._plan(limits, 2000)
    chunk = next(i for i, probe in enumerate(probes) if isinstance(probe, PrefillProbe) and probe.cached)
    decodes = [i for i, probe in enumerate(probes) if isinstance(probe, DecodeProbe)]
    assert decodes[0] < chunk < decodes[1]
    contexts = {probe.context for probe in probes if isinstance(probe, PrefillProbe)}
    assert contexts == ({0, 512, 1024} if budget == 512 else {0, 992})
    assert all(probe.new + probe.context <= 2000 for probe in probes if isinstance(probe, PrefillProbe))


def test_an_engine_that_refuses_nothing_has_no_cost_per_prompt_token() -> None:
    assert FrontendCost.fit([Observation(kind="refusal", new_tokens=5000, seconds=0.01)]).per_token == 0


def test_refused_prompts_tell_what_a_prompt_token_costs_outside_the_steps() -> None:
    seen = [Observation(kind="frontend", new_tokens=1, seconds=0.03, step=0.02)]
    seen += [Observation(kind="refusal", new_tokens=n, seconds=0.005 + 2e-6 * n) for n in (1000, 4000, 2000)]
    assert FrontendCost.fit(seen) == FrontendCost(
        fixed=pytest.approx(0.01),  # type: ignore[arg-type]
        per_token=pytest.approx(2e-6),  # type: ignore[arg-type]
        step=0.02,
    )


def test_the_smallest_prefill_is_the_median_step_of_the_front_ends_shots() -> None:
    ttfts, steps = (0.030, 0.031, 0.032, 0.040, 0.041), (0.020, 0.025, 0.026, 0.021, 0.019)
    seen = [Observation(kind="frontend", new_tokens=1, seconds=t, step=s) for t, s in zip(ttfts, steps, strict=True)]
    seen += [Observation(kind="prefill", new_tokens=1, seconds=t) for t in ttfts]
    frame = samples([Sighting(probe=0, repeat=0, observations=tuple(seen))], FrontendCost.fit(seen))
    medians = frame.groupby("kind")["time"].median()
    assert (medians["frontend"], medians["prefill"]) == (pytest.approx(0.011), pytest.approx(0.021))


def sender(endpoint: Endpoint) -> ProbeSender:
    return ProbeSender(endpoint=endpoint, client=client(), vocab_size=5000, longest=300)


def test_prompts_never_repeat_unless_pooled() -> None:
    with toy_engine(LAW) as endpoint:
        first, second = sender(endpoint), sender(endpoint)
        prompts = [tuple(g.fresh(8)) for g in (first, second) for _ in range(50)]
        assert len(set(prompts)) == 100
        few = dataclasses.replace(first, vocab_size=1010, first_id=1000)
        assert set(few.fresh(200)) == set(range(1000, 1010)) == set(few.pooled(0, 200))
        assert first.pooled(3, 100) == first.pooled(3, 300)[:100] != first.pooled(4, 100)
        assert [len(r.token_times or ()) for r in first.send([ProbeRequest(prompt=p, output=n) for n, p in enumerate(prompts[:3], 1)])] == [
            1,
            2,
            3,
        ]


@pytest.mark.parametrize("wrong", [{"prefill": []}, {"repeats": 0}, {"decode_batches": [0]}, {"budget": -1.0}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"profile.{next(iter(wrong))} must"):
        dataclasses.replace(PROFILER, **wrong)  # type: ignore[arg-type]
