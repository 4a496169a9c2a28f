"""Benches of an attached server in other protocols: a key that no file holds, adapters to query, drift that makes a run INVALID."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from results.storage.store import read_run, run_folders
from tests.benches import PATIENT_GATES, Bench
from tests.stand_ins import null_server

SMALL = (
    *("engine=attached", "model=tiny", "hardware=cpu", "profile=cpu", "gates=default", "workload=fixed", "simulator=[]"),
    *("load.rho=null", "load.rate=40", "load.capacity=80", "load.num_requests=40", "load.warmup=2", "telemetry_interval=0"),
    *PATIENT_GATES,
)
SECRET = "opensesame"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    faults = ("--fault", "needs_key", "--models", "null,sql,chatty")
    with null_server.running("--ttft", "0.005", "--itl", "0.001", *faults) as running:
        yield running.url


def test_a_chat_bench_with_a_key_and_adapters(bench: Bench, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "secret")
    monkeypatch.setenv("THE_TRACE_KEY", SECRET)
    settings = ("engine.api_key_env=THE_KEY", "client.adapters={sql: 0.4, chatty: 0.4}", "client.headers={X-Trace-Key: $THE_TRACE_KEY}")
    done = bench.run(*SMALL, f"engine.url={server}", "client/protocol=chat", *settings)
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(bench.runs)
    run = read_run(folder)
    assert run.valid and {record.adapter for record in run.records} == {None, "sql", "chatty"}
    assert [record.input_tokens for record in run.records] == [256] * 40
    assert run.provenance["text_prompts"] == {"overhead": 11, "words": 32000, "lengthened": 0}
    assert not [path for path in bench.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not [path for path in folder.iterdir() if b"Bearer" in path.read_bytes()]
    with duckdb.connect(bench.database, read_only=True) as database:
        shares = dict(database.execute("select adapter, count(*) from requests group by adapter").fetchall())
        (unknown,) = database.execute("select value from run_metrics where metric = 'ttfo' and stat = 'p50'").fetchone() or (None,)
    assert sum(shares.values()) == 40 and unknown is not None


def test_prompts_that_drift_from_their_lengths_make_the_run_invalid(bench: Bench) -> None:
    with null_server.running("--ttft", "0.005", "--itl", "0.001", "--fault", "drifts") as running:
        done = bench.run(*SMALL, f"engine.url={running.url}", "client/protocol=chat", "load.warmup=0")
    assert done.returncode == 2, done.stderr
    (folder,) = run_folders(bench.runs)
    reason = read_run(folder).invalid_reason or ""
    assert "input_tokens off from the trace in 40 of 40 requests (limit 0), e.g. request 0: 257 instead of 256" in reason


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("client/protocol=chat",), "a probe failed: HTTP 401"),
        (("client.api_key_env=NO_SUCH_KEY",), "client.api_key_env: there is no environment variable NO_SUCH_KEY; set it"),
        (("client.protocol=chat",), "write client/protocol=chat"),
        (("client.headers={X-Api-Key: opensesame}",), "the value of X-Api-Key may be a secret"),
    ],
)
def test_what_cannot_be_ends_in_one_line(bench: Bench, server: str, overrides: tuple[str, ...], words: str) -> None:
    done = bench.run(*SMALL, f"engine.url={server}", *overrides)
    assert done.returncode != 0
    assert words in done.stderr and done.stderr.strip().count("\n") == 0, done.stderr
    assert run_folders(Path(bench.runs)) == []
