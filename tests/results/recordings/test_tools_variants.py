"""Other releases, loads and failures of load generators: made from the files that they wrote."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from results.record import Run
from results.recordings.import_run import import_run
from tests.results.recordings.test_tools import FILES, SAID

PER_REQUEST = "inference_perf/per_request_lifecycle_metrics.json"


def changed(name: str, folder: Path, change: Callable[[Any], Any]) -> Run:
    """The run of the file's JSON after a change of it."""
    (folder / Path(name).name).write_text(json.dumps(change(json.loads((FILES / name).read_text()))))
    return import_run(folder / Path(name).name, SAID)


def test_inference_perf_before_it_had_response_metrics(tmp_path: Path) -> None:
    """Then output_token_times had every event of the stream, two for a token: only the first is known to be a token's."""
    events = [1.0, 1.25, 1.5, 1.75, 2.0, 2.25]
    info = {"input_tokens": 9, "output_tokens": 3, "output_token_times": events}
    entry = {"start_time": 0.5, "end_time": 2.375, "request": "{}", "response": "", "info": info, "error": None}
    [record] = changed(PER_REQUEST, tmp_path, lambda entries: [entry]).records
    assert (record.sent, record.first_token, record.finished, record.token_times) == (0.0, 0.5, 1.75, None)
    assert (record.input_tokens, record.output_tokens) == (9, 3)


def test_a_failed_request_of_inference_perf_is_asked_for_as_its_file_says(tmp_path: Path) -> None:
    failure = {"error": {"error_type": "HTTP Error 500", "error_msg": "the engine\nis dead"}, "request": json.dumps({"max_tokens": 77})}
    run = changed(PER_REQUEST, tmp_path, lambda entries: [entries[0], entries[1] | failure])
    assert [r.error for r in run.records] == [None, "HTTP Error 500: the engine is dead"]
    assert (run.trace.requests[1].output_tokens, run.records[1].output_tokens, run.records[1].finished) == (77, None, None)
    assert "of 1 failed" in run.provenance["assumed"]["output_tokens"]


def test_the_load_of_inference_perf_is_in_its_config(tmp_path: Path) -> None:
    assert changed(PER_REQUEST, tmp_path, lambda entries: entries).provenance["load"] == "unknown: no config.yaml beside the file"
    (tmp_path / "config.yaml").write_text(
        "load: {type: concurrent, stages: [{concurrency_level: 4, num_requests: 9}, {concurrency_level: 8}]}\n"
    )
    run = changed(PER_REQUEST, tmp_path, lambda entries: entries)
    assert run.provenance["load"] == "closed loop of 4, then 8"
    assert set(run.provenance["files"]) == {"per_request_lifecycle_metrics.json", "config.yaml"}


def test_aiperf_without_its_summary_and_with_that_of_older_releases(tmp_path: Path) -> None:
    path = tmp_path / "profile_export.jsonl"
    path.write_bytes((FILES / "aiperf_closed/profile_export.jsonl").read_bytes())
    alone = import_run(path, SAID)
    assert (alone.provenance["load"], alone.provenance["form"]) == ("unknown", "AIPerf")
    assert "no summary profile_export_aiperf.json beside the file" in alone.provenance["assumed"]["load"]
    summary = {"input_config": {"endpoint": {"model_names": ["org/tiny"]}, "loadgen": {"request_rate": 5.0, "concurrency": 7}}}
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary))
    older = import_run(path, replace(SAID, model=None))
    assert (older.provenance["load"], older.rate, older.model) == ("open loop, 5 requests/s, at most 7 in flight", 5.0, alone.model)


def test_a_request_that_came_without_a_token_or_was_cancelled_failed(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (FILES / "aiperf_closed/profile_export.jsonl").read_text().splitlines()]
    lines[0]["metadata"]["was_cancelled"] = True
    lines[1]["metrics"] |= {name: {"value": 0, "unit": "tokens"} for name in ("usage_completion_tokens", "output_sequence_length")}
    path = tmp_path / "profile_export.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    errors = {r.error for r in import_run(path, SAID).records}
    assert errors == {None, "cancelled by the client", "it ended without a token"}


def test_guidellm_says_which_part_its_own_metrics_are_of(tmp_path: Path) -> None:
    def later(report: dict[str, Any]) -> dict[str, Any]:
        report["benchmarks"][0]["scheduler_metrics"]["measure_start_time"] += 0.125
        return report

    whole, part = changed("guidellm_poisson.json", tmp_path, lambda report: report), changed("guidellm_poisson.json", tmp_path, later)
    assert "window" not in whole.provenance["assumed"]
    assert "the tool's own metrics are of 0.125 to " in part.provenance["assumed"]["window"]
    assert part.records == whole.records


def test_what_guidellm_stopped_or_never_sent(tmp_path: Path) -> None:
    def stopped(report: dict[str, Any]) -> dict[str, Any]:
        requests = report["benchmarks"][0]["requests"]
        *kept, cut, never = requests["successful"]
        cut["info"]["timings"] |= {"last_token_iteration": None, "request_end": None, "token_iterations": 5}
        never["info"]["timings"] |= dict.fromkeys(("targeted_start", "request_start", "first_token_iteration"))
        return report | {
            "benchmarks": [report["benchmarks"][0] | {"requests": {"successful": kept, "errored": [], "incomplete": [cut, never]}}]
        }

    run = changed("guidellm_poisson.json", tmp_path, stopped)
    assert len(run.records) == 9  # of 10: the last was never due
    [cut] = [r for r in run.records if r.error is not None]
    assert (cut.error, cut.finished, run.trace.requests[-1].output_tokens) == ("incomplete: stopped by the client", None, 5)
    assert cut.first_token is not None
