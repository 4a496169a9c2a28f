"""`calibration=run`: step times and front-end costs fitted to a whole other run of the same engine; this one is predicted.

One load is measured, all others are predicted. What is fitted to is never what is scored: the other run must be another one, of the same
engine, model, GPU and parallelism. whole_fit.py has the numbers that are fitted, and how.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from results.profile import Profile
from results.record import Run
from results.storage.find import find_run
from results.storage.store import read_run
from simulators.calibration.bases import Base, decode_parts
from simulators.calibration.points import compose
from simulators.calibration.targets import Targets
from simulators.calibration.whole_fit import TILE, Stretching, WholeFit
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.adapter import sent_as
from simulators.native.frontend.settings import StationSettings
from simulators.native.frontend.station import Station
from simulators.native.served import NO_STATION

LEAST = 20  # requests with all their times


@dataclass(frozen=True, kw_only=True)
class OtherRun:
    """conf/calibration/run.yaml says what each setting means."""

    run: str | None
    roots: tuple[str, ...]
    requests: int
    iterations: int
    base: Base
    frontend: StationSettings | None = None

    source: ClassVar[str] = "run"

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError("calibration run: calibration.run must name the run to fit to (./plumbline list)")
        if self.requests < LEAST or self.iterations < 1:
            raise ValueError(f"calibration run: requests must be >= {LEAST} and iterations >= 1, got {self.requests} and {self.iterations}")

    @property
    def environment(self) -> str | None:
        """See Calibration; that of the base."""
        return getattr(self.base, "environment", None)

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """See Calibration. Raises NotAvailable when the other run is this one, or of another engine, model, GPU or parallelism."""
        other = self.other()
        if reason := same(measured, other):
            raise NotAvailable(f"calibration run: {other.run_id} is the run that is scored ({reason}); give another one to fit to")
        if differing := list(differences(measured, other)):
            raise NotAvailable(f"calibration run: {other.run_id} cannot calibrate {measured.run_id}: they differ in {'; '.join(differing)}")
        targets = Targets.of(other, self.requests)
        if len(targets) < LEAST:
            raise NotAvailable(f"calibration run: {other.run_id} has {len(targets)} requests with all their times, {LEAST} are needed")
        fit = WholeFit.of(other, self.stretching(other), targets, spread=self.base.spread, station=self._station(other))
        best = fit.best(self.iterations)
        stretched = self.stretching(measured).at(best)
        return replace(stretched, provenance={**stretched.provenance, **fit.told(best), "fitted_to": told_of(other, measured)})

    def other(self) -> Run:
        """The run to fit to. Raises SimulatorError when there is none, or it is no valid measured one."""
        assert self.run is not None
        found = read_run(find_run(self.run, self.roots, asker="calibration run"))
        if found.kind != "measured":
            raise SimulatorError(f"calibration run: {found.run_id} is a simulated run; give a measured one (./plumbline list)")
        if not found.valid:
            raise SimulatorError(f"calibration run: {found.run_id} is INVALID ({found.invalid_reason}); give a valid run")
        return found

    def _station(self, run: Run) -> Station:
        """The API servers before the run's engine, as our own simulator has them."""
        found = self.frontend.station(run.system, sent_as(run)) if self.frontend is not None else None
        return found or NO_STATION

    def stretching(self, run: Run) -> Stretching:
        """The base law over the steps that the run's engine can make."""
        seconds = self.base.seconds(run)
        composed = compose(
            run,
            seconds,
            profile_id=f"{self.base.source}-fitted-to-{self.run}",
            source=f"{self.base.source}, fitted to the other run {self.run}",
            provenance={"base": self.base.source},
            bends=self.base.bends(run),
            jumps=[TILE],
        )
        return Stretching(base=composed, parts=decode_parts(composed, seconds, alone=1))


def same(one: Run, other: Run) -> str | None:
    """Why these two are one measurement, under one name or two; None: they are not."""
    if one.run_id == other.run_id:
        return "the same run_id"
    if one.trace.sha256 == other.trace.sha256 and _times(one) == _times(other):
        return "the same requests with the same times, under another name"
    return None


def differences(one: Run, other: Run) -> Iterator[str]:
    """In which of engine, version, model, GPU and parallelism two runs differ; what one of them does not say is no difference."""
    models = one.config.get("model") or {}, other.config.get("model") or {}
    pairs = {
        "engine": (one.system, other.system),
        "version": (one.version, other.version),
        "GPU": (one.hardware, other.hardware),
        "tensor_parallel": (one.limits.tensor_parallel, other.limits.tensor_parallel),
        **{f"model's {key}": (models[0][key], models[1][key]) for key in sorted(models[0].keys() & models[1].keys()) if key[0] != "_"},
    }
    for what, (mine, theirs) in pairs.items():
        if mine != theirs and mine is not None and theirs is not None:
            yield f"{what} ({mine} and {theirs})"


def told_of(other: Run, measured: Run) -> Mapping[str, Any]:
    """For the provenance: which run was fitted to, and what it shares with the one that is predicted."""
    return {
        "run_id": other.run_id,
        "rate": other.rate,
        "window": other.window,
        "repeat_of_it": (other.workload, other.rho, other.rate) == (measured.workload, measured.rho, measured.rate),
        "same_requests": other.trace.sha256 == measured.trace.sha256,
        "load_of_the_scored": _per_second(measured) / _per_second(other),
    }


def _per_second(run: Run) -> float:
    """Requests/s of the trace."""
    return len(run.trace) / max(run.trace.duration, 1e-9)


def _times(run: Run) -> Sequence[tuple[int, float | None, float | None, float | None]]:
    return sorted((r.request_id, r.sent, r.first_token, r.finished) for r in run.records)
