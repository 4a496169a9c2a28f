"""A trace survives Parquet and CSV unchanged; a bad file is told by its name and row."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.project.folder import ROOT
from workloads.files import read_csv, read_parquet, write_csv, write_parquet
from workloads.trace import EPOCH_LIKE, Request, Trace, TraceError


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    block_size = draw(st.sampled_from([None, 1, 16, 512]))
    ids = draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True))
    arrivals = sorted(draw(st.floats(0, EPOCH_LIKE, exclude_max=True)) for _ in ids)
    requests = []
    for request_id, arrival in zip(ids, arrivals, strict=True):
        input_tokens = draw(st.integers(1, 5000))
        most = 0 if block_size is None else min(4, -(-input_tokens // block_size))
        blocks = draw(st.lists(st.integers(0, 2**62), max_size=most))
        output_tokens = draw(st.integers(1, 5000))
        requests.append(
            Request(request_id=request_id, arrival=arrival, input_tokens=input_tokens, output_tokens=output_tokens, blocks=tuple(blocks))
        )
    return Trace(name=draw(st.text(max_size=10)), requests=tuple(requests), block_size=block_size)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(trace=traces())
def test_parquet_and_csv_give_the_same_trace_back(trace: Trace, tmp_path: Path) -> None:
    write_parquet(trace, tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet") == trace
    assert read_parquet(tmp_path / "t.parquet").sha256 == trace.sha256
    write_csv(trace, tmp_path / "t.csv")
    again = read_csv(tmp_path / "t.csv", name=trace.name)
    assert again.sha256 == trace.sha256
    assert again == trace
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.parquet"]


HEADER = "arrival,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        (HEADER, "it has no requests"),
        ("arrival,input_tokens\n0,5\n", ":1: the columns ['output_tokens'] are missing"),
        (HEADER + "0,5,5\n1,5\n", ":3: 2 cells"),
        (HEADER + "0,5,5\n1,5,5,5\n", ":3: 4 cells"),
        (HEADER + "0,5,5\n1,five,5\n", ":3: input_tokens must be a"),
        (HEADER + "0,5,5\n1,5.5,5\n", ":3: input_tokens must be a whole number"),
        (HEADER + "0,5,5\nnan,5,5\n", ":3: arrival must be a number"),
        (HEADER + "0,5,5\n,5,5\n", ":3: arrival must be a number"),
        (HEADER + "0,0,5\n", ":2: request 0: input_tokens must be >= 1"),
        (HEADER + "0,5,-3\n", ":2: request 0: output_tokens must be >= 1"),
        (HEADER + "-1,5,5\n", ":2: request 0: arrival must be"),
        (HEADER + "3,5,5\n2,5,5\n", ":3 (request 1): arrivals must not decrease"),
        (HEADER + "1700000000.5,5,5\n", ":2 (request 0): arrival 1700000000.5 s is a wall-clock time"),
        ("request_id," + HEADER + "7,0,5,5\n7,1,5,5\n", ":3 (request 7): request_id 7 appears twice"),
        ("blocks," + HEADER + "1 2,0,5,5\n", ":2 (request 0): it has blocks, so the trace needs a block_size"),
        ("blocks,block_size," + HEADER + "1 2,16,0,5,5\n", ":2 (request 0): 2 blocks of 16 tokens"),
        ("blocks,block_size," + HEADER + "1,16,0,5,5\n2,8,0,5,5\n", ":3: block_size is 8"),
        (HEADER + '0,"5,5\n', ":2"),
    ],
)
def test_a_bad_csv_is_told_by_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        read_csv(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("read", [read_csv, read_parquet])
def test_a_file_that_cannot_be_read_is_told_in_one_line(read: object, tmp_path: Path) -> None:
    assert callable(read)
    (tmp_path / "binary").write_bytes(b"\xff\x00PAR\xfe\x01" * 9)
    for name in ("absent", "binary", "."):
        with pytest.raises(TraceError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("arrival", [0.0, None, 1.0], ":2: arrival is missing"),
        ("input_tokens", [4, 0, 4], ":2: request 1: input_tokens must be >= 1"),
        ("arrival", [0.0, 5.0, 4.0], ":3 (request 2): arrivals must not decrease"),
        ("output_tokens", ["a", "b", "c"], ": column output_tokens must be int64"),
        ("output_tokens", None, "the columns ['output_tokens'] are missing"),
    ],
)
def test_a_bad_parquet_is_told_by_file_and_row(column: str, values: list[object] | None, said: str, tmp_path: Path) -> None:
    columns: dict[str, object] = {
        "request_id": [0, 1, 2],
        "arrival": [0.0, 1.0, 2.0],
        "input_tokens": [4, 4, 4],
        "output_tokens": [2, 2, 2],
        "blocks": pa.array([[], [], []], pa.list_(pa.int64())),
    }
    columns |= {column: values}
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table({k: v for k, v in columns.items() if v is not None}), path)
    with pytest.raises(TraceError) as caught:
        read_parquet(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["t.parquet", "t.csv"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(file: str, tmp_path: Path) -> None:
    # a limit on the size of files makes the kernel refuse the write, as a full disk does
    script = (
        "import resource, sys; from pathlib import Path; from workloads.files import *; from workloads.trace import *;"
        "write = write_csv if sys.argv[1].endswith('csv') else write_parquet;"
        "trace = lambda n: Trace(name='t', requests=tuple(Request(request_id=i, arrival=i / 7, input_tokens=1 + i * i % 97,"
        " output_tokens=1) for i in range(n)));"
        "write(trace(1), Path(sys.argv[1])); resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192));"
        "write(trace(20000), Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / file)], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "OSError: [Errno 27]" in done.stderr
    read = read_csv if file.endswith("csv") else read_parquet
    assert len(read(tmp_path / file)) == 1
    assert [p.name for p in tmp_path.iterdir()] == [file]
