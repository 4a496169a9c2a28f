"""Runs in object storage, on a local S3 server: written, read, listed, built into a database in place, or a plain line why not."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness import environment
from harness.engine import EngineError
from harness.engines import server
from results import database
from results.project.folder import ROOT
from results.storage import place
from results.storage.place import Address, PlaceError
from results.storage.run_tables import StoreError
from results.storage.store import read_meta, read_run, remove_simulated, run_folders, write_run
from tests.benches import Bench, one_line
from tests.results.storage.test_store import assert_same
from tests.runs import make_pair, make_run


@pytest.fixture(scope="module")
def bucket() -> Iterator[Mapping[str, str]]:
    """An S3 server with the bucket 'runs': what the environment must say to use it."""
    try:
        python = environment.ensure("moto")
    except EngineError as error:
        pytest.skip(str(error))
    port = server.free_port()
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        environ = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        try:
            _await(port, process)
            urllib.request.urlopen(urllib.request.Request(f"{environ['AWS_ENDPOINT_URL']}/runs", method="PUT"), timeout=30).close()
            yield environ
        finally:
            process.kill()


@pytest.fixture
def root(bucket: Mapping[str, str], request: pytest.FixtureRequest) -> Iterator[Address]:
    with _environment(bucket):
        yield Address(f"runs/{request.node.name}")


class _environment:  # noqa: N801 (used like a function)
    """The process's environment with these variables, and a new client of object storage."""

    def __init__(self, more: Mapping[str, str]) -> None:
        self.patch = pytest.MonkeyPatch()
        self.more = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1", **more}

    def __enter__(self) -> None:
        for name, value in self.more.items():
            self.patch.setenv(name, value)
        place.storage.cache_clear()

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
        place.storage.cache_clear()


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the S3 server does not start")


def test_a_run_comes_back_as_it_was(root: Address, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ready\n")
    run = make_run()
    folder = write_run(root, run, {"server.log": log})
    assert str(folder) == f"s3://{root.key}/{run.run_id}"
    assert run_folders(root) == [folder]
    assert_same(read_run(folder), run)
    assert (folder / "server.log").read_text() == "ready\n"
    with pytest.raises(StoreError, match="not overwritten"):
        write_run(root, run)


def test_a_half_written_run_is_none(root: Address) -> None:
    folder = write_run(root, make_run())
    (folder / "run.json").unlink()
    assert run_folders(root) == []
    write_run(root, make_run())
    assert run_folders(root) == [folder]


def test_a_simulated_run_takes_an_older_ones_place(root: Address) -> None:
    measured, simulated = make_pair()
    write_run(root, simulated)
    with pytest.raises(StoreError, match="not overwritten"):
        write_run(root, simulated)
    write_run(root, simulated, replace=True)
    write_run(root, measured)
    with pytest.raises(StoreError, match="not overwritten"):
        write_run(root, measured, replace=True)
    remove_simulated(root, simulated.run_id)
    assert [folder.name for folder in run_folders(root)] == [measured.run_id]
    assert [found for found in root.objects() if found.parent.name == simulated.run_id] == []


def test_the_database_is_the_same_as_that_of_a_folder(root: Address, tmp_path: Path) -> None:
    for run in (*make_pair(), make_run("other", seed=3, telemetry=False)):
        write_run(root, run)
        write_run(tmp_path / "runs", run)
    assert database.build([root], tmp_path / "there.duckdb") == 3
    assert database.build([tmp_path / "runs"], tmp_path / "here.duckdb") == 3
    there, here = (_content(tmp_path / f"{name}.duckdb") for name in ("there", "here"))
    assert there == here
    assert database.build([root, tmp_path / "runs"], tmp_path / "both.duckdb") == 3  # a run and its copy are one


def _content(path: Path) -> list[list[tuple[object, ...]]]:
    with database.connect(path) as connection:
        tables = ("runs EXCLUDE (path)", "requests", "tokens", "telemetry", "trace_requests")
        texts = [f"SELECT {'* ' if ' ' not in t else '* ' + t.partition(' ')[2]} FROM {t.partition(' ')[0]} ORDER BY ALL" for t in tables]
        return [connection.execute(text).fetchall() for text in texts]


def test_a_recorded_run_is_played_back_and_simulated_from_there(root: Address, bench: Bench) -> None:
    tiny = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / "tiny.yaml").config)
    cpu = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "hardware" / "cpu.yaml"))
    run = make_run()
    run = dataclasses.replace(run, config={**run.config, "model": tiny, "hardware": cpu})
    write_run(root, run)
    done = bench.run("engine=recorded", f"paths.runs={root}", f"engine.run={run.run_id}", "simulator=[native]", "tracks=[matched]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{run.run_id}--native-matched" in {folder.name for folder in run_folders(root)}


@pytest.mark.parametrize("address", ["s3://runs/prefix", "s3://"])
def test_storage_that_nobody_answers_for_is_told_in_a_line_and_soon(address: str, tmp_path: Path) -> None:
    environ = os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.free_port()}", "AWS_EC2_METADATA_DISABLED": "true"}
    environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    command = [sys.executable, "-m", "results", "build", "--runs", address, "--database", str(tmp_path / "p.duckdb")]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=540)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("results: s3://") and ("AWS_ENDPOINT_URL" in line or "names a bucket" in line)
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "p.duckdb").exists()


def test_a_bucket_that_does_not_exist_is_told_by_its_name(root: Address) -> None:
    with pytest.raises(PlaceError, match="no bucket elsewhere"):
        run_folders(Address("elsewhere/runs"))
    with pytest.raises(StoreError, match=r"no run\.json"):
        read_meta(root / "nothing")


def test_a_bench_that_cannot_reach_its_bucket_says_so_before_it_measures(bench: Bench) -> None:
    with _environment(
        {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.free_port()}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    ):
        done = bench.run("paths.runs=s3://runs/prefix", "simulator=[]", timeout=540)
    assert done.returncode == 1
    assert "s3://runs/prefix: object storage cannot be used" in one_line(done)
    assert "engine" not in done.stdout
