"""Simulate every scene once, and make each case's figure of the answers. Read `check`."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from results.project.progress import Progress, each
from results.storage.conformance import NOT_TRIED, CaseOutcome, Conformance, Found
from simulators.conformance.answer import Answered, Unanswered
from simulators.conformance.case import Case
from simulators.conformance.scene import Scene
from simulators.errors import NotAvailable, SimulatorError
from simulators.simulator import Simulator

Reply = Answered | SimulatorError


def check(simulator: Simulator, cases: Sequence[Case], *, settings: Sequence[str] = (), progress: Progress | None = None) -> Conformance:
    """What it models, by the cases. A scene that several cases share is simulated once.

    A scene that it fails on fails its cases; one that it cannot have as configured (NotAvailable, or no such track) leaves them untried.
    settings: that it was configured with, for the record. Raises NotAvailable when it could be asked nothing at all.
    """
    scenes = list(dict.fromkeys(scene for case in cases for scene in case.scenes))
    replies = {scene: _replay(simulator, scene) for scene in each(scenes, progress)}
    if all(isinstance(reply, NotAvailable) for reply in replies.values()):
        raise next(reply for reply in replies.values() if isinstance(reply, NotAvailable))
    answered = [reply for reply in replies.values() if isinstance(reply, Answered)]
    declared = dataclasses.asdict(simulator.coverage)
    return Conformance(
        system=simulator.system,
        version=answered[0].run.version if answered else None,
        checked=datetime.now(UTC).date().isoformat(),
        settings=tuple(settings),
        declared={row: support for row, support in declared.items() if row != "notes"},
        cases=tuple(_found(case, replies) for case in cases),
    )


def _replay(simulator: Simulator, scene: Scene) -> Reply:
    """The scene's answer, or why there is none."""
    if scene.track not in simulator.tracks():
        return NotAvailable(f"{simulator.system}: as configured it has no {scene.track} track")
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        try:
            run = simulator.simulate(scene.measured(), track=scene.track, profile=scene.profile(), scratch=Path(scratch))
        except SimulatorError as error:
            return error
    return Answered(run=run)


def _found(case: Case, replies: Mapping[Scene, Reply]) -> Found:
    """What became of a case."""
    outcome, says = _outcome(case, [replies[scene] for scene in case.scenes])
    return Found(name=case.name, row=case.row, shows=case.shows, control=case.control, outcome=outcome, says=says)


def _outcome(case: Case, replies: Sequence[Reply]) -> tuple[CaseOutcome, str]:
    """The outcome, and its figure or the reason why there is none."""
    for reply in replies:
        if isinstance(reply, SimulatorError):
            return NOT_TRIED if isinstance(reply, NotAvailable) else "fails", _line(reply)
    try:
        figure = case.measure(*replies)
    except Unanswered as error:
        return "fails", _line(error)
    return "holds" if figure.holds else "fails", str(figure)


def _line(error: Exception) -> str:
    """An error in a line, without the scratch folder that is gone."""
    return " ".join(str(error).split("; log /")[0].split())
