"""The Pareto front of compared settings, drawn. It imports Plotly, which takes long."""

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from results.record import SLO
from simulators.native.planning.compare import Candidate, front


def plot(candidates: Sequence[Candidate], slo: SLO, attainment: float, path: Path) -> Path:
    """Write the front as an HTML page of its own; returns its path."""
    figure = go.Figure()
    shown = [c for c in candidates if c.latencies]
    for name, some, mode in (("settings", shown, "markers"), ("Pareto front", front(shown), "lines")):
        figure.add_scatter(
            x=[1e3 * ((c.latencies or {}).get(("tpot", "p50")) or 0.0) for c in some],
            y=[c.rate_per_device for c in some],
            text=[c.label for c in some],
            name=name,
            mode=mode,
            hovertemplate="%{text}<br>TPOT p50 %{x:.1f} ms<br>%{y:.2f} requests/s a device<extra></extra>",
        )
    figure.update_layout(
        title={"text": f"Highest rate at which {attainment:.0%} of the requests<br>meet {slo}".replace("<=", "≤"), "font": {"size": 15}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},  # beside the plot it takes half of a phone
        xaxis_title="median TPOT at that rate (ms)",
        yaxis_title="requests/s a device",
        template="plotly_white",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True)
    return path
