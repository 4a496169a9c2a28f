"""Sessions: what a trace may say of them, what a file says, and what becomes due when."""

import dataclasses
from pathlib import Path

import pytest

from workloads.files import read_csv, read_parquet, write_csv, write_parquet
from workloads.release import Due, Turns
from workloads.trace import Request, Trace, TraceError

HEADER = "request_id,arrival,input_tokens,output_tokens,session,after,delay\n"
# a turn, two branches side by side after it, one that joins them; a session of one turn in between
CSV = HEADER + "10,0,8,4,1,,\n20,0.2,8,4,2,,\n11,0.2,20,4,1,10,0.5\n12,0.2,20,4,1,10,0.1\n13,0.2,40,4,1,11 12,\n"


def read(folder: Path, text: str) -> Trace:
    path = folder / "sessions.csv"
    path.write_text(text)
    return read_csv(path)


def test_a_file_says_what_waits_for_what(tmp_path: Path) -> None:
    trace = read(tmp_path, CSV)
    assert [(r.request_id, r.session, r.after, r.delay) for r in trace] == [
        (10, 1, (), 0.0),
        (20, 2, (), 0.0),
        (11, 1, (10,), 0.5),
        (12, 1, (10,), 0.1),
        (13, 1, (11, 12), 0.0),
    ]
    write_parquet(trace, tmp_path / "trace.parquet")
    write_csv(trace, tmp_path / "again.csv")
    for back in (read_parquet(tmp_path / "trace.parquet"), read_csv(tmp_path / "again.csv")):
        assert back.requests == trace.requests and back.sha256 == trace.sha256


def test_sessions_are_part_of_a_traces_content(tmp_path: Path) -> None:
    trace = read(tmp_path, CSV)
    for change in ({"delay": 0.6}, {"session": 3}, {"after": (20,)}):
        changed = [dataclasses.replace(r, **change) if r.request_id == 11 else r for r in trace]
        assert dataclasses.replace(trace, requests=tuple(changed)).sha256 != trace.sha256


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("10,0,8,4,1,10,\n", ":2 (request 10): it waits for itself"),
        ("10,0,8,4,1,,\n11,0,8,4,1,12,\n", ":3 (request 11): it waits for request 12, which is not among the requests before it"),
        ("10,0,8,4,1,11,\n11,0,8,4,1,10,\n", ":2 (request 10): it waits for request 11, which is not among the requests before it"),
        ("10,0,8,4,1,,\n11,0,8,4,1,10,-1\n", ":3: request 11: delay must be >= 0 s"),
        ("10,0,8,4,1,,3\n", ":2: request 10: delay must be >= 0 s, and 0 of a request that waits for none"),
        ("10,0,8,4,1,x,\n", ":2: after must be a number, got 'x'"),
    ],
)
def test_a_session_that_cannot_be_is_told_by_its_line(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(TraceError) as raised:
        read(tmp_path, HEADER + rows)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_turn_is_due_after_the_last_of_those_that_it_waits_for(tmp_path: Path) -> None:
    turns = Turns(read(tmp_path, CSV))
    assert list(turns.first) == [Due(0.0, 0), Due(0.2, 1)]
    assert list(turns.ended(0, 1.0)) == [Due(1.5, 2), Due(1.1, 3)]
    assert list(turns.ended(1, 1.2)) == []
    assert list(turns.ended(3, 3.0)) == []
    assert list(turns.ended(2, 2.0)) == [Due(3.0, 4)]


def test_what_waits_for_a_failed_turn_is_never_due(tmp_path: Path) -> None:
    turns = Turns(read(tmp_path, CSV))
    turns.ended(0, 1.0)
    assert list(turns.given_up(2)) == [4] and list(turns.ended(2, 2.0)) == []
    assert list(turns.given_up(3)) == [] and list(turns.ended(3, 3.0)) == []
    whole = Turns(read(tmp_path, CSV))
    assert list(whole.given_up(0)) == [2, 3, 4] and list(whole.ended(0, 1.0)) == []


def test_a_request_that_waits_must_name_others() -> None:
    with pytest.raises(TraceError, match="delay"):
        Request(request_id=1, arrival=0.0, input_tokens=1, output_tokens=1, delay=1.0)
