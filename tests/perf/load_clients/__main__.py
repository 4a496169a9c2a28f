"""`python -m tests.perf.load_clients`: every load client that is installed, one after the other, on one null server, and ours at what only
it does. Prints the tables of docs/client.md; about 8 minutes.

A server core and a client core, 64 tokens a request, 20 ms to the first, 10 ms apart. Run it on a quiet machine: the head of each table has
the load average. `--make` makes the environments that are missing; without it, a client that is not installed is left out, with the reason.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harness.environment import ensure
from tests.perf.clients import CORES, OUTPUT, VLLM_PYTHON, poisson
from tests.perf.load_clients import ours, side_by_side, turns
from tests.perf.load_clients.foreign import CLIENTS
from tests.perf.load_clients.side_by_side import NoFigures, Row
from workloads.trace import Trace

# by its name in the table: where a client is when it is installed, and what runs it
RUNS: Mapping[str, tuple[Path, Callable[[Trace, Path], Row]]] = {
    "Plumbline": (Path(sys.executable), side_by_side.plumbline),
    "vLLM bench serve": (VLLM_PYTHON, side_by_side.vllm),
    **{client.name: (client.executable, partial(side_by_side.foreign, client)) for client in CLIENTS},
}
PARTS = ("clients", "turns", "sessions", "loop", "cpu", "processes")


def clients(trace: Trace, scratch: Path, only: Sequence[str]) -> Iterator[str]:
    """The table of the clients. only: of these names; none: all."""
    yield f"{len(trace)} requests, {trace.rate:.0f}/s (Poisson), {OUTPUT} tokens each; {_machine()}\n"
    yield "| client | achieved | CPU s/1,000 events (share of the core) | TTFT bias p50 / p99 ms | lateness p50 / p99 ms |"
    yield "| --- | --- | --- | --- | --- |"
    for number, (name, (executable, run)) in enumerate(RUNS.items()):
        if only and name not in only:
            continue
        if not executable.exists():
            yield f"| {name} | left out: there is no .envs/{executable.parent.parent.name} | | | |"
            continue
        folder = scratch / str(number)
        folder.mkdir()
        try:
            yield _row(run(trace, folder))
        except (NoFigures, OSError, ValueError, KeyError) as error:
            yield f"| {name} | no figures: {error} | | | |"


def _row(row: Row) -> str:
    def pair(values: tuple[float, float]) -> str:
        return f"{values[0]:.2f} / {values[1]:.2f}"

    late = "its own schedule" if row.lateness is None else pair(row.lateness) + (" *" if row.relative else "")
    failed = f", {row.failed} without an answer" if row.failed else ""
    return f"| {row.name} | {row.achieved:.1%}{failed} | {row.cpu:.4f} ({row.busy:.0%}) | {pair(row.bias)} | {late} |"


def alone(part: Callable[[Path], list[ours.Line]], scratch: Path) -> Iterator[str]:
    """Rows of the table of our client alone."""
    for what, figure, target in part(scratch):
        yield f"| {what} | {figure} | {target} |"


def _machine() -> str:
    return f"{len(CORES)} cores, load average {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def main() -> None:
    """Run the parts that are asked for, in order."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.load_clients", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--make", action="store_true", help="make the environments of the other clients that are missing")
    parser.add_argument("--seconds", type=float, default=20.0, help="s of the schedule that all clients replay")
    parser.add_argument("--rate", type=float, default=200.0, help="requests/s of it")
    parser.add_argument("--client", action="append", default=[], metavar="NAME", help="only this one, by its name in the table")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if unknown := set(options.client) - set(RUNS):
        parser.error(f"no client is called {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
    if options.make:
        for name in sorted({"vllm_cpu", *(client.environment for client in CLIENTS)}):
            ensure(name)
    chosen, trace = options.parts or list(PARTS), poisson(options.rate, int(options.rate * options.seconds))
    with tempfile.TemporaryDirectory(prefix="plumbline-clients-") as folder:
        if "clients" in chosen:
            for line in clients(trace, Path(folder), options.client):
                print(line, flush=True)
        if "turns" in chosen:
            print("", f"{turns.TURNS} turns a conversation; {_machine()}", "", *turns.HEAD, sep="\n", flush=True)
            for line in turns.rows(Path(folder), options.client):
                print(line, flush=True)
        single: Mapping[str, Callable[[Path], list[ours.Line]]] = {
            "sessions": ours.sessions,
            "loop": ours.closed_loop,
            "cpu": partial(ours.cpu, trace=trace),
            "processes": ours.processes,
        }
        if rest := [part for name, part in single.items() if name in chosen]:
            print(f"\n{_machine()}\n\n| our client | measured | target |\n| --- | --- | --- |", flush=True)
            for part in rest:
                for line in alone(part, Path(folder)):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
