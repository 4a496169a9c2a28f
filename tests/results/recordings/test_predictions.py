"""Somebody's predictions of a measured run: what they say comes out as a simulated run, in each form; what cannot be is one line."""

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from results import database
from results.__main__ import main
from results.record import Run
from results.storage.store import read_run, write_run
from tests.runs import make_run, make_simulated

Rows = list[dict[str, Any]]
MEASURED = make_run(num_requests=12, failures=(3,))
PREDICTED = make_simulated(make_run(num_requests=12), system="oracle_of_delphi", track="matched")
UNSENT = dataclasses.replace(MEASURED.records[5], sent=None, first_token=None, finished=None, token_times=None, error="no socket")


def latencies() -> Rows:
    """The plain form, in s from when each request was sent."""
    return [
        {"request_id": r.request_id, "ttft": r.first_token - m.sent, "e2e": r.finished - m.sent}
        for r, m in zip(PREDICTED.records, MEASURED.records, strict=True)
        if r.first_token is not None and r.finished is not None and m.sent is not None
    ]


def moments() -> Rows:
    """The plain form, in s since the run's start."""
    return [{"request_id": r.request_id, "first_token": r.first_token, "finished": r.finished} for r in PREDICTED.records]


def servingsim() -> Rows:
    """LLMServingSim's output, in ns on a clock of its own that starts 7 s earlier, last requests first."""
    rows = []
    for row, request in zip(latencies(), MEASURED.trace, strict=True):
        first, last, tokens = round(row["ttft"] * 1e9), round(row["e2e"] * 1e9), request.output_tokens
        gap = (last - first) // max(1, tokens - 1)
        gaps = [gap] * (tokens - 2) + [last - first - gap * (tokens - 2)] if tokens > 1 else []
        arrival = round((request.arrival + 7) * 1e9)
        rows.append(
            {
                "instance id": 0,
                "request id": row["request_id"],
                "model": "a/b",
                "input": request.input_tokens,
                "output": tokens,
                "arrival": arrival,
                "end_time": arrival + last,
                "latency": last,
                "queuing_delay": 0,
                "TTFT": first,
                "TPOT": gap,
                "ITL": str(gaps),
            }
        )
    return rows[::-1]


def as_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(folder: Path, file: Path, *words: str, measured: Run = MEASURED) -> Run:
    runs = folder / "runs"
    if not (runs / measured.run_id).is_dir():
        runs.mkdir(exist_ok=True)
        write_run(runs, measured)
    given = ["--simulated-by", "delphi", "--of", measured.run_id, "--took", "2.5", "--root", str(runs)]
    main(["import", str(file), *given, *words])
    track = words[words.index("--track") + 1] if "--track" in words else "matched"
    return read_run(runs / f"{measured.run_id}--delphi-{track}")


@pytest.mark.parametrize(
    ("rows", "write"), [(latencies, as_csv), (latencies, as_jsonl), (moments, as_csv), (moments, as_jsonl), (servingsim, as_csv)]
)
def test_what_was_predicted_comes_out_in_each_form(rows: Callable[[], Rows], write: Callable[..., Path], tmp_path: Path) -> None:
    run = imported(tmp_path, write(tmp_path / "file.csv", rows()))
    assert (run.kind, run.system, run.track, run.measured_run_id, run.wall_s) == ("simulated", "delphi", "matched", MEASURED.run_id, 2.5)
    for got, wanted, measured in zip(run.records, PREDICTED.records, MEASURED.records, strict=True):
        assert (got.request_id, got.arrival, got.sent, got.error) == (measured.request_id, measured.arrival, measured.sent, None)
        assert got.first_token == pytest.approx(wanted.first_token, abs=1e-8)
        assert got.finished == pytest.approx(wanted.finished, abs=1e-8)
        if rows is servingsim:
            assert got.token_times is not None and len(got.token_times) == got.output_tokens
            assert got.token_times[-1] == pytest.approx(got.finished, abs=1e-8)


def test_it_is_scored_as_a_run_that_was_simulated_here(tmp_path: Path) -> None:
    measured = dataclasses.replace(MEASURED, run_id="of-one")
    imported(tmp_path, as_csv(tmp_path / "file.csv", latencies()), measured=measured)
    write_run(tmp_path / "runs", make_simulated(measured, system="oracle_of_delphi", track="matched"))
    database.build([tmp_path / "runs"], tmp_path / "db")
    with database.connect(tmp_path / "db") as connection:
        rows = connection.execute(
            "SELECT value FROM run_metrics JOIN runs USING (run_id) WHERE kind = 'simulated' AND metric = 'ttft' AND stat = 'mean'"
        ).fetchall()
    assert len(rows) == 2
    wanted = [r.first_token - m.arrival for r, m in zip(PREDICTED.records, MEASURED.records, strict=True) if r.first_token is not None]
    assert min(wanted) < rows[0][0] < max(wanted)


def test_token_times_refused_requests_tracks_and_versions_are_kept(tmp_path: Path) -> None:
    rows = [{**row, "output_tokens": r.output_tokens} for row, r in zip(latencies(), MEASURED.trace, strict=True)]
    count = rows[0]["output_tokens"]
    rows[0] = {"request_id": 0, "token_times": [0.5 + 0.01 * i for i in range(count)]}
    rows[1] = {"request_id": 1, "error": "refused: too long"}
    run = imported(tmp_path, as_jsonl(tmp_path / "file", rows), "--track", "calibrated", "--version", "1.2")
    first, sent = run.records[0], MEASURED.records[0].sent or 0.0
    assert first.token_times is not None and (first.first_token, first.finished) == (first.token_times[0], first.token_times[-1])
    assert first.first_token == pytest.approx(sent + 0.5) and first.finished == pytest.approx(sent + 0.5 + 0.01 * (count - 1))
    assert (run.records[1].error, run.records[1].finished, run.records[1].output_tokens) == ("refused: too long", None, None)
    assert (run.track, run.version, run.config["simulator"]["imported"]) == ("calibrated", "1.2", True)
    assert "coverage" not in run.config["simulator"]


def test_a_request_that_was_never_sent_needs_no_prediction(tmp_path: Path) -> None:
    records = tuple(UNSENT if r.request_id == UNSENT.request_id else r for r in MEASURED.records)
    measured = dataclasses.replace(MEASURED, run_id="one-unsent", records=records)
    rows = [row for row in latencies() if row["request_id"] != UNSENT.request_id]
    run = imported(tmp_path, as_csv(tmp_path / "file.csv", rows), measured=measured)
    assert run.records[5].error == "not sent in the measured run"


def test_an_import_replaces_an_import_and_nothing_else(tmp_path: Path) -> None:
    file = as_csv(tmp_path / "file.csv", latencies())
    assert imported(tmp_path, file).wall_s == 2.5 and imported(tmp_path, file).wall_s == 2.5
    write_run(tmp_path / "runs", make_simulated(MEASURED, system="delphi", track="shipped"))
    with pytest.raises(SystemExit, match="it was simulated here; give --simulated-by another name"):
        imported(tmp_path, file, "--track", "shipped")


def changed(place: int, **fields: Any) -> Callable[[Rows], Rows]:
    return lambda rows: [{**row, **fields} if number == place else row for number, row in enumerate(rows)]


def in_milliseconds(rows: Rows) -> Rows:
    return [{"request_id": row["request_id"], "ttft": 1e3 * row["ttft"], "e2e": 1e3 * row["e2e"]} for row in rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(2, request_id=999), r"file.jsonl: 1 ids that run vllm-handmade-0 does not have: 999; take the ids of its trace.parquet"),
        (lambda rows: rows[1:], r"1 of 12 requests of run vllm-handmade-0 are missing: 0; give each a row"),
        (lambda rows: rows[:4], r"8 of 12 requests of run vllm-handmade-0 are missing: 4, 5, 6, 7, 8, \.\.\.;"),
        (changed(2, request_id=1), r"file.jsonl:3: request 1 a second time"),
        (changed(2, request_id="two"), r"file.jsonl:3: request_id must be a"),
        (in_milliseconds, r"the median latency is .* s, measured .* s; give seconds"),
        (changed(2, ttft=9.0, e2e=1.0), r"file.jsonl:3: request 2: its times must ascend"),
        (changed(2, ttft=-0.5), r"file.jsonl:3: request 2: its times must ascend"),
        (changed(2, e2e="soon"), r"file.jsonl:3: e2e must be a number, got 'soon'"),
        (changed(2, e2e=None), r"file.jsonl:3: no e2e, finished or token_times, and no error says why"),
        (changed(2, finished=9.0), r"file.jsonl:3: e2e and finished and ttft together; give ttft and e2e, or first_token and finished"),
        (changed(2, e2e_ms=9.0), r"file.jsonl:3: unknown name 'e2e_ms'; did you mean e2e\?"),
        (changed(2, output_tokens=1000), r"file.jsonl:3: request 2 has output_tokens 1000, in the run \d+: not the same requests"),
        (changed(2, token_times=[0.1]), r"file.jsonl:3: request 2 has \d+ tokens, but 1 token times"),
        (changed(2, token_times="soon"), r"file.jsonl:3: a list of numbers is wanted, got 'soon'"),
        (lambda rows: [], r"file.jsonl: it has no predictions"),
    ],
)
def test_what_cannot_be_a_prediction_of_the_run_is_one_line(change: Callable[[Rows], Rows], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=message) as error:
        imported(tmp_path, as_jsonl(tmp_path / "file", change(latencies())))
    assert "\n" not in str(error.value) and not list((tmp_path / "runs").glob("*--delphi-*"))


BY, OF, TOOK = ["--simulated-by", "delphi"], ["--of", MEASURED.run_id], ["--took", "1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*BY, *TOOK], r"predictions need both --simulated-by NAME and --of RUN_ID"),
        ([*OF, *TOOK], r"predictions need both --simulated-by NAME and --of RUN_ID"),
        ([*BY, *TOOK, "--of", "vllm-handmade-1"], r"no run named vllm-handmade-1 in .*did you mean vllm-handmade-0"),
        ([*BY, *OF], r"give --took SECONDS"),
        ([*BY, *OF, "--took", "0"], r"give --took SECONDS"),
        ([*OF, *TOOK, "--simulated-by", "a b"], r"--simulated-by a b: give a name of lower-case letters"),
        ([*BY, *OF, *TOOK, "--track", "oracle"], r"--track oracle: there are shipped, matched, calibrated"),
        ([*BY, *OF, *TOOK, "--model", "tiny"], r"leave out --model: a simulated run has"),
        ([*BY, *TOOK, "--of", f"{MEASURED.run_id}--vidur-calibrated"], r"a simulated run; give the measured"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for run in (MEASURED, make_simulated(MEASURED)):
        write_run(runs, run)
    with pytest.raises(SystemExit, match=message) as error:
        main(["import", str(as_csv(tmp_path / "file.csv", latencies())), "--root", str(runs), *words])
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"nothing.csv: cannot be read .*; give a CSV or JSONL of predictions"):
        imported(tmp_path, tmp_path / "nothing.csv")
