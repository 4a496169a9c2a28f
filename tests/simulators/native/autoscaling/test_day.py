"""Laws of a day on replicas that are started and stopped, whatever the rule and the rate."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from results.record_table import RecordTable
from simulators.native.__main__ import main
from simulators.native.autoscaling.day import Day, plan_day, replicas_for
from simulators.native.autoscaling.fleet import Fleet, FleetScaling, InTurn
from simulators.native.autoscaling.rates import DayRates, day_rates
from simulators.native.autoscaling.rules import FleetLoad, Forecast, InFlight, Static
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.fast.growing import GrowingEngine
from simulators.native.frontend.station import Station
from simulators.native.planning import settings
from simulators.native.served import Frontend
from tests.simulators.native.cases import Linear, random_case
from workloads.columns import RequestColumns
from workloads.trace import Columns, Trace

NOWHERE = Path("no_such.duckdb")
SHORT = ("model=llama_3_1_8b", "hardware=l40s", "workload=azure_conv_like", "slo.ttft=0.5", "slo.tpot=0.05", "requests=1000")
DAY = (*SHORT, "rate=30", "day.seconds=600", "autoscale.start_up=20", "autoscale.stabilisation=30", "autoscale.interval=5")


def day(*words: str) -> Day:
    return plan_day(settings.settings(words), NOWHERE)


@pytest.fixture(scope="module")
def scaled() -> Day:
    return day(*DAY, "second.share=0.3", "second.slo.ttft=5")


def test_every_request_is_served_once_and_whole(scaled: Day) -> None:
    for fleet in scaled.fleets.values():
        records = fleet.served.records
        assert records["request_id"].to_pylist() == list(range(len(scaled.requests.second)))
        assert np.array_equal(records["output_tokens"].to_numpy(), scaled.requests.asked.output_tokens)
        assert records["finished"].null_count == 0 and records["error"].null_count == len(records)
        held = np.concatenate([np.concatenate(r.served) for r in fleet.served.replicas if r.served])
        assert sorted(held.tolist()) == list(range(len(records)))
        assert sum(len(one.good) for one in fleet.classes.values()) == len(records)


def test_no_replica_serves_before_its_start_up_is_over_or_is_gone_before_its_requests(scaled: Day) -> None:
    served = scaled.scaled.served
    arrival, scheduled, finished = (served.records[name].to_numpy() for name in ("arrival", "scheduled", "finished"))
    started, gone, given_up = 0, 0, 0
    for replica in served.replicas:
        mine = np.concatenate([np.empty(0, np.int64), *replica.served])
        late = replica.started > 0
        assert not late or replica.ready == replica.started + scaled.cfg.autoscale.start_up
        started += late and len(mine) > 0
        if not len(mine):
            given_up += 1
            continue
        assert arrival[mine].min() >= replica.ready and scheduled[mine].min() >= replica.ready
        if replica.stopped is not None and replica.stopping is not None:
            gone += 1
            assert replica.stopping <= replica.stopped and arrival[mine].max() <= replica.stopping + 0.1
            assert finished[mine].max() <= replica.stopped + 0.1  # the API server still streams
    assert started > 3 and gone > 3  # the day exercises it


def test_what_is_paid_for_is_from_start_to_end_within_the_day(scaled: Day) -> None:
    times = np.arange(0.5, 600, 1.0)
    for fleet in scaled.fleets.values():
        assert fleet.served.replica_hours == pytest.approx(float(fleet.served.alive(times).mean()) * 24, rel=0.01)
    assert scaled.gpu_hours(scaled.static) == 24 * replicas_for(scaled.rates.peak, scaled.sustained)
    assert {len(one.by_hour(0)) for one in scaled.fleets.values()} == {24}


def test_a_flat_day_takes_what_the_capacity_says() -> None:
    words = (*SHORT, "day.profile=flat", "rate=60", "day.seconds=120", "autoscale.rule=forecast")
    found, capacity = day(*words), settings.judge(settings.settings(words)).capacity()
    assert capacity and found.sustained == capacity
    replicas = math.ceil(60 / capacity.rate)
    for fleet in found.fleets.values():
        assert len(fleet.served.replicas) == replicas and fleet.served.replica_hours == pytest.approx(24 * replicas)
        assert fleet.share(0) >= 0.9
    assert found.static.served.records.equals(found.scaled.served.records)


def test_a_perfect_rule_without_start_up_takes_no_more_than_the_static_fleet() -> None:
    found = day(*DAY, "autoscale.rule=forecast", "autoscale.start_up=0", "autoscale.interval=1")
    assert found.gpu_hours(found.scaled) < 0.9 * found.gpu_hours(found.static)
    assert found.scaled.share(0) >= 0.9


def test_by_priority_the_first_class_waits_less_and_the_second_more() -> None:
    words = (*DAY, "second.share=0.5", "second.slo.ttft=9", "autoscale.max_replicas=2", "limits.max_num_seqs=24", "day.seconds=150")
    one_queue, ordered = day(*words), day(*words, "second.by_priority=true")
    for number, sign in ((0, 1), (1, -1)):
        waits = [found.scaled.quantile(number, "ttft", 0.9) for found in (one_queue, ordered)]
        assert waits[0] and waits[1] and sign * (waits[0] - waits[1]) > 0
    assert ordered.scaled.share(0) > one_queue.scaled.share(0) + 0.05


def test_the_second_class_s_own_limits_size_the_fleet() -> None:
    loose, tight = (day(*SHORT, "rate=20", "day.seconds=60", "second.share=0.5", f"second.slo.ttft={ttft}") for ttft in (5, 0.2))
    assert tight.sustained.rate < loose.sustained.rate


@pytest.mark.parametrize("seed", range(6))
def test_a_static_fleet_is_the_cluster_s_replicas_to_the_last_bit(seed: int) -> None:
    """Engines that are led on little by little, and those that know all of their requests from the start."""
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(0.05, 300))
    few = rng.integers((1, 1), (case.limits.max_model_len // 2, case.limits.max_model_len // 2), (300, 2))
    limits = dataclasses.replace(case.limits, policy="fcfs", prefix_caching=False, reserve_full_prompt=True)
    frontend = Frontend(before=0.02, after=0.01, station=Station(request=0.004, step=0.002, token=0.001, hand_over=0.03, servers=2))
    columns = Columns(request_id=np.arange(300), arrival=arrival, input_tokens=few[:, 0], output_tokens=few[:, 1])
    step_time = Linear(fixed=2.0**-7, per_token=2.0**-12)
    trace = Trace(name="day", requests=RequestColumns(columns))
    cluster = Arrangement(instances=3, router="round_robin").serve(trace, limits, step_time, frontend=frontend, token_times=False)
    scaling = FleetScaling(rule=Static(replicas=3), interval=0.7, start_up=5.0, at_first=3)
    fleet = Fleet(lambda: GrowingEngine(limits, step_time, frontend.station), frontend, InTurn(), scaling)
    served = fleet.serve(columns, np.zeros(300, np.int64), 20.0)
    assert served.records.equals(RecordTable.of(cluster.records).columns)


def test_the_rule_of_requests_in_flight_by_hand() -> None:
    """Target 10, tolerance a tenth: up at once, down only when for 60 s no more were wanted."""
    rule = InFlight(target=10, tolerance=0.1, stabilisation=60)
    asked = [(0, 20, 2, 2), (15, 22, 2, 2), (30, 23, 2, 3), (45, 55, 3, 6), (60, 30, 6, 6), (90, 30, 6, 6), (106, 21, 6, 3), (170, 0, 3, 0)]
    for now, in_flight, replicas, wanted in asked:
        assert rule.wanted(FleetLoad(now=now, in_flight=in_flight, replicas=replicas)) == wanted, now


def test_the_forecast_looks_as_far_ahead_as_a_replica_takes() -> None:
    rates = DayRates(rates=np.array([1.0, 9.0, 2.0, 1.0]), seconds=400.0)
    rule = Forecast(rates=rates, sustained=2.0, ahead=50.0)
    assert [rule.wanted(FleetLoad(now=now, in_flight=0, replicas=1)) for now in (0, 49, 51, 150, 210, 310, 390)] == [1, 1, 5, 5, 1, 1, 1]


def test_a_profile_is_scaled_to_its_mean_or_its_peak(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("hour,rate\n0,1\n12,3\n")
    by_mean = day_rates(str(tmp_path / "two.csv"), None, mean=4.0, peak=None, seconds=7200.0)
    assert (
        by_mean.mean == pytest.approx(4) and by_mean.peak == pytest.approx(6, rel=0.01) and by_mean.rates[0] == pytest.approx(2, rel=0.01)
    )
    by_peak = day_rates("office", None, mean=None, peak=7.0, seconds=86400.0)
    assert by_peak.peak == pytest.approx(7) and by_peak.highest(0, 3 * 3600) < 2
    arrivals = by_mean.arrivals(np.random.default_rng(0))
    counts, _ = np.histogram(arrivals, bins=24, range=(0, 7200))
    expected = by_mean.rates.reshape(24, 60).mean(axis=1) * 300
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected)) and np.all(np.diff(arrivals) >= 0)


def test_a_trace_s_own_rate_is_the_day_s(tmp_path: Path) -> None:
    times = np.concatenate([np.linspace(0, 50, 1000), np.linspace(50, 100, 3000)])
    rows = "\n".join(f"{time:.6f},{50 + place % 7},{4 + place % 5}" for place, time in enumerate(times))
    (tmp_path / "trace.csv").write_text(f"arrival,input_tokens,output_tokens\n{rows}\n")
    (words := list(DAY)).remove("workload=azure_conv_like")
    found = day(*words, f"trace={tmp_path / 'trace.csv'}", "day.profile=trace", "day.seconds=300", "autoscale.rule=forecast")
    assert len(found.rates.rates) == 10 and found.rates.mean == pytest.approx(30)
    assert found.rates.rates[:5] == pytest.approx([15] * 5, rel=0.01) and found.rates.rates[5:] == pytest.approx([45] * 5, rel=0.01)
    assert set(found.requests.asked.input_tokens.tolist()) == set(range(50, 57))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rate=5", "day.peak=7"], "give either rate"),
        (["hardware=l40s"], "give either rate"),
        (["rate=5", "day.profile=no_such"], "day=no_such: unknown"),
        (["rate=5", "day.profile=trace"], "give trace=FILE"),
        (["rate=5", "day.profile=missing.csv"], "it must be a CSV file"),
        (["rate=5000"], "give a shorter day"),
        (["rate=5", "workload=mooncake_like"], "share prompts"),
        (["rate=5", "second.share=0.2"], "the second class has no limit"),
        (["rate=5", "autoscale.rule=no_such"], "autoscale.rule must be one of in_flight, forecast"),
        (["rate=5", "autoscale.min_replicas=3", "autoscale.max_replicas=2"], "autoscale.max_replicas must be >="),
        (["rate=5", "arrangement.instances=2"], "leave arrangement.kind, arrangement.instances"),
        (["rate=5", "arrangement.router=balanced"], "arrangement.router must be one of round_robin, random"),
        (["rate=5", "policy=sglang"], "which does not have the policy sglang"),
        (["rate=5", "speculation.num_speculative_tokens=2", "speculation.acceptance_rate=0.5"], "does not have speculation"),
        (["rate=5", "slo.ttft=0.0001"], "at no rate do 90%"),
        (["rate=1e-9"], "not one request arrives"),
    ],
)
def test_wrong_words_end_in_one_line(words: list[str], message: str) -> None:
    given = [word for word in SHORT if word.partition("=")[0] not in {w.partition("=")[0] for w in words}]
    with pytest.raises(SystemExit) as end:
        main(["day", *given, "day.seconds=60", *words] if "rate=5000" not in words else ["day", *given, *words])
    assert message in str(end.value.code) and "\n" not in str(end.value.code)
