"""A study's views and its table: medians over valid repeats, coverage, sides of the knee; bad input ends in one clear line."""

import dataclasses
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from analysis import data, names
from analysis.__main__ import main
from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from analysis.study import words
from analysis.study.data import read_study
from analysis.study.findings import findings
from results.database import connect
from results.record import RequestRecord, Run
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run, make_simulated, make_trace
from tests.studies import build_study, make_study

Table = Callable[..., tuple[int, str, str]]
FEW = Bootstrap(resamples=100)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workloads at a low load and above capacity, three repeats of one cell, three simulators."""
    runs = make_study(engines=("vllm",), workloads=("azure_conv_like", "mooncake_like"), loads=(0.3, 1.6), num_requests=120)
    folder: Path = tmp_path_factory.mktemp("study")
    return build_study(folder, list(runs))


@pytest.fixture(scope="module")
def scored(study: Path) -> Path:
    score(study, FEW)
    return study


def rows(database: Path, sql: str, *parameters: object) -> list[dict[str, Any]]:
    with connect(database) as connection:
        return data.rows(connection, sql, parameters)


@pytest.fixture
def table(capsys: pytest.CaptureFixture[str]) -> Table:
    """`python -m analysis table ...`: its exit code, what it printed, and what it said on standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["table", *map(str, arguments)])
        except SystemExit as error:
            print(error, file=sys.stderr)
            code = 1
        return code, *capsys.readouterr()

    return run


def test_cells_count_valid_repeats_and_show_the_invalid_ones(scored: Path) -> None:
    cells = rows(scored, "SELECT * FROM cells ORDER BY workload, rho")
    assert [(c["workload"], c["rho"], c["repeats"], c["invalid"]) for c in cells] == [
        ("azure_conv_like", 0.3, 2, 1),
        ("azure_conv_like", 1.6, 1, 0),
        ("mooncake_like", 0.3, 1, 0),
        ("mooncake_like", 1.6, 0, 1),  # the last one is INVALID
    ]
    assert [c["saturated"] for c in cells] == [False, True, False, None]
    assert {c["study"] for c in cells} == {"handmade"}


def test_a_cells_score_is_the_median_over_its_valid_repeats_and_its_interval_holds_theirs(scored: Path) -> None:
    found = rows(scored, "SELECT * FROM cell_fidelity WHERE repeats > 1 AND metric = 'ttft' AND stat = 'p50' AND system = 'vidur'")
    assert {row["track"] for row in found} == {"shipped", "matched", "calibrated"}
    for row in found:
        own = rows(
            scored,
            "SELECT f.* FROM fidelity f JOIN runs r ON r.run_id = f.measured_run_id WHERE r.valid AND r.cell = ? AND f.system = ? "
            "AND f.track = ? AND metric = 'ttft' AND stat = 'p50'",
            row["cell"],
            row["system"],
            row["track"],
        )
        assert len(own) == row["repeats"] == 2
        assert row["error"] == pytest.approx(np.median([one["error"] for one in own]))
        assert (row["error_low"], row["error_high"]) == (min(one["error_low"] for one in own), max(one["error_high"] for one in own))
        assert row["noise_multiple"] == pytest.approx(abs(row["error"]) / own[0]["noise"])
    once = rows(scored, "SELECT noise, noise_multiple FROM cell_fidelity WHERE repeats = 1 AND stat = 'p50'")
    assert {(row["noise"], row["noise_multiple"]) for row in once} == {(None, None)}


def test_an_interval_that_one_repeat_lacks_is_unknown_of_the_cell(make_database: MakeDatabase) -> None:
    trace = make_trace()
    repeats = [make_run(f"repeat-{i}", repeat=i, trace=trace, rho=0.1) for i in range(2)]
    database = make_database(*repeats, *map(make_simulated, repeats))
    score(database, FEW)
    with connect(database, read_only=False) as connection:
        connection.execute("UPDATE fidelity SET error_high = NULL WHERE measured_run_id = 'repeat-1' AND metric = 'goodput'")
    [row] = rows(database, "SELECT * FROM cell_fidelity WHERE metric = 'goodput'")
    assert row["repeats"] == 2
    assert row["error_low"] is not None
    assert row["error_high"] is None


def test_knees_say_what_each_system_serves_and_on_which_side_it_is(scored: Path) -> None:
    found = {
        (row["rho"], row["system"], row["track"]): row for row in rows(scored, "SELECT * FROM knees WHERE workload = 'azure_conv_like'")
    }
    truth, shipped = found[1.6, "vllm", None], found[1.6, "vidur", "shipped"]
    assert truth["saturated"] and truth["measured_saturated"] and not shipped["saturated"] and shipped["measured_saturated"]
    assert 0 < truth["capacity"] < truth["offered_rate"]
    assert shipped["capacity"] is None and shipped["request_rate"] > truth["request_rate"]
    assert found[0.3, "vllm", None]["ttft_p50"] < truth["ttft_p50"]
    capacities = {(row["system"], row["track"]): row for row in rows(scored, "SELECT * FROM capacities WHERE workload = 'azure_conv_like'")}
    assert capacities["vllm", None]["capacity"] == truth["capacity"]
    assert (capacities["vidur", "shipped"]["capacity"], capacities["vidur", "shipped"]["saturated_cells"]) == (None, 0)
    assert capacities["vidur", "shipped"]["unsaturated_up_to"] == shipped["offered_rate"]


def served(run_id: str, rate: float, max_num_seqs: int, **engine: object) -> Run:
    """A measured run at 12 requests/s of an engine that serves `rate` requests/s, with these settings."""
    run = make_run(run_id, trace=make_trace(150, rate=12.0), token_times=False)
    free, records = 0.0, []
    for r in run.records:
        free = max(free, r.arrival) + 1 / rate
        records.append(dataclasses.replace(r, scheduled=None, first_token=free, finished=free + 0.5))
    config = {**run.config, "engine": {**run.config["engine"], **engine}}
    limits = dataclasses.replace(run.limits, max_num_seqs=max_num_seqs)
    return dataclasses.replace(run, records=tuple(records), config=config, limits=limits, window=None)


def test_each_configuration_of_an_engine_has_a_capacity_of_its_own(make_database: MakeDatabase) -> None:
    measured = [served("wide", 5.0, 32), served("narrow", 2.0, 8), served("quantised", 8.0, 32, extra_args=["--quantization=fp8"])]
    database = make_database(*measured, *(make_simulated(run, noise=0.0, scale=1.0) for run in measured))
    score(database, FEW)
    for system in ("vllm", "vidur"):
        found = rows(database, "SELECT * FROM capacities WHERE system = ? ORDER BY capacity", system)
        assert [(row["max_num_seqs"], row["saturated_cells"]) for row in found] == [(8, 1), (32, 1), (32, 1)]
        assert [row["capacity"] for row in found] == pytest.approx([2.0, 5.0, 8.0], rel=0.1)
        assert len({row["configuration"] for row in found}) == 3


def test_what_is_too_short_to_tell_is_on_no_side_of_the_knee(make_database: MakeDatabase, table: Table) -> None:
    short, whole = make_run("short", num_requests=30), make_run("whole", num_requests=100, seed=1)
    lost = [RequestRecord(request_id=r.request_id, arrival=r.arrival, sent=r.sent, error="too long") for r in whole.records]
    refusing = dataclasses.replace(make_simulated(whole, system="native"), records=tuple(lost))
    database = make_database(short, whole, make_simulated(short, system="native"), refusing, make_simulated(whole))
    code, shown, _ = table("--database", database, "--study")
    assert code == 0
    lines = {line.split("|")[1].strip(): line for line in shown.splitlines() if "calibrated" in line}
    assert "| 0/0 |" in lines["Plumbline native (calibrated)"] and "| 1/1 |" in lines["Vidur (calibrated)"]
    assert {row["saturated"] for row in rows(database, "SELECT saturated FROM cells")} == {None, False}
    sides = {row["system"]: (row["scored"], row["same_side"], row["side_known"]) for row in rows(database, "SELECT * FROM coverage")}
    assert sides == {"native": (2, 0, 0), "vidur": (1, 1, 1)}
    knees = {(row["system"], row["measured_saturated"]): row["saturated"] for row in rows(database, "SELECT * FROM knees")}
    assert knees["native", False] is None and knees["native", None] is None and knees["vidur", False] is False
    with connect(database) as connection:
        study = read_study(connection, database, None)
    assert {one.part for one in words.answers(study) if one.question == "TTFT p50"} == {"below saturation", "saturation unknown"}
    assert names.metric("output_throughput", None) not in {
        one.question for one in words.answers(study)
    }  # it is judged where cells are saturated
    assert not any("wrong side" in finding.text for finding in findings(study))


def test_capacity_is_compared_where_both_are_saturated_and_nowhere_else(scored: Path) -> None:
    found = {(row["system"], row["track"]): row for row in rows(scored, "SELECT * FROM cell_fidelity WHERE metric = 'capacity'")}
    assert ("vidur", "shipped") not in found
    slow = found["native", "matched"]  # prefill 1.5, decode 1.3 times as long as the engine's
    assert -0.4 < slow["error"] < -0.15
    assert slow["error_low"] is None  # the requests that it did not serve in time are one stretch, at the end: one block's worth
    assert found["native", "calibrated"]["error"] == pytest.approx(0, abs=0.1)


def test_parts_are_scored_apart_where_the_measured_run_has_both(make_database: MakeDatabase) -> None:
    calm, busy = make_trace(350, rate=2.0), make_trace(350, seed=1, rate=40.0)
    late = [dataclasses.replace(r, request_id=350 + i, arrival=r.arrival + calm.duration) for i, r in enumerate(busy)]
    trace = dataclasses.replace(calm, requests=(*calm.requests, *late))
    measured = make_run(trace=trace, token_times=False, rho=None)
    free, records = 0.0, []
    for r in measured.records:
        free = max(free, r.arrival) + 0.1  # ten a second
        records.append(dataclasses.replace(r, scheduled=None, first_token=free, finished=free + 0.5))
    measured = dataclasses.replace(measured, records=tuple(records), window=None)
    database = make_database(measured, make_simulated(measured, scale=1.25, noise=0.0))
    score(database, FEW)
    [found] = rows(database, "SELECT * FROM saturation WHERE run_id = ?", measured.run_id)
    assert found["change_point"] == pytest.approx(calm.duration, abs=3)
    parts = {
        (row["part"], row["metric"], row["stat"]): row for row in rows(database, "SELECT * FROM fidelity_parts WHERE stat IS NOT NULL")
    }
    for part in ("unsaturated", "saturated"):
        for metric, stat in (("ttft", "mean"), ("ttft", "p99"), ("e2e", "p50"), ("e2e", "mape")):
            row = parts[part, metric, stat]
            assert (row["error"], row["error_low"], row["error_high"]) == pytest.approx((0.25,) * 3), (part, metric, stat)
    assert parts["saturated", "ttft", "mean"]["measured"] > 5 * parts["unsaturated", "ttft", "mean"]["measured"]
    ttft = np.array([r.first_token - r.arrival for r in records if r.first_token and r.arrival < found["change_point"]])
    assert parts["unsaturated", "ttft", "p99"]["measured"] == pytest.approx(np.quantile(ttft, 0.99))
    above = dataclasses.replace(measured, run_id="above", rho=1.1)  # where latencies grow with the run
    database = make_database(above, make_simulated(above, scale=1.25, noise=0.0))
    score(database, FEW)
    found_above = rows(database, "SELECT * FROM fidelity_parts WHERE metric = 'ttft' AND stat = 'p50' AND measured_run_id = 'above'")
    assert [row["error_low"] for row in found_above] == [None, None] and all(row["error"] is not None for row in found_above)


def test_coverage_counts_cells_sides_and_speed(scored: Path) -> None:
    found = {(row["system"], row["track"]): row for row in rows(scored, "SELECT * FROM coverage")}
    assert {(row["cells"], row["scored"], row["refused"], row["failed"]) for row in found.values()} == {(3, 3, 0, 0)}
    assert found["native", "calibrated"]["same_side"] == 3
    assert found["vidur", "shipped"]["same_side"] == 2
    assert found["native", "calibrated"]["speed"] > 10 * found["vidur", "calibrated"]["speed"]


def watched(in_system: float) -> Run:
    """A run of one request in the system at any time for 30 s, its gauges looked at each second and showing `in_system` of them."""
    times = np.arange(0.5, 30)
    blank = make_run(num_requests=30, telemetry=False, token_times=False)
    requests = tuple(dataclasses.replace(r, arrival=float(i)) for i, r in enumerate(blank.trace))
    records = tuple(
        dataclasses.replace(record, arrival=float(i), sent=float(i), scheduled=None, first_token=i + 0.1, finished=i + 1.0)
        for i, record in enumerate(blank.records)
    )
    gauges = [
        pd.DataFrame({"time": times, "name": name, "value": value})
        for name, value in (("num_requests_running", in_system), ("num_requests_waiting", 0.0))
    ]
    return dataclasses.replace(
        blank, trace=dataclasses.replace(blank.trace, requests=requests), records=records, telemetry=pd.concat(gauges, ignore_index=True)
    )


@pytest.mark.parametrize(("in_system", "ok"), [(1.0, True), (0.97, True), (0.7, False), (1.4, False)])
def test_littles_law_holds_records_against_the_engines_own_gauges(make_database: MakeDatabase, in_system: float, ok: bool) -> None:
    measured = watched(in_system)
    database = make_database(measured, make_simulated(measured))
    found = {row["run_id"]: row for row in rows(database, "SELECT * FROM littles_law")}
    law = found[measured.run_id]
    assert (law["looks"], law["expected_in_system"], law["ok"]) == (30, 1.0, ok)
    assert law["arrival_rate"] * law["mean_e2e"] == pytest.approx(1.0)
    assert law["ratio"] == pytest.approx(in_system)
    assert [row["ok"] for run_id, row in found.items() if run_id != measured.run_id] == [None]


def test_an_oracle_is_never_a_score(make_database: MakeDatabase, table: Table) -> None:
    measured = make_run()
    database = make_database(measured, make_simulated(measured, system="native"), make_simulated(measured, system="native", track="oracle"))
    assert score(database, FEW) == {}
    for view in ("fidelity", "fidelity_parts", "cell_fidelity", "study_scores", "coverage", "knees", "rankings", "parity", "attribution"):
        assert rows(database, f"SELECT * FROM {view} WHERE track = 'oracle'") == [], view
    code, shown, _ = table("--database", database, "--study")
    assert code == 0 and "oracle" not in shown and "calibrated" in shown


def test_the_table_has_errors_noise_coverage_and_speed_in_three_formats(study: Path, table: Table) -> None:
    code, shown, said = table("--database", study, "--study", "handmade")
    assert code == 0
    assert "has no valid run: left out" in said
    lines = shown.splitlines()
    assert lines[0].startswith("| simulator | TTFT p50 |")
    assert len(lines) == 2 + 7
    [native] = [line for line in lines if "native (calibrated)" in line]
    cells = [cell.strip() for cell in native.strip("|").split("|")]
    assert cells[1].count("%") == 2 and cells[1].endswith("×")  # typical, worst, multiple of the noise floor
    assert cells[-4:-2] == ["3/3", "3/3"] and cells[-1].startswith("×")
    _, latex, _ = table("--database", study, "--study", "--format", "latex")
    assert latex.startswith(r"\begin{tabular}") and r"\%" in latex
    _, csv, _ = table("--database", study, "--study", "handmade", "--format", "csv")
    frame = pd.read_csv(io.StringIO(csv))
    assert set(frame["metric"]) == {"ttft", "tpot", "e2e", "goodput", "output_throughput", "capacity"}
    [own] = rows(study, "SELECT * FROM study_scores WHERE system = 'vidur' AND track = 'matched' AND metric = 'ttft' AND stat = 'p50'")
    row = frame[(frame["system"] == "vidur") & (frame["track"] == "matched") & (frame["metric"] == "ttft")].iloc[0]
    assert row["stat"] == "p50"
    for ours, theirs in (("error", "error"), ("typical", "abs_error"), ("worst", "worst"), ("noise_multiple", "noise_multiple")):
        assert row[ours] == pytest.approx(own[theirs])
    assert set(frame[frame["metric"] == "output_throughput"]["cells"]) == {1}  # saturated ones only


def test_a_study_that_is_not_there_or_measured_nothing_ends_in_one_line(make_database: MakeDatabase, study: Path, table: Table) -> None:
    for arguments, reason in (
        (("--database", study, "--study", "handmadd"), "no study is called handmadd; there is handmade"),
        (("--database", make_database(), "--study"), "it has no measured run; run a study with `make study`"),
    ):
        code, shown, said = table(*arguments)
        assert (code, shown) == (1, "")
        assert reason in said and said.count("\n") == 1


def test_simulated_runs_without_their_measured_run_or_of_other_requests_are_named_and_left_out(
    make_database: MakeDatabase, table: Table
) -> None:
    measured, other = make_run(), make_run(trace=make_trace(seed=9))
    stray = dataclasses.replace(make_simulated(other, system="native"), run_id="stray", measured_run_id=measured.run_id)
    orphan = dataclasses.replace(make_simulated(measured), run_id="orphan", measured_run_id="gone")
    code, shown, said = table("--database", make_database(measured, stray, orphan), "--study")
    assert code == 0
    assert f"stray is not scored: not the same requests: its trace is {other.trace.sha256}, that of {measured.run_id} is" in said
    assert "orphan is not scored: its measured run gone is not in the database" in said
    lines = [line for line in shown.splitlines() if "native" in line]
    assert len(lines) == 1 and "| 0/1 |" in lines[0] and "%" not in lines[0].split("0/1")[0]  # no overlap: dashes, and that it has none


def test_a_database_of_an_older_schema_says_how_to_build_it_anew(tmp_path: Path, table: Table) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE runs (run_id VARCHAR)")
    code, _, said = table("--database", path, "--study")
    assert code == 1 and said.count("\n") == 1
    assert "made by another version of Plumbline" in said and "./plumbline database" in said


def test_the_views_of_the_figures_are_the_records(make_database: MakeDatabase) -> None:
    measured = make_run(failures=(2,))
    simulated = make_simulated(measured, scale=1.5, noise=0.0)
    database = make_database(measured, simulated)
    pairs: Sequence[dict[str, Any]] = rows(database, "SELECT * FROM parity ORDER BY request_id")
    assert all(row["simulated_ttft"] == pytest.approx(1.5 * row["measured_ttft"]) for row in pairs if row["measured_ttft"])
    shares = rows(database, "SELECT share FROM latency_cdf WHERE run_id = ? AND metric = 'ttft' ORDER BY value", measured.run_id)
    assert [row["share"] for row in shares] == pytest.approx((np.arange(len(shares)) + 1) / len(shares))
    bars = rows(database, "SELECT * FROM phases WHERE run_id = ? AND request_id = 0", measured.run_id)
    record = measured.records[0]
    assert {row["phase"]: (row["start"], row["stop"]) for row in bars} == {
        "queued": (record.arrival, record.scheduled),
        "prefill": (record.scheduled, record.first_token),
        "decode": (record.first_token, record.finished),
    }
