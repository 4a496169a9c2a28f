"""What the page says that a simulator does not model: its own words, and the conformance kit's where they differ."""

import dataclasses
from pathlib import Path
from typing import Any

from analysis.page.modelled import not_modelled, otherwise
from results.storage.conformance import Conformance, Found, of_version


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


def test_what_was_measured_is_told_where_it_differs() -> None:
    assert otherwise(COVERAGE, FOUND) == ["preemption (no)", "token times (yes)"]


def test_without_a_check_nothing_is_measured() -> None:
    assert otherwise(COVERAGE, None) == []


def test_it_is_told_of_the_version_that_was_checked_be_it_as_a_release(tmp_path: Path) -> None:
    FOUND.write(tmp_path)
    newer = dataclasses.replace(FOUND, system="nobody_v0_3", version="3")
    newer.write(tmp_path)
    dataclasses.replace(FOUND, system="nobody_else", version="4").write(tmp_path)  # another simulator
    found = {version: of_version("nobody", version, tmp_path) for version in ("2", "3", "4", None)}
    assert found == {"2": FOUND, "3": newer, "4": None, None: None}
