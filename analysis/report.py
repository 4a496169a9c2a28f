"""The report: score the database, say the answer, write one HTML page. Read `Report.write` first; page/document.py has the HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd

from analysis import names, plots, tables
from analysis.data import LOST, Comparison, RunRow, compare
from analysis.page import document
from analysis.page.document import Drawing, Section
from analysis.scoring.fidelity import score
from analysis.stats import STATS, Bootstrap
from analysis.verdict import drift, machine_error, nearest_first, too_short, verdict
from results.project.progress import Progress

HEADLINES = (
    *((metric, stat) for metric in ("ttft", "tpot", "e2e") for stat in ("p50", "p99")),
    ("output_throughput", None),
    ("goodput", None),
)
EVERYTHING = (
    *((metric, stat) for metric in ("ttft", "tpot", "itl", "e2e") for stat in STATS),
    *((rate, None) for rate in ("output_throughput", "request_rate", "goodput", "slo_attainment")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a report says."""

    notice: str | None  # what to know before all else: that the machine did not repeat itself; None: nothing
    table: pd.DataFrame  # the measured run and each simulator's errors, as text (tables.by_run)
    note: str  # how the table is to be read
    verdict: str  # the answer
    path: Path  # of the page


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores a database and writes a page about one measured run. database: the DuckDB file. out: the page to write."""

    database: Path | str
    out: Path | str
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def write(
        self, measured_run_id: str | None = None, *, unavailable: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> Summary:
        """Score all, report on one measured run (None: the newest) and return what the page says.

        unavailable: what could not be simulated, 'system:track' to the reason; shown as rows of their own. progress: of the scoring.

        Raises results.database.DatabaseError when there is no database, AnalysisError when it lacks the run. The page is replaced
        when it is whole.
        """
        database, out = Path(self.database), Path(self.out)
        refused = score(database, self.bootstrap, progress)
        comparison = compare(database, measured_run_id)
        measured = comparison.measured
        values = comparison.metrics[measured.run_id]
        reasons = [f"{run.run_id}: {refused[run.run_id]}" for run in comparison.simulated if run.run_id in refused]
        machine = machine_error(measured, comparison.simulated)
        answer = verdict(measured, values, comparison.scores, reasons, comparison.lost, machine)
        if measured.valid:
            short = too_short(measured, comparison.counted) if comparison.scores else None
            answer = " ".join(filter(None, (answer, short, drift(comparison.simulated))))
        html = document.page(
            title=f"{measured.run_id} · Plumbline",
            verdict=answer,
            valid=measured.valid,
            notice=machine.notice if machine else None,
            context=_context(comparison),
            scorecard=document.scorecard(comparison, HEADLINES, self.bootstrap.confidence, unavailable or {}),
            sections=_sections(comparison),
            key=document.key(plots.series_of(_drawn(comparison))),
            details=_details(comparison, reasons, out.parent),
        )
        document.write(out, html)
        table, note = _for_terminal(comparison)
        return Summary(notice=machine.notice if machine else None, table=table, note=note, verdict=answer, path=out)


def _for_terminal(comparison: Comparison) -> tuple[pd.DataFrame, str]:
    """The table that a bench prints, and how it is to be read."""
    measured, lost = comparison.measured, {name for name, share in comparison.lost.items() if share > LOST}
    order = nearest_first(comparison.scores, comparison.lost)
    table = tables.by_run(measured, comparison.metrics[measured.run_id], comparison.scores, order, lost=lost)
    if not measured.valid:
        return table, "The measured run is INVALID: no error against it counts."
    if not order:
        return table, ""
    starred = " *: it refused or lost requests, and its errors are of the others." if lost else ""
    return table, f"Errors in %, nearest first. {tables.SORTED_BY}{starred}"


def _drawn(comparison: Comparison) -> pd.DataFrame:
    """The requests with the name of the run that each belongs to."""
    called = {run.run_id: _name(run) for run in comparison.runs}
    return comparison.requests.assign(series=comparison.requests["run_id"].map(called))


def _name(run: RunRow) -> str:
    return names.system(run.system, run.track or "measured")


def _context(comparison: Comparison) -> str:
    run = comparison.measured
    mine = comparison.requests[comparison.requests["run_id"] == run.run_id]
    failed, outside = int(mine["failed"].sum()), int((~mine["in_window"].astype(bool)).sum())
    parts = [f"{len(mine)} requests of {run.workload}", f"measured {run.started_at:%Y-%m-%d %H:%M} UTC"]
    parts.append(f"{failed} failed" if failed else "none failed")
    if outside:
        parts.append(f"{outside} outside the measurement window, not in the statistics")
    return escape(", ".join(parts) + f" · run {run.run_id}{_tries(run)}")


def _tries(run: RunRow) -> str:
    """Which runs this one is another try of, and why each was INVALID; nothing of a first try."""
    earlier = run.config.get("earlier_tries") or {}
    which = {2: "second try", 3: "third try"}.get(len(earlier) + 1, f"try {len(earlier) + 1}")
    return f" · {which}: " + "; ".join(f"{run_id} was INVALID ({reason})" for run_id, reason in earlier.items()) if earlier else ""


def _sections(comparison: Comparison) -> list[Section]:
    requests = _drawn(comparison)
    inside = requests[requests["in_window"].astype(bool)]
    measured = plots.series_of(requests)[0]
    valid = comparison.measured.valid
    known = [metric for metric in ("ttft", "tpot", "e2e") if inside[metric].notna().any()]
    return [
        Section(
            title="How far off, statistic by statistic",
            note="Zero is the measurement. As far left as right is as wrong: the scale is that of simulated over measured.",
            drawings=[_errors(comparison)] if comparison.scores and valid else [],
        ),
        Section(
            title="Latency distributions",
            note="A simulator whose line lies left of the measured one is too optimistic.",
            drawings=[_cdf(inside, metric) for metric in known],
        ),
        Section(
            title="Request by request",
            note="A simulator can have the right distribution and still be wrong about every request.",
            drawings=[_parity(inside, metric) for metric in known] if comparison.simulated else [],
        ),
        Section(
            title="Over time",
            note="All requests, those outside the measurement window included.",
            drawings=[_over_time(requests), *_server(comparison, measured)],
        ),
    ]


def _errors(comparison: Comparison) -> Drawing:
    return Drawing(
        name="errors",
        title="Signed error with its interval",
        caption="One mark per simulator, track and statistic; the bar is the bootstrap interval; a faint mark has none, "
        "its requests being too few or too much alike. A grey band, where there is one, is the noise floor: the spread between repeats of "
        "the measured run.",
        figure=plots.errors(comparison.scores, [key for key in HEADLINES if any(s.key == key for s in comparison.scores)]),
        wide=True,
    )


def _cdf(requests: pd.DataFrame, metric: str) -> Drawing:
    return Drawing(
        name=f"cdf-{metric}",
        title=names.metric(metric),
        caption=f"Share of requests with {names.metric(metric)} up to x milliseconds (log scale).",
        figure=plots.cdf(requests, metric),
    )


def _parity(requests: pd.DataFrame, metric: str) -> Drawing:
    return Drawing(
        name=f"parity-{metric}",
        title=names.metric(metric),
        caption=f"{names.metric(metric)} of each request, measured across, simulated up (log scales). On the line: right; above: too slow.",
        figure=plots.parity(requests, metric),
    )


def _over_time(requests: pd.DataFrame) -> Drawing:
    return Drawing(
        name="ttft-over-time",
        title="TTFT at each request's arrival",
        caption="A dot per request that did not fail, a line for the running median of 5 % of them.",
        figure=plots.ttft_over_time(requests),
        wide=True,
    )


def _server(comparison: Comparison, measured: plots.Series) -> list[Drawing]:
    if not plots.gauges(comparison.telemetry):
        return []
    return [
        Drawing(
            name="server",
            title=f"Inside {names.system(comparison.measured.system)}",
            caption="The engine's own gauges during the run.",
            figure=plots.server_over_time(comparison.telemetry, measured),
            wide=True,
        )
    ]


def _details(comparison: Comparison, refused: Sequence[str], folder: Path) -> str:
    measured = comparison.measured
    parts = ["<section><h2>Behind the numbers</h2>", *(f"<p>Not scored: {escape(reason)}.</p>" for reason in refused)]
    parts += _littles_law(comparison)
    numbers = tables.comparison(comparison.metrics[measured.run_id], comparison.scores, EVERYTHING)
    parts.append(
        document.disclosure("All statistics", "", document.text_table(tables.as_text(numbers, valid=measured.valid), "All statistics"))
    )
    if comparison.scores and measured.valid:
        distances = tables.distances(comparison.scores)
        parts.append(document.disclosure("Distances between distributions", "", document.text_table(distances, tables.DISTANCES)))
    parts += [document.disclosure(_name(run), run.run_id, _run_details(run, folder, comparison)) for run in comparison.runs]
    return "\n".join([*parts, "</section>"])


def _littles_law(comparison: Comparison) -> list[str]:
    """A line when the engine's own gauges contradict the records."""
    law = comparison.law
    if law["ok"] is not False:
        return []
    seen, expected = names.number(law["mean_in_system"]), names.number(law["expected_in_system"])
    return [
        f"<p>Little's law fails: the engine's gauges show {seen} requests in the system on average, the records {expected} at the same "
        "instants. One of the two is wrong.</p>"
    ]


def _run_details(run: RunRow, folder: Path, comparison: Comparison) -> str:
    facts = {
        "validity": "valid" if run.valid else f"INVALID: {run.invalid_reason}",
        "version": run.version,
        "workload": run.workload,
        "model": run.model,
        "hardware": run.hardware,
        "load": names.load(run),
        "rate (requests/s)": run.rate,
        "repeat": run.repeat,
        "started (UTC)": f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        "wall time (s)": run.wall_s,
        "measurement window (s)": None if run.window_start is None else f"{run.window_start:.3f} to {run.window_end:.3f}",
        **{name.replace("_", " "): value for name, value in comparison.costs[run.run_id].items()},
        "SLO (s)": {"ttft": run.slo_ttft, "tpot": run.slo_tpot, "e2e": run.slo_e2e},
        "trace sha256": run.trace_sha256,
        "resolved": {**run.limits, "tensor_parallel": run.tensor_parallel},
    }
    config = run.config if run.kind == "measured" else {"simulator": run.config.get("simulator", {})}
    tables_ = [document.facts(facts, "The run"), document.facts(config, "Configuration"), document.facts(run.provenance, "Provenance")]
    return document.folder_link(run, folder) + "".join(tables_)
