"""What the conformance kit found of a simulator, as a small file: coverage that was measured, beside the declared one.

`./plumbline simulator check` writes it (simulators/conformance), the report's page shows it.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from results.project.folder import ROOT
from results.storage.durable import write_text

FOLDER = ROOT / "results" / "conformance"
Support = Literal["yes", "no", "partly"]
CaseOutcome = Literal["holds", "fails", "not tried"]
NOT_TRIED: CaseOutcome = "not tried"  # of a case that the simulator as configured cannot be asked


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of one case. row: the field of Coverage that it shows something of; None: what must hold of any simulator."""

    name: str
    row: str | None
    shows: str  # a sentence
    control: bool  # whether it holds as well where nothing of the row is modelled
    outcome: CaseOutcome
    says: str  # the figure with its bounds, or why there is none


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """All that the kit found of a simulator as configured."""

    system: str
    version: str | None
    checked: str  # date, ISO 8601
    settings: tuple[str, ...]  # that were given on the command line
    declared: Mapping[str, Support]  # by row of Coverage
    cases: tuple[Found, ...]

    def tried(self, row: str | None) -> list[bool]:
        """Whether each case of a row holds; those that could not be tried are left out."""
        return [case.outcome == "holds" for case in self.cases if case.row == row and case.outcome != NOT_TRIED]

    def measured(self, row: str) -> Support | None:
        """What its cases say of a row: yes when all hold, no when none but controls does, else partly; None: none could be tried."""
        own = [case for case in self.cases if case.row == row and case.outcome != NOT_TRIED]
        if all(case.control for case in own):
            return None
        if not any(case.outcome == "holds" for case in own if not case.control):
            return "no"
        return "yes" if all(case.outcome == "holds" for case in own) else "partly"

    def write(self, folder: Path = FOLDER) -> Path:
        """Write it as `SYSTEM.json`, in the place of an older one. Raises OSError."""
        path = folder / f"{self.system}.json"
        write_text(path, json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path


def read(system: str, folder: Path = FOLDER) -> Conformance | None:
    """What was found of a simulator; None: it was never checked. Raises ValueError naming a file that is no such one."""
    path = folder / f"{system}.json"
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cases: Sequence[Mapping[str, Any]] = told.pop("cases")
        return Conformance(cases=tuple(Found(**case) for case in cases), settings=tuple(told.pop("settings")), **told)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a conformance file ({error}); make it with ./plumbline simulator check {system}") from error


def of_version(system: str, version: str | None, folder: Path = FOLDER) -> Conformance | None:
    """What was found of one version of a simulator; None: that one was never checked. Raises ValueError as `read`.

    A simulator that takes one of several releases by itself was checked in each on its own, as the system SYSTEM_vRELEASE.
    """
    releases = sorted(path.stem for path in folder.glob(f"{system}_v*.json"))
    return next((kit for name in (system, *releases) if (kit := read(name, folder)) is not None and kit.version == version), None)


@cache
def known(system: str, version: str | None) -> Conformance | None:
    """As `of_version`, once a process."""
    return of_version(system, version)
