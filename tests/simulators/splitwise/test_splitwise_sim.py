"""The real Splitwise-sim, from a clone, on traces whose answers follow by hand from its own formulas; and its adapter without it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.profile import Profile
from results.record import EngineLimits, Run
from simulators.errors import SimulatorError
from simulators.foreign.step_points import fit
from simulators.inputs import kv_shape, mean_decode_context
from simulators.splitwise.adapter import SplitwiseSim
from simulators.splitwise.files import JITTER, time_table
from tests.simulators.foreign.copies import configured, gaps, linked, most_in_flight, needs_copy
from tests.simulators.profiles import LIMITS, Law, make_measured, make_profile, with_limits
from workloads.trace import Request, Trace

LAW = Law(attention=0.0)  # its model knows no contexts, and is linear between the rows of its table
P = LAW.prefill
BUDGET = 512  # LIMITS.max_num_batched_tokens
EXACT = 1e-6  # s
copy = pytest.mark.e2e


def D(batch: int) -> float:  # noqa: N802
    return LAW.decode(batch, 0)


@pytest.fixture
def needed() -> None:
    needs_copy("splitwise_sim", "PLUMBLINE_SPLITWISE_GIT", "github.com/Mutinifni/splitwise-sim")


def make(**changes: Any) -> SplitwiseSim:
    """Its own instance, prompts first, unless a test asks for another."""
    made = configured("splitwise_sim", **{"instance": "splitwise", **changes})
    assert isinstance(made, SplitwiseSim)
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


@copy
@pytest.mark.usefixtures("needed")
def test_traces_whose_answer_is_computed_by_hand(tmp_path: Path) -> None:
    block = 20.0 + P(100) + 3 * D(1)  # the end of the third decode step of the request sent at 20 s
    run = simulate(
        [
            (0.0, 100, 4),  # alone, from the very start
            (5.0, 100, 20),  # joined in its third decode step
            (5.0 + P(100) + 2.5 * D(1), 200, 3),
            (10.0, 300, 1),  # one token only, which it crashes on
            (15.0, 64, 30),  # pushed aside by a prompt larger than a step
            (15.0 + P(64) + 1.5 * D(1), 1500, 2),
            (20.0, 100, 9),  # met by another exactly at the end of a step, which it crashes on
            (block, 50, 2),
            (30.0, 40, 3),  # both at one instant: the first starts at once
            (30.0, 60, 3),
        ],
        tmp_path,
    )
    assert times(run, 0) == near(P(100), *[D(1)] * 3)
    mixed = 1.1 * P(200 + 1)
    assert times(run, 1) == near(P(100), *[D(1)] * 3, mixed, *[D(2)] * 2, *[D(1)] * 13)
    assert times(run, 2) == near(0.5 * D(1) + mixed, *[D(2)] * 2)
    assert times(run, 3) == near(P(300))
    oversized = P(512) + P(512, 512) + P(476, 1024)  # whole and alone, for as long as its chunks
    assert times(run, 4) == near(P(64), D(1), D(1), oversized + D(2), *[D(1)] * 26)
    assert times(run, 5) == near(0.5 * D(1) + oversized, D(2))
    joined = 1.1 * P(50 + 1)
    assert times(run, 6) == near(P(100), *[D(1)] * 4, joined, D(2), *[D(1)] * 2)
    assert times(run, 7) == near(D(1) + joined, D(2))  # it arrives a bit later than the step's end, and waits for the next one's
    first, second = 1.1 * P(60 + 1), D(2)
    assert times(run, 8) == near(P(40), first, second)
    assert times(run, 9) == near(P(40) + first, second, D(1))


@copy
@pytest.mark.usefixtures("needed")
def test_a_single_token_beside_others(tmp_path: Path) -> None:
    """Its own decode task of 0 tokens would crash it as soon as another request arrives."""
    busy = 0.5 + P(100) + 1.1 * P(101)
    run = simulate([(0.5, 100, 9), (0.5 + 0.5 * P(100), 100, 1), (busy + 0.5 * D(1), 64, 3)], tmp_path)
    assert times(run, 1) == near(0.5 * P(100) + 1.1 * P(101))
    assert run.records[1].finished == run.records[1].first_token


@copy
@pytest.mark.usefixtures("needed")
def test_it_knows_the_engine_as_well_as_its_model_can(tmp_path: Path) -> None:
    run = simulate([(0.0, 500, 25), (3.0, 600, 40)], tmp_path, profile=make_profile(Law(attention=1e-7)))
    calibration = run.config["simulator"]["calibration"]
    held_out = calibration["residuals"]["held_out"]
    assert held_out["prefill"]["median"] < 0.05
    assert held_out["decode_at_context"]["n"] == 1
    assert held_out["decode_at_context"]["median"] < 0.05
    assert held_out["decode"]["p90"] > 0.1  # the contexts that it cannot know
    assert calibration["points_it_cannot_express"] > 0
    assert calibration["decode_context"] == pytest.approx(mean_decode_context(run.trace_as_sent()))
    assert calibration["steps"] > 60
    assert calibration["steps_outside"] == 0


PAIR = [(0.5, 300, 40), (0.5 + 1e-3, 200, 40)]
FITS = 300 + 40 + 200 + 1  # tokens: the first one with its answer, beside the second one's prompt and first token


@copy
@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize(("kv_tokens", "parallel", "waits"), [(FITS, 1, False), (FITS - 1, 1, True), (FITS, 2, False), (FITS - 1, 2, True)])
def test_the_kv_cache_holds_the_engines_tokens_and_not_one_more(tmp_path: Path, kv_tokens: int, parallel: int, waits: bool) -> None:
    """Its own formula knows no KV heads, and would have room for half as many tokens of this model."""
    limits = with_limits(kv_tokens=kv_tokens, tensor_parallel=parallel)
    first, second = simulate(PAIR, tmp_path, limits=limits, instance="orca").records
    assert first.finished is not None and second.scheduled is not None
    assert (second.scheduled >= first.finished - EXACT) == waits


@copy
@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize("before", [[], [(0.1, 50, 5)]])
def test_a_full_kv_cache_that_locks_it_up_is_an_error_not_missing_rows(tmp_path: Path, before: list[tuple[float, int, int]]) -> None:
    """Two prompts are taken in and leave no room for either answer; its own exit code is 0 once anything has finished."""
    with pytest.raises(SimulatorError, match=r"splitwise_sim: .* KV cache is full .* simulators.splitwise_sim.instance=orca") as error:
        simulate([*before, *PAIR], tmp_path, limits=with_limits(kv_tokens=FITS - 1))
    assert "\n" not in str(error.value)


@copy
@pytest.mark.usefixtures("needed")
def test_no_more_sequences_at_once_than_the_engine_takes(tmp_path: Path) -> None:
    run = simulate([(0.5 + 1e-4 * i, 32, 60) for i in range(6)], tmp_path, limits=with_limits(max_num_seqs=2))
    total = max(r.finished or 0 for r in run.records) - 0.5
    assert total > 3 * 58 * D(2)  # three pairs in turns; six at once would need 59 * D(6), half as long


@copy
@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize("instance", ["splitwise", "orca"])
def test_how_many_take_turns_under_load_is_as_covered(tmp_path: Path, instance: str) -> None:
    """An engine at its max_num_seqs lets nobody in before somebody is done; prompts that go first get in, and decodes stand aside."""
    crowd = [(0.5 + 1e-3 * i, 200, 60) for i in range(16)]
    run = simulate(crowd, tmp_path, limits=with_limits(max_num_seqs=4), instance=instance)
    assert most_in_flight(run) == (4 if instance == "orca" else 16)
    coverage = run.config["simulator"]["coverage"]
    assert coverage["max_num_seqs"] == ("yes" if instance == "orca" else "partly")
    waves = np.load(tmp_path / "tokens.npz")["prompt_tokens"]
    assert (waves.max() > BUDGET) == (coverage["token_budget"] == "no")


@copy
@pytest.mark.usefixtures("needed")
def test_days_later_and_orca(tmp_path: Path) -> None:
    run = simulate([(0.0, 100, 3), (200_000.5, 100, 3)], tmp_path, instance="orca")
    for index in (0, 1):
        assert times(run, index) == near(P(100), D(1), D(1))
    assert run.config["simulator"]["coverage"]["preemption"] == "no"


@copy
@pytest.mark.usefixtures("needed")
def test_as_shipped_and_with_the_engines_limits(tmp_path: Path) -> None:
    requests = [(0.5, 512, 3), (5.0, 512, 40), (5.01, 512, 3)]
    runs = {}
    for track in ("shipped", "matched"):
        (tmp_path / track).mkdir()
        runs[track] = simulate(requests, tmp_path / track, track=track, limits=with_limits(max_num_seqs=1))
    rows = pd.read_csv(make()._source().checkout() / "data" / "perf_model.csv")
    rows = rows[(rows["model"] == "llama2-70b") & (rows["hardware"] == "h100-80gb") & (rows["tensor_parallel"] == 8)]
    by_tokens = rows.assign(x=rows["prompt_size"] * rows["batch_size"]).groupby("x")[["prompt_time", "token_time"]].median() / 1e3
    prompt, at128, at256 = (
        float(by_tokens[column].to_dict()[x]) for column, x in (("prompt_time", 512), ("token_time", 128), ("token_time", 256))
    )
    one = at128 + (at256 - at128) / 128 * (1 - 128)  # extrapolated, as it does below its rows
    for run in runs.values():
        assert times(run, 0) == near(prompt, one, one)
    joins = {track: (run.records[2].scheduled or 0) - (run.records[2].sent or 0) for track, run in runs.items()}
    assert joins["shipped"] < 0.1
    assert runs["matched"].config["simulator"]["limits"]["batch"] == 1
    assert runs["shipped"].config["simulator"]["limits"] == "its own defaults"
    assert "llama2-70b" in runs["shipped"].config["simulator"]["times_from"]
    assert runs["shipped"].run_id == "vllm-law-0--splitwise_sim-shipped"


KV = 2 * 4 * 4 * 64 * 2  # bytes of a token of tests.simulators.profiles.MODEL
LINK = 0.02  # GB/s, both directions; slow, so that it is seen: 10 MB/s are 0.4 ms a token


@copy
@pytest.mark.usefixtures("needed")
def test_prefill_and_decode_apart_and_the_kv_cache_sent_between_them(tmp_path: Path) -> None:
    sent = KV / (LINK / 2 * 1e9)  # s per token
    later = P(100) + 100 * sent + 1.5 * D(1)  # within the second decode step of the first request
    # a client sees the decode instance's first token, one step after the KV cache has arrived there
    measured = linked(make_measured([(0.5, 100, 6), (0.5 + later, 200, 2), (5.0, 300, 1)]), LINK)
    run = make(topology="pd").simulate(measured, track="calibrated", profile=make_profile(LAW), scratch=tmp_path)
    alone = [D(1)] * 5
    assert times(run, 0) == near(P(100) + 100 * sent + D(1), *alone)  # undisturbed by the other's prefill
    assert times(run, 1) == near(P(200) + 200 * sent + D(1), D(1))
    assert times(run, 2) == near(P(300) + 300 * sent + D(1))
    assert run.config["simulator"]["pools"] == {"prefill": 1, "decode": 1, "transfer": LINK / 2 * 1e9}


def refuse(match: str, tmp_path: Path, measured: Run, profile: Profile | None, track: Any = "calibrated", **changes: Any) -> None:
    with pytest.raises(SimulatorError, match=match) as error:
        make(**changes).simulate(measured, track=track, profile=profile, scratch=tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "log").exists()


def test_what_it_would_lose_silently_is_refused(tmp_path: Path) -> None:
    large = make_measured([(0.5, 100, 10), (0.6, 1000, 30)], limits=with_limits(kv_tokens=1029), first_id=40)
    refuse("request 41 of 1000 [+] 30 tokens does not fit into 1029 tokens of KV cache", tmp_path, large, make_profile(LAW))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance": "vllm"}, "instance must be splitwise or orca, got 'vllm'"),
        ({"shipped_tensor_parallel": 2}, "llama2-70b at tensor parallelism 2 has no usable times"),
        ({"shipped_hardware": "b200"}, "shipped_hardware must be one of a100-80gb"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make(**changes)


def test_kv_bytes_count_the_kv_heads_only() -> None:
    llama = {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "torch_dtype": "bfloat16"}
    assert kv_shape("x", llama).bytes_per_token == 131_072  # 2 * 32 layers * 8 heads * 128 * 2 bytes
    assert kv_shape("x", {**llama, "head_dim": 64}).bytes_per_token == 65_536
    with pytest.raises(SimulatorError, match="needs num_hidden_layers"):
        kv_shape("x", {"num_attention_heads": 8, "hidden_size": 512})


def test_the_mean_context_is_that_of_the_decode_steps() -> None:
    trace = Trace(
        name="two",
        requests=(
            Request(request_id=0, arrival=0.0, input_tokens=100, output_tokens=3),  # steps at 100 and 101 cached tokens
            Request(request_id=1, arrival=0.0, input_tokens=50, output_tokens=1),  # none
            Request(request_id=2, arrival=0.0, input_tokens=10, output_tokens=2),  # one at 10
        ),
    )
    assert mean_decode_context(trace) == pytest.approx((100 + 101 + 10) / 3)


def test_the_table_has_one_row_per_number_and_every_prompt_of_the_trace() -> None:
    trace = make_measured([(0.0, 1500, 4), (0.5, 777, 4), (0.6, 3001, 2)]).trace
    table = time_table(fit("x", make_profile(LAW)), trace, BUDGET, 300.0, 2)
    assert table["prompt_size"].is_unique
    assert {1, 2, 512, 777, 1500, 3001} <= set(table["prompt_size"])
    assert (table["batch_size"] == 1).all() and (table["tensor_parallel"] == 2).all()
    row = table.set_index("prompt_size").loc[1500]
    assert row["prompt_time"] == pytest.approx(1e3 * (P(512) + P(512, 512) + P(476, 1024)))
    assert table.set_index("prompt_size").loc[17, "token_time"] == pytest.approx(1e3 * D(17))
    assert JITTER < EXACT


def test_many_prompts_in_one_step_take_as_long_as_in_full_steps_one_by_one() -> None:
    """Without a token budget all that wait share a step; taken for one long prompt, their attention would grow quadratically."""
    law = Law(attention=1e-7)
    trace = make_measured([(0.01 * i, 256, 4) for i in range(8)] + [(1.0, 2048, 4)]).trace
    table = time_table(fit("x", make_profile(law)), trace, BUDGET, 300.0, 1, together=True).set_index("prompt_size")["prompt_time"] / 1e3
    pairs = (8 * 256**2 + 2048**2) / 2  # of tokens that attend to each other, in 4,096 tokens
    assert table[2048] == pytest.approx(2048 / BUDGET * law.fixed + 2048 * law.token + law.attention * pairs / 2, rel=1e-6)
    assert table[BUDGET] == pytest.approx(law.prefill(BUDGET))  # what was measured stays


def test_a_step_of_more_tokens_than_any_prompt_holds_several_within_a_large_budget_too() -> None:
    law = Law(attention=1e-7)
    trace = make_measured([(0.01 * i, 128, 4) for i in range(8)]).trace
    table = time_table(fit("x", make_profile(law)), trace, 1024, 300.0, 1, together=True).set_index("prompt_size")["prompt_time"] / 1e3
    assert table[128] == pytest.approx(law.prefill(128), rel=1e-3)
    assert table[1024] == pytest.approx(law.fixed + 1024 * law.token + 8 * law.attention * 128**2 / 2, rel=0.02)
    assert table.is_monotonic_increasing
