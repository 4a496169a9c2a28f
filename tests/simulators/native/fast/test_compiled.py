"""The compiled engine gives what the readable one gives, to the last bit."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simulators.native.architecture.reader import decoder_of
from simulators.native.engine import run
from simulators.native.fast import machine_code
from simulators.native.fast.allocate import new_engine, new_sequences
from simulators.native.fast.compiled import HERE, SOURCES
from simulators.native.fast.engine import advance
from simulators.native.fast.growing import GrowingEngine
from simulators.native.fast.records import DONE, WAITS, EngineArrays
from simulators.native.fast.simulate import simulate
from simulators.native.frontend.station import Station
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.latency.device import Device
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.stairs import StairsStepTime
from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.swapping import Swapping
from simulators.native.planning import settings
from simulators.native.scheduling.speculation import Speculation
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.simulators.native.cases import Case, Linear, chunked_case, grouped_case, random_case, speculative_case
from tests.simulators.native.latency.test_stairs import steps
from tests.simulators.native.latency.test_step_time import BESIDE, LLAMA_8B, PEAK, profile
from tests.simulators.native.test_native import H200
from workloads.columns import columns_of

FRONTEND = Frontend(before=0.011, before_per_token=0.0003, after=0.007)


def first_come(case: Case) -> Case:
    return dataclasses.replace(case, limits=dataclasses.replace(case.limits, policy="fcfs"))


def both(case: Case, step_times: tuple[StepTime, StepTime] | None = None, frontend: Frontend = FRONTEND) -> tuple[Served, Served]:
    """By the readable engine, and by the compiled one."""
    one, other = step_times or (case.step_time, case.step_time)
    return (
        serve(case.trace, case.limits, one, frontend=frontend, engine="readable"),
        serve(case.trace, case.limits, other, frontend=frontend, engine="compiled"),
    )


def assert_same(readable: Served, compiled: Served) -> None:
    assert list(compiled.records) == list(readable.records)
    assert dataclasses.replace(compiled, records=(), seconds=0) == dataclasses.replace(readable, records=(), seconds=0)


@pytest.mark.parametrize("first", range(0, 240, 60))
def test_every_record_is_the_readable_engines(first: int) -> None:
    """Token times, prefix hits, preemptions, peak: equal, not close. The cases have pressure, sharing, all limits, 1 to 3 in flight."""
    preempted = cached = 0
    for case in map(first_come, map(random_case, range(first, first + 60))):
        readable, compiled = both(case)
        assert_same(readable, compiled)
        preempted += readable.preemptions
        cached += sum(r.cached_tokens or 0 for r in readable.records)
    assert preempted > 50 and cached > 3000  # the cases exercise it


def test_every_record_is_the_readable_engines_with_speculation() -> None:
    """Verifications that accept several tokens, drafts that need blocks; API servers stream what one step brings together."""
    preempted = at_once = 0
    station = Station(request=0.002, step=0.003, token=0.001, hand_over=0.001, servers=2)
    for seed in range(120):
        frontend = dataclasses.replace(FRONTEND, station=station) if seed % 3 == 0 else FRONTEND
        readable, compiled = both(first_come(speculative_case(seed)), frontend=frontend)
        assert_same(readable, compiled)
        preempted += readable.preemptions
        at_once += sum(len(r.token_times or ()) - len(set(r.token_times or ())) for r in readable.records)
    assert preempted > 50 and at_once > 3000  # the cases exercise it


@pytest.mark.parametrize("make", [grouped_case, chunked_case])
def test_every_record_is_the_readable_engines_with_layers_in_groups(make: Callable[[int], Case]) -> None:
    """Windows, chunks and states; drafts in some of those that share no prefixes."""
    preempted = cached = 0
    for seed in range(120):
        case = first_come(make(seed))
        if not case.limits.prefix_caching and seed % 2:
            drafts = Speculation(num_speculative_tokens=1 + seed % 3, acceptance_rate=0.6, method="eagle" if seed % 4 == 1 else "ngram")
            case = dataclasses.replace(case, limits=dataclasses.replace(case.limits, speculation=drafts))
        readable, compiled = both(case)
        assert_same(readable, compiled)
        preempted += readable.preemptions
        cached += sum(r.cached_tokens or 0 for r in readable.records)
    assert preempted > 50 and cached > 2000  # the cases exercise it


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_the_api_servers_are_the_same_queue(servers: int) -> None:
    """Idle ones and overloaded ones; requests of several servers overtake each other."""
    held = set()
    for seed in range(60):
        case = first_come(random_case(seed))
        request, prompt_token, step, token, hand_over = (np.random.default_rng(seed).exponential(0.02, 5) * (1, 0.01, 0.3, 1, 1)).tolist()
        station = Station(
            request=request, prompt_token=prompt_token, step=step, token=token, hand_over=seed % 2 * hand_over, servers=servers
        )
        readable, compiled = both(case, frontend=dataclasses.replace(FRONTEND, station=station))
        assert_same(readable, compiled)
        assert readable.station is not None
        held.add(readable.station.first_token > 2 * station.after)
    assert held == {True, False}


@pytest.mark.parametrize("seed", range(20))
def test_step_times_are_the_same_law(seed: int) -> None:
    """From a profile, beyond what it has seen too, and from sizes; both engines count the same steps."""
    case = first_come(random_case(seed))

    def made() -> StepTime:
        if seed % 5 == 0:
            return StairsStepTime(steps(400, noise=0.1, seed=seed))
        if seed % 2:
            return MeasuredStepTime(profile(noise=0.1, seed=seed, beside=BESIDE))
        return Roofline(decoder_of(LLAMA_8B), Device.from_hardware(H200), PEAK, parallel=Parallelism(tensor=1 + seed % 4 // 2))

    step_times = made(), made()
    assert_same(*both(case, step_times))
    assert step_times[0].describe() == step_times[1].describe()


@pytest.mark.parametrize("name", ["mixtral_8x7b", "gpt_oss_20b", "deepseek_v3_2", "qwen3_next_80b_a3b", "gemma_3_27b"])
def test_step_times_of_experts_windows_latents_and_states_are_the_same_law(name: str) -> None:
    """Windows of 8 tokens, so that these short requests reach beyond them."""
    config = settings.model(name)
    inner = config.get("text_config", config)
    inner |= {key: 8 for key in ("sliding_window", "index_topk") if key in inner}
    for seed in range(1, 20, 3):
        case = first_come(random_case(seed))
        parallel = Parallelism(tensor=2, data=1 + seed % 2, expert=1 + seed % 2, pipeline=1 + seed // 10)
        step_times = [Roofline(decoder_of(config), Device.from_hardware(H200), PEAK, parallel=parallel) for _ in range(2)]
        assert_same(*both(case, (step_times[0], step_times[1])))


def test_requests_without_blocks_and_many_steps() -> None:
    """So many steps that the logs are emptied several times; preempted requests find again what is left of them."""
    case = random_case(1)
    rng = np.random.default_rng(5)
    requests = [
        dataclasses.replace(case.trace.requests[0], request_id=i, arrival=0.4 * i, input_tokens=n, output_tokens=m, blocks=())
        for i, (n, m) in enumerate(rng.integers((1, 100), (60, 400), (200, 2)).tolist())
    ]
    trace = dataclasses.replace(case.trace, requests=tuple(requests), block_size=None)
    limits = dataclasses.replace(case.limits, policy="fcfs", kv_blocks=40, block_size=16, max_model_len=500, max_num_seqs=4, in_flight=2)
    readable, compiled = both(Case(trace=trace, limits=limits, priorities=(), step_time=Linear(fixed=0.004)))
    assert_same(readable, compiled)
    assert readable.steps > 1 << 14 > readable.preemptions > 50


def test_refused_requests() -> None:
    case = first_come(random_case(2))
    assert_same(*both(dataclasses.replace(case, limits=dataclasses.replace(case.limits, max_model_len=60))))


def test_without_token_times() -> None:
    case = first_come(random_case(3))
    readable, compiled = (
        serve(case.trace, case.limits, case.step_time, frontend=FRONTEND, engine=engine, token_times=False)
        for engine in ("readable", "compiled")
    )
    assert_same(readable, compiled)
    assert {r.token_times for r in compiled.records} == {None} and compiled.records[0].first_token is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limits": {"kept_tokens": 8, "prefix_caching": False}}, "kept_tokens=8"),
        ({"policy": "orca"}, "the policy orca"),
        ({"step_time": Swapping(Linear(fixed=0.1), seconds_per_token=0.1)}, "step times that a batch's sums do not tell"),
    ],
)
def test_what_it_does_not_have_is_told_and_served_by_the_readable_one(changes: dict[str, Any], message: str) -> None:
    case = first_come(random_case(4))
    limits = dataclasses.replace(case.limits, **changes.get("limits", {}))
    step_time, policy = changes.get("step_time", case.step_time), changes.get("policy", "vllm_v1")
    with pytest.raises(ValueError, match=f"the compiled engine does not have {message}; take the readable one"):
        serve(case.trace, limits, step_time, frontend=FRONTEND, policy=policy, engine="compiled")
    assert len(serve(case.trace, limits, step_time, frontend=FRONTEND, policy=policy).records) == len(case.trace)


def test_by_priority_every_token_has_the_readable_engine_s_time() -> None:
    """Who is admitted, who gives way, and whose step is taken back; those that are preempted come back in order."""
    preempted, overtaken = 0, 0
    for seed in range(160):
        case = random_case(seed)
        limits = dataclasses.replace(case.limits, policy="priority", prefix_caching=False, reserve_full_prompt=True)
        asked, priorities = columns_of(case.trace), np.array(case.priorities)
        engine = GrowingEngine(limits, case.step_time, Station())
        engine.add(new_sequences(asked.arrival, asked.input_tokens, asked.output_tokens, priority=priorities))
        compiled = engine.finished()
        sequences = list(make_sequences(case.trace, block_size=limits.block_size))
        for sequence, priority in zip(sequences, case.priorities, strict=True):
            sequence.priority = priority
        for _ in run(sequences, VllmV1(limits), case.step_time, in_flight=limits.in_flight):
            pass
        assert compiled.first_token.tolist() == [s.token_times[0] for s in sequences]
        assert compiled.last_token.tolist() == [s.token_times[-1] for s in sequences]
        assert compiled.sequences["preemptions"].tolist() == [s.preemptions for s in sequences]
        preempted += sum(s.preemptions for s in sequences)
        overtaken += int(np.any(np.diff(compiled.sequences["scheduled"]) < 0))
    assert preempted > 50 and overtaken > 20  # the cases exercise it


@pytest.mark.parametrize("seed", range(8))
def test_an_engine_that_grows_serves_as_one_that_knows_all(seed: int) -> None:
    """Told of a few requests at a time, its API servers at work, it has the same records; what is in flight is what has not ended."""
    case = first_come(random_case(seed))
    limits = dataclasses.replace(case.limits, prefix_caching=False)
    station = Station(request=0.004, step=0.002, token=0.001, hand_over=0.003, servers=1 + seed % 2)
    asked = columns_of(case.trace)
    arrival = asked.arrival + np.arange(len(asked.arrival)) * 0.01
    made = new_sequences(arrival, asked.input_tokens, asked.output_tokens)
    whole = simulate(made.copy(), np.empty(0, np.int64), limits, case.step_time, station)
    growing = GrowingEngine(limits, case.step_time, station, room=1)
    for first in range(0, len(made), 3):
        upto = arrival[min(first + 3, len(arrival) - 1)]
        growing.add(made[first : first + 3])
        growing.until(upto - station.hand_over)
        assert growing.in_flight >= np.sum(whole.last_token[: first + 3] > upto + station.after)
    grown = growing.finished()
    assert growing.in_flight == 0
    with pytest.raises(ValueError, match="is longer than max_model_len"):
        growing.add(new_sequences(np.zeros(1), np.array([1]), np.array([limits.max_model_len])))
    for name in ("first_token", "last_token", "steps", "end", "peak_kv_blocks", "station"):
        assert np.array_equal(getattr(grown, name), getattr(whole, name)), name


@pytest.mark.parametrize("seed", range(8))
def test_an_engine_can_be_led_on_in_steps_of_time_and_told_of_requests_late(seed: int) -> None:
    """As a cluster would: on to the next arrival, the request handed over, and so on. Nothing differs from knowing all at once."""
    case = first_come(random_case(seed))
    columns = columns_of(case.trace)
    limits = dataclasses.replace(case.limits, prefix_caching=False)

    def engine() -> EngineArrays:
        made = new_sequences(columns.arrival, columns.input_tokens, columns.output_tokens)
        return new_engine(made, np.empty(0, np.int64), limits, case.step_time.law)

    whole, led = engine(), engine()
    assert advance(whole, np.inf) == DONE
    for known, arrival in enumerate(columns.arrival.tolist()):
        led.clock["known"] = known
        for until in (arrival - 0.01, arrival):  # the first of them shows nothing that the second would not
            assert advance(led, until) in (DONE, WAITS)
    led.clock["known"] = len(columns.arrival)
    assert advance(led, np.inf) == DONE
    assert np.array_equal(whole.sequences, led.sequences)
    assert np.array_equal(whole.ends[: whole.clock["told"][0]], led.ends[: led.clock["told"][0]])


def test_the_kept_machine_code_is_what_numba_compiled() -> None:
    """Called without Numba it leaves every array as Numba's own function leaves it, to the last bit."""
    case = first_come(random_case(0))
    advance(_engine(case), np.inf)
    loaded = machine_code.function_of(machine_code.code_of(advance))
    for seed in range(20):
        case = first_come(random_case(seed))
        one, other = _engine(case), _engine(case)
        for until in (0.1, 1.0, np.inf):
            assert loaded(one, until) == advance(other, until)
            assert all(a.tobytes() == b.tobytes() for a, b in zip(_arrays(one), _arrays(other), strict=True))


def _engine(case: Case) -> EngineArrays:
    columns = columns_of(case.trace)
    made = new_sequences(columns.arrival, columns.input_tokens, columns.output_tokens)
    return new_engine(made, np.empty(0, np.int64), case.limits, case.step_time.law)


def _arrays(engine: EngineArrays) -> list[Any]:
    return [array for part in engine for array in (part if isinstance(part, tuple) else (part,))]


def test_the_digest_is_of_all_that_is_compiled() -> None:
    with_kernels = {path for path in HERE.glob("*.py") if "@compiled" in path.read_text()}
    assert with_kernels and with_kernels < set(SOURCES) <= set(machine_code.SOURCES)
