"""Bad input ends in one clear line, exit code not 0, and nothing half-written: before anything expensive has begun."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from harness import campaign, study
from results.project.folder import CONF, ROOT
from tests import project_copy
from tests.benches import Bench, one_line

ROWS = ["0.0,10,5", "0.5,12,6", "1.0,9,4"]


def trace_file(folder: Path, *rows: str, header: str = "arrival,input_tokens,output_tokens") -> str:
    path = folder / "trace.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*ROWS, "2.0,0,3"], "trace.csv:5"),
        ([*ROWS, "2.0,5,-3"], "trace.csv:5"),
        ([*ROWS, "2.0,many,3"], "trace.csv:5"),
        ([*ROWS, "2.0,5"], "trace.csv:5"),
        ([*ROWS, "0.7,5,3"], "must not decrease"),
        (["1777142838.3,10,5", "1777142839.3,10,5"], "wall-clock"),
        ([*ROWS, "2.0,4090,100"], "exceed"),
        ([], "trace.csv"),
    ],
    ids=["zero", "negative", "word", "ragged", "unsorted", "epoch", "too long", "empty"],
)
def test_a_bad_trace_is_told_by_file_and_row(bench: Bench, rows: list[str], said: str) -> None:
    path = trace_file(bench.folder, *rows)
    done = bench.run("workload=csv", f"workload.source.path={path}", timeout=300)
    assert done.returncode == 1
    assert said in one_line(done)
    assert not bench.runs.exists()


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (["10,0,8,4,10,0"], [], "trace.csv:2 (request 10): it waits for itself"),
        (["10,0,8,4,,0", "11,0,8,4,12,0"], [], "trace.csv:3 (request 11): it waits for request 12"),
        (["10,0,8,4,,0", "11,1,8,4,10,0"], ["load.concurrency=4"], "load.concurrency: workload csv has sessions"),
    ],
    ids=["itself", "missing", "closed loop"],
)
def test_bad_sessions_are_told(bench: Bench, rows: list[str], words: list[str], said: str) -> None:
    path = trace_file(bench.folder, *rows, header="request_id,arrival,input_tokens,output_tokens,after,delay")
    done = bench.run("workload=csv", f"workload.source.path={path}", *words, timeout=300)
    assert done.returncode == 1
    assert said in one_line(done)


def test_a_missing_trace_is_told_by_its_path(bench: Bench) -> None:
    done = bench.run("workload=csv", "workload.source.path=/nowhere/trace.csv", timeout=300)
    assert done.returncode == 1
    assert "/nowhere/trace.csv" in one_line(done)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engine=vllm_cpo", "vllm_cpu"),
        ("simulator=[vidor]", "vidur"),
        ("workload=azure_convlike", "azure_conv_like"),
        ("engin=vllm_cpu", "engine"),
        ("load.roh=0.5", "load.roh"),
        ("load.durations=3", "no setting is called 'load.durations'; did you mean load.duration?"),
        ("load.rate=3", "give load.rho=null to offer the rate"),
        ("load.rho=-1", "load.rho must be > 0"),
        ("load.rho=much", "load.rho"),
        ("load.concurrency=0", "load.concurrency must be a number >= 1"),
        ("load.concurrency=[4,0]", "load.concurrency must be a number >= 1"),
        ("load.concurrency=4 load.rate=2", "a closed loop has no rate"),
        ("load.concurrency=4 load.ramp=90", "load.ramp must be >= 0 s and shorter than load.duration"),
        ("workload=csv", "workload.source.path"),
        ("workload=subagents workload.branching=2", "workload.branching must be between 0 and 1, got 2"),
        ("workload=subagents workload.branches.mean=0", "Lognormal's mean, cv, median and sigma must be numbers > 0"),
        ("client.processes=9999", "client.processes=9999: each is pinned to a CPU, and here are"),
        ("engine=attached model=tiny hardware=cpu", "engine.url"),
        ("engine=attached engine.url=http://127.0.0.1:9 model=tiny", "name hardware=..."),
        ("engine.max_num_seqs=0", "max_num_seqs"),
        ("hardware.price_per_hour=-2", "hardware.price_per_hour must be > 0"),
        ("engine.environment=nonesuch", "nonesuch"),
        ("engine=recorded engine.run=nonesuch", "nonesuch"),
        ("foo", "'foo' is no setting: give KEY=VALUE"),
        ("--load.rate=3", "'--load.rate=3' is no option: settings have no dashes"),
        ("load=5 engine=recorded", "load must be a group of settings"),
        ("seed=abc engine=recorded", "seed must be a whole number"),
        ("tracks=5 engine=recorded", "tracks must be a list"),
        ("tracks=[match]", "tracks must be a list of shipped, matched, calibrated, oracle, got ['match']"),
        ("slo.ttft=500ms", "slo.ttft must be a number > 0 (s), or null, got '500ms'"),
        ("slo.tpot=-1", "slo.tpot must be a number > 0 (s), or null, got -1"),
    ],
)
def test_a_wrong_setting_is_told_by_its_name(bench: Bench, override: str, said: str) -> None:
    done = bench.run(*override.split(), "simulator=[]", timeout=300) if "simulator" not in override else bench.run(override, timeout=300)
    assert done.returncode == 1
    assert said in one_line(done)
    assert bench.left_halves() == []


def test_nobody_at_the_attached_url(bench: Bench) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    done = bench.run("engine=attached", f"engine.url={url}", "model=tiny", "hardware=cpu", "simulator=[]", timeout=300)
    assert done.returncode == 1
    assert url in one_line(done)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose files a test may break."""
    return project_copy.whole(tmp_path_factory.mktemp("copy"))


def commanded(copy: Path, command: str) -> "subprocess.CompletedProcess[str]":
    """`python -m <command>` in the copy."""
    environ = os.environ | {"COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", *command.split()], cwd=copy, env=environ, capture_output=True, text=True, timeout=540)


RECOMMEND = "simulators.native recommend rate=1 requests=5 hardware=h100 model=llama_3_1_8b workload=fixed"
PLAN = "simulators.native rate=1 requests=5 hardware=cpu model=tiny workload=fixed"
BENCH = "harness simulator=[] engine=recorded"
NOT_YAML, LIST, WORD, TWICE, BINARY = b"a: b: c\n", b"- 1\n", b"hello\n", b"a: 1\na: 2\n", b"a: \xff\xfe\n"


@pytest.mark.parametrize(
    ("file", "content", "command", "said"),
    [
        ("bench.yaml", NOT_YAML, BENCH, "conf/bench.yaml:1: not YAML: mapping values are not allowed here"),
        ("bench.yaml", LIST, BENCH, "bench"),
        ("bench.yaml", b"defaults: 5\n", BENCH, "conf/bench.yaml, or a choice of it: Invalid defaults list"),
        ("bench.yaml", NOT_YAML, "harness.study study=quick show=true", "conf/bench.yaml:1: not YAML"),
        ("bench.yaml", NOT_YAML, "harness.simulate engine=recorded", "conf/bench.yaml:1: not YAML"),
        ("study.yaml", NOT_YAML, "harness.study study=quick show=true", "conf/study.yaml:1: not YAML"),
        ("study/quick.yaml", b"a: [1\nb: 2\n", "harness.study study=quick show=true", "conf/study/quick.yaml:2: not YAML"),
        ("study/quick.yaml", b"a: 1\n", "harness.study study=quick show=true", "conf/study/quick.yaml: it names no class as its _target_"),
        ("campaign.yaml", NOT_YAML, "harness.campaign plan=true", "conf/campaign.yaml:1: not YAML"),
        ("campaign/h200.yaml", b"a:\n\t- 1\n", "harness.campaign plan=true", "conf/campaign/h200.yaml:2: not YAML"),
        ("model/tiny.yaml", NOT_YAML, BENCH, "conf/model/tiny.yaml:1: not YAML"),
        ("model/tiny.yaml", TWICE, BENCH, "conf/model/tiny.yaml:2: not YAML: found duplicate key a"),
        ("model/tiny.yaml", LIST, BENCH, "conf/model/tiny.yaml: it names no class as its _target_"),
        ("model/tiny.yaml", WORD, BENCH, "conf/model/tiny.yaml: it names no class as its _target_"),
        ("model/tiny.yaml", BINARY, BENCH, "conf/model/tiny.yaml: not YAML"),
        ("model/tiny.yaml", b"name: ${nope}\n", BENCH, "model.name: Interpolation key 'nope' not found"),
        ("native.yaml", NOT_YAML, PLAN, "conf/native.yaml:1: not YAML"),
        ("native.yaml", LIST, PLAN, "conf/native.yaml: it must hold names and values"),
        ("native.yaml", b"", PLAN, "conf/native.yaml: it must hold names and values"),
        (
            "native.yaml",
            b"rate: 1\nrequests: 5\nhardware: cpu\nmodel: tiny\nworkload: fixed\n",
            PLAN,
            "trace is missing in conf/native.yaml",
        ),
        ("recommend.yaml", NOT_YAML, RECOMMEND, "conf/recommend.yaml:1: not YAML"),
        ("recommend.yaml", b"tensor_parallel: 4\n", RECOMMEND, "conf/recommend.yaml: it must hold a list for each setting"),
        ("verdicts.yaml", NOT_YAML, RECOMMEND, "conf/verdicts.yaml:1: not YAML"),
        ("verdicts.yaml", LIST, RECOMMEND, "conf/verdicts.yaml: it must hold a list of rows, each with source, commit"),
        ("model/tiny.yaml", NOT_YAML, PLAN, "conf/model/tiny.yaml:1: not YAML"),
        ("model/tiny.yaml", WORD, PLAN, "conf/model/tiny.yaml: it has no `config`"),
        ("hardware/cpu.yaml", BINARY, PLAN, "conf/hardware/cpu.yaml: not YAML"),
        ("workload/fixed.yaml", NOT_YAML, PLAN, "conf/workload/fixed.yaml:1: not YAML"),
        ("workload/fixed.yaml", LIST, PLAN, "workload=fixed"),
        (
            "simulator/native.yaml",
            b"a: 1\n",
            PLAN,
            "conf/simulator/native.yaml: frontend, roofline, routing, host_path, host, shipped, frontend_after, architectures is missing",
        ),
    ],
)
def test_a_malformed_yaml_is_told_by_its_name(copy: Path, file: str, content: bytes, command: str, said: str) -> None:
    path = copy / "conf" / file
    kept = path.read_bytes()
    try:
        path.write_bytes(content)
        done = commanded(copy, command)
    finally:
        path.write_bytes(kept)
    assert done.returncode == 1
    assert said in one_line(done)


def test_a_malformed_yaml_of_the_user_s_own_is_told_by_its_name(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "slo").mkdir()
    (tmp_path / "slo" / "mine.yaml").write_text("ttft: 1\ntpot: [\n")
    done = commanded(copy, f"harness --config-dir {tmp_path} slo=mine simulator=[] engine=recorded")
    assert done.returncode == 1
    assert f"{tmp_path}/slo/mine.yaml:3: not YAML" in one_line(done)


@pytest.mark.parametrize("module", ["campaign", "study"])
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tasks=5", "tasks must be a list of names or patterns"),
        ("tasks=[5]", "tasks must be a list of names or patterns"),
        ("tasks=abc", "tasks must be a list of names or patterns"),
        ("overrides=5", "overrides must be a list of settings"),
        ("until=abc", "until must be a number of seconds, or null"),
        ("until=-1", "until must be a number of seconds, or null"),
    ],
)
def test_a_wrong_setting_of_a_campaign_or_a_study_is_told_by_its_name(module: str, word: str, said: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(module, overrides=[word])
        with pytest.raises(ValueError, match=said):
            {"campaign": campaign, "study": study}[module].run(cfg)


def test_a_wrong_setting_of_a_study_ends_in_one_line() -> None:
    command = [sys.executable, "-m", "harness.study", "tasks=5", "show=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "tasks must be a list of names or patterns" in one_line(done)
