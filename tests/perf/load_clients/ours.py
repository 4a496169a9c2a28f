"""What our client alone does: many sessions at once, a closed loop that stays full, several processes."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.engine import Endpoint
from harness.probing.steady_state import mean_in_flight, steady_window
from harness.replay.client import Replay
from results.record import EngineLimits
from tests.perf.clients import CORES, INPUT, ITL, OUTPUT, TTFT, ms, null, nulls, our_client, pinned, poisson, run_plumbline
from tests.perf.load_clients.side_by_side import NoFigures
from workloads.release import ClosedLoop, Release
from workloads.trace import Request, Trace

SESSIONS, TURNS, SLOTS = 500, 8, 256
TURN = TTFT + (OUTPUT - 1) * ITL  # s that the server takes for one
SERVERS = max(2, min(8, len(CORES) - 2))  # processes that answer at one port, so that they keep up with two clients
SERVER_LATE = 5.0  # ms at p99 by which their first tokens may come later than asked; steps of 1 ms make up to 2 of it

Line = tuple[str, str, str]  # what, its figure, its target where it has one


def sessions(scratch: Path) -> list[Line]:
    """500 sessions of 8 turns, all open at once."""
    replay = conversations(SESSIONS, TURNS, scratch)
    rows = {row[0]: row for row in map(json.loads, (scratch / "server.log").read_text().splitlines())}
    dependent = [(asked, r) for r, asked in zip(replay.records, replay.trace, strict=True) if asked.after]
    sent = np.array([(r.sent or np.nan) - r.arrival for _, r in dependent])
    seen = np.array([rows[asked.request_id][1] - rows[asked.after[0]][4] for asked, _ in dependent])  # from the server's last write
    first, last = TURN * (SESSIONS - 1) / SESSIONS, min(_ends(replay).values())
    events = sum(first <= time <= last for r in replay.records for time in r.token_times or ())
    return [
        (f"{SESSIONS} sessions of {TURNS} turns: events/s while all are open", f"{events / (last - first):,.0f}", "48,000"),
        ("a dependent turn is sent after it is due, p50 / p99 (ms)", f"{ms(sent, 50):.3f} / {ms(sent, 99):.3f}", "p99 0.5"),
        ("and is at the server after that wrote the last token before it, p50 / p99 (ms)", f"{ms(seen, 50):.3f} / {ms(seen, 99):.3f}", ""),
        ("share of the core", f"{replay.cpu_s / replay.wall_s:.0%}", ""),
    ]


def conversations(number: int, turns: int, scratch: Path) -> Replay:
    """So many at once; they begin evenly over one turn's time, and a turn follows as the one before ends."""
    requests = [
        Request(
            request_id=turn * number + session,
            arrival=TURN if turn else TURN * session / number,
            input_tokens=INPUT,
            output_tokens=OUTPUT,
            after=((turn - 1) * number + session,) if turn else (),
            session=session,
        )
        for turn in range(turns)
        for session in range(number)
    ]
    return _replayed(Trace(name="sessions", requests=tuple(requests)), scratch)


def closed_loop(scratch: Path) -> list[Line]:
    """256 slots: how many requests are in flight, by when each was sent and its last byte read, weighted by time."""
    trace = Trace(
        name="loop",
        requests=tuple(Request(request_id=i, arrival=0.0, input_tokens=INPUT, output_tokens=OUTPUT) for i in range(SLOTS * 20)),
    )
    loop = ClosedLoop(concurrency=SLOTS, ramp=TURN)
    replay = _replayed(trace, scratch, loop.over(len(trace)))
    window = steady_window(replay.records, SLOTS)
    assert window is not None, "the closed loop never settled"
    mean = mean_in_flight(replay.records, replay.ended, window)
    seconds = window[1] - window[0]
    return [(f"closed loop of {SLOTS}: requests in flight, mean over {seconds:.1f} s", f"{mean:.2f}", "255.9")]


def cpu(scratch: Path, trace: Trace) -> list[Line]:
    """CPU with what comes before and after the replay."""
    figures = run_plumbline(trace, scratch)
    return [(f"CPU s per 1,000 events with all preparation, at {trace.rate:.0f} requests/s", f"{figures.total_cpu:.4f}", "0.0140")]


def processes(scratch: Path) -> list[Line]:
    """Events/s at a TTFT bias of 2 ms (p99), by one process and by two, each on a core that no server has."""
    what = "events/s at a TTFT bias p99 of 2 ms: client.processes=2 over 1"
    if len(CORES) < SERVERS + 2:
        told = f"cannot be told on {len(CORES)} cores: it takes {SERVERS + 2} or more, all but two of them for the server"
        return [(what, told, "1.8 times")]
    try:
        one, two = (_sustained(scratch, number) for number in (1, 2))
    except NoFigures as error:
        return [(what, f"no figures: {error}", "1.8 times")]
    return [(what, f"{two:,.0f} / {one:,.0f} = {two / one:.2f}", "1.8 times")]


def _replayed(trace: Trace, scratch: Path, release: Release | None = None) -> Replay:
    """By one process on its core; all requests were answered."""
    client = our_client()
    with null(scratch) as url, pinned():
        replay = client.replay(_endpoint(url), trace, [[r.request_id] * INPUT for r in trace], release=release)
    failed = [r.error for r in replay.records if r.error is not None]
    assert not failed, f"{len(failed)} requests failed, e.g. {failed[0]}"
    return replay


def _endpoint(url: str) -> Endpoint:
    return Endpoint(url=url, served_model="none", system="null", version=None, limits=EngineLimits())


def _ends(replay: Replay) -> dict[int | None, float]:
    """When each session's last answer had ended, s."""
    ends: dict[int | None, float] = {}
    for asked, end in zip(replay.trace, replay.ended, strict=True):
        ends[asked.session] = max(ends.get(asked.session, 0.0), end or 0.0)
    return ends


def _sustained(scratch: Path, number: int) -> float:
    """Events/s that so many client processes take before their TTFT bias passes 2 ms at p99, with several servers behind one port."""
    best = 0.0
    for rate in itertools.count(500.0, 250.0):
        trace = poisson(rate, int(rate * 4))
        bias, late = _biased(trace, scratch, number)
        if late > SERVER_LATE:
            raise NoFigures(f"at {rate * OUTPUT:,.0f} events/s the servers fall behind (by {late:.1f} ms at p99)")
        if bias > 2.0 and not best:
            raise NoFigures(f"at {rate * OUTPUT:,.0f} events/s, the least that is tried, the bias of {number} is {bias:.1f} ms")
        if bias > 2.0:
            return best
        best = rate * OUTPUT
    raise AssertionError


def _biased(trace: Trace, scratch: Path, number: int) -> tuple[float, float]:
    """(TTFT bias, lateness of the servers' own first tokens), ms at p99."""
    client = replace(our_client(), processes=number)
    with nulls(scratch, SERVERS) as (url, logs), pinned(CORES[-number:]):
        replay = client.replay(_endpoint(url), trace, [[r.request_id] * INPUT for r in trace])
    rows = np.array(sorted(json.loads(line) for log in logs for line in log.read_text().splitlines()), float)
    own = rows[:, 2] - rows[:, 1]
    ttft = np.array([(r.first_token or np.nan) - (r.sent or np.nan) for r in replay.records])
    return ms(ttft - own, 99), ms(own - TTFT, 99)
