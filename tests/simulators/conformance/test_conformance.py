"""The conformance kit: our own simulator passes all of it, and one that is spoilt in one way fails the cases of that and no other."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from results.profile import Profile
from results.record import RequestRecord, Run, Track
from results.storage import conformance
from results.storage.conformance import Conformance, Found
from simulators.conformance.__main__ import main
from simulators.conformance.case import Case
from simulators.conformance.cases.all import CASES
from simulators.conformance.check import check
from simulators.conformance.configured import configured
from simulators.conformance.coverage import broken, overstated, rows
from simulators.errors import NotAvailable, SimulatorError
from simulators.simulator import Coverage, Simulator
from workloads.trace import Trace

OURS = configured("native", ())
Change = Callable[[Run], Run]


def as_it_is(run: Run) -> Run:
    return run


@dataclass(frozen=True, kw_only=True)
class Spoilt:
    """Our own simulator, with what it is asked or what it answers changed."""

    asked: Change = as_it_is
    answered: Change = as_it_is
    coverage: Coverage = OURS.coverage
    environment: str | None = None
    system: str = "spoilt"

    def tracks(self) -> tuple[Track, ...]:
        return ("calibrated",)

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        return self.answered(OURS.simulate(self.asked(measured), track=track, profile=profile, scratch=scratch))


def limits(**changed: Any) -> Change:
    return lambda run: replace(run, limits=replace(run.limits, **changed))


def records(change: Callable[[RequestRecord], RequestRecord]) -> Change:
    return lambda run: replace(run, records=tuple(change(record) for record in run.records))


def later(share: float) -> Change:
    """Every latency longer by a share of it."""

    def stretched(record: RequestRecord) -> RequestRecord:
        sent, first, end = record.sent or 0.0, record.first_token or 0.0, record.finished or 0.0
        return replace(record, first_token=sent + (first - sent) * (1 + share), finished=sent + (end - sent) * (1 + share))

    return records(stretched)


def by_id(record: RequestRecord) -> RequestRecord:
    """An answer that depends on the request's number."""
    return replace(record, finished=(record.finished or 0.0) + 1e-4 * (record.request_id % 7))


def without_blocks(run: Run) -> Run:
    requests = tuple(replace(request, blocks=()) for request in run.trace)
    return replace(run, trace=Trace(name=run.trace.name, requests=requests))


def failing(
    simulator: Simulator, *, of: Callable[[Case], bool] = lambda case: case.row is not None and case.scenes[0].model is None
) -> set[str]:
    found = check(simulator, [case for case in CASES if of(case)])
    return {case.name for case in found.cases if case.outcome == "fails"}


def test_there_are_forty_cases_and_more_that_each_say_what_they_show() -> None:
    assert len(CASES) >= 40 and len({case.name for case in CASES}) == len(CASES)
    assert all(case.shows.endswith(".") for case in CASES)
    assert {case.row for case in CASES} - {None} < {field.name for field in dataclasses.fields(Coverage)}


def test_our_own_simulator_models_what_it_says_and_the_command_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "native", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(case.name in printed and case.shows in printed for case in CASES) and "15 of 15" in printed
    found = conformance.read("native", tmp_path)
    assert found is not None and found.version == "0.1"
    assert [case.name for case in found.cases if case.outcome != "holds"] == []
    assert (broken(found), overstated(found)) == ([], [])
    untried = {row.name for row in rows(found) if row.measured is None}
    assert untried == {"disaggregation", "expert_parallel", "speculation"}


@pytest.mark.parametrize(
    ("asked", "fails"),
    [
        (limits(max_num_seqs=64), {"four_seats", "one_seat", "two_replicas"}),
        (limits(kv_tokens=65536), {"kv_full", "gives_way"}),
        (limits(max_num_batched_tokens=512), {"budget_of_one_prompt"}),
        (limits(data_parallel=1), {"two_replicas"}),
        (limits(prefix_caching=True), {"caching_off"}),
        (without_blocks, {"same_prompt", "half_a_prompt"}),
    ],
)
def test_a_simulator_that_does_not_keep_a_limit_fails_its_cases_and_no_others(asked: Change, fails: set[str]) -> None:
    assert failing(Spoilt(asked=asked)) == fails


def test_a_simulator_without_chunks_stalls_the_running_request() -> None:
    whole = Spoilt(asked=limits(chunked_prefill=False, max_num_batched_tokens=4096))
    assert failing(whole, of=lambda case: case.row == "chunked_prefill") == {"decode_goes_on", "each_piece_is_a_step"}


def test_wrong_times_and_ids_that_matter_break_laws() -> None:
    assert {"lone_ttft", "long_output", "batch"} <= failing(Spoilt(answered=later(0.5)), of=lambda case: case.row is None)
    assert "permuted_ids" in failing(Spoilt(answered=records(by_id)), of=lambda case: case.row is None)


def test_tokens_without_times_and_requests_without_an_answer_fail_with_the_reason() -> None:
    silent = check(Spoilt(answered=records(lambda r: replace(r, token_times=None))), [c for c in CASES if c.row == "token_times"])
    assert {case.says for case in silent.cases} == {"it says no token times"} and overstated(silent) == ["token_times"]
    lost = records(lambda r: replace(r, first_token=None, finished=None, token_times=None, error="refused"))
    [found] = check(Spoilt(answered=lost), [CASES[0]]).cases
    assert (found.outcome, found.says) == ("fails", "request 0 was not answered: refused")


@dataclass(frozen=True, kw_only=True)
class Raising(Spoilt):
    """One that fails on every request but a lone one."""

    error: RuntimeError = SimulatorError("spoilt: it stopped")  # noqa: RUF009 - of a test

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        if len(measured.trace) > 1:
            raise self.error
        return Spoilt.simulate(self, measured, track=track, profile=profile, scratch=scratch)


def test_one_that_stops_fails_the_case_and_one_that_cannot_be_had_leaves_it_untried() -> None:
    two = [case for case in CASES if case.name in ("lone_ttft", "four_seats")]
    stopped, missing = check(Raising(), two), check(Raising(error=NotAvailable("spoilt: no profile")), two)
    assert [case.outcome for case in stopped.cases] == ["holds", "fails"] and stopped.measured("max_num_seqs") == "no"
    assert [case.outcome for case in missing.cases] == ["holds", "not tried"] and missing.measured("max_num_seqs") is None
    with pytest.raises(NotAvailable, match="no profile"):
        check(Raising(error=NotAvailable("spoilt: no profile")), two[1:])


def test_the_matched_track_is_not_tried_where_there_is_none() -> None:
    sized = check(Spoilt(), [CASES[0], *(case for case in CASES if case.row == "gqa")])
    assert (sized.cases[1].outcome, sized.cases[1].says) == ("not tried", "spoilt: as configured it has no matched track")


def found_with(declared: str, *outcomes: str) -> Conformance:
    made: Any = Found  # the outcomes are words here
    cases = tuple(made(name="", row="kv_limit", shows="", control=o.isupper(), outcome=o.lower(), says="") for o in outcomes)
    return Conformance(system="x", version="1", checked="2026-01-01", settings=(), declared={"kv_limit": declared}, cases=cases)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("declared", "outcomes", "measured", "standing"),
    [
        ("yes", ("holds", "holds"), "yes", "as it says"),
        ("yes", ("holds", "fails"), "partly", "says, and does in part"),
        ("yes", ("fails", "not tried"), "no", "says, and does not"),
        ("no", ("holds",), "yes", "does, and does not say so"),
        ("partly", ("holds",), "yes", "no case shows what it lacks"),
        ("no", ("not tried",), None, "not tried"),
        ("no", ("fails", "HOLDS"), "no", "as it says"),  # capitals: a control
        ("yes", ("holds", "FAILS"), "partly", "says, and does in part"),
        ("no", ("not tried", "HOLDS"), None, "not tried"),
    ],
)
def test_measured_coverage_beside_the_declared(declared: str, outcomes: tuple[str, ...], measured: str | None, standing: str) -> None:
    [row] = rows(found_with(declared, *outcomes))
    assert (row.measured, row.standing) == (measured, standing)


def test_the_file_comes_back_as_it_was_and_a_broken_one_says_what_to_do(tmp_path: Path) -> None:
    found = found_with("yes", "holds", "fails")
    assert conformance.read("x", tmp_path) is None
    found.write(tmp_path)
    assert conformance.read("x", tmp_path) == found
    for text in ("{", "[]", json.dumps({"cases": [{}], "settings": []})):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match=r"not a conformance file .* ./plumbline simulator check x"):
            conformance.read("x", tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "nativ"], "no simulator is called 'nativ'; did you mean native"),
        (["check", "native", "fast"], "'fast' is no setting: give KEY=VALUE"),
        (["check", "native", "simulators.native.policy=best"], "policy must be auto or one of"),
        (["check", "native", "simulators.native.nothing=1"], "Key 'nothing' is not in struct"),
        (["check"], "the following arguments are required: NAME;"),
        (["chek", "native"], "invalid choice: 'chek'"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert message in str(ended.value) and "\n" not in str(ended.value) and str(ended.value).startswith("plumbline: ")
