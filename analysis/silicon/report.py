"""The page of a study of points: what can be expected of a prediction where nothing was fitted on the model. Read `SiliconReport.write`."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import names
from analysis.page import document
from analysis.page.document import Drawing, Section
from analysis.page.summary import StudySummary
from analysis.silicon import figures, scores, tables
from analysis.silicon.scores import SAME_LOAD, ordering, score
from results.silicon.predictions import read

NATIVE, OTHER_SIMULATOR = "native", "aisimulate"
GROUPS = {  # column: head, caption
    "gpu": ("GPU", "By GPU"),
    "model": ("Model", "By model"),
    "precision": ("Precision", "By precision of the most weights"),
    "parallelism": ("Parallelism", "By parallelism: TP tensor, DP data (attention), EP expert"),
    "band": ("In flight", "By concurrency"),
    "server": ("Engine", "By engine and version"),
}
FOOTER = (
    "TTFT and TPOT are means over the requests of a closed loop. TPOT is the mean time per output token after the first. Error is "
    "predicted over measured, less one; median and mean are of the errors' sizes, signed is the median of the errors. Per GPU: throughput, "
    "which follows from TTFT and TPOT by Little's law, measured and predicted alike, since the sample does not have it."
)


@dataclass(frozen=True, kw_only=True)
class SiliconReport:
    """out: the page to write."""

    out: Path | str

    def write(self, predictions: Path) -> StudySummary:
        """Score the predictions and write the page. Raises results.silicon.points.PointError when the file is missing."""
        table, about = read(predictions)
        frame = table.to_pandas()
        all_errors = _named(scores.with_errors(frame))
        verdict, others = sentences(frame, all_errors)
        document.write(Path(self.out), _page(frame, all_errors, about, verdict, others))
        return StudySummary(verdict=verdict, path=Path(self.out))


def sentences(frame: pd.DataFrame, errors: pd.DataFrame) -> tuple[str, list[str]]:
    """What is read in ten seconds: the headline, and two sentences more."""
    held = scores.scored(scores.held_out(_by(errors, NATIVE)))
    tpot, ttft = score(held, "tpot"), score(held, "ttft")
    if tpot is None or ttft is None:
        return "No point could be predicted on a model that nothing was fitted on; the reasons are below.", []
    headline = (
        f"On {tpot.points:,} measured points of real GPUs, of models that nothing was fitted on, our TPOT is off by "
        f"{names.percent(tpot.median, sign=False)} in the median ({names.percent(tpot.mean, sign=False)} in the mean) and TTFT by "
        f"{names.percent(ttft.median, sign=False)} ({names.percent(ttft.mean, sign=False)})."
    )
    return headline, [_order_sentence(held), _coverage_sentence(frame)]


def _order_sentence(held: pd.DataFrame) -> str:
    every, same_load = ordering(held), ordering(held, SAME_LOAD)
    said = (
        f"Of {every.pairs:,} pairs of configurations that differ by 10 % or more in throughput per GPU it orders "
        f"{_share(every.share)} right"
    )
    return f"{said}; of the {same_load.pairs:,} that serve the same load, {_share(same_load.share)}."


def _share(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _coverage_sentence(frame: pd.DataFrame) -> str:
    own = frame[(frame["predictor"] == NATIVE) & (frame["fitted_on"] == "") & frame["engine"].isin(scores.ENGINES)]
    lost = own[own["reason"].notna()]
    rows, points = int(own["rows"].sum()), len(own)
    return (
        f"The sample's {rows:,} rows of vLLM and SGLang are {points:,} measurements; {points - len(lost):,} were simulated, "
        f"{len(lost):,} could not be, for the reasons below."
    )


def _named(errors: pd.DataFrame) -> pd.DataFrame:
    version = errors["version"].fillna("")
    engine = errors["engine"].map(figures.ENGINES)
    band = scores.concurrency_band(errors["concurrency"])
    return errors.assign(version=version, band=band, server=engine + " " + version.replace("", "of an unknown version"))


def _by(errors: pd.DataFrame, predictor: str) -> pd.DataFrame:
    return errors[errors["predictor"] == predictor]


def _page(frame: pd.DataFrame, errors: pd.DataFrame, about: Mapping[str, Any], verdict: str, others: list[str]) -> str:
    native = _by(errors, NATIVE)
    held = scores.scored(scores.held_out(native))
    return document.page(
        title="Measured points of real GPUs · Plumbline",
        verdict=verdict,
        valid=len(held) > 0,
        notice=None,
        context="</p><p class=context>".join(escape(sentence) for sentence in (*others, _made(about))),
        scorecard="",
        sections=[_opening(held), _boxes(held)] if len(held) else [],
        key="",
        details=_details(frame, errors, native, held, about),
        footer=FOOTER,
    )


def _made(about: Mapping[str, Any]) -> str:
    commit = (about.get("provenance") or {}).get("git_commit") or "unknown"
    return f"Study {about.get('study')}, commit {str(commit)[:12]}, points of {about.get('sample')} (AISimulate's wheel, Apache-2.0)."


def _opening(held: pd.DataFrame) -> Section:
    caption = "A mark is a measured configuration under one load. On the solid line the prediction is right; the dotted ones are 20 % off."
    figure = figures.parity(held, "tpot", "TPOT")
    drawing = Drawing(name="tpot", title="TPOT, measured and predicted", caption=caption, figure=figure, wide=True)
    return Section(title="Time per output token", note="Nothing was fitted on the model of any of these points.", drawings=[drawing])


def _boxes(held: pd.DataFrame) -> Section:
    order = list(held["model"].value_counts().index)
    first = Drawing(
        name="ttft",
        title="TTFT, measured and predicted",
        caption="As above: a mark is a measured configuration under one load, on the solid line the prediction is right.",
        figure=figures.parity(held, "ttft", "TTFT"),
    )
    models = Drawing(
        name="models",
        title="TPOT by model",
        caption="Signed errors of each model's points: the box holds half of them, the whiskers nine of ten.",
        figure=figures.signed_errors(held, "model", "tpot", "TPOT", order),
    )
    return Section(title="The first token, and where TPOT leans", note="The same points.", drawings=[first, models])


def _details(frame: pd.DataFrame, errors: pd.DataFrame, native: pd.DataFrame, held: pd.DataFrame, about: Mapping[str, Any]) -> str:
    parts = ["<h2>Fitted on one half, scored on the other</h2>", tables.summary(_halves(native), _fit_caption(about))]
    parts += (
        ["<h2>By what</h2>", *(tables.by_group(held, by, caption, head) for by, (head, caption) in GROUPS.items())] if len(held) else []
    )
    parts += ["<h2>Worst cases</h2>", tables.worst(held, "tpot"), tables.worst(held, "ttft")] if len(held) else []
    if len(frame[frame["predictor"] == OTHER_SIMULATOR]):
        parts += ["<h2>Beside AISimulate, on the same points</h2>", tables.summary(_beside(errors), _beside_caption(frame))]
    parts += ["<h2>Apart</h2>", tables.summary(_apart(native), "Points that do not count above")]
    parts += ["<h2>Not simulated</h2>", *(tables.lost(frame, predictor) for predictor in frame["predictor"].unique())]
    return "\n".join(parts)


def _fit_caption(about: Mapping[str, Any]) -> str:
    halves = about.get("halves") or {}
    members = "; ".join(f"{half}: {', '.join(models)}" for half, models in halves.items())
    return f"Factors on the roofline's numbers, one set an engine, fitted on points of the models of a half ({members})"


def _halves(native: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    counted = scores.scored(native)
    rows = [("nothing fitted", counted[counted["fitted_on"] == ""]), ("fitted on the other half", scores.held_out(counted))]
    for half in sorted({*counted["fitted_on"]} - {""}):
        mine = counted[counted["fitted_on"] == half]
        rows += [
            (f"fitted on {half}, scored on the other", mine[mine["held_out"]]),
            (f"fitted on {half}, on {half} itself", mine[~mine["held_out"]]),
        ]
    return rows


def _beside(errors: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Both simulators on the points that AISimulate predicted."""
    theirs, ours = _by(errors, OTHER_SIMULATOR), _by(errors, NATIVE)
    rows = []
    for name, found in (
        ("native, fitted on the other half", scores.held_out(ours)),
        ("native, nothing fitted", ours[ours["fitted_on"] == ""]),
    ):
        both = found[found["point_id"].isin(theirs["point_id"])]
        rows.append((name, scores.scored(both)))
    shared = theirs[theirs["point_id"].isin(ours["point_id"])]
    return [("AISimulate, as it is", scores.scored(shared)), *rows]


def _beside_caption(frame: pd.DataFrame) -> str:
    """How many points were drawn for the other simulator, and of how many it has no times."""
    drawn = frame[frame["predictor"] == OTHER_SIMULATOR]
    predicted = int(drawn["reason"].isna().sum())
    return f"Points that both predicted: {len(drawn)} were drawn by a seed, and AISimulate predicted {predicted} of them"


def _apart(native: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    held = native[(native["held_out"]) & (native["fitted_on"] != "")]
    ours = held["engine"].isin(scores.ENGINES)
    return [
        ("vLLM, SGLang: a batch size from somebody's own file, no stated concurrency", held[ours & (held["loop"] == "batch")]),
        ("TensorRT-LLM, by vLLM's scheduler: a stated concurrency", held[~ours & (held["loop"] == "closed")]),
        ("TensorRT-LLM, by vLLM's scheduler: a batch size", held[~ours & (held["loop"] == "batch")]),
    ]
