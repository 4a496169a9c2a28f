"""Figures say what their rows say."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis import plots
from analysis.data import Score
from analysis.plots import COLORS, POINTS, Series


def frame(n: int = 50, factor: float = 1.5) -> pd.DataFrame:
    latencies = np.random.default_rng(0).lognormal(-3, 1, n)
    parts = []
    for name, system, track, times in (("vLLM (measured)", "vllm", None, 1.0), ("Vidur (calibrated)", "vidur", "calibrated", factor)):
        values = times * latencies
        columns = {"request_id": np.arange(n), "arrival": np.arange(n) / 10, "ttft": values, "tpot": values / 10, "e2e": values * 3}
        parts.append(pd.DataFrame(columns).assign(series=name, system=system, track=track))
    return pd.concat(parts, ignore_index=True)


def score(stat: str, error: float | None, **more: float) -> Score:
    return Score(
        measured_run_id="m", simulated_run_id="s", system="vidur", track="calibrated", metric="ttft", stat=stat, error=error, **more
    )


def test_a_cdf_rises_to_all_requests_and_ends_at_the_slowest_in_milliseconds() -> None:
    rows = frame()
    measured, simulated = plots.cdf(rows, "ttft").data
    assert np.all(np.diff(measured.x) >= 0) and np.all(np.diff(measured.y) > 0)
    assert (measured.y[0], measured.y[-1]) == (0, 100)
    assert measured.x[-1] == pytest.approx(1e3 * rows[rows["system"] == "vllm"]["ttft"].max())
    assert simulated.x[-1] == pytest.approx(1.5 * measured.x[-1])


def test_a_parity_figure_has_a_dot_per_request_that_both_runs_have() -> None:
    rows = frame()
    rows.loc[3, "ttft"] = np.nan  # failed when measured
    rows.loc[55, "ttft"] = np.nan  # failed when simulated
    _, dots = plots.parity(rows, "ttft").data
    assert sorted(dots.customdata) == [i for i in range(50) if i not in (3, 5)]
    np.testing.assert_allclose(dots.y, 1.5 * np.asarray(dots.x))


def test_large_runs_are_thinned_to_the_same_dots_every_time() -> None:
    rows = frame(4 * POINTS)
    one, other = (plots.parity(rows, "e2e") for _ in range(2))
    assert len(one.data[1].x) == POINTS
    assert one.to_json() == other.to_json()


def test_a_system_has_its_colour_and_a_track_its_dash_in_every_figure() -> None:
    rows = frame()
    for figure in (plots.cdf(rows, "ttft"), plots.parity(rows, "ttft"), plots.ttft_over_time(rows)):
        drawn = {trace.name: trace for trace in figure.data if trace.name == "Vidur (calibrated)"}
        assert {(trace.line.color or trace.marker.color) for trace in drawn.values()} == {COLORS["vidur"]}
    lines = [trace.line.dash for trace in plots.cdf(rows, "ttft").data]
    assert lines == ["solid", "dash"]


def test_colours_differ_and_each_is_seen_on_white_and_on_near_black() -> None:
    assert len({color.upper() for color in COLORS.values()}) == len(COLORS)
    for color in COLORS.values():
        assert 1.05 / (_luminance(color) + 0.05) >= 2, color
        assert (_luminance(color) + 0.05) / (_luminance("#15171b") + 0.05) >= 3, color


def test_errors_are_ratios_with_their_interval_and_unknown_ones_are_left_out() -> None:
    scores = [score("p50", 0.2, error_low=0.1, error_high=0.5, noise=0.05), score("p90", None), score("p99", -0.5)]
    figure = plots.errors(scores, [("ttft", "p50"), ("ttft", "p90"), ("ttft", "p99")])
    (marks,) = figure.data
    np.testing.assert_allclose(marks.x, [1.2, 0.5])
    np.testing.assert_allclose(marks.error_x.array, [0.3, math.nan], atol=1e-12)
    np.testing.assert_allclose(marks.error_x.arrayminus, [0.1, math.nan], atol=1e-12)
    assert marks.marker.opacity[0] == 1 > marks.marker.opacity[1]  # whose interval is unknown is not exact
    assert marks.customdata[1][2] == "no interval"
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(band.x0, band.x1) for band in bands] == [(0.95, 1.05)]
    low, high = figure.layout.xaxis.range
    assert low == -high and 10**low <= 0.5 and 10**high >= 1.5


@pytest.mark.parametrize("error", [0.001, 0.3, 5.0, 297.0, -0.999, -1.0])
def test_the_error_axis_reaches_every_mark_and_has_few_ticks(error: float) -> None:
    figure = plots.errors([score("p50", error)], [("ttft", "p50")])
    low, high = figure.layout.xaxis.range
    assert low <= math.log10(max(1e-3, 1 + error)) <= high
    assert 3 <= len(figure.layout.xaxis.tickvals) <= 11
    assert list(figure.layout.xaxis.tickvals) == sorted(figure.layout.xaxis.tickvals)


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1e5), (0.9, 1.3), (31, 38), (7, 9000), (50, 50)])
def test_log_axes_have_a_few_ticks_whatever_the_range(low: float, high: float) -> None:
    rows = frame(2).assign(ttft=[low / 1e3, high / 1e3] * 2)
    ticks = plots.cdf(rows, "ttft").layout.xaxis.tickvals
    assert 1 <= len(ticks) <= 7
    assert all(0.3 * low <= tick <= 3 * high for tick in ticks)


def test_server_metrics_have_a_row_for_each_gauge_that_the_engine_reports() -> None:
    telemetry = pd.DataFrame(
        {
            "time": [0.0, 1.0, 0.0, 1.0, 0.0],
            "name": ["num_requests_running"] * 2 + ["kv_cache_usage_perc"] * 2 + ["other"],
            "value": [1, 2, 0.1, 0.2, 9],
        }
    )
    figure = plots.server_over_time(telemetry, Series("vLLM (measured)", "vllm", None))
    assert [list(trace.y) for trace in figure.data] == [[1, 2], [10, 20]]
    assert [note.text for note in figure.layout.annotations] == ["Running requests", "KV cache used (%)"]
    assert plots.gauges(telemetry.iloc[4:]) == {}


def _luminance(color: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))
