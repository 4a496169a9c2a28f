"""How long a report takes: `make perf`. One measured run and three simulated ones, 2,000 requests each; and a study."""

from pathlib import Path
from typing import Any

from analysis.report import Report
from analysis.stats import Bootstrap
from analysis.study.report import StudyReport
from results import database
from results.record import Track
from results.storage.store import write_run
from tests.runs import make_run, make_simulated
from tests.studies import WORKLOADS, build_study, make_study

TRACKS: tuple[Track, ...] = ("shipped", "matched", "calibrated")


def test_report_build_time(benchmark: Any, tmp_path: Path) -> None:
    measured = make_run(num_requests=2000)
    for run in (measured, *(make_simulated(measured, track=track, noise=0.2) for track in TRACKS)):
        write_run(tmp_path / "runs", run)
    path = tmp_path / "plumbline.duckdb"
    report = Report(database=path, out=tmp_path / "report.html")

    def anew() -> None:  # runs that are scored are not scored again
        path.unlink(missing_ok=True)
        database.build([tmp_path / "runs"], path)

    summary = benchmark.pedantic(report.write, setup=anew, rounds=3, warmup_rounds=1)
    benchmark.extra_info["page_mb"] = round(summary.path.stat().st_size / 1e6, 2)
    print(f"\nscored report of 4 runs of 2,000 requests: page {benchmark.extra_info['page_mb']} MB")


def test_study_report_build_time(benchmark: Any, tmp_path: Path) -> None:
    """104 runs of 1,000 requests each: 13 measured, 7 simulated on each. Scoring, which is timed above, is not part of it."""
    runs = make_study(engines=("vllm",), workloads=WORKLOADS, loads=(0.3, 0.6, 0.9, 1.1), num_requests=1000, repeats=2)
    report = StudyReport(database=build_study(tmp_path, runs), out=tmp_path / "study.html", bootstrap=Bootstrap(resamples=100))
    report.write("handmade")
    summary = benchmark.pedantic(report.write_scored, args=("handmade",), rounds=3, warmup_rounds=1)
    benchmark.extra_info["page_mb"] = round(summary.path.stat().st_size / 1e6, 2)
    print(f"\nstudy report of 104 runs of 1,000 requests: page {benchmark.extra_info['page_mb']} MB")
