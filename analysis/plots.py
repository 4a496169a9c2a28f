"""Figures, one function each: rows in, a plotly Figure out. Milliseconds and per cent; the background is transparent, for light and dark
pages.

A system has one colour everywhere and a track one dash. `requests` has a row per request and run: series (name), system, track (None
when measured), request_id, arrival (s), ttft, tpot, e2e (s, NaN when there is none). Titles belong to the page, not to the figure.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import names
from analysis.axes import log_axis, ratio_axis
from analysis.data import Score
from analysis.stats import Values

# Okabe and Ito's palette (jfly.uni-koeln.de/color, 2008), distinct with any colour vision; grey in place of black, for light and dark.
COLORS = {
    "vllm": "#0072B2",
    "sglang": "#CC79A7",
    "vidur": "#D55E00",
    "splitwise_sim": "#E69F00",
    "distserve_sim": "#8C8C8C",
    "aisimulate": "#56B4E9",
    "native": "#009E73",
}
OTHER = "#8C8C8C"
GRID = "rgba(140,140,140,0.25)"
HEIGHT = 420  # px, of a figure that stands alone
DASHES = {"shipped": "dot", "matched": "dashdot", "calibrated": "dash"}
FAINT = 0.4
SYMBOLS = {"shipped": "triangle-up-open", "matched": "square-open", "calibrated": "circle"}
GAUGES = {  # what each engine calls it
    "Running requests": ("num_requests_running", "num_running_reqs", "requests_processing"),
    "Waiting requests": ("num_requests_waiting", "num_queue_reqs", "requests_deferred"),
    "KV cache used (%)": ("kv_cache_usage_perc", "kv_cache_usage", "token_usage"),
    "GPU power (W)": ("gpu0_power_w",),
    "GPU clock (MHz)": ("gpu0_sm_clock_mhz",),
}
POINTS = 1500  # drawn per series at most; more would only overlap
LEVELS = np.unique(np.concatenate([np.linspace(0, 0.9, 181), np.linspace(0.9, 1, 101)]))


@dataclass(frozen=True, slots=True)
class Series:
    """One run as it is drawn."""

    name: str
    system: str
    track: str | None

    @property
    def color(self) -> str:
        """Of its system, the same for both of its topologies."""
        return COLORS.get(self.system.removesuffix(names.APART), OTHER)

    @property
    def line(self) -> dict[str, Any]:
        """A measured run is solid and thick, a simulated one dashed by its track; one with prefill and decode apart is the thinner."""
        thin = self.system.endswith(names.APART)
        return {"color": self.color, "width": (3 if self.track is None else 2) - thin, "dash": DASHES.get(self.track or "", "solid")}

    @property
    def marker(self) -> dict[str, Any]:
        """A measured run is a dot, a simulated one has its track's shape."""
        return {"color": self.color, "size": 5, "symbol": SYMBOLS.get(self.track or "", "circle"), "opacity": 0.5}


def series_of(requests: pd.DataFrame) -> list[Series]:
    """The runs in a frame of requests, in order of appearance."""
    found = requests[["series", "system", "track"]].drop_duplicates("series")
    tracks = [None if pd.isna(track) else str(track) for track in found["track"]]
    return [Series(*row) for row in zip(found["series"], found["system"], tracks, strict=True)]


def cdf(requests: pd.DataFrame, metric: str) -> go.Figure:
    """Share of requests whose latency is at most x, measured beside simulated."""
    figure = _figure()
    for series, rows in _by_series(requests):
        values = np.sort(_milliseconds(rows, metric))
        if len(values):
            at = LEVELS if len(values) > len(LEVELS) else np.linspace(0, 1, len(values))
            figure.add_scatter(
                x=np.quantile(values, at),
                y=100 * at,
                mode="lines",
                line=series.line,
                hovertemplate="%{y:.0f} % within %{x:.3~g} ms",
                **_named(series),
            )
    figure.update_xaxes(**log_axis(_milliseconds(requests, metric)), title_text=f"{names.metric(metric)} (ms)")
    figure.update_yaxes(range=[0, 101], ticksuffix=" %", title_text="Requests")
    return figure


def parity(requests: pd.DataFrame, metric: str) -> go.Figure:
    """One dot per request: measured across, simulated up. On the line the simulator is right; above it, too slow."""
    figure = _figure()
    wide = requests.assign(value=requests[metric] * 1e3).pivot(index="request_id", columns="series", values="value")
    measured, *simulated = series_of(requests)
    wide = wide[wide[measured.name] > 0]
    low, high = (float(bound) for bound in (np.nanmin(wide), np.nanmax(wide))) if wide.notna().any(axis=None) else (1.0, 10.0)
    ends = [max(low, 1e-3) * 0.9, high * 1.1]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": OTHER, "width": 1}, hoverinfo="skip", showlegend=False)
    for series in simulated:
        pairs = _thinned(wide[[measured.name, series.name]].dropna())
        figure.add_scatter(
            x=pairs[measured.name],
            y=pairs[series.name],
            customdata=pairs.index,
            mode="markers",
            marker=series.marker,
            hovertemplate="request %{customdata}: measured %{x:.3~g} ms, simulated %{y:.3~g} ms",
            **_named(series),
        )
    bounds = [math.log10(end) for end in ends]
    figure.update_xaxes(**log_axis(ends), range=bounds, title_text=f"Measured {names.metric(metric)} (ms)")
    figure.update_yaxes(**log_axis(ends), range=bounds, title_text=f"Simulated {names.metric(metric)} (ms)")
    return figure


def ttft_over_time(requests: pd.DataFrame) -> go.Figure:
    """TTFT of each request at its arrival and a running median over 5 % of them: where queues build up, and which simulator sees it."""
    figure = _figure()
    for series, rows in _by_series(requests):
        alive = rows.dropna(subset=["ttft"]).sort_values("arrival")
        drawn = _thinned(alive)
        figure.add_scatter(
            x=drawn["arrival"],
            y=drawn["ttft"] * 1e3,
            mode="markers",
            marker=series.marker | {"size": 4, "opacity": 0.35},
            hovertemplate="%{x:.1f} s: %{y:.3~g} ms",
            **_named(series),
        )
        median = alive["ttft"].rolling(max(5, len(alive) // 20), center=True, min_periods=1).median()
        kept = np.unique(np.linspace(0, max(0, len(alive) - 1), min(len(alive), 400)).astype(int))
        figure.add_scatter(
            x=alive["arrival"].iloc[kept],
            y=1e3 * median.iloc[kept],
            mode="lines",
            line=series.line,
            hovertemplate="running median at %{x:.1f} s: %{y:.3~g} ms",
            **_named(series),
        )
    figure.update_xaxes(title_text="Arrival (s since the trace's start)")
    figure.update_yaxes(**log_axis(_milliseconds(requests, "ttft")), title_text="TTFT (ms)")
    return figure


def server_over_time(telemetry: pd.DataFrame, series: Series) -> go.Figure:
    """The engine's own gauges during the run, one above the other; none for a gauge that it did not report. telemetry: time (s), name,
    value.
    """
    known = gauges(telemetry)
    figure = make_subplots(rows=max(1, len(known)), cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=list(known))
    for row, (title, frame) in enumerate(known.items(), 1):
        share = "%" in title
        figure.add_scatter(
            x=frame["time"],
            y=frame["value"] * (100 if share else 1),
            mode="lines",
            line={"color": series.color, "width": 2, "shape": "hv"},
            hovertemplate="%{x:.1f} s: %{y:.3~g}" + (" %" if share else ""),
            row=row,
            col=1,
            **_named(series),
        )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(title_text="Time (s since the trace's start)", row=max(1, len(known)), col=1)
    _dress(figure, height=130 * max(1, len(known)) + 70)
    figure.update_annotations(x=0, xanchor="left", font_size=12)
    return figure


def errors(scores: Sequence[Score], keys: Sequence[tuple[str, str | None]]) -> go.Figure:
    """Simulated / measured of each statistic with its interval, on a log scale, where too low by a factor lies as far left as too high by
    it lies right. Grey: noise floor. Faint, without a bar: the interval is unknown.
    """
    runs = list(dict.fromkeys((score.system, score.track) for score in scores))
    figure = _figure(height=90 + len(keys) * (26 + 8 * len(runs)))
    by_key = {(score.system, score.track, score.key): score for score in scores}
    _noise_band(figure, scores, keys)
    for place, (system, track) in enumerate(runs):
        offset = 0.0 if len(runs) == 1 else 0.6 * (place / (len(runs) - 1) - 0.5)
        known = [(row, s) for row, key in enumerate(keys) if (s := by_key.get((system, track, key))) is not None and s.error is not None]
        series = Series(names.system(system, track), system, track)
        ratios = np.array([1 + (score.error or 0.0) for _, score in known])
        lows, highs = (1 + np.array([getattr(s, bound) for _, s in known], dtype=float) for bound in ("error_low", "error_high"))
        figure.add_scatter(
            x=np.maximum(ratios, 1e-3),
            y=[row + offset for row, _ in known],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": highs - ratios,
                "arrayminus": ratios - np.maximum(lows, 1e-3),
                "width": 3,
            },
            mode="markers",
            marker=series.marker | {"size": 9, "opacity": np.where(np.isnan(lows) | np.isnan(highs), FAINT, 1.0)},
            customdata=[
                [names.metric(*s.key), names.percent(s.error), names.interval(s.error_low, s.error_high) or names.NO_INTERVAL]
                for _, s in known
            ],
            hovertemplate="%{customdata[0]}: %{customdata[1]} %{customdata[2]}",
            **_named(series),
        )
    shown = [error for s in scores if s.key in keys for error in (s.error, s.error_low, s.error_high) if error is not None]
    figure.update_xaxes(**ratio_axis(shown), title_text="Error: simulated against measured")
    figure.add_vline(x=1, line={"color": OTHER, "width": 1})
    figure.update_yaxes(
        tickvals=list(range(len(keys))), ticktext=[names.metric(*key) for key in keys], range=[len(keys) - 0.4, -0.6], showgrid=False
    )
    for row in range(1, len(keys)):
        figure.add_hline(y=row - 0.5, line={"color": GRID, "width": 1}, layer="below")
    return figure


def _noise_band(figure: go.Figure, scores: Sequence[Score], keys: Sequence[tuple[str, str | None]]) -> None:
    noise = {score.key: score.noise for score in scores if score.noise is not None}
    for row, key in enumerate(keys):
        if key in noise:
            low, high = max(1e-3, 1 - noise[key]), 1 + noise[key]
            figure.add_shape(
                type="rect", x0=low, x1=high, y0=row - 0.4, y1=row + 0.4, fillcolor=OTHER, opacity=0.25, line_width=0, layer="below"
            )


def gauges(telemetry: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each of GAUGES that the engine reported, in order of time; at most POINTS."""
    found = {title: _thinned(telemetry[telemetry["name"].isin(list(called))].sort_values("time")) for title, called in GAUGES.items()}
    return {title: frame for title, frame in found.items() if len(frame)}


def _figure(height: int = 320) -> go.Figure:
    figure = go.Figure()
    _dress(figure, height=height)
    return figure


def _dress(figure: go.Figure, *, height: int) -> None:
    """What all figures have in common. The page's script sets the colours of text and grid for light or dark."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 12, "t": 24, "b": 8},
        showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": OTHER},
        separators=".\u2009",
        hovermode="closest",
        dragmode=False,
    )
    axis = {"automargin": True, "zeroline": False, "showgrid": True, "gridcolor": GRID, "title_standoff": 8}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)


def _named(series: Series) -> dict[str, Any]:
    """A trace's name, in the tooltip and as the group that the page's key shows and hides."""
    return {"name": series.name, "legendgroup": series.name}


def _by_series(requests: pd.DataFrame) -> Iterator[tuple[Series, pd.DataFrame]]:
    for series in series_of(requests):
        yield series, requests[requests["series"] == series.name]


def _milliseconds(rows: pd.DataFrame, metric: str) -> Values:
    values = rows[metric].to_numpy(dtype=float) * 1e3
    return np.asarray(values[values > 0])  # a log axis has no place for 0


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """At most POINTS rows, evenly spaced in their order: the same ones every time."""
    return rows if len(rows) <= POINTS else rows.iloc[np.linspace(0, len(rows) - 1, POINTS).astype(int)]


def blank() -> go.Figure:
    """An empty figure in the page's style."""
    figure = go.Figure()
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 60, "r": 12, "t": 12, "b": 52},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.06, "x": 0},
        font={"size": 12},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False)  # Plotly's own is white, on a dark page too
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    return figure
