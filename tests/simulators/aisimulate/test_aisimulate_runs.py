"""The real AISimulate on engines whose step times follow a known law: what comes out must follow it too."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from results.profile import Profile
from results.project.folder import ROOT
from results.record import RequestRecord, Run
from simulators.aisimulate.releases import Wheel
from simulators.errors import NotAvailable, SimulatorError
from simulators.inputs import kv_shape
from tests.environments import python_of
from tests.simulators.aisimulate.test_aisimulate import make_aisimulate
from tests.simulators.profiles import LIMITS, MODEL, Law, make_measured, make_profile, overtaken, with_limits
from workloads.trace import Request, Trace

pytestmark = pytest.mark.e2e

LAW = Law()
LONE = (17, 40, 100, 250, 333, 500)  # prompts that meet an idle engine; most are off the profile's grid
TOGETHER = 8  # equal requests at one instant
REQUESTS = [
    *((3.3 + 2 * i, tokens, 12) for i, tokens in enumerate(LONE)),
    (20.0, 64, 1),
    *((30.123456789, 48, 60) for _ in range(TOGETHER)),
    *((40.0 + 0.013 * i, 20 + 37 * i % 400, 1 + 11 * i % 50) for i in range(60)),
]
FIRST_ID = 100
BLOCK = 64  # tokens that hash ids stand for
H200 = {"name": "h200", "memory_gb": 141, "interconnect_gb_s": 2}  # GB/s both ways together: a slow link, to be seen
EXACT = 2e-5  # relative; it rounds times to nanoseconds, and samples contexts within 10 %


Simulate = Callable[..., Run]


@pytest.fixture(scope="module", params=["v0_1", "v0_13"])
def wheel(request: pytest.FixtureRequest) -> Wheel:
    """Each wheel in turn."""
    found: Wheel = make_aisimulate().releases[request.param]
    python_of(found.environment)
    return found


@pytest.fixture(scope="module")
def simulate(wheel: Wheel) -> Simulate:
    """Runs it."""
    [name] = [name for name, release in make_aisimulate().releases.items() if release == wheel]

    def run(measured: Run, profile: Profile | None, scratch: Path, *, track: Any = "calibrated", **changes: Any) -> Run:
        return make_aisimulate(release=name, **changes).simulate(measured, track=track, profile=profile, scratch=scratch)

    return run


@pytest.fixture(scope="module")
def measured() -> Run:
    return overtaken(make_measured(REQUESTS, first_id=FIRST_ID), len(REQUESTS) - 20)


@pytest.fixture(scope="module")
def simulated(simulate: Simulate, measured: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(measured, make_profile(LAW), tmp_path_factory.mktemp("aisimulate"))


def ttft(record: RequestRecord) -> float:
    assert record.first_token is not None and record.sent is not None
    return record.first_token - record.sent


def duration(record: RequestRecord) -> float:
    """First to last token."""
    assert record.first_token is not None and record.finished is not None
    return record.finished - record.first_token


def sharing(measured: Run, groups: int) -> Run:
    """The run with prompts that share all their blocks but the last with every `groups`-th one before."""
    asked = tuple(
        Request(
            request_id=r.request_id,
            arrival=r.arrival,
            input_tokens=r.input_tokens,
            output_tokens=r.output_tokens,
            blocks=tuple(1000 * (i % groups) + block for block in range(r.input_tokens // BLOCK - 1)),
        )
        for i, r in enumerate(measured.trace)
    )
    return dataclasses.replace(measured, trace=Trace(name="sharing", requests=asked, block_size=BLOCK))


def on_h200(run: Run) -> Run:
    """The run, of a vLLM on an H200 whose version both wheels have operation times of."""
    return dataclasses.replace(run, version="0.24.0", hardware="h200", config={**run.config, "hardware": H200})


def test_every_request_comes_back_as_it_was_asked(measured: Run, simulated: Run) -> None:
    assert [r.request_id for r in simulated.records] == list(range(FIRST_ID, FIRST_ID + len(REQUESTS)))
    assert simulated.trace.sha256 == measured.trace.sha256
    for asked, record, truth in zip(measured.trace, simulated.records, measured.records, strict=True):
        assert (record.arrival, record.sent, record.error) == (asked.arrival, truth.sent, None)
        assert (record.input_tokens, record.output_tokens) == (asked.input_tokens, asked.output_tokens)


def test_time_runs_forwards(simulated: Run) -> None:
    for r in simulated.records:
        assert r.sent is not None and r.scheduled is not None and r.first_token is not None and r.finished is not None
        assert r.arrival <= r.sent <= r.scheduled < r.first_token <= r.finished
        assert (r.finished == r.first_token) == (r.output_tokens == 1)
        assert r.token_times is None  # it tells no more than their mean


@pytest.mark.parametrize("index", range(len(LONE)))
def test_a_lone_prompt_takes_the_time_of_its_step(simulated: Run, index: int) -> None:
    record = simulated.records[index]
    assert record.scheduled == pytest.approx(record.sent, abs=1e-9)
    assert ttft(record) == pytest.approx(LAW.prefill(LONE[index]), rel=EXACT)
    assert duration(record) == pytest.approx(sum(LAW.decode(1, LONE[index] + i) for i in range(1, 12)), rel=EXACT)


def test_decodes_together_take_the_time_of_their_batch(simulated: Run) -> None:
    for record in simulated.records[len(LONE) + 1 :][:TOGETHER]:
        assert duration(record) / 59 == pytest.approx(LAW.decode(TOGETHER, 48 + 30), rel=1e-4)


def test_a_chunk_is_short_of_one_decode_step_where_none_accompanies_it(simulate: Simulate, wheel: Wheel, tmp_path: Path) -> None:
    """The older wheel's one systematic fault (tables.py): budgets cut 1,200 tokens into three, and the first two have no decode."""
    (record,) = simulate(make_measured([(0.5, 1200, 2)]), make_profile(LAW), tmp_path).records
    budget = LIMITS.max_num_batched_tokens or 0
    chunks = [(done, min(budget, 1200 - done)) for done in range(0, 1200, budget)]
    asked = sum(LAW.prefill(new, done) for done, new in chunks)
    short = sum(LAW.decode(1, new) for _, new in chunks[:-1])
    assert ttft(record) == pytest.approx(asked - (short if wheel.ending_decodes else 0.0), rel=0.01)


def test_pages_of_one_token_are_simulated_by_two(simulate: Simulate, tmp_path: Path) -> None:
    """SGLang's own page size, which it refuses."""
    limits = with_limits(block_size=1)
    (record,) = simulate(make_measured([(0.5, 100, 2)], limits=limits), make_profile(LAW, limits=limits), tmp_path).records
    assert ttft(record) == pytest.approx(LAW.prefill(100), rel=EXACT)


def test_a_prompt_beside_decodes_pays_the_fixed_cost_once_and_in_newer_wheels_twice(
    simulate: Simulate, wheel: Wheel, tmp_path: Path
) -> None:
    decoding = [(0.5, 64, 200)] * 4
    *_, late = simulate(make_measured([*decoding, (0.6, 400, 2)]), make_profile(LAW), tmp_path).records
    assert late.scheduled is not None and late.first_token is not None
    asked = LAW.mixed(400, 0, 4, 64 + 50) + (0.0 if wheel.ending_decodes else LAW.fixed)
    assert late.first_token - late.scheduled == pytest.approx(asked, rel=0.01)


def test_no_decode_step_is_shorter_than_the_wheels_floor(simulate: Simulate, wheel: Wheel, tmp_path: Path) -> None:
    (record,) = simulate(make_measured([(0.5, 64, 11)]), make_profile(LAW, scale=0.1), tmp_path).records
    times = [0.1 * LAW.decode(1, 64 + i) for i in range(1, 11)]
    assert max(times) < 1e-3
    assert duration(record) == pytest.approx(sum(max(time, wheel.decode_floor) for time in times), rel=EXACT)


def test_it_says_how_well_it_knows_the_engine(simulated: Run, wheel: Wheel) -> None:
    calibration = simulated.config["simulator"]["calibration"]
    errors = {kind: calibration["residuals"]["held_out"][kind]["median"] for kind in ("prefill", "decode", "mixed")}
    assert max(errors["prefill"], errors["decode"]) < 0.01
    assert errors["mixed"] < 0.01 if wheel.ending_decodes else errors["mixed"] > 0.1  # the fixed cost twice
    assert ("which it has twice" in calibration["cannot_express"]) == (not wheel.ending_decodes)
    assert calibration["profile"] == "law"


def test_it_says_what_it_is(measured: Run, simulated: Run, wheel: Wheel) -> None:
    assert (simulated.kind, simulated.track, simulated.version) == ("simulated", "calibrated", wheel.version)
    assert simulated.system.startswith("aisimulate_v") and simulated.config["simulator"]["chosen"]["environment"] == wheel.environment
    assert simulated.measured_run_id == measured.run_id
    simulator = simulated.config["simulator"]
    assert simulator["times_from"] == "law"
    assert simulator["coverage"]["prefix_caching"] == "yes"
    assert simulator["timing"]["peak_memory"] > 10e6
    assert simulator["engine"]["workers"]["aggregated"]["scheduler"] == {"max_batched_tokens": 512, "max_sequences": 64}


def test_the_same_run_gives_the_same_bytes(simulate: Simulate, measured: Run, simulated: Run, tmp_path: Path) -> None:
    assert simulate(measured, make_profile(LAW), tmp_path).records == simulated.records


def test_another_profile_gives_other_times_and_the_offset_is_added(
    simulate: Simulate, measured: Run, simulated: Run, tmp_path: Path
) -> None:
    thrice = simulate(measured, make_profile(LAW, scale=3), tmp_path, frontend="offset")
    for slow, fast in zip(thrice.records[: len(LONE)], simulated.records, strict=False):
        assert ttft(slow) - 3 * LAW.frontend == pytest.approx(3 * ttft(fast), rel=EXACT)


@pytest.mark.parametrize("on", [True, False])
def test_shared_blocks_shorten_the_prefill_only_with_prefix_caching(simulate: Simulate, on: bool, tmp_path: Path) -> None:
    run = sharing(make_measured([(0.5 + i, 5 * BLOCK, 4) for i in range(4)], limits=with_limits(prefix_caching=on)), groups=2)
    records = simulate(run, make_profile(LAW), tmp_path).records
    shared = 4 * BLOCK
    for record, cached in zip(records, (0, 0, shared, shared), strict=True):
        assert record.cached_tokens == (cached if on else 0)
        left = 5 * BLOCK - (cached if on else 0)
        assert ttft(record) == pytest.approx(LAW.prefill(left, 5 * BLOCK - left), rel=0.01)


def test_prefix_caching_can_be_set_against_the_engines(simulate: Simulate, tmp_path: Path) -> None:
    run = sharing(make_measured([(0.5 + i, 5 * BLOCK, 4) for i in range(2)]), groups=1)  # the engine's is off
    assert [r.cached_tokens for r in simulate(run, make_profile(LAW), tmp_path, prefix_caching=True).records] == [0, 4 * BLOCK]


def test_a_full_kv_cache_makes_requests_wait(simulate: Simulate, tmp_path: Path) -> None:
    measured = make_measured([(0.5, 256, 8), (0.5001, 256, 8)], limits=with_limits(kv_tokens=320))
    first, second = simulate(measured, make_profile(LAW), tmp_path).records
    assert first.finished is not None and second.scheduled is not None
    assert second.scheduled == pytest.approx(first.finished, abs=1e-6)


def test_it_preempts_and_loses_nobody(simulate: Simulate, tmp_path: Path) -> None:
    crowd = [(0.5 + 1e-4 * i, 120, 100) for i in range(8)]
    run = simulate(make_measured(crowd, limits=with_limits(kv_tokens=1280)), make_profile(LAW), tmp_path)
    assert run.config["simulator"]["preemptions"] > 0
    assert [r.output_tokens for r in run.records] == [100] * 8


def test_a_request_that_never_fits_is_a_failure(simulate: Simulate, tmp_path: Path) -> None:
    measured = make_measured([(0.5, 100, 4), (0.6, 1000, 30)], limits=with_limits(kv_tokens=512))
    fits, too_long = simulate(measured, make_profile(LAW), tmp_path).records
    assert fits.error is None
    assert too_long.error == "aisimulate: rejected after 0 of 30 tokens"


def test_more_sequences_than_the_limit_wait(simulate: Simulate, tmp_path: Path) -> None:
    measured = make_measured([(0.5, 32, 50)] * 3, limits=with_limits(max_num_seqs=2))
    scheduled = [r.scheduled for r in simulate(measured, make_profile(LAW), tmp_path).records]
    assert scheduled[:2] == pytest.approx([0.5, 0.5])
    assert scheduled[2] is not None and scheduled[2] > 0.5 + 40 * LAW.decode(2, 32)


def test_one_that_takes_too_long_is_stopped(simulate: Simulate, measured: Run, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"aisimulate_v\w+: took longer than its limit of 0.05 s of CPU time"):
        simulate(measured, make_profile(LAW), tmp_path, limit=0.05)


def test_the_shipped_and_matched_tracks(simulate: Simulate, tmp_path: Path) -> None:
    """The same requests on an H200: the engine's limits make the difference, and its own times come from its own files."""
    measured = on_h200(make_measured([(0.5, 256, 40)] * 3, limits=with_limits(max_num_seqs=1)))
    last = {}
    for track in ("shipped", "matched"):
        scratch = tmp_path / track
        scratch.mkdir()
        run = simulate(measured, None, scratch, track=track)
        assert run.config["simulator"]["times_from"] == "its own, of h200_sxm with vLLM 0.24.0, the engine's version"
        last[track] = max(r.scheduled or 0.0 for r in run.records)
    assert last["shipped"] == pytest.approx(0.5)
    assert last["matched"] > 0.51


def test_a_closed_loop_keeps_as_many_in_flight(simulate: Simulate, tmp_path: Path) -> None:
    """Sent two seconds apart, as on an engine that takes so long; here each is sent when one of three has ended."""
    measured = make_measured([(0.5 + 2 * i, 100 + 10 * i, 5 + 7 * i % 11) for i in range(12)])
    load = {"loop": "closed", "concurrency": 3}
    run = simulate(dataclasses.replace(measured, config={**measured.config, "load": load}), make_profile(LAW), tmp_path)
    sent = [r.sent or 0.0 for r in run.records]
    ended = sorted(r.finished or 0.0 for r in run.records)
    assert sent[:3] == pytest.approx([0.5] * 3)
    assert sorted(sent[3:]) == pytest.approx(ended[:-3], abs=1e-6)
    assert run.config["simulator"]["coverage"]["closed_loop"] == "partly"


def test_a_turn_is_sent_when_the_one_before_has_ended_and_its_delay_is_over(simulate: Simulate, tmp_path: Path) -> None:
    measured = make_measured([(0.5, 100, 10), (0.6, 50, 20), (3.0, 120, 10), (4.0, 130, 10)])
    waits = {2: (0,), 3: (2,)}
    asked = tuple(dataclasses.replace(r, after=waits.get(i, ()), delay=0.25 * (i in waits)) for i, r in enumerate(measured.trace))
    turns = dataclasses.replace(measured, trace=dataclasses.replace(measured.trace, requests=asked))
    first, other, second, third = simulate(turns, make_profile(LAW), tmp_path).records
    assert (first.sent, other.sent) == pytest.approx((0.5, 0.6))
    assert second.sent == pytest.approx((first.finished or 0) + 0.25, abs=1e-6)
    assert third.sent == pytest.approx((second.finished or 0) + 0.25, abs=1e-6)


def of_mixture(run: Run) -> Run:
    """The run, of a model of 128 experts on an H200."""
    model = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / "qwen3_30b_a3b.yaml").config)
    return dataclasses.replace(on_h200(run), config={**run.config, "hardware": H200, "model": model})


@pytest.mark.parametrize("mixture", [False, True])
def test_replicas_are_engines_of_their_own_with_the_limits_of_each(simulate: Simulate, mixture: bool, tmp_path: Path) -> None:
    """Four requests at one instant on engines that take one at a time: two replicas have two waves of them."""
    limits = with_limits(max_num_seqs=1, data_parallel=2)
    measured = make_measured([(0.5, 256, 40)] * 4, limits=limits)
    run = simulate(of_mixture(measured) if mixture else on_h200(measured), None, tmp_path, track="matched")
    first, second, third, fourth = sorted(r.scheduled or 0.0 for r in run.records)
    assert first == second == pytest.approx(0.5)
    assert third == fourth and third > 0.506


@pytest.mark.parametrize("expert_parallel", [1, 2])
def test_a_mixture_on_two_devices_and_the_profile_of_one_engine_for_two(simulate: Simulate, expert_parallel: int, tmp_path: Path) -> None:
    times = {}
    for devices in (1, 2):
        limits = with_limits(tensor_parallel=devices, expert_parallel=expert_parallel if devices == 2 else 1)
        (tmp_path / str(devices)).mkdir()
        run = simulate(of_mixture(make_measured([(0.5, 4000, 4)], limits=limits)), None, tmp_path / str(devices), track="matched")
        times[devices] = ttft(run.records[0])
    assert times[2] < times[1]
    two = of_mixture(make_measured([(0.5, 256, 4)], limits=with_limits(data_parallel=2)))
    with pytest.raises(NotAvailable, match="an engine with 2 data-parallel replicas, and it is set up for one"):
        simulate(two, make_profile(LAW), tmp_path)


def test_hardware_that_it_does_not_know_gets_the_nearest_and_says_so(simulate: Simulate, tmp_path: Path) -> None:
    run = simulate(make_measured([(0.5, 256, 4)]), None, tmp_path, track="shipped")
    assert "l40s" in run.config["simulator"]["times_from"]
    assert "the nearest to cpu-test that it ships: not meant for such hardware" in run.config["simulator"]["times_from"]


@pytest.mark.parametrize("architecture", ["OddForCausalLM", "MistralForCausalLM", "DeepseekV2ForCausalLM"])
def test_a_model_that_it_does_not_know_is_not_available(simulate: Simulate, architecture: str, tmp_path: Path) -> None:
    measured = make_measured([(0.5, 256, 4)])
    odd = dataclasses.replace(measured, config={**measured.config, "model": {**MODEL, "architectures": [architecture]}})
    with pytest.raises(NotAvailable, match="it has no operation times for this model on l40s"):
        simulate(odd, None, tmp_path, track="shipped")


def test_apart_the_client_waits_for_the_transfer(simulate: Simulate, tmp_path: Path) -> None:
    run = on_h200(make_measured([(0.5, 256, 12)]))
    (record,) = simulate(run, make_profile(LAW), tmp_path, topology="pd", prefill_instances=2).records
    transfer = 256 * kv_shape("aisimulate", MODEL).bytes_per_token / 1e9  # at 1 GB/s, one direction of the link
    assert transfer > 1e-3
    assert ttft(record) == pytest.approx(LAW.prefill(256) + transfer + LAW.decode(1, 257), rel=0.01)
    assert duration(record) == pytest.approx(sum(LAW.decode(1, 256 + i) for i in range(2, 13)), rel=1e-3)


def test_apart_prefills_do_not_slow_decodes(simulate: Simulate, tmp_path: Path) -> None:
    long = [(0.51 + 0.02 * i, 500, 2) for i in range(10)]
    spread = {}
    for topology in ("colocated", "pd"):
        scratch = tmp_path / topology
        scratch.mkdir()
        first, *_ = simulate(on_h200(make_measured([(0.5, 64, 60), *long])), make_profile(LAW), scratch, topology=topology).records
        spread[topology] = duration(first)
    assert spread["pd"] < 0.8 * spread["colocated"]
    assert np.isfinite(spread["pd"])


def test_operation_times_without_the_models_sizes_are_passed_over(simulate: Simulate, wheel: Wheel, tmp_path: Path) -> None:
    """The oldest ones of an L40S that the older wheel has lack the heads of this model."""
    run = simulate(make_measured([(0.5, 256, 4)]), None, tmp_path, track="shipped")
    told = run.config["simulator"]
    assert told["chosen"]["tables_of"] == ("0.22.0" if wheel.ending_decodes else "0.24.0")
    assert told["passed_over"] == (["0.14.0 of 0.1.0.dev2"] if wheel.ending_decodes else [])


def of_the_newer(measured: Run, profile: Profile | None, scratch: Path, *, track: Any = "calibrated", **changes: Any) -> Run:
    """What only the newer wheel has takes that one by itself."""
    aisimulate = make_aisimulate(**changes)
    for name in aisimulate.environment:
        python_of(name)
    scratch.mkdir(exist_ok=True)
    return aisimulate.simulate(measured, track=track, profile=profile, scratch=scratch)


def test_a_prompt_is_tokenised_before_the_engine_sees_it_one_after_the_other(tmp_path: Path) -> None:
    two = make_measured([(0.5, 100, 2), (0.5, 200, 2)])
    queue = {"workers": 1, "base_ms": 5.0, "per_input_token_us": 50.0}
    first, second = of_the_newer(two, make_profile(LAW), tmp_path, tokenization=queue).records
    assert first.scheduled == pytest.approx(0.5 + 0.005 + 100 * 50e-6, abs=1e-6)
    assert second.scheduled == pytest.approx((first.scheduled or 0) + 0.005 + 200 * 50e-6, abs=1e-3)  # or in the step under way


def test_accepted_drafts_shorten_the_decode_and_no_token_is_lost(tmp_path: Path) -> None:
    run = on_h200(make_measured([(0.5, 100, 101)]))
    took = {}
    for rate in (0.0, 1.0):
        drafts = {"kind": "ngram", "num_speculative_tokens": 1, "acceptance_rates": [rate]}
        (record,) = of_the_newer(run, None, tmp_path / str(rate), track="matched", speculation=drafts).records
        assert record.output_tokens == 101
        took[rate] = duration(record)
    assert took[1.0] == pytest.approx(took[0.0] / 2, rel=0.05)  # a verification for every two tokens


def test_evicted_prefixes_come_back_from_the_hosts_memory(tmp_path: Path) -> None:
    """Eight prompts of ten blocks in a cache of two of them, then the first once more."""
    limits = with_limits(prefix_caching=True, kv_tokens=1312)
    run = sharing(make_measured([(0.5 + i, 10 * BLOCK, 2) for i in range(9)], limits=limits), groups=8)
    cached = {}
    for name, host in (("without", None), ("with", {"num_host_blocks": 4096})):
        scratch = tmp_path / name
        cached[name] = of_the_newer(run, make_profile(LAW), scratch, release="v0_13", host_offload=host).records[-1].cached_tokens
    assert cached == {"without": 0, "with": 9 * BLOCK}
