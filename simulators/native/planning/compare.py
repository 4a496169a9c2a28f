"""Compares settings of engines: the highest rate that each sustains within an SLO, and which of them no other beats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from results.record import SLO
from simulators.native.planning.deployment import Deployment
from workloads.trace import Trace

SHOWN = (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"), ("tpot", "p99"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """label: what distinguishes it. rate: requests/s that it sustains; latencies (s): at that rate, None where it sustains none.

    why_not: why it cannot be had at all.
    """

    label: str
    devices: int
    rate: float = 0.0
    latencies: Mapping[tuple[str, str], float | None] | None = None
    why_not: str | None = None

    @property
    def rate_per_device(self) -> float:
        """Requests/s a device."""
        return self.rate / self.devices


def candidate(label: str, deployment: Deployment, trace_at: Callable[[float], Trace], slo: SLO, attainment: float) -> Candidate:
    """The rate that this deployment sustains, and its latencies there. Raises SimulatorError and ValueError."""
    highest = deployment.capacity(trace_at, slo, attainment)
    if highest.rate == 0:
        return Candidate(label=label, devices=deployment.devices)
    found = deployment.metrics(trace_at(highest.rate), slo)
    return Candidate(label=label, devices=deployment.devices, rate=highest.rate, latencies={key: found[key] for key in SHOWN})


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The Pareto front: those that no other one beats in both requests/s a device (more) and median TPOT (less), by rate."""
    known = [(c, tpot) for c in candidates if c.latencies and (tpot := c.latencies["tpot", "p50"]) is not None]
    best = [
        (c, tpot)
        for c, tpot in known
        if not any(
            other.rate_per_device >= c.rate_per_device and least <= tpot and (other.rate_per_device, least) != (c.rate_per_device, tpot)
            for other, least in known
        )
    ]
    return [c for c, _ in sorted(best, key=lambda pair: pair[0].rate_per_device)]


def plot(candidates: Sequence[Candidate], slo: SLO, attainment: float, path: Path) -> Path:
    """Write the front as an HTML page of its own; returns its path."""
    figure = go.Figure()
    shown = [c for c in candidates if c.latencies]
    for name, some, mode in (("settings", shown, "markers"), ("Pareto front", front(shown), "lines")):
        figure.add_scatter(
            x=[1e3 * (c.latencies or {}).get(("tpot", "p50"), 0.0) for c in some],  # type: ignore[operator]
            y=[c.rate_per_device for c in some],
            text=[c.label for c in some],
            name=name,
            mode=mode,
            hovertemplate="%{text}<br>TPOT p50 %{x:.1f} ms<br>%{y:.2f} requests/s a device<extra></extra>",
        )
    limits = ", ".join(f"{key.upper()} {value:g} s" for key, value in (("ttft", slo.ttft), ("tpot", slo.tpot), ("e2e", slo.e2e)) if value)
    figure.update_layout(
        title=f"Highest rate at which {attainment:.0%} of the requests meet {limits}",
        xaxis_title="median TPOT at that rate (ms)",
        yaxis_title="requests/s a device",
        template="plotly_white",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True)
    return path
