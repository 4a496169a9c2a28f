"""The command that holds load clients side by side (docs/client.md), in small: that it measures and prints, not what."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from results.project.folder import ROOT
from tests.harness.replay.test_client import CLIENT, endpoint
from tests.perf.clients import CORES, nulls, poisson
from tests.perf.load_clients import turns
from tests.perf.load_clients.foreign import CLIENTS
from tests.perf.load_clients.side_by_side import NoFigures, foreign


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    words = (sys.executable, "-m", "tests.perf.load_clients", *words)
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_command_prints_a_row_for_each_client_that_it_runs() -> None:
    done = command("clients", "cpu", "--seconds", "0.5", "--rate", "100", "--client", "Plumbline")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if line.startswith("|")]
    head, _, ours, *rest = rows
    assert head[0] == "client" and ours[0] == "Plumbline" and len(head) == len(ours) == 5
    assert float(ours[2].split()[0]) > 0 and ours[1].endswith("%")
    assert rest[2][0].startswith("CPU s per 1,000 events with all preparation, at ") and float(rest[2][1]) > 0


def test_of_conversations_it_prints_how_long_a_client_takes_from_turn_to_turn() -> None:
    done = command("turns", "--client", "Plumbline")
    assert done.returncode == 0, done.stderr
    [ours] = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if line.startswith("| Plumbline")]
    assert 0 < float(ours[1]) <= turns.OPEN and float(ours[2]) >= 0 and float(ours[3]) > 0


def test_the_time_between_turns_is_what_the_server_saw(tmp_path: Path) -> None:
    """Each conversation waits 0.1 s between its turns, which take 0.5 s; they begin evenly over the first turn."""
    begun = [0.5 * i / turns.OPEN for i in range(turns.OPEN)]
    received = [start + 0.6 * turn for start in begun for turn in range(turns.TURNS)]
    log = tmp_path / "server.log"
    log.write_text("".join(json.dumps([-1, time, time + 0.1, 0, time + 0.5]) + "\n" for time in received))
    at_server, between, _ = turns.by_the_log(log)
    assert at_server == pytest.approx(turns.OPEN * 0.5 / 0.6, rel=0.03) and between == pytest.approx(0.1, rel=0.2)
    log.write_text(log.read_text().split("\n", 1)[1])
    with pytest.raises(NoFigures, match=r"511 of 512 turns reached the server"):
        turns.by_the_log(log)


def test_a_part_or_a_client_that_there_is_not_is_told() -> None:
    for words, said in ((["everything"], "no part is called everything"), (["--client", "wrk"], "no client is called wrk")):
        done = command(*words)
        assert done.returncode == 2 and said in done.stderr


WROTE = {  # what each writes of two requests, the second of which began first
    "SGLang bench": ("sglang.jsonl", {"ttfts": [0.02, 0.03], "completed": 2}),
    "AIPerf": (
        "aiperf/profile_export.jsonl",
        {"metadata": {"request_start_ns": 2000}, "metrics": {"time_to_first_token": {"value": 30.0, "unit": "ms"}}},
        {"metadata": {"request_start_ns": 1000}, "metrics": {"time_to_first_token": {"value": 20.0, "unit": "ms"}}},
    ),
    "GuideLLM, 1 worker": (
        "guidellm.json",
        {
            "benchmarks": [
                {
                    "requests": {
                        "successful": [
                            {"request_start_time": 2.0, "time_to_first_token_ms": 30.0},
                            {"request_start_time": 1.0, "time_to_first_token_ms": 20.0},
                        ],
                        "errored": [{"request_start_time": 3.0, "time_to_first_token_ms": None}],
                    }
                }
            ]
        },
    ),
}


@pytest.mark.parametrize("name", WROTE)
def test_what_another_client_wrote_is_read_in_order_of_sending(name: str, tmp_path: Path) -> None:
    (client,) = (client for client in CLIENTS if client.name == name)
    file, *objects = WROTE[name]
    path = tmp_path / str(file)
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))
    assert client.ttfts(tmp_path)[:2].tolist() == pytest.approx([0.02, 0.03])


def test_a_client_that_fails_or_is_not_there_is_a_row_with_the_reason(tmp_path: Path) -> None:
    script = ["-c", "print('no such model'); raise SystemExit(3)"]
    broken = dataclasses.replace(CLIENTS[0], environment="core", program="python", command=lambda *_: script)
    with pytest.raises(NoFigures, match="exit code 3: no such model"):
        foreign(broken, poisson(50.0, 5), tmp_path)


def test_null_servers_that_share_a_port_share_the_connections(tmp_path: Path) -> None:
    if len(CORES) < 2:
        pytest.skip("each server has a core of its own, and here is one")
    with nulls(tmp_path, 2) as (url, logs):
        result = CLIENT.replay(endpoint(url), trace := poisson(1e6, 40), [[i] * r.input_tokens for i, r in enumerate(trace)])
    assert {r.error for r in result.records} == {None}
    seen = [[json.loads(line)[0] for line in log.read_text().splitlines()] for log in logs]
    assert all(seen) and sorted(seen[0] + seen[1]) == list(range(40))
