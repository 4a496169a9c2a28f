"""Clients that have conversations: how soon the next turn is at the server when the answer before has ended, by the server's log alone.

So many conversations are open at once, each of the same number of turns and with no time to think, that a client which loses no time has
as many requests at the server all the while. What is missing is the time between turns (Little's law).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tests.perf.clients import INPUT, OUTPUT, null
from tests.perf.load_clients import foreign, ours
from tests.perf.load_clients.foreign import CLIENTS, Foreign
from tests.perf.load_clients.side_by_side import LIMIT, NoFigures, cpu_between, launched

OPEN, TURNS = 64, 8
HEAD = (
    f"| client | requests at the server, of {OPEN} | from the end of an answer to the next turn, mean (ms) | CPU s/1,000 events |",
    "| --- | --- | --- | --- |",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A client's figures: mean requests at the server, mean time between turns (s), CPU seconds per 1,000 token events."""

    at_server: float
    between: float
    cpu: float


def rows(scratch: Path, only: Sequence[str]) -> Iterator[str]:
    """A line for each client that has conversations. only: of these names; none: all."""
    runs: Mapping[str, Callable[[Path], Row]] = {
        "Plumbline": _plumbline,
        **{one.name: partial(_foreign, one) for one in CLIENTS if one.name in COMMANDS},
    }
    for number, (name, run) in enumerate(runs.items()):
        if only and name not in only:
            continue
        folder = scratch / f"turns{number}"
        folder.mkdir()
        try:
            row = run(folder)
            yield f"| {name} | {row.at_server:.2f} | {1e3 * row.between:.2f} | {row.cpu:.4f} |"
        except (NoFigures, OSError, ValueError, KeyError) as error:
            yield f"| {name} | no figures: {error} | | |"


def _plumbline(scratch: Path) -> Row:
    replay = ours.conversations(OPEN, TURNS, scratch)
    at_server, between, _ = by_the_log(scratch / "server.log")
    return Row(at_server=at_server, between=between, cpu=replay.cpu_s / (OPEN * TURNS * OUTPUT / 1000))


def _foreign(client: Foreign, scratch: Path) -> Row:
    with null(scratch, *client.server) as url:
        seen = launched(client, COMMANDS[client.name](url, scratch), scratch, LIMIT)
    at_server, between, (first, last) = by_the_log(scratch / "server.log")
    events = at_server * (last - first) / (between + _service(scratch / "server.log")) * OUTPUT
    return Row(at_server=at_server, between=between, cpu=cpu_between(seen, first, last) / (events / 1000))


def by_the_log(path: Path) -> tuple[float, float, tuple[float, float]]:
    """(mean requests at the server, mean time between turns, s, and when they are taken from and to): while all conversations are open."""
    received, ended = _times(path)
    if len(received) != OPEN * TURNS:
        raise NoFigures(f"{len(received)} of {OPEN * TURNS} turns reached the server")
    first, last = received[OPEN - 1], received[OPEN * (TURNS - 1)]
    inside = np.clip(ended, first, last) - np.clip(received, first, last)
    mean = float(inside.sum() / (last - first))
    return mean, _service(path) * (OPEN / mean - 1), (float(first), float(last))


def _service(path: Path) -> float:
    received, ended = _times(path)
    return float((ended - received).mean())


def _times(path: Path) -> np.ndarray:
    """(when each request came, when its last token was written), in order of coming."""
    return np.array(sorted((row[1], row[4]) for row in map(json.loads, path.read_text().splitlines()))).T


def _aiperf(url: str, scratch: Path) -> Sequence[str]:
    options = {
        "model": "null", "url": url, "endpoint-type": "chat", "tokenizer": foreign.model(scratch), "concurrency": OPEN,
        "conversation-num": OPEN, "conversation-turn-mean": TURNS, "conversation-turn-stddev": 0, "isl": INPUT, "osl": OUTPUT,
        "output-artifact-dir": scratch / "aiperf", "ui": "none",
    }  # fmt: skip
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return ["profile", *words, "--streaming", "--use-server-token-count", "--no-server-metrics", "--no-gpu-telemetry"]


def _guidellm(url: str, scratch: Path) -> Sequence[str]:
    options = {
        "backend": f"kind=openai_http,target={url},request_format=/v1/chat/completions,model=tiny",
        "profile": f"kind=concurrent,streams={OPEN}",
        "data": f"kind=synthetic_text,prompt_tokens={INPUT},output_tokens={OUTPUT},turns={TURNS}",
        "tokenizer": f"kind=huggingface_auto,model={foreign.model(scratch)}",
        "constraint": f"kind=max_requests,count={OPEN * TURNS}",
        "output": f"kind=json,path={scratch / 'guidellm.json'}",
    }
    return ["run", *(word for name, value in options.items() for word in (f"--{name}", value)), "--disable-progress"]


COMMANDS: Mapping[str, Callable[[str, Path], Sequence[str]]] = {"AIPerf": _aiperf, "GuideLLM, 1 worker": _guidellm}
