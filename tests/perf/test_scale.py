"""What large campaigns cost: database, scores and page of runs with all their token times, first and when one more has come.

Targets, on two quiet cores: 100 runs of 1,000 requests of 250 tokens (25 million rows) in 30 s, then 3 s, within 2 GB; 280 runs of 600,000
tokens (168 million rows) in 180 s, then 5 s, within 4 GB; and time that grows no faster than the rows do. Printed, not asserted: machines
differ. The plot of the growth is written to results/perf/growth.html.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from results.project.folder import ROOT
from tests.perf.many_runs import write_measured_and_simulated

SIZES = {  # measured runs, simulated ones on each, requests of each, tokens of each request
    "25 million rows": (10, 9, 1000, 250),
    "168 million rows": (20, 13, 2400, 250),
}
GROWTH = {
    "runs": [(n, 9, 500, 100) for n in (2, 4, 8, 16)],
    "requests": [(4, 9, n, 100) for n in (250, 500, 1000, 2000)],
    "tokens": [(4, 9, 500, n) for n in (50, 100, 200, 400)],
}


def measured_at(folder: Path, size: tuple[int, int, int, int]) -> dict[str, Any]:
    """Seconds and memory of a process of its own (tests/perf/scale.py)."""
    measured, simulated, requests, tokens = size
    write_measured_and_simulated(folder / "runs", measured=measured, simulated=simulated, requests=requests, tokens=tokens)
    command = [sys.executable, "-m", "tests.perf.scale", str(folder), *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("name", SIZES)
def test_first_and_after(benchmark: Any, tmp_path: Path, name: str) -> None:
    told = benchmark.pedantic(measured_at, (tmp_path, SIZES[name]), rounds=1)
    benchmark.extra_info.update(told)
    first, after = (" + ".join(f"{s:.1f} s {stage}" for stage, s in told[when].items()) for when in ("first", "after"))
    print(f"\n{told['rows']:,} token rows: {first}; one run more: {after}; peak {told['peak_gb']:.2f} GB")


def test_growth(benchmark: Any, tmp_path: Path) -> None:
    found = benchmark.pedantic(_grown, (tmp_path,), rounds=1)
    figure = go.Figure(
        layout={"xaxis": {"title": "token rows", "type": "log"}, "yaxis": {"title": "s, database + scores + page", "type": "log"}}
    )
    for what, rows in found.items():
        figure.add_scatter(x=[row["rows"] for row in rows], y=[sum(row["first"].values()) for row in rows], name=f"more {what}")
        steps = [f"{row['rows'] / 1e6:.1f} M rows {sum(row['first'].values()):.1f} s" for row in rows]
        print(f"\nmore {what}: " + ", ".join(steps))
    page = ROOT / "results" / "perf" / "growth.html"
    page.parent.mkdir(exist_ok=True)
    figure.write_html(page)
    print(f"plot: {page}")


def _grown(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {what: [measured_at(folder / f"{what}{k}", size) for k, size in enumerate(sizes)] for what, sizes in GROWTH.items()}
