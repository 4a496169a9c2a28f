"""Laws of choosing by a simulator: the same order is tau 1 and no regret, and regret is what the wrong choice measures worse."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import data
from analysis.scoring.fidelity import score
from analysis.scoring.rankings import kendall_tau, regret
from analysis.stats import Bootstrap
from results.database import connect
from results.record import SLO, Run
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run, make_simulated

VALUES = st.lists(st.floats(0.01, 100, allow_nan=False).map(lambda x: round(x, 3)), min_size=2, max_size=6, unique=True)


@given(VALUES, st.booleans(), st.randoms(use_true_random=False))
def test_the_same_order_is_tau_one_and_costs_nothing_whatever_the_values(values: list[float], higher: bool, random: object) -> None:
    bent = [3 * value**2 for value in values]
    assert kendall_tau(values, bent) == pytest.approx(1)
    assert kendall_tau(values, [-value for value in bent]) == pytest.approx(-1)
    options = {str(i): value for i, value in enumerate(values)}
    assert regret(options, {str(i): value for i, value in enumerate(bent)}, higher_is_better=higher) == 0
    shuffled = list(bent)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    lost = regret(options, {str(i): value for i, value in enumerate(shuffled)}, higher_is_better=higher)
    assert lost is not None and lost >= 0


def test_regret_is_how_much_worse_the_choice_measures() -> None:
    measured = {"a": 1.0, "b": 1.5, "c": 4.0}
    assert regret(measured, {"a": 2.0, "b": 1.0, "c": 3.0}, higher_is_better=False) == pytest.approx(0.5)
    assert regret(measured, {"a": 2.0, "b": 1.0, "c": 1.0}, higher_is_better=False) == pytest.approx((0.5 + 3.0) / 2)  # drawn by lot
    assert regret(measured, {"a": 2.0, "b": 3.0, "c": 1.0}, higher_is_better=True) == pytest.approx(2.5 / 4)
    assert regret({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 0.0}, higher_is_better=False) is None
    assert kendall_tau([1.0, 1.0], [1.0, 2.0]) is None


def option(budget: int, factor: float, *, repeat: int = 0) -> Run:
    """A measured run with another token budget, its latencies times `factor`."""
    run = make_run(f"budget-{budget}-{repeat}", repeat=repeat)
    stretched = make_simulated(run, scale=factor, noise=0.0).records
    return dataclasses.replace(run, records=stretched, limits=dataclasses.replace(run.limits, max_num_batched_tokens=budget))


def test_configurations_that_differ_in_one_setting_are_ranked_and_others_are_not(make_database: MakeDatabase) -> None:
    measured = [option(512, 1.0), option(1024, 1.5), option(2048, 2.0)]
    elsewhere = dataclasses.replace(make_run("elsewhere"), rate=2.0)
    right = [make_simulated(run, system="native", noise=0.0) for run in measured]
    wrong = [make_simulated(run, scale=scale, noise=0.0) for run, scale in zip(measured, (3.0, 1.0, 1.2), strict=True)]
    database = make_database(*measured, elsewhere, *right, *wrong, make_simulated(elsewhere))
    score(database, Bootstrap(resamples=100))
    with connect(database) as connection:
        rows = data.rows(connection, "SELECT * FROM rankings WHERE metric = 'ttft' AND stat = 'p50' ORDER BY system")
    assert [(row["system"], row["axis"], row["cells"]) for row in rows] == [
        ("native", "max_num_batched_tokens", 3),
        ("vidur", "max_num_batched_tokens", 3),
    ]
    good, bad = rows
    assert (good["kendall_tau"], good["regret"], good["measured_best"], good["simulated_best"]) == (1, 0, "512", "512")
    assert (bad["measured_best"], bad["simulated_best"]) == ("512", "1024")  # 3.0, 1.5, 2.4 of the first one's
    assert bad["regret"] == pytest.approx(0.5)
    assert bad["kendall_tau"] == pytest.approx(-1 / 3)
    assert "workload=handmade, rate=5/s" in good["setting"]


def test_repeats_count_as_their_median_and_invalid_ones_not_at_all(make_database: MakeDatabase) -> None:
    repeats = [option(512, factor, repeat=i) for i, factor in enumerate((1.0, 1.2, 9.0))]
    spoilt = dataclasses.replace(option(512, 0.01, repeat=7), valid=False, invalid_reason="late")
    other = option(1024, 1.1)
    runs = [*repeats, spoilt, other]
    database = make_database(*runs, *(make_simulated(run, noise=0.0, scale=1.0) for run in runs))
    score(database, Bootstrap(resamples=100))
    with connect(database) as connection:
        [row] = data.rows(connection, "SELECT * FROM rankings WHERE metric = 'ttft' AND stat = 'p50'")
        values = data.metric_values(connection, [run.run_id for run in repeats])
    assert row["measured_best"] == "1024"
    assert np.median([v["ttft", "p50"] for v in values.values()]) == values["budget-512-1"]["ttft", "p50"]
    assert row["regret"] == 0


def choice(name: str, factor: float, *, system: str = "vllm", limits: Mapping[str, Any] | None = None, **engine: object) -> Run:
    """A measured run of an engine with these settings, its latencies times `factor`."""
    run = make_run(name, system=system)
    return dataclasses.replace(
        run,
        records=make_simulated(run, scale=factor, noise=0.0).records,
        limits=dataclasses.replace(run.limits, **(limits or {})),
        config={**run.config, "engine": {**run.config["engine"], **(limits or {}), **engine}},
    )


def ranked(make_database: MakeDatabase, axis: str, *measured: Run) -> list[dict[str, Any]]:
    """The rankings by median TTFT of a simulator that is right about all of these runs."""
    database = make_database(*measured, *(make_simulated(run, noise=0.0, scale=1.0) for run in measured))
    score(database, Bootstrap(resamples=100))
    with connect(database) as connection:
        return data.rows(connection, "SELECT * FROM rankings WHERE axis = ? AND metric = 'ttft' AND stat = 'p50' ORDER BY setting", [axis])


def test_an_engine_is_as_good_as_each_of_its_configurations_not_as_their_median(make_database: MakeDatabase) -> None:
    few, small = {"max_num_seqs": 8}, {"max_num_batched_tokens": 256}
    measured = [choice("a", 1.0), choice("b", 9.0, limits=few), choice("c", 1.5, limits=small), choice("d", 1.4, system="sglang")]
    [row] = ranked(make_database, "engine", *measured)
    assert row["measured_best"] == row["simulated_best"] == "vllm (max_num_batched_tokens=2048, max_num_seqs=32)"
    assert (row["cells"], row["kendall_tau"], row["regret"]) == (4, 1, 0)


def test_configurations_of_one_engine_are_no_choice_of_an_engine(make_database: MakeDatabase) -> None:
    assert ranked(make_database, "engine", choice("a", 1.0), choice("b", 2.0, limits={"max_num_seqs": 8})) == []


def test_one_setting_is_chosen_among_cells_that_share_all_others(make_database: MakeDatabase) -> None:
    little, arguments = {"max_num_batched_tokens": 256}, ["--quantization=fp8", "--x"]
    measured = [choice("a", 1.0), choice("b", 2.0, limits=little)]
    measured += [choice("c", 4.0, extra_args=arguments), choice("d", 3.0, limits=little, extra_args=arguments)]
    measured += [choice("e", 0.5, kv_cache_gib=8), dataclasses.replace(choice("f", 0.1, limits=little), slo=SLO(ttft=9.0))]
    plain, quantised = ranked(make_database, "max_num_batched_tokens", *measured)
    assert (plain["cells"], plain["measured_best"]) == (2, "2048")
    assert (quantised["cells"], quantised["measured_best"]) == (2, "256")
    common = "workload=handmade, rate=5/s, model=tiny-llama, hardware=cpu-test"
    assert plain["setting"].startswith(common) and plain["setting"].endswith("engine.extra_args=None")
    assert quantised["setting"].startswith(common) and quantised["setting"].endswith("engine.extra_args=['--quantization=fp8','--x']")
