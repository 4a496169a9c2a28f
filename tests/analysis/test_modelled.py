"""What the page says that a simulator does not model: its own words, and the conformance kit's where they differ."""

from typing import Any

import pytest

from analysis.page.modelled import not_modelled, otherwise
from results.storage.conformance import Conformance, Found


class Row:
    """What is read of a run's row."""

    def __init__(self, version: str | None, coverage: dict[str, str]) -> None:
        self.system, self.version, self.config = "nobody", version, {"simulator": {"coverage": coverage}}


def kit(**outcomes: str) -> Conformance:
    cases = [
        Found(name=row, row=row, shows="", control=False, outcome=outcome, says="")  # type: ignore[arg-type]
        for row, outcome in outcomes.items()
    ]
    return Conformance(
        system="nobody", version="2", checked="2026-01-01", settings=(), declared=dict.fromkeys(outcomes, "yes"), cases=tuple(cases)
    )


COVERAGE = {"preemption": "yes", "kv_limit": "partly", "token_times": "no", "gqa": "yes"}
FOUND = kit(preemption="fails", kv_limit="holds", token_times="holds", gqa="not tried")


def test_a_simulator_that_was_never_checked_has_its_own_words() -> None:
    row: Any = Row("2", COVERAGE)
    assert not_modelled(row) == "token times, kv limit (partly)"


@pytest.mark.parametrize(("version", "told"), [("2", ["preemption (no)", "token times (yes)"]), ("3", []), (None, [])])
def test_what_was_measured_is_told_of_that_version_where_it_differs(version: str | None, told: list[str]) -> None:
    row: Any = Row(version, COVERAGE)
    assert otherwise(row, COVERAGE, FOUND) == told


def test_without_a_check_nothing_is_measured() -> None:
    row: Any = Row("2", COVERAGE)
    assert otherwise(row, COVERAGE, None) == []
