"""What a simulator did not give for measured runs, and why: said by the harness, shown by the study's page."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSimulation:
    """One reason of one simulator and track."""

    system: str
    track: str
    reason: str  # in a line, without the run that it was said of
    failed: bool  # whether something went wrong; False: it is not to be had here, or not for such a run
    runs: int  # that it holds for


def counted(said: Iterable[tuple[str, str, str, bool]]) -> list[MissingSimulation]:
    """Refusals by simulator, most frequent reason first. said: (measured run, 'system:track', reason, failed), one for each simulation."""
    found = Counter((name, _without(run, reason), failed) for run, name, reason, failed in said)
    order = sorted(found.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return [
        MissingSimulation(system=name.rpartition(":")[0], track=name.rpartition(":")[2], reason=reason, failed=failed, runs=runs)
        for (name, reason, failed), runs in order
    ]


def _without(run: str, reason: str) -> str:
    """The reason, said of any run."""
    return reason.replace(f"run {run}", "the run").replace(run, "the run's")
