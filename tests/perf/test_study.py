"""How long scoring and reporting on a study takes: `make perf`. 100 runs of 1,000 requests; the target is 5 s (printed, not asserted)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.scoring.fidelity import score
from analysis.study.report import StudyReport
from results import database
from results.record import Run, Track
from results.storage.store import write_run
from tests.runs import make_run, make_simulated

REQUESTS = 1000
SIMULATORS: tuple[tuple[str, Track], ...] = tuple(
    (system, track) for system in ("vidur", "native", "aisimulate") for track in ("shipped", "matched", "calibrated")
)


def _runs() -> Iterator[Run]:
    """Ten measured runs, each with nine simulated ones; the measured ones and `native` show token times."""
    for seed in range(10):
        measured = make_run(f"vllm-{seed}", num_requests=REQUESTS, seed=seed)
        yield measured
        for system, track in SIMULATORS:
            yield make_simulated(measured, system=system, track=track, noise=0.2, seed=seed)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("study")
    for run in _runs():
        write_run(folder / "runs", run)
    return folder


def _unscored(runs: Path) -> Path:
    """A database made anew: runs that are scored are not scored again."""
    (runs / "plumbline.duckdb").unlink(missing_ok=True)
    database.build([runs / "runs"], runs / "plumbline.duckdb")
    return runs / "plumbline.duckdb"


def test_scoring_100_runs(benchmark: Any, runs: Path) -> None:
    benchmark.pedantic(score, setup=lambda: ((_unscored(runs),), {}), rounds=3, warmup_rounds=1)
    print(f"\n100 runs of {REQUESTS:,} requests scored: median {benchmark.stats['median']:.2f} s")


def test_report_on_100_runs(benchmark: Any, runs: Path, tmp_path: Path) -> None:
    report = StudyReport(database=runs / "plumbline.duckdb", out=tmp_path / "study.html")

    def anew() -> None:
        _unscored(runs)

    summary = benchmark.pedantic(report.write, setup=anew, rounds=3, warmup_rounds=1)
    size = summary.path.stat().st_size / 1e6
    print(f"\nscored report on 100 runs of {REQUESTS:,} requests: median {benchmark.stats['median']:.2f} s (target 5 s), {size:.1f} MB")
