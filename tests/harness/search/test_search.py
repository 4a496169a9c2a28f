"""`./plumbline search` on the toy engine, whose answer its law states."""

import json

import pytest

from results import database
from results.project.folder import ROOT
from results.storage.store import read_run, run_folders
from tests.benches import PATIENT_GATES, Bench, one_line

TOY = f"--config-dir={ROOT / 'tests' / 'conf'}"
STATED = "+simulators.stated._target_=tests.stand_ins.stated_simulator.StatedSimulator"
QUICK = (
    TOY,
    "engine=toy",
    "+engine.law.max_num_seqs=16",
    "engine.law.base=0.01",
    "engine.law.per_sequence=0.02",  # a token takes 10 ms and 20 more for each request in flight
    "workload=fixed",
    "workload.input.tokens=16",
    "workload.output.tokens=4",
    "simulator=[]",
    "search.over=concurrency",
    "search.capacity=30",
    "search.attainment=0.5",
    "search.duration=2",  # too short for a steady state, whatever the machine: each load is tried for longer
    "search.scout=1",
    "search.warmup=2",
    "search.precision=0.01",
    *PATIENT_GATES,
)


@pytest.fixture
def search(bench: Bench) -> Bench:
    return Bench(folder=bench.folder, tag=bench.tag, module="harness.search")


def test_a_search_finds_what_the_law_of_the_engine_says_though_its_simulator_says_otherwise(search: Bench) -> None:
    """A token takes 10 + 20 n ms with n in flight: 3 meet a limit of 80 ms by 10, and 4 miss it by 10."""
    done = search.run(*QUICK, STATED, "+simulators.stated.knee=5", "slo.ttft=null", "slo.tpot=0.08", timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the simulator expects 5" in done.stdout
    assert "50% of the requests meet tpot <= 0.08 s with up to 3 requests in flight; 95% interval 3 to 3." in done.stdout
    [path] = (search.folder / "searches").glob("*.json")
    told = json.loads(path.read_text())
    assert (told["load"], told["low"], told["high"], told["settled"], told["expected"]) == (3.0, 3.0, 4.0, True, 5.0)
    runs = [read_run(folder) for folder in run_folders(search.runs)]
    counted, made = {run["run_id"] for run in told["runs"]}, {run.run_id for run in runs}
    assert {run.run_id for run in runs if run.valid} <= counted <= made  # the others were tried again
    lasting = {run.run_id: run.config["load"]["duration"] for run in runs}
    again = [run for run in runs if run.config.get("earlier_tries")]
    assert again and all(lasting[run.run_id] == 2 * max(lasting[tried] for tried in run.config["earlier_tries"]) for run in again)
    assert all(run.kind == "measured" and run.config["search"]["name"] == told["search"] for run in runs)
    with database.connect(search.database) as connection:
        attained = dict(
            connection.execute(
                "SELECT config ->> '$.load.concurrency', avg(value) FROM runs JOIN run_metrics USING (run_id) "
                "WHERE metric = 'slo_attainment' GROUP BY ALL"
            ).fetchall()
        )
    assert attained["3"] >= 0.5 > attained["4"]
    assert search.report.is_file() and search.left_processes() == []


def test_an_slo_that_nothing_meets_is_one_line_and_an_exit_code_of_its_own(search: Bench) -> None:
    done = search.run(*QUICK, STATED, "+simulators.stated.knee=1", "slo.ttft=null", "slo.tpot=0.001", timeout=900)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no load meets the SLO: one at a time 0% of the requests meet tpot <= 0.001 s, asked for 50%" in one_line(done)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["engine=none"], "on a simulator alone it is ./plumbline plan capacity"),
        (["engine=recorded"], "on a simulator alone it is ./plumbline plan capacity"),
        ([TOY, "engine=toy", "slo=none"], "the SLO has no limit"),
        ([TOY, "engine=toy", "search.over=concurrency", "search.most=0"], "search.most must be a concurrency >= 1"),
    ],
    ids=["none", "recorded", "slo", "concurrency"],
)
def test_what_cannot_be_searched_is_one_line(search: Bench, words: list[str], said: str) -> None:
    done = search.run(*words, timeout=300)
    assert done.returncode == 1
    assert said in one_line(done)
    assert not search.runs.exists()
