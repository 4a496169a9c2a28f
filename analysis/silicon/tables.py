"""Tables of the page of points, as HTML."""

from collections.abc import Iterator, Sequence
from html import escape

import pandas as pd

from analysis import names
from analysis.page.document import NEAR, OFF, table
from analysis.silicon import scores
from analysis.silicon.figures import records, server_words
from analysis.silicon.scores import METRICS, PointScore

LABELS = {"tpot": "TPOT", "ttft": "TTFT", "throughput": "Per GPU"}
WORST = 12  # points shown
HEADS = tuple(f"{LABELS[m]} {what}" for m in METRICS for what in ("median", "mean", "signed"))


def by_group(frame: pd.DataFrame, by: str, caption: str, head: str) -> str:
    """Errors of each group of the points, those with the most points first."""
    order = frame[by].value_counts().index
    body = [_score_row(shown(by, str(name)), frame[frame[by] == name]) for name in order]
    return table([head, "Points", *HEADS], body, caption, "scorecard wrapping")


def summary(rows: Sequence[tuple[str, pd.DataFrame]], caption: str) -> str:
    """A row per named set of points."""
    return table(
        ["Points of", "Points", *HEADS], [_score_row(name, frame) for name, frame in rows if len(frame)], caption, "scorecard wrapping"
    )


def worst(frame: pd.DataFrame, metric: str) -> str:
    """The points that are furthest off, and what is known of why."""
    order = (frame[metric] / frame[f"measured_{metric}"]).map(lambda ratio: max(ratio, 1 / ratio)).sort_values(ascending=False).index
    chosen, apart = _one_a_kind(frame.loc[order]), _group_errors(frame, metric)
    body = []
    for row in records(chosen):
        what = server_words(row)
        load = f"{row.input_tokens}/{row.output_tokens} tokens, {row.concurrency} in flight"
        times = f"<td>{names.number(1e3 * getattr(row, f'measured_{metric}'))}</td><td>{names.number(1e3 * getattr(row, metric))}</td>"
        error = f"<td class=far><strong>{names.percent(getattr(row, f'error_{metric}'))}</strong></td>"
        why = f'<td class="words">{escape(reason(row, metric, apart))}</td>'
        body.append(f'<tr><th scope="row">{escape(what)}<br><small>{escape(load)}</small></th>{times}{error}{why}</tr>')
    heads = ["Point", "Measured (ms)", "Predicted (ms)", "Error", "Why, as far as the sample tells"]
    return table(heads, body, f"The points whose {LABELS[metric]} is furthest off, one of each server", "plain wrapping")


def lost(frame: pd.DataFrame, predictor: str) -> str:
    """Points that were not predicted: a line for each kind of reason."""
    found = scores.reasons(frame, predictor)
    body = [
        f'<tr><th scope="row">{row.points}</th><td>{row.rows}</td><td class="words">{escape(row.reason)}</td></tr>'
        for row in records(found)
    ]
    heads = ["Points", "Rows of the sample", "Reason (of the first)"]
    return table(heads, body, f"Points that {predictor} did not predict, by reason", "plain wrapping")


def reason(row: object, metric: str, group: dict[tuple[str, ...], tuple[float, int]]) -> str:
    """What the sample tells of a point's error: a limit that bound, or a server all of whose points are off alike."""
    error, (median, count) = getattr(row, f"error_{metric}"), group[_server(row)]
    note = getattr(row, "note", None)
    said = [note] if isinstance(note, str) else []
    if count >= 3 and median * error > 0 and abs(median) >= abs(error) / 2:
        said.append(
            f"all {count} points of this server are off alike, by {names.percent(median)} in the median: a setting or a kernel that is "
            f"not modelled"
        )
    elif count >= 3:
        said.append(f"the server's {count} points are off by {names.percent(median)} in the median: this load, not the server")
    return "; ".join(said) or "unknown"


SERVER = ("model", "precision", "gpu", "devices", "parallelism", "engine", "version")


def _server(row: object) -> tuple[str, ...]:
    return tuple(str(getattr(row, name)) for name in SERVER)


def _group_errors(frame: pd.DataFrame, metric: str) -> dict[tuple[str, ...], tuple[float, int]]:
    """Median signed error of each server, and of how many points."""
    words = frame[list(SERVER)].astype(str)
    grouped = frame.groupby([words[name] for name in SERVER])[f"error_{metric}"]
    return {tuple(map(str, key)): (float(values.median()), len(values)) for key, values in grouped}


def _one_a_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """The first row of each server."""
    return frame[~frame[list(SERVER)].astype(str).duplicated()].head(WORST)


def shown(by: str, name: str) -> str:
    """A group's name as people write it."""
    return names.gpu(name) if by == "gpu" else name


def _score_row(name: str, frame: pd.DataFrame) -> str:
    return f'<tr><th scope="row">{escape(name)}</th><td>{len(frame)}</td>{"".join(_score_cells(frame))}</tr>'


def _score_cells(frame: pd.DataFrame) -> Iterator[str]:
    for metric in METRICS:
        found = scores.score(frame, metric)
        yield from ("<td>–</td>" for _ in range(3)) if found is None else _numbers(found)


def _numbers(found: PointScore) -> Iterator[str]:
    for value in (found.median, found.mean):
        tint = "near" if value <= NEAR else "off" if value <= OFF else "far"
        yield f'<td class="{tint}"><strong>{names.percent(value, sign=False)}</strong></td>'
    yield f"<td>{names.percent(found.signed)}</td>"
