"""Check: a line of the doctor's."""

from dataclasses import dataclass
from typing import Literal

MARKS = {"there": "✓", "missing": "–", "needed": "✗"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that this machine has or lacks."""

    name: str  # of the thing
    state: Literal["there", "missing", "needed"]  # needed: missing, and `make bench` cannot work without it
    says: str  # what there is
    costs: str = ""  # what is lost without it, and what to do; of a missing thing

    def line(self) -> str:
        """For a terminal."""
        return f"{MARKS[self.state]} {self.name:<26} {self.says}" + (f": {self.costs}" if self.costs else "")
