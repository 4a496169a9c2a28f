"""Figures of the page of points."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import names
from analysis.axes import log_axis
from analysis.plots import COLORS, OTHER, blank

ENGINES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}
SYMBOLS = {"vllm": "circle", "sglang": "square", "trtllm": "diamond"}
BAND = (0.8, 1.2)  # between the lines that are drawn beside the diagonal


def parity(frame: pd.DataFrame, metric: str, label: str) -> go.Figure:
    """A mark per point: measured across, predicted up, in ms; the lines are equal, and 20 % beside it."""
    figure = blank()
    measured, predicted = 1e3 * frame[f"measured_{metric}"], 1e3 * frame[metric]
    low, high = 0.8 * min(measured.min(), predicted.min()), 1.25 * max(measured.max(), predicted.max())
    for factor, dash in ((1.0, "solid"), *((f, "dot") for f in BAND)):
        line = {"color": OTHER, "width": 1, "dash": dash}
        figure.add_scatter(x=[low, high], y=[factor * low, factor * high], mode="lines", line=line, hoverinfo="skip", showlegend=False)
    for engine, rows in frame.groupby("engine"):
        figure.add_scatter(
            x=1e3 * rows[f"measured_{metric}"],
            y=1e3 * rows[metric],
            mode="markers",
            name=ENGINES[str(engine)],
            marker={"color": COLORS.get(str(engine), OTHER), "symbol": SYMBOLS[str(engine)], "size": 6, "opacity": 0.55},
            text=hover(rows),
            hovertemplate="%{text}<br>measured %{x:.3~g} ms, predicted %{y:.3~g} ms<extra></extra>",
        )
    ends = np.array([low, high])
    figure.update_xaxes(**log_axis(ends), title_text=f"{label} measured (ms)")
    figure.update_yaxes(**log_axis(ends), title_text=f"{label} predicted (ms)")
    return figure


def signed_errors(frame: pd.DataFrame, by: str, metric: str, label: str, order: Sequence[str]) -> go.Figure:
    """A box per group: its signed errors in per cent; whiskers from the 5th to the 95th percentile."""
    figure = blank()
    for name in order:
        errors = 100 * frame.loc[frame[by] == name, f"error_{metric}"].to_numpy(float)
        if len(errors):
            low, first, middle, third, high = np.quantile(errors, [0.05, 0.25, 0.5, 0.75, 0.95])
            figure.add_box(
                y=[f"{name.rpartition('/')[2]} ({len(errors)})"],
                q1=[first],
                median=[middle],
                q3=[third],
                lowerfence=[low],
                upperfence=[high],
                orientation="h",
                line={"color": COLORS["vllm"], "width": 1.5},
                showlegend=False,
                hoverinfo="x",
            )
    figure.update_xaxes(title_text=f"{label} error", zeroline=True, zerolinecolor=OTHER, ticksuffix=" %")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(height=max(220, 60 + 34 * len(order)))
    return figure


def hover(rows: pd.DataFrame) -> list[str]:
    """What a mark is, in words."""
    return [f"{server_words(r)}<br>{r.input_tokens}/{r.output_tokens} tokens, {r.concurrency} in flight" for r in records(rows)]


def records(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows, a field a column."""
    yield from frame.itertuples()


def server_words(row: Any) -> str:
    """A row's server, for people."""
    gpus = f"{row.devices} {names.gpu(row.gpu)} {row.parallelism}"
    return f"{row.model.rpartition('/')[2]} {row.precision}, {gpus}, {ENGINES[row.engine]} {row.version or ''}".rstrip()
