"""Each thing that the verdict can have to say, from the numbers alone."""

import dataclasses
from datetime import datetime

import pytest

from analysis.data import LOST, Key, RunRow, Score
from analysis.verdict import MachineError, drift, machine_error, nearest_first, too_short, verdict

RUN = RunRow(
    run_id="run",
    kind="measured",
    system="vllm",
    version="0.32.0",
    track=None,
    measured_run_id=None,
    workload="chat",
    model="tiny",
    hardware="cpu",
    rho=0.6,
    rate=3.0,
    repeat=0,
    trace_sha256="aa",
    valid=True,
    invalid_reason=None,
    started_at=datetime(2026, 1, 2),
    wall_s=60.0,
    window_start=0.0,
    window_end=60.0,
    slo_ttft=None,
    slo_tpot=None,
    slo_e2e=None,
    tensor_parallel=1,
    path="runs/run",
    config={},
    provenance={},
    limits={},
)
METRICS: dict[Key, float | None] = {("ttft", "p50"): 0.045, ("tpot", "p50"): 0.0123, ("output_throughput", None): 312.4}
WHERE = "On vLLM 0.32.0 (cpu, tiny) at 60 % of capacity, "

Error = tuple[float | None, float | None, float | None]
CLOSE: Error = (0.004, -0.002, 0.008)


def scores(ttft: Error, tpot: Error = CLOSE, throughput: Error = CLOSE, *, system: str = "vidur", track: str = "calibrated") -> list[Score]:
    errors: dict[Key, Error] = {("ttft", "p50"): ttft, ("tpot", "p50"): tpot, ("output_throughput", None): throughput}
    return [
        Score(
            measured_run_id="run",
            simulated_run_id=f"run--{system}-{track}",
            system=system,
            track=track,
            metric=metric,
            stat=stat,
            error=error,
            error_low=low,
            error_high=high,
        )
        for (metric, stat), (error, low, high) in errors.items()
    ]


def test_a_lean_is_said_with_its_direction_and_interval_and_the_near_ones_with_a_bound() -> None:
    said = verdict(RUN, METRICS, scores((-0.12, -0.15, -0.09), (0.02, 0.01, 0.028)))
    assert (
        said == WHERE + "Vidur (calibrated) predicts median TTFT 12 % too low [−15, −9.0], median TPOT within 3 %, throughput within 1 %."
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ((0.12, 0.08, 0.15), "median TTFT 12 % too high [+8.0, +15]"),
        ((0.02, -0.04, 0.111), "median TTFT within 12 %"),  # holds 0: the bound is the interval's farther end, rounded up
        ((0.0, 0.0, 0.0), "median TTFT within 1 %"),
        ((0.3, -0.2, 0.9), "median TTFT 30 % too high, but uncertain [−20, +90]"),
        ((-0.5, -0.7, -0.1), "median TTFT 50 % too low, but uncertain [−70, −10]"),
        ((0.12, None, None), "median TTFT 12 % too high (no interval)"),
        ((2.4, 2.3, 2.5), "median TTFT 3.40 times the measured one [+230, +250]"),
        ((297.83, 297.8, 298.0), "median TTFT 299 times the measured one [×299, ×299]"),
    ],
)
def test_each_kind_of_interval_has_its_honest_wording(error: Error, said: str) -> None:
    assert (
        verdict(RUN, METRICS, scores(error)) == f"{WHERE}Vidur (calibrated) predicts {said}, median TPOT within 1 %, throughput within 1 %."
    )


def test_what_cannot_be_compared_is_said_and_not_taken_for_right() -> None:
    said = verdict(RUN, METRICS, scores(CLOSE, (None, None, None)))
    assert said.endswith("predicts median TTFT within 1 %, throughput within 1 % and gives nothing to compare for median TPOT.")
    nothing: Error = (None, None, None)
    said = verdict(RUN, METRICS, scores(nothing, nothing, nothing))
    assert said == WHERE + "Vidur (calibrated) gives nothing to compare for median TTFT, median TPOT, throughput."


def test_of_several_the_nearest_and_the_furthest_are_named() -> None:
    several = [
        *scores((1.5, 1.4, 1.6), system="vidur", track="shipped"),
        *scores((0.1, 0.08, 0.12), system="aisimulate", track="calibrated"),
        *scores((-0.55, -0.6, -0.5), system="native", track="calibrated"),
    ]
    said = verdict(RUN, METRICS, several)
    assert said.startswith(WHERE + "the nearest of 3, AISimulate (calibrated) predicts median TTFT 10 % too high")
    assert said.endswith("; the furthest, Vidur (shipped), predicts median TTFT 2.50 times the measured one [+140, +160].")


def test_too_low_by_a_factor_is_as_far_as_too_high_by_it() -> None:
    several = [*scores((0.9, 0.8, 1.0), system="vidur"), *scores((-0.6, -0.61, -0.59), system="native")]
    assert "the nearest of 2, Vidur" in verdict(RUN, METRICS, several)  # 1.9 times against 2.5 times


def test_an_invalid_run_is_never_scored_in_words() -> None:
    run = dataclasses.replace(RUN, valid=False, invalid_reason="dispatch lag p99 12 ms above 10 ms")
    said = verdict(run, METRICS, scores(CLOSE))
    assert said.startswith("INVALID: dispatch lag p99 12 ms above 10 ms. ")
    assert "Vidur" not in said and "within" not in said


def test_a_run_that_nothing_simulated_says_what_was_measured() -> None:
    assert verdict(RUN, METRICS, []) == (
        WHERE + "median TTFT is 45.0 ms, median TPOT is 12.3 ms, throughput is 312 tokens/s; no simulator was run on these requests."
    )
    assert "median TTFT is unknown" in verdict(RUN, {}, [])


def test_what_was_refused_is_named_with_and_without_other_scores() -> None:
    reason = "stray: not the same requests: its trace is bb, that of run is aa"
    assert verdict(RUN, METRICS, [], [reason]) == f"{WHERE}no simulator could be scored: {reason}."
    assert verdict(RUN, METRICS, scores(CLOSE), [reason]).endswith(f" (not scored: {reason}).")


def test_who_refused_or_lost_requests_is_compared_only_where_all_did_and_its_errors_have_no_bound() -> None:
    picky, whole, far = scores(CLOSE, system="aisimulate"), scores((0.3, 0.28, 0.32)), scores((0.6, 0.5, 0.7), system="native")
    lost = {("aisimulate", "calibrated"): 0.25}
    said = verdict(RUN, METRICS, [*picky, *whole, *far], lost=lost)
    assert said.startswith(WHERE + "the nearest of 2, Vidur (calibrated) predicts median TTFT 30 % too high [+28, +32]")
    assert "the furthest, Plumbline native (calibrated)" in said
    assert said.endswith(". Requests were refused or lost, and errors there are of the others: AISimulate (calibrated) 25 %.")
    assert "AISimulate (calibrated) predicts" not in said
    alone = verdict(RUN, METRICS, picky, lost=lost)
    assert "predicts median TTFT 0.4 % too high (no interval), median TPOT" in alone
    assert "within" not in alone and alone.endswith("AISimulate (calibrated) 25 %.")
    assert verdict(RUN, METRICS, picky, lost={("aisimulate", "calibrated"): LOST}) == verdict(RUN, METRICS, picky)  # as the study's grades


@pytest.mark.parametrize(("rho", "rate", "said"), [(None, 3.25, "at 3.25 requests/s"), (None, None, "at the trace's own times")])
def test_the_load_is_said_as_far_as_it_is_known(rho: float | None, rate: float | None, said: str) -> None:
    assert said in verdict(dataclasses.replace(RUN, rho=rho, rate=rate, version=None), METRICS, [])


UNSTEADY = {
    "limit": 0.05,
    "worst": 0.18,
    "change": {"decode": 0.18, "mixed": 0.02},
    "seconds": {"decode": [0.0118, 0.0139], "mixed": [1, 1.02]},
}


def of_profile(**changes: object) -> RunRow:
    """The measured run, its profile having seen this of the machine."""
    return dataclasses.replace(RUN, provenance={"repeatability": {**UNSTEADY, **changes}})


def calibrated_from(source: str) -> RunRow:
    config = {"simulator": {"step_times_from": {"source": source}}}
    return dataclasses.replace(RUN, kind="simulated", track="calibrated", config=config)


def test_a_machine_that_did_not_repeat_itself_is_said_before_any_error() -> None:
    machine = machine_error(of_profile(), [calibrated_from("measured")])
    assert machine is not None and machine == machine_error(of_profile(), [])
    assert "not repeat itself to 5 %" in machine.notice and "decode 11.8 and 13.9 ms, mixed 1\u2009000 and 1\u2009020 ms" in machine.notice
    said = verdict(RUN, METRICS, scores((-0.14, -0.15, -0.13)), machine=machine)
    assert said.startswith(f"{machine.clause} {WHERE}Vidur (calibrated) predicts median TTFT 14 % too low")
    assert "18 %" in machine.clause and "no simulator's error below that can be told" in machine.clause


@pytest.mark.parametrize("provenance", [{}, {"repeatability": None}, {"repeatability": {**UNSTEADY, "worst": 0.05}}])
def test_a_machine_that_repeated_itself_or_was_not_asked_is_not_mentioned(provenance: dict[str, object]) -> None:
    assert machine_error(dataclasses.replace(RUN, provenance=provenance), [calibrated_from("measured")]) is None


def test_step_times_from_elsewhere_say_nothing_of_this_machine() -> None:
    assert machine_error(of_profile(), [calibrated_from("aic")]) is None
    assert isinstance(machine_error(of_profile(), [calibrated_from("aic"), calibrated_from("measured")]), MachineError)


def test_the_nearest_comes_first_and_who_lost_requests_last() -> None:
    exact, near, far = scores(CLOSE, system="a"), scores((0.3, 0.28, 0.32), system="b"), scores((-0.6, -0.7, -0.5), system="c")
    assert [system for system, _ in nearest_first([*far, *near, *exact])] == ["a", "b", "c"]
    lost = {("a", "calibrated"): 0.25, ("b", "calibrated"): LOST}
    assert [system for system, _ in nearest_first([*far, *near, *exact], lost)] == ["b", "c", "a"]


def simulated(took: float, says: float, track: str = "calibrated") -> RunRow:
    told = {"decode": {"steps": 100, "took_s": took - 1, "profile_s": says - 1}, "mixed": {"steps": 3, "took_s": 1.0, "profile_s": 1.0}}
    return dataclasses.replace(RUN, kind="simulated", track=track, config={"simulator": {"profile_on_these_steps": told}})


def test_an_engine_that_was_not_as_profiled_is_no_simulator_s_fault() -> None:
    said = drift([RUN, simulated(10.8, 10.0)])
    assert said is not None and said.startswith("The engine's own steps took 8.0 % longer than its profile says of the same ones")
    assert "took 5.0 % less" in str(drift([simulated(9.5, 10.0)]))
    assert drift([simulated(10.2, 10.0)]) is None
    assert drift([simulated(20.0, 10.0, track="matched")]) is None
    assert drift([RUN, dataclasses.replace(simulated(20.0, 10.0), config={"simulator": {"profile_on_these_steps": {}}})]) is None


@pytest.mark.parametrize(
    ("rho", "requests", "said"),
    [
        (0.6, 72, None),
        (0.6, 71, "The interval of a median latency takes 72 requests at 60 % of capacity; this run has 71."),
        (0.8, 400, "takes 432 requests at 80 % of capacity"),
        (None, 5, "The interval of a median latency takes 6 requests; this run has 5."),
        (None, 6, None),
        (1.0, 10**6, "latencies grow with the run"),
    ],
)
def test_a_run_too_short_for_its_load_is_said_to_be(rho: float | None, requests: int, said: str | None) -> None:
    told = too_short(dataclasses.replace(RUN, rho=rho), requests)
    assert told is None if said is None else said in str(told)
