"""A database made from hand-made runs, for the tests of this folder."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from analysis.stats import Bootstrap
from analysis.study.report import StudyReport
from results import database
from results.database import connect
from results.record import Run
from results.storage.store import write_run
from tests.studies import build_study, make_study

MakeDatabase = Callable[..., Path]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# A made-up cause for half of what a simulator is off by, the rest unexplained: what the figure needs, and it adds up. And two choices
# (of engines at one rate, which this study has not compared).
MORE = """
DELETE FROM attribution;
INSERT INTO attribution
SELECT measured_run_id, system, track, metric, stat, position, part, share * (measured - simulated), simulated, measured
FROM fidelity
CROSS JOIN (VALUES (1, 'step_times', 0.75), (2, 'scheduling', -0.25), (3, 'unexplained', 0.5)) AS parts (position, part, share)
WHERE track = 'matched' AND metric IN ('ttft', 'tpot', 'e2e') AND stat = 'mean' AND measured IS NOT NULL AND simulated IS NOT NULL;
INSERT INTO rankings VALUES
('handmade', 'vidur', 'matched', 'engine', 'workload=azure_conv_like, rate=9/s', 'ttft', 'p50', 2, -1.0, 0.2, 'sglang', 'vllm'),
('handmade', 'vidur', 'matched', 'engine', 'workload=mooncake_like, rate=9/s', 'ttft', 'p50', 2, 1.0, 0.0, 'sglang', 'sglang');
"""


@pytest.fixture
def make_database(tmp_path: Path) -> MakeDatabase:
    """Call it with runs; it stores them and returns the path of the database built from them."""

    def make(*runs: Run) -> Path:
        for run in runs:
            write_run(tmp_path / "runs", run)
        database.build([tmp_path / "runs"], tmp_path / "plumbline.duckdb")
        return tmp_path / "plumbline.duckdb"

    return make


@pytest.fixture(scope="session")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of tests/studies.py's study with two workloads and two loads; its database, plumbline.duckdb, lies beside it."""
    folder = tmp_path_factory.mktemp("study")
    runs = make_study(workloads=("azure_conv_like", "mooncake_like"), loads=(0.4, 1.6), num_requests=30)
    report = StudyReport(database=build_study(folder, runs), out=folder / "study.html", bootstrap=Bootstrap(resamples=100))
    report.write("handmade")
    with connect(Path(report.database), read_only=False) as connection:
        connection.execute(MORE)
    return report.write_scored("handmade").path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # not for the session: while Playwright's own event loop lives, no other test can have one
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()
