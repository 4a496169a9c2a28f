"""Figures of the page of a recommendation. A way is a row of the plan's `ways`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.axes import log_axis
from analysis.plots import OTHER, blank

Way = Mapping[str, Any]
# Okabe and Ito's palette, as of analysis/plots.py: by what limits a way
LIMITS = {
    "memory": "#D55E00",
    "queue": "#CC79A7",
    "compute": "#0072B2",
    "bandwidth": "#009E73",
    "links": "#E69F00",
    "host": "#56B4E9",
}
LINES = tuple(LIMITS.values())
SCALE = [[0, "#009E73"], [0.5, "#F0E442"], [1, "#D55E00"]]


def front(ways: Sequence[Way]) -> go.Figure:
    """Output tokens/s a GPU against tokens/s of a user: a mark a way, coloured by what limits it; the line is the Pareto front."""
    figure = blank()
    shown = [way for way in ways if way["tokens_per_device"] and way["tokens_per_user"]]
    best = sorted((way for way in shown if way["front"]), key=lambda way: float(way["tokens_per_user"]))
    line = {"color": OTHER, "width": 1.5}
    figure.add_scatter(
        x=_of(best, "tokens_per_user"), y=_of(best, "tokens_per_device"), mode="lines", line=line, name="front", hoverinfo="skip"
    )
    for limit, color in LIMITS.items():
        rows = [way for way in shown if way["limit"] == limit]
        if rows:
            figure.add_scatter(
                x=_of(rows, "tokens_per_user"),
                y=_of(rows, "tokens_per_device"),
                mode="markers",
                name=limit,
                marker={
                    "color": color,
                    "size": [14 if way["chosen"] else 7 for way in rows],
                    "symbol": ["star" if way["chosen"] else "circle" for way in rows],
                    "opacity": 0.75,
                },
                text=[hover(way) for way in rows],
                hovertemplate="%{text}<extra></extra>",
            )
    figure.update_xaxes(**log_axis(_of(shown, "tokens_per_user")), title_text="output tokens/s of a user (median)")
    figure.update_yaxes(**log_axis(_of(shown, "tokens_per_device")), title_text="output tokens/s a GPU")
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top"}, height=460, margin={"b": 120})
    return figure


def heat_map(ways: Sequence[Way], across: str, up: str, measure: str) -> go.Figure:
    """The least cost of every pair of values of two settings, over all others; a pair without a way that serves is empty."""
    columns, rows = (list(dict.fromkeys(way["settings"][name] for way in ways)) for name in (across, up))
    least = np.full((len(rows), len(columns)), np.nan)
    for way in ways:
        if way[measure] is not None:
            place = rows.index(way["settings"][up]), columns.index(way["settings"][across])
            least[place] = np.nanmin([least[place], way[measure]])
    unit = "devices" if measure == "devices" else "dollars an hour"
    figure = blank()
    figure.add_heatmap(
        x=columns,
        y=rows,
        z=[[None if np.isnan(value) else float(value) for value in row] for row in least],
        text=[["" if np.isnan(value) else f"{value:.3g}" for value in row] for row in least],
        texttemplate="%{text}",
        colorscale=SCALE,
        showscale=False,
        hovertemplate=f"{across}=%{{x}}<br>{up}=%{{y}}<br>%{{z:.3g}} {unit}<extra></extra>",
    )
    figure.update_xaxes(type="category", title_text=across, tickangle=-45, automargin=True)
    figure.update_yaxes(type="category", title_text=up, automargin=True)
    return figure


def curves(found: Sequence[Mapping[str, Any]], metric: str, label: str, limit: float | None, rate: float) -> go.Figure:
    """A latency (ms) against the offered rate, a line a way; dotted: the SLO's limit, and the rate that was asked for."""
    figure = blank()
    for place, curve in enumerate(found):
        points = [point for point in curve["points"] if point[metric] is not None]
        figure.add_scatter(
            x=[point["rate"] for point in points],
            y=[1e3 * point[metric] for point in points],
            mode="lines+markers",
            name=curve["label"],
            line={"color": LINES[place % len(LINES)], "width": 2},
            hovertemplate=f"%{{x:.3~g}} requests/s<br>{label} %{{y:.4~g}} ms<extra>{curve['label']}</extra>",
        )
    values = [1e3 * point[metric] for curve in found for point in curve["points"] if point[metric] is not None]
    dotted = {"color": OTHER, "width": 1.5, "dash": "dot"}
    if limit is not None:
        figure.add_hline(y=1e3 * limit, line=dotted)
    figure.add_vline(x=rate, line=dotted)
    figure.update_xaxes(title_text="offered requests/s", rangemode="tozero")
    figure.update_yaxes(**log_axis([*values, *([] if limit is None else [1e3 * limit])]), title_text=f"{label} (ms)")
    figure.update_layout(legend={"orientation": "h", "y": -0.25, "x": 0, "yanchor": "top"}, height=480, margin={"b": 150})
    return figure


def cost(ways: Sequence[Way], measure: str) -> go.Figure:
    """The cheapest ways of each GPU, a bar each."""
    cheapest: dict[str, Way] = {}
    for way in ways:
        held = cheapest.get(way["hardware"])
        if way[measure] is not None and (held is None or way[measure] < held[measure]):
            cheapest[way["hardware"]] = way
    rows = sorted(cheapest.values(), key=lambda way: float(way[measure]))
    figure = blank()
    figure.add_bar(
        x=[way[measure] for way in rows],
        y=[way["hardware"] for way in rows],
        orientation="h",
        marker={"color": [LIMITS.get(way["limit"], OTHER) for way in rows]},
        text=[f"{way[measure]:.3g}" for way in rows],
        hovertext=[hover(way) for way in rows],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.update_xaxes(title_text="devices" if measure == "devices" else "dollars an hour", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(height=max(220, 90 + 30 * len(rows)))
    return figure


def hover(way: Way) -> str:
    """A way in words."""
    money = "" if way["dollars"] is None else f", {way['dollars']:.2f} dollars/h"
    return f"{way['label']}<br>{way['replicas']} replica(s), {way['devices']} devices{money}<br>limited by {way['limit']}"


def _of(ways: Sequence[Way], name: str) -> list[float]:
    return [float(way[name]) for way in ways]
