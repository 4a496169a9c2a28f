"""Figures of the page of a day. A fleet is an entry of the day's `fleets`."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from analysis.plan.figures import LINES
from analysis.plots import OTHER, blank

COLORS = {"static": OTHER, "autoscaled": LINES[2]}
DASHES = ("solid", "dash")  # by class


def rate(day: Mapping[str, Any]) -> go.Figure:
    """Requests/s over the day."""
    figure = blank()
    figure.add_scatter(
        x=day["hours"],
        y=day["rate"],
        mode="lines",
        name="requests/s",
        line={"color": LINES[4], "width": 2},
        hovertemplate="%{x:.1f} h: %{y:.3~g} requests/s<extra></extra>",
    )
    return _over_hours(figure, "requests/s")


def replicas(day: Mapping[str, Any]) -> go.Figure:
    """Replicas that are paid for, a line a fleet."""
    figure = blank()
    for name, fleet in day["fleets"].items():
        figure.add_scatter(
            x=day["hours"],
            y=fleet["replicas"],
            mode="lines",
            name=name,
            line={"color": COLORS[name], "width": 2, "shape": "hv"},
            hovertemplate=f"%{{x:.1f}} h: %{{y}} replica(s)<extra>{name}</extra>",
        )
    return _over_hours(figure, "replicas")


def good(day: Mapping[str, Any]) -> go.Figure:
    """The share of good requests of each hour, a line a fleet and class; dotted: what is wanted."""
    figure = blank()
    classes = next(iter(day["fleets"].values()))["classes"]
    for name, fleet in day["fleets"].items():
        for dash, whose in zip(DASHES, classes, strict=False):
            label = f"{name}, {whose} class" if len(classes) > 1 else name
            shares = fleet["classes"][whose]["good_by_hour"]
            figure.add_scatter(
                x=[hour + 0.5 for hour in range(len(shares))],
                y=[None if share is None else 100 * share for share in shares],
                mode="lines+markers",
                name=label,
                line={"color": COLORS[name], "width": 2, "dash": dash},
                hovertemplate=f"hour %{{x:.0f}}: %{{y:.1f}}%<extra>{label}</extra>",
            )
    figure.add_hline(y=100 * day["attainment"], line={"color": OTHER, "width": 1.5, "dash": "dot"})
    return _over_hours(figure, "good requests (%)")


def _over_hours(figure: go.Figure, label: str) -> go.Figure:
    figure.update_xaxes(title_text="hour of the day", range=[0, 24], dtick=4)
    figure.update_yaxes(title_text=label, rangemode="tozero", automargin=True)
    figure.update_layout(legend={"orientation": "h", "y": -0.25, "x": 0, "yanchor": "top"}, height=340, margin={"b": 110})
    return figure
