"""Refusals of many runs, counted by their reason."""

from results.project.missing import counted


def test_a_reason_is_told_without_the_run_that_it_was_said_of() -> None:
    said = [(run, "vidur:matched", f"vidur: run {run} has no limits; log {run}.log", False) for run in ("a-1", "b-2")]
    (found,) = counted(said)
    assert (found.reason, found.runs) == ("vidur: the run has no limits; log the run's.log", 2)
