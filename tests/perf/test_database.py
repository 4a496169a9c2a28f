"""How fast the database is built and asked: 1 million token rows in under 5 s (printed, not asserted: machines differ).

tests/perf/test_scale.py has large campaigns.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results import database
from results.record import RequestRecord, Run
from results.storage.store import write_run
from tests.runs import make_run, make_trace

RUNS, REQUESTS, TOKENS = 10, 500, 200  # 1,000,000 token rows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs")
    for k in range(RUNS):
        write_run(folder, _long_run(k))
    return folder


def _long_run(seed: int) -> Run:
    rng = np.random.default_rng(seed)
    trace = make_trace(REQUESTS, seed=seed, rate=20.0)
    gaps = rng.gamma(20, 1e-3, (REQUESTS, TOKENS))
    records = []
    for request, row in zip(trace, gaps, strict=True):
        times = tuple((request.arrival + np.cumsum(row)).tolist())
        records.append(
            RequestRecord(
                request_id=request.request_id,
                arrival=request.arrival,
                sent=request.arrival,
                first_token=times[0],
                finished=times[-1],
                input_tokens=request.input_tokens,
                output_tokens=TOKENS,
                token_times=times,
            )
        )
    run = make_run(f"perf-{seed}", trace=trace)
    fields = {name: getattr(run, name) for name in run.__dataclass_fields__}
    return Run(**{**fields, "records": tuple(records)})


def test_build(benchmark: Any, root: Path, tmp_path: Path) -> None:
    def anew() -> tuple[tuple[list[Path], Path], dict[str, object]]:
        (tmp_path / "perf.duckdb").unlink(missing_ok=True)
        return ([root], tmp_path / "perf.duckdb"), {}

    benchmark.pedantic(database.build, setup=anew, rounds=3, warmup_rounds=1)
    with database.connect(tmp_path / "perf.duckdb") as connection:
        rows = connection.execute("SELECT count(*) FROM tokens").fetchall()[0][0]
    assert rows == RUNS * REQUESTS * TOKENS
    print(f"\n{rows:,} token rows: median {benchmark.stats['median']:.2f} s (target: under 5 s)")


@pytest.mark.parametrize("view", ["run_metrics", "dialect_metrics"])
def test_ask(benchmark: Any, root: Path, tmp_path: Path, view: str) -> None:
    database.build([root], tmp_path / "perf.duckdb")
    with database.connect(tmp_path / "perf.duckdb") as connection:
        rows = benchmark.pedantic(lambda: connection.execute(f"SELECT * FROM {view}").fetchall(), rounds=3, warmup_rounds=1)
    assert {row[0 if view == "run_metrics" else 1] for row in rows} == {f"perf-{k}" for k in range(RUNS)}


def test_write_run(benchmark: Any, tmp_path: Path) -> None:
    run = _long_run(0)
    roots = iter(range(100))
    benchmark.pedantic(lambda: write_run(tmp_path / str(next(roots)), run), rounds=5)
