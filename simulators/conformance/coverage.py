"""What a check comes to: coverage as measured beside coverage as declared, in words."""

from collections.abc import Iterator
from typing import NamedTuple

from results.storage.conformance import Conformance, Support


class CoverageRow(NamedTuple):
    """A row of Coverage. measured: None where no case could be tried."""

    name: str
    declared: Support
    measured: Support | None
    held: int
    tried: int

    @property
    def standing(self) -> str:
        """How the two compare."""
        if self.measured is None:
            return "not tried"
        return STANDINGS[self.declared, self.measured]

    @property
    def overstated(self) -> bool:
        """Whether it says more than its cases show."""
        return self.standing.startswith("says")


# (declared, measured) in words. Cases are few, so that all of a row's hold is no proof of what a simulator itself calls partly.
STANDINGS: dict[tuple[Support, Support], str] = {
    ("yes", "yes"): "as it says",
    ("no", "no"): "as it says",
    ("partly", "partly"): "as it says",
    ("partly", "yes"): "no case shows what it lacks",
    ("yes", "partly"): "says, and does in part",
    ("yes", "no"): "says, and does not",
    ("partly", "no"): "says, and does not",
    ("no", "yes"): "does, and does not say so",
    ("no", "partly"): "does in part, and does not say so",
}


def rows(found: Conformance) -> Iterator[CoverageRow]:
    """All rows, in the order in which they are declared."""
    for name, declared in found.declared.items():
        tried = found.tried(name)
        yield CoverageRow(name, declared, found.measured(name), sum(tried), len(tried))


def broken(found: Conformance) -> list[str]:
    """The laws that must hold of any simulator and do not, by name."""
    return [case.name for case in found.cases if case.row is None and case.outcome == "fails"]


def overstated(found: Conformance) -> list[str]:
    """The rows that it says it models more of than it does."""
    return [row.name for row in rows(found) if row.overstated]
