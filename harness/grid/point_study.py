"""A study of measured points (results/silicon): no requests were recorded of them, so there are no runs; one file holds what is predicted.

Read `PointStudy.run`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import provenance
from harness.console import say, stage
from harness.protocols import StudySummaryLike
from results.project.folder import ROOT
from results.silicon.points import MeasuredPoint, read_points
from results.silicon.predictions import PointPrediction, write


class PointPredictor(Protocol):
    """What predicts points (simulators/silicon)."""

    def predict(
        self, points: Sequence[MeasuredPoint], models: Mapping[str, str], halves: Mapping[str, Sequence[str]]
    ) -> Sequence[PointPrediction]:
        """Of each point that it takes, with nothing fitted and with what is fitted on each half of the models; why not, where it cannot."""
        ...


class PointReporter(Protocol):
    """What scores the predictions and draws the page (analysis/silicon)."""

    def write(self, predictions: Path) -> StudySummaryLike:
        """Read the file, write the page."""
        ...


@dataclass(frozen=True, kw_only=True)
class PointStudy:
    """conf/study/silicon.yaml says what each setting means."""

    name: str  # of the study
    sample: str  # the file of the points
    predictions: str  # the file that is written
    engines: Sequence[str]  # whose points are read
    models: Mapping[str, str]  # of the sample, to names in conf/model
    halves: Mapping[str, Sequence[str]]  # of the models: what is fitted on one is scored on the other
    predictors: Mapping[str, PointPredictor]  # by name
    report: PointReporter  # what draws the page

    def run(self, do: Sequence[str], *, show: bool = False) -> int:
        """Predict (simulate) and report, as `do` says; the exit code. show: only say which points there are.

        Raises results.silicon.points.PointError (a ValueError) when the sample is not here.
        """
        if show:
            self._show(self._points())
            return 0
        if "simulate" in do:
            self._predict(self._points())
        if "report" in do:
            with stage("report"):
                summary = self.report.write(Path(self.predictions))
            say(summary.verdict, style="bold")
            say(f"report: {summary.path}")
        return 0

    def _points(self) -> list[MeasuredPoint]:
        return [point for point in read_points(Path(self.sample)) if point.engine in self.engines]

    def _predict(self, points: Sequence[MeasuredPoint]) -> None:
        made: list[PointPrediction] = []
        for name, predictor in self.predictors.items():
            with stage(name, f"{len(points)} points"):
                made += predictor.predict(points, self.models, self.halves)
        about = {
            "study": self.name,
            "sample": Path(self.sample).name,
            "halves": dict(self.halves),
            "provenance": provenance.collect(None, ROOT),
        }
        write(Path(self.predictions), points, made, about)

    def _show(self, points: Sequence[MeasuredPoint]) -> None:
        counts = Counter((point.engine, point.model, point.gpu, point.precision, point.loop) for point in points)
        for words, count in sorted(counts.items()):
            say(f"{' '.join(words)}  {count} points")
