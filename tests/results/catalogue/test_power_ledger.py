"""The runs of powertrace-sim: a small one of the same form, numbers made up, becomes a run with the times and limits that it says."""

import json
from pathlib import Path

import pytest

from results.catalogue.entry import entries
from results.catalogue.shelf import imported
from results.recordings.recording import RecordingError

BLOCKS = 25_084
START = 1_784_415_675.5
SERVER = {
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "max_model_len": 32768,
    "enable_chunked_prefill": True,
    "enable_prefix_caching": False,
}
REQUESTS = {  # the second was sent last, the third failed
    "request_timestamps": [START, START + 2.0, START + 1.0],
    "ttfts": [0.06, 0.02, 0.0],
    "itls": [[0.012, 0.013], [], []],
    "input_lens": [759, 34, 207],
    "output_lens": [3, 1, 0],
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder, model in (("validate_qwen3-8b_a100", "Qwen/Qwen3-8B"), ("sealed_qwen3-8b_a100_of_another_model", "Qwen/Qwen3-14B")):
        run = tmp_path / "repository" / "data" / "runs" / folder / "a100_validate_tp1_r4p0"
        run.mkdir(parents=True)
        manifest = {"model": model, "server": SERVER, "tp": 1}
        (run / "manifest.json").write_text(json.dumps(manifest))
        (run / "requests.json").write_text(json.dumps(REQUESTS))
        rows = ["timestamp,num_requests_running,gpu_cache_usage_perc", f"1.0,0.0,{1 / BLOCKS}", f"2.0,1.0,{49 / BLOCKS}"]
        (run / "engine.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "repository"


def test_a_run_has_the_times_and_the_limits_that_the_source_says(repository: Path, tmp_path: Path) -> None:
    entry = next(entry for entry in entries() if entry.name == "a100_qwen3_8b")
    (tmp_path / "out").mkdir()
    assert list(entry.converter.convert(repository, entry.about, tmp_path / "out")) == ["validate_qwen3-8b_a100"], "not the other model"
    run = imported(entry, tmp_path / "out" / "validate_qwen3-8b_a100")
    assert [(r.arrival, r.first_token, r.finished) for r in run.records] == [
        (0.0, pytest.approx(0.06), pytest.approx(0.085)),
        (1.0, None, None),
        (2.0, pytest.approx(2.02), pytest.approx(2.02)),
    ]
    assert [r.error is None for r in run.records] == [True, False, True]
    limits = run.limits
    assert (limits.kv_tokens, limits.max_num_seqs, limits.max_num_batched_tokens) == (BLOCKS * 16, 256, 8192)
    assert (run.hardware, run.version, run.rate, limits.prefix_caching) == ("a100", "0.10.1.1", 4.0, False)


def test_a_file_that_is_cut_off_is_one_line(repository: Path, tmp_path: Path) -> None:
    entry = next(entry for entry in entries() if entry.name == "a100_qwen3_8b")
    (repository / "data/runs/validate_qwen3-8b_a100/a100_validate_tp1_r4p0/requests.json").write_text('{"ttfts": [0.1')
    with pytest.raises(RecordingError, match="not a run of powertrace-sim") as error:
        list(entry.converter.convert(repository, entry.about, tmp_path))
    assert "\n" not in str(error.value)
