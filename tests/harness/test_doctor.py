"""The doctor: what it says of machines that have much, little and nothing, asked as a user asks, and of environments in each state."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.doctor import project
from harness.environment import ensure
from results.project.folder import ROOT
from tests.harness.test_environment import require, wheel
from tests.stand_ins.nvml import nvml

PATIENCE = "120"  # s for an index that answers: the machine may be busy
NOBODY = {
    "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
    "UV_INDEX_URL": "",
    "UV_EXTRA_INDEX_URL": "",
    "PIP_INDEX_URL": "http://127.0.0.1:9",
}


def ask(*words: str, environ: dict[str, str], python: Sequence[str] = (sys.executable,)) -> "subprocess.CompletedProcess[str]":
    command = [*python, "-m", "harness.doctor", *words]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=540)


def told(done: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    """Findings by their names. The exit code, `works` and the states agree."""
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["works"] == (done.returncode == 0) == all(check["state"] != "needed" for check in said["checks"])
    assert all(check["costs"] for check in said["checks"] if check["state"] != "there")
    found = {check["name"]: check for check in said["checks"]}
    assert len(found) == len(said["checks"])
    return found


@pytest.fixture
def index(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment variables of an index that has the one package that the doctor asks for."""
    folder = tmp_path / "simple" / "iniconfig"
    folder.mkdir(parents=True)
    name = "iniconfig-2.3.1-py3-none-any.whl"
    (folder / "index.html").write_text(f'<html><body><a href="{name}" data-core-metadata="true">{name}</a></body></html>')
    (folder / f"{name}.metadata").write_text("Metadata-Version: 2.1\nName: iniconfig\nVersion: 2.3.1\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield NOBODY | {"UV_DEFAULT_INDEX": f"http://127.0.0.1:{server.server_port}/simple"}
    server.shutdown()


def test_a_machine_with_gpus_data_and_an_index(tmp_path: Path, index: dict[str, str]) -> None:
    (tmp_path / "data" / "traces").mkdir(parents=True)
    (tmp_path / "data" / "traces" / "azure_llm_2023_conv.csv").touch()
    (tmp_path / "data" / "recordings" / "one").mkdir(parents=True)
    environ = nvml(tmp_path) | index | {"PLUMBLINE_DATA": str(tmp_path / "data")}
    found = told(ask("--json", "--patience", PATIENCE, environ=environ))
    assert "NVIDIA H200" in found["gpu"]["says"] and found["gpu"]["state"] == "there"
    assert found["package index"]["state"] == "there"
    assert found["trace azure_conv"]["state"] == "there" and found["trace azure_code"]["state"] == "missing"
    assert found["recordings"]["says"].startswith("1 in recordings/")
    assert found["python"]["state"] == "there" and int(found["cores"]["says"]) >= 1
    assert {"memory", "disk", "make", "git", "chromium", "checkout splitwise_sim"} <= found.keys()
    names = {path.stem for path in (ROOT / "conf" / "envs").glob("*.txt")}
    assert {name.removeprefix("environment ") for name in found if name.startswith("environment ")} == names


def test_a_gpu_of_which_nothing_is_known_stops_a_bench(tmp_path: Path) -> None:
    found = told(ask("--json", environ=nvml(tmp_path, name="Oddity 9000")))
    assert found["gpu"]["state"] == "needed" and "conf/hardware" in found["gpu"]["costs"]


@pytest.mark.parametrize("python", [(sys.executable,), (sys.executable, "-S")], ids=["core", "no package installed"])
def test_a_machine_that_has_next_to_nothing(tmp_path: Path, python: Sequence[str]) -> None:
    environ = {"PATH": str(tmp_path), "PLUMBLINE_DATA": str(tmp_path / "nowhere"), "LC_ALL": "C", **NOBODY}
    done = ask(environ=environ, python=python)
    assert done.returncode == 1 and done.stderr == ""
    lines = done.stdout.splitlines()
    marks = {line[2:29].strip(): line[0] for line in lines[:-1]}
    assert (marks["make"], marks["git"], marks["chromium"], marks["data"]) == ("✗", "–", "–", "–")
    assert "engines run on their CPU build" in done.stdout and "runs do not say which commit" in done.stdout
    assert marks["package index"] == "–" and "127.0.0.1" not in done.stdout
    assert lines[-1] == "`make bench` cannot work here before what is marked ✗ is mended"


def test_an_index_that_never_answers_is_given_up_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        environ = os.environ | NOBODY | {"UV_DEFAULT_INDEX": f"http://127.0.0.1:{deaf.getsockname()[1]}/simple", "TMPDIR": str(tmp_path)}
        found = told(ask("--json", "--patience", "0.5", environ=environ))
    assert found["package index"]["state"] == "missing"
    assert list(tmp_path.glob("plumbline-doctor-*")) == []


def test_environments_are_missing_made_and_stale(tmp_path: Path) -> None:
    require(tmp_path, f"toy @ {wheel(tmp_path / 'wheels', '1.0').as_uri()}")

    def says(*, index: bool = True) -> tuple[str, str]:
        (check,) = project.environments(tmp_path, ["toy"], index=index)
        return check.state, check.says

    assert says() == ("missing", "missing") and says(index=False) == ("needed", "missing")
    ensure("toy", tmp_path)
    assert says(index=False) == ("there", "made")
    require(tmp_path, f"toy @ {wheel(tmp_path / 'wheels', '2.0').as_uri()}")
    assert says()[1].startswith("stale") and says(index=False)[0] == "needed"


def test_what_a_bench_needs_is_read_from_its_configuration() -> None:
    assert project.bench_environments(ROOT, on_gpu=False) == ["core", "vllm_cpu", "vidur"]
    assert project.bench_environments(ROOT, on_gpu=True) == ["core", "vllm", "vidur"]
    assert set(project.COSTS) | {"core"} == {path.stem for path in (ROOT / "conf" / "envs").glob("*.txt")}
