"""The client against a null server: what it adds to every number it reports. `make perf` prints the table.

Run it on a quiet machine with two free cores: the table gives each row's load average. Misses of the targets are marked, not failed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.perf.clients import CORES, OUTPUT, VLLM_PYTHON, Figures, median, poisson, run_plumbline, run_vllm

ROUNDS = 3
BUSY_RATE = 750.0  # requests/s of 64 tokens: 48,000 events/s
RAMP = [250.0 * step for step in range(2, 13)]  # requests/s: 32,000 to 192,000 events/s

# name -> (limit at 200 requests/s, limit at 48,000 events/s)
TARGETS: dict[str, tuple[float | None, float | None]] = {
    "lateness_p50": (0.1, None),
    "lateness_p99": (1.0, None),
    "bias_p50": (0.15, None),
    "bias_p99": (0.6, 1.0),
    "total_cpu": (0.012, None),
}


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, Figures, int | None]]]:
    """Rows (name, figures, which of the two targets) that are printed side by side at the end."""
    rows: list[tuple[str, Figures, int | None]] = []
    yield rows
    print_table(rows)


def repeat(benchmark: Any, trace: Any, scratch: Path, rounds: int) -> Figures:
    figures: list[Figures] = []
    benchmark.pedantic(lambda: figures.append(run_plumbline(trace, scratch)), rounds=rounds, iterations=1)
    middle = median(figures)
    benchmark.extra_info.update({name: getattr(middle, name) for name in Figures.__dataclass_fields__})
    return middle


@pytest.mark.timeout(900)
def test_200_requests_a_second(benchmark: Any, tmp_path: Path, table: list[tuple[str, Figures, int | None]]) -> None:
    figures = repeat(benchmark, poisson(200.0, 4000), tmp_path, ROUNDS)
    table.append(("plumbline", figures, 0))
    assert figures.earliest >= 0
    assert abs(figures.achieved / figures.offered - 1) < 0.001


@pytest.mark.timeout(900)
def test_vllm_bench_serve_on_the_same_schedule(benchmark: Any, tmp_path: Path, table: list[tuple[str, Figures, int | None]]) -> None:
    if not VLLM_PYTHON.exists():
        pytest.skip("no .envs/vllm_cpu: `make bench` installs it")
    figures: list[Figures] = []
    benchmark.pedantic(lambda: figures.append(run_vllm(poisson(200.0, 4000), tmp_path)), rounds=1, iterations=1)
    table.append(("vllm bench serve", figures[0], None))


@pytest.mark.timeout(900)
def test_48_000_events_a_second(benchmark: Any, tmp_path: Path, table: list[tuple[str, Figures, int | None]]) -> None:
    figures = repeat(benchmark, poisson(BUSY_RATE, 6000), tmp_path, ROUNDS)
    table.append(("plumbline", figures, 1))
    assert figures.earliest >= 0


@pytest.mark.timeout(900)
def test_sustained_events_a_second(benchmark: Any, tmp_path: Path, table: list[tuple[str, Figures, int | None]]) -> None:
    """The highest paced rate at which neither client nor server falls behind by 10 ms (p99), and what the client's CPU use there
    comes to per core: the null server, which sends every event by itself, reaches its limit first.
    """
    best: list[Figures] = []

    def ramp() -> None:
        for rate in RAMP:
            figures = run_plumbline(poisson(rate, int(rate * 4)), tmp_path)
            if max(figures.bias_p99, figures.lateness_p99, figures.server_late) > 10 or figures.achieved < 0.99 * figures.offered:
                print(f"\nat {rate * OUTPUT:,.0f} events/s the {'server' if figures.server_late > 10 else 'client'} falls behind")
                return
            best.append(figures)

    benchmark.pedantic(ramp, rounds=1, iterations=1)
    assert best, f"not even {RAMP[0] * OUTPUT:,.0f} events/s were sustained"
    events = best[-1].achieved * OUTPUT
    benchmark.extra_info.update(events_per_s=events, events_per_core_s=events / best[-1].busy)
    print(f"sustained: {events:,.0f} events/s with {best[-1].busy:.0%} of a core, {events / best[-1].busy:,.0f} events/s per core")
    table.append(("plumbline, sustained", best[-1], None))


def print_table(rows: list[tuple[str, Figures, int | None]]) -> None:
    """One line per run; a figure that misses its target is marked with !."""
    shown = Table(title=f"Load clients against a null server, one core each ({len(CORES)} cores); medians; ! misses its target")
    columns = [
        "client", "events/s", "achieved", "earliest ms", "lateness p50 / p99 ms", "TTFT bias p50 / p99 ms", "CPU s / 1,000 (with parsing)",
        "core", "load",
    ]  # fmt: skip
    for column in columns:
        shown.add_column(column, justify="left" if column == "client" else "right")
    for name, f, target in rows:

        def cell(field: str, form: str, f: Figures = f, target: int | None = target) -> str:
            limit = None if target is None else TARGETS[field][target]
            value = getattr(f, field)
            return format(value, form) + ("!" if limit is not None and value > limit else "")

        shown.add_row(
            name,
            f"{f.offered * OUTPUT:,.0f}",
            f"{f.achieved / f.offered:.2%}",
            f"{f.earliest:.3f}",
            f"{cell('lateness_p50', '.3f')} / {cell('lateness_p99', '.2f')}",
            f"{cell('bias_p50', '.3f')} / {cell('bias_p99', '.2f')}",
            f"{f.cpu:.4f} ({cell('total_cpu', '.4f')})",
            f"{f.busy:.0%}",
            f"{f.load:.1f}",
        )
    print()
    Console(width=160).print(shown)
