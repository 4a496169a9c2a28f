"""`calibration=steps`: a profile from an engine's step log: a law is fitted to the steps, and the profile has what it says of each step.

A log says nothing of the front end. What is fitted is never what is scored: the log should be of other traffic than the scored run; a run
folder is refused when it is that run's.
"""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.profile import Profile
from results.record import Run
from results.storage.store import read_run
from simulators.calibration.bases import Floats, seconds_of
from simulators.calibration.other_run import differences, same
from simulators.calibration.points import StepSeconds, compose
from simulators.calibration.step_logs import LoggedSteps, read_steps
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.latency.given import HELD_OUT, STEP_LAW
from simulators.native.latency.own_steps import own_profile
from simulators.native.latency.profile_work import residuals_of, works_of
from simulators.native.latency.stairs import fitted_law
from simulators.native.latency.step_law import StepLaw

IDLE = 5.0  # s without a step: another measurement begins
BLOCKS = 100  # of steps in a row, equal in number: what is held out is whole blocks, as neighbouring steps are alike


@dataclass(frozen=True, kw_only=True)
class FromSteps:
    """conf/calibration/steps.yaml says what each setting means."""

    log: str | None
    kv_tokens: int | None
    held_out: float

    source: ClassVar[str] = "steps"
    spread: ClassVar[float] = 0.02
    environment: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if not self.log:
            raise ValueError(
                "calibration steps: calibration.log must name a step log, or the folder of a run whose engine logged its steps"
            )
        if not 0 <= self.held_out <= 0.5:
            raise ValueError(f"calibration steps: held_out must be in [0, 0.5], got {self.held_out}")

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """See Calibration. Raises NotAvailable when the log is the scored run's or another engine's, SimulatorError for what is no log."""
        logged = self.logged(measured)
        kept, during = _without(logged, measured)
        held_out = _held_out(len(kept), self.held_out)
        law, errors = _fitted(kept, held_out, str(self.log))
        name = Path(str(self.log)).name.split(".")[0]
        return compose(
            measured,
            seconds_of(law),
            profile_id=f"steps-{name}",
            source=f"a law fitted to the {logged.form} of {name}",
            provenance={
                "from": str(self.log),
                "log_from": None if logged.ends is None else _iso(logged.ends.min()),
                "log_until": None if logged.ends is None else _iso(logged.ends.max()),
                "steps_during_the_scored_run_left_out": during,
                "steps_fitted": int((~held_out).sum()),
                HELD_OUT: residuals_of(errors, kept["kind"].to_numpy()[held_out]),
                STEP_LAW: dataclasses.asdict(law),
            },
        )

    def seconds(self, measured: Run) -> StepSeconds:
        """See simulators.calibration.bases.Base."""
        kept, _ = _without(self.logged(measured), measured)
        return seconds_of(_fitted(kept, _held_out(len(kept), self.held_out), str(self.log))[0])

    def bends(self, measured: Run) -> tuple[int, ...]:
        """See simulators.calibration.bases.Base."""
        return ()

    def logged(self, measured: Run) -> LoggedSteps:
        """The steps of the log."""
        path = Path(str(self.log))
        if (path / "run.json").is_file():
            return _steps_of(read_run(path), measured)
        return read_steps(path, self.kv_tokens or measured.limits.kv_tokens)


def _steps_of(other: Run, measured: Run) -> LoggedSteps:
    """The steps that a run's engine logged. Raises NotAvailable for the scored run itself, for another engine, and without a step log."""
    if reason := same(measured, other):
        raise NotAvailable(
            f"calibration steps: {other.run_id} is the run that is scored ({reason}); give another log (track oracle takes its own)"
        )
    if differing := list(differences(measured, other)):
        raise NotAvailable(f"calibration steps: {other.run_id} cannot calibrate {measured.run_id}: they differ in {'; '.join(differing)}")
    samples = own_profile(other, None).samples
    return LoggedSteps(samples=samples, ends=None, form="engine's steps")


def _without(logged: LoggedSteps, measured: Run) -> tuple[pd.DataFrame, int]:
    """The log's steps but those that may be the scored run's, and how many these are."""
    if logged.ends is None:
        return logged.samples, 0
    start = datetime.fromisoformat(measured.started_at)
    begin = (start if start.tzinfo else start.replace(tzinfo=UTC)).timestamp()
    last = max((r.finished for r in measured.records if r.finished is not None), default=0.0)
    during = _during(logged.ends, begin, begin + last)
    return logged.samples[~during], int(during.sum())


def _during(ends: Floats, begin: float, last: float) -> NDArray[np.bool_]:
    """Whether each step may be of a run that says it was measured from `begin` to `last`, s: it ended then, or in a busy stretch that
    began then. Where no step ended then, in the next stretch: a published run may say when its script began, minutes before its first
    request.
    """
    order = np.argsort(ends, kind="stable")
    stretch = np.empty(len(ends), np.int64)
    stretch[order] = np.cumsum(np.diff(ends[order], prepend=ends.min(initial=np.inf)) > IDLE)
    starts = np.full(stretch.max(initial=0) + 1, np.inf)
    np.minimum.at(starts, stretch, ends)
    during = (ends >= begin) & (ends <= last)
    if during.any():
        return np.asarray(during | ((starts >= begin) & (starts <= last))[stretch])
    following = np.searchsorted(starts, last)
    return np.asarray((stretch == following) & (ends.min(initial=np.inf) < begin))  # a log that begins later is of other runs


def _held_out(steps: int, share: float) -> NDArray[np.bool_]:
    """Whether each step is kept out of the fit: whole blocks, spread over the log."""
    block = np.arange(steps) * BLOCKS // max(steps, 1)
    return np.asarray(np.floor((block + 1) * share) > np.floor(block * share))


def _fitted(samples: pd.DataFrame, held_out: NDArray[np.bool_], log: str) -> tuple[StepLaw, Floats]:
    """The law of the steps that are not held out, and its relative errors on those that are. Raises SimulatorError with too few steps."""
    works, seconds = works_of(samples, False), samples["time"].to_numpy(dtype=np.float64)
    try:
        law = fitted_law(works[~held_out], seconds[~held_out])
    except ValueError as error:
        raise SimulatorError(f"calibration steps: {log}: {error}") from error
    return law, np.array([law.seconds(work) for work in works[held_out].tolist()]) / seconds[held_out] - 1


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
