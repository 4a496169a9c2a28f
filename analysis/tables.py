"""Measured beside simulated as a table: for the terminal, the page, and papers (Markdown, CSV, LaTeX)."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import pandas as pd

from analysis import names
from analysis.data import Comparison, Key, RunRow, Score, by_simulator

LATENCY_ROWS: tuple[Key, ...] = tuple((metric, stat) for metric in ("ttft", "tpot", "e2e") for stat in ("p50", "p90", "p99"))
ROWS: tuple[Key, ...] = (*LATENCY_ROWS, ("output_throughput", None), ("goodput", None))
# What the terminal shows of a run, the most important first: where there is no room for all, the last ones are left out.
TERMINAL: tuple[Key, ...] = (
    ("ttft", "p50"),
    ("tpot", "p50"),
    ("output_throughput", None),
    ("ttft", "p99"),
    ("tpot", "p99"),
    ("e2e", "p50"),
    ("goodput", None),
    ("e2e", "p99"),
    ("ttft", "p90"),
)
SORTED_BY = "Sorted by the mean |ln(simulated / measured)| of TTFT p50, TPOT p50 and output throughput."
DISTANCES = "Per-request error and distances between the measured and the simulated distribution"
NOT_VALID = "not valid"
LATEX_ESCAPES = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "−": "$-$", "×": r"$\times$", "–": "--", "\u2009": r"\,"})


def comparison(
    metrics: Mapping[Key, float | None], scores: Sequence[Score], keys: Sequence[Key] = ROWS, *, valid: bool = True
) -> pd.DataFrame:
    """Numbers: a row per statistic with its unit; columns metric, measured, and per simulator 'system:track' and 'system:track error %'.

    valid: False leaves every error out: one against an invalid run is none.
    """
    table: dict[str, list[object]] = {
        "metric": [names.metric_with_unit(*key) for key in keys],
        "measured": [names.shown_value(key[0], metrics.get(key)) for key in keys],
    }
    for (system, track), by_key in by_simulator(scores).items():
        found = [by_key.get(key) for key in keys]
        table[f"{system}:{track}"] = [names.shown_value(s.metric, s.simulated) if s else None for s in found]
        table[f"{system}:{track} error %"] = [100 * s.error if valid and s and s.error is not None else None for s in found]
    frame = pd.DataFrame(table)
    return frame.astype({column: float for column in frame.columns if column != "metric"})


def costs(comparison: Comparison) -> pd.DataFrame:
    """The same of energy and money by the token, where they are known of the measured run: rows to go below those of `comparison`."""
    measured = comparison.costs[comparison.measured.run_id]
    table: dict[str, list[object]] = {
        "metric": [name[0].upper() + name[1:].replace("_", " ") for name in measured],
        "measured": list(measured.values()),
    }
    for run in comparison.simulated:
        found = [comparison.costs[run.run_id].get(name) for name in measured]
        pairs = zip(found, measured.values(), strict=True)
        table[f"{run.system}:{run.track}"] = list(found)
        table[f"{run.system}:{run.track} error %"] = [
            100 * (value / truth - 1) if comparison.measured.valid and value is not None else None for value, truth in pairs
        ]
    frame = pd.DataFrame(table)
    return frame.astype({column: float for column in frame.columns if column != "metric"})


def as_text(frame: pd.DataFrame, *, valid: bool = True) -> pd.DataFrame:
    """The same table as people read it: three digits, signed errors, a dash for unknown. valid: False shows no error."""
    shown = {"metric": frame["metric"].tolist()}
    for column in frame.columns[1:]:
        show = names.number if not column.endswith("error %") else _error if valid else lambda _: NOT_VALID
        shown[column] = [show(value) for value in frame[column]]
    return pd.DataFrame(shown, dtype=object)


def by_run(
    measured: RunRow,
    metrics: Mapping[Key, float | None],
    scores: Sequence[Score],
    order: Sequence[tuple[str, str]],
    *,
    lost: AbstractSet[tuple[str, str]],
) -> pd.DataFrame:
    """One table for the terminal, as text: the measured run with its values, then a row per (system, track) with its errors in per cent.

    order: of the rows. lost: those of them that refused or lost too many requests, marked with a star. An error against an invalid run is
    none, and shows as a dash. Heads have two lines: what it is, and its unit.
    """
    every = by_simulator(scores)
    rows = [[f"{measured.system} measured", *(names.number(names.shown_value(key[0], metrics.get(key))) for key in TERMINAL)]]
    for system, track in order:
        found = [every[system, track].get(key) for key in TERMINAL]
        errors = [_error(100 * s.error) if measured.valid and s and s.error is not None else names.number(None) for s in found]
        rows.append([f"{system}:{track}{'*' if (system, track) in lost else ''}", *errors])
    heads = [f"{names.METRICS[name].label.split()[0]}\n{f'{stat} ' if stat else ''}{names.METRICS[name].unit}" for name, stat in TERMINAL]
    return pd.DataFrame(rows, columns=["run\nerror %", *heads], dtype=object)


def _error(value: float) -> str:
    return names.percent(value / 100).removesuffix(" %")


def distances(scores: Sequence[Score]) -> pd.DataFrame:
    """Per simulator and latency, as text: what holds request by request, and how far the two distributions lie apart."""
    lines = []
    for (system, track), by_key in by_simulator(scores).items():
        for metric in dict.fromkeys(metric for metric, stat in by_key if stat == "mape"):
            found = {stat: by_key[metric, stat].error for stat in ("mape", "ks", "wasserstein_s", "wasserstein")}
            lines.append(
                {
                    "simulator": f"{names.system(system, track)} {names.metric(metric)}",
                    "MAPE per request": names.percent(found["mape"], sign=False),
                    "KS": names.number(found["ks"]),
                    "Wasserstein (ms)": names.number(names.shown_value(metric, found["wasserstein_s"])),
                    "Wasserstein / mean": names.percent(found["wasserstein"], sign=False),
                }
            )
    return pd.DataFrame(lines, dtype=object)


def markdown(text: pd.DataFrame) -> str:
    """A pipe table of what `as_text` gave, numbers to the right."""
    rules = [":---", *["---:"] * (len(text.columns) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(text.columns), rules, *text.to_numpy().tolist()]) + "\n"


def latex(text: pd.DataFrame) -> str:
    """A tabular environment (package booktabs) of what `as_text` gave, numbers to the right."""
    lines = [
        " & ".join(str(cell).translate(LATEX_ESCAPES) for cell in row) + r" \\" for row in [list(text.columns), *text.to_numpy().tolist()]
    ]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(text.columns) - 1)}}}"
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv(frame: pd.DataFrame) -> str:
    """Numbers at full precision; empty for unknown."""
    return frame.to_csv(index=False)
