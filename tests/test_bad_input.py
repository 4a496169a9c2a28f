"""Bad input ends in one clear line, exit code not 0, and nothing half-written: before anything expensive has begun."""

import socket
from pathlib import Path

import pytest

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
        ("load.rate=3", "load.rho"),
        ("load.rho=-1", "load.rho must be > 0"),
        ("load.rho=much", "load.rho"),
        ("workload=csv", "workload.source.path"),
        ("engine=attached model=tiny hardware=cpu", "engine.url"),
        ("engine=attached engine.url=http://127.0.0.1:9 model=tiny", "name hardware=..."),
        ("engine.max_num_seqs=0", "max_num_seqs"),
        ("engine.environment=nonesuch", "nonesuch"),
        ("engine=recorded engine.run=nonesuch", "nonesuch"),
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
