"""What simulators did not give: counted by reason whatever run it was said of, and shown on the page."""

from analysis.study.missing import as_html
from results.project.missing import MissingSimulation, counted

SAID = [
    ("a-1", "vidur:calibrated", "no tables for vllm on a40", False),
    ("a-2", "vidur:calibrated", "no tables for vllm on a40", False),
    ("a-1", "native:matched", "run a-1 does not say <kv_tokens>", False),
    ("a-2", "native:matched", "run a-2 does not say <kv_tokens>", False),
    ("a-2", "vidur:calibrated", "ended with exit code 1", True),
]


def test_reasons_are_counted_whatever_run_they_name() -> None:
    found = [(one.system, one.track, one.failed, one.runs) for one in counted(SAID)]
    assert found == [("native", "matched", False, 2), ("vidur", "calibrated", False, 2), ("vidur", "calibrated", True, 1)]
    assert sum(one.runs for one in counted(SAID)) == len(SAID)


def test_the_page_shows_each_reason_with_its_runs_and_who_took_one_repeat() -> None:
    page = as_html(counted(SAID), ["splitwise_sim"])
    assert page.count("<tr>") == 4 and "&lt;kv_tokens&gt;" in page and "failed: ended with exit code 1" in page
    assert "only the first repeat was given to Splitwise-sim" in page


def test_nothing_missing_is_no_section() -> None:
    assert as_html([], []) == ""
    assert "table" not in as_html([], ["vidur"])
    assert MissingSimulation(system="vidur", track="matched", reason="x", failed=False, runs=1).runs == 1
