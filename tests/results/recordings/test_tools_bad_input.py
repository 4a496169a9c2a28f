"""A file that cannot be a recording is refused in one line: which file, what is wrong, what to do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from results.recordings.forms import FORMS
from results.recordings.import_run import Options, import_run
from results.recordings.recording import RecordingError
from workloads.trace import TraceError

FILES = Path(__file__).parent / "files"
SAID = Options(system="vllm", model="tiny", hardware="h100", started_at="2026-11-29T20:00:00Z")
Built = Callable[..., duckdb.DuckDBPyConnection]
ONE_OF_EACH = [
    "vllm_python_open.json",
    "vllm_rust_closed.json",
    "sglang_python_closed.jsonl",
    "aiperf_open/profile_export.jsonl",
    "guidellm_poisson.json",
    "inference_perf/per_request_lifecycle_metrics.json",
    "blis/trace.csv",
]


def refusal(path: Path, options: Options = SAID) -> str:
    with pytest.raises((RecordingError, TraceError)) as caught:
        import_run(path, options)
    words = str(caught.value)
    assert str(path) in words and "\n" not in words
    return words


def changed(name: str, folder: Path, change: Callable[[Any], Any]) -> Path:
    """The file's JSON after a change of it."""
    value = json.loads((FILES / name).read_text())
    (folder / Path(name).name).write_text(json.dumps(change(value)))
    return folder / Path(name).name


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_form_is_known_by_its_content_whatever_its_name(name: str, tmp_path: Path) -> None:
    copy = tmp_path / "anything.txt"
    copy.write_bytes((FILES / name).read_bytes())
    assert import_run(copy, SAID).trace.requests[-1].arrival == import_run(FILES / name, SAID).trace.requests[-1].arrival
    assert next(form.name for form in FORMS if form.fits(copy)) == next(form.name for form in FORMS if form.fits(FILES / name))


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if not name.startswith("blis")])
def test_a_file_that_is_cut_off_is_refused(name: str, tmp_path: Path) -> None:
    data = (FILES / name).read_bytes()
    cut = tmp_path / Path(name).name
    cut.write_bytes(data[: len(data) - len(data) // 3])
    assert "not JSON" in refusal(cut)


def test_a_trace_of_blis_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text((FILES / "blis/trace.csv").read_text()[:-30])
    assert "trace.csv:5: " in refusal(tmp_path / "trace.csv")


@pytest.mark.parametrize("text", ['{"a": 1}', "<html></html>", "x,y\n1,2\n", "[1, 2]", "\x00"])
def test_a_form_that_nobody_knows_lists_those_that_are_known(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    words = refusal(tmp_path / "run.json")
    assert all(form.name in words for form in FORMS)
    assert "no requests.csv or requests.jsonl in it, nor a tool's file" in refusal(tmp_path)


def test_what_the_file_does_not_say_is_asked_for_by_the_option_that_gives_it() -> None:
    assert refusal(FILES / "vllm_python_open.json", Options()).endswith(
        "vllm_python_open.json (vLLM's bench serve (Python client)) does not say system, hardware; give --system vllm (or sglang, ...), "
        "--hardware NAME (of conf/hardware/), or --about FILE"
    )
    sglang = refusal(FILES / "sglang_python_closed.jsonl", Options())
    for option in ("--system", "--model", "--hardware", "--started-at 2026-04-25T18:47:18Z"):
        assert option in sglang
    words = Options(system="vllm", hardware="h100")
    with pytest.raises(RecordingError, match=r"conf/model/ has nothing named like 'none'; give --model one of"):
        import_run(FILES / "guidellm_poisson.json", words)


ARRAYS = ("input_lens", "output_lens", "ttfts", "itls", "errors", "start_times", "queue_times")


def client(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda said: said | values


BAD: dict[str, tuple[str, Callable[[Any], Any]]] = {  # words: file, change
    "ttfts missing: it is a summary; run the tool with --save-result --save-detailed": (
        "vllm_python_open.json", lambda said: {key: value for key, value in said.items() if key != "ttfts"},
    ),
    "start_times has 3 values, ttfts has 12": ("vllm_python_open.json", client(start_times=[0.0, 1.0, 2.0])),
    "itls must hold a list for each request, got 0.1": ("vllm_python_open.json", client(itls=[0.1] * 12)),
    "json:1: a time of -0.5 s; none can be negative": ("vllm_python_open.json", client(ttfts=[-0.5] * 12)),
    "json:1: ttft must be a number, got None": ("vllm_python_open.json", client(ttfts=[None] * 12)),
    "input_lens must be a whole number, got 1.5": ("vllm_python_open.json", client(input_lens=[1.5] * 12)),
    "json:1: ttft must be a number, got nan": ("vllm_python_open.json", client(ttfts=[float("nan")] * 12)),
    "date must be like 20260425-184718, got 'today'": ("vllm_python_open.json", client(date="today")),
    "it has no requests": (
        "vllm_python_open.json", client(**{key: [] for key in ARRAYS}),
    ),
    "at 40 requests/s its gaps were drawn at random": ("sglang_python_open.jsonl", client()),
    "how long the 1 failed requests took is not in it": ("sglang_python_closed.jsonl", client(errors=["x", *[""] * 11])),
    "where the benchmark took 9.000 s; more than 1% apart": ("sglang_python_closed.jsonl", client(duration=9.0)),
    "it has no benchmarks": ("guidellm_poisson.json", client(benchmarks=[])),
    "per_request_lifecycle_metrics.json (inference-perf): it has no requests": (
        "inference_perf/per_request_lifecycle_metrics.json", lambda entries: [],
    ),
    "json:2: info missing": (
        "inference_perf/per_request_lifecycle_metrics.json", lambda entries: [entries[0], entries[1] | {"info": None}],
    ),
    "json:1: finished (": (
        "inference_perf/per_request_lifecycle_metrics.json",
        lambda entries: [entries[0] | {"info": {"input_tokens": 4, "output_tokens": 2, "output_token_times": [2e9, 1.0]}}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_a_malformed_file_is_named_with_what_is_wrong(words: str, tmp_path: Path) -> None:
    name, change = BAD[words]
    assert words in refusal(changed(name, tmp_path, change))


def test_lines_and_rows_that_are_wrong_are_named(tmp_path: Path) -> None:
    lines = (FILES / "aiperf_open/profile_export.jsonl").read_text().splitlines()
    warm_up = [line for line in lines if '"warmup"' in line]
    path = tmp_path / "profile_export.jsonl"
    path.write_text("\n".join(warm_up))
    assert "no requests but those of the warm-up (3)" in refusal(path)
    path.write_text("\n".join([lines[5], json.dumps(json.loads(lines[6]) | {"metrics": {}})]))
    assert "jsonl:2: it does not say when the last token came" in refusal(path)
    blis, header = tmp_path / "trace.csv", tmp_path / "trace.yaml"
    text = (FILES / "blis/trace.csv").read_text()
    blis.write_text(text.replace(",780000,", ",-780000,"))
    assert "trace.csv:3: arrival_time_us must be >= 0, got -780000" in refusal(blis)
    blis.write_text(text)
    header.write_text("trace_version: 3\nmode: generated\n")
    with pytest.raises(RecordingError, match=r"trace.yaml: mode is generated: BLIS made this trace, nobody measured it"):
        import_run(blis, SAID)


def test_a_run_whose_every_request_failed_has_its_rows_and_is_invalid(tmp_path: Path, built: Built) -> None:
    path = changed(
        "vllm_python_open.json", tmp_path, client(errors=['File "x.py", line 3\nOSError: gone'] * 12, itls=[[]] * 12, ttfts=[0.0] * 12)
    )
    for run in (import_run(path, SAID), import_run(FILES / "guidellm_failed.json", SAID)):
        assert (run.valid, run.invalid_reason) == (False, "every request failed")
        assert all(r.error is not None and r.finished is None and r.output_tokens is None for r in run.records)
        assert len(run.trace) == len(run.records) > 0
        assert built(run).execute("SELECT count(*) FROM requests WHERE error IS NOT NULL").fetchall() == [(len(run.records),)]
    assert {r.error for r in import_run(path, SAID).records} == {"OSError: gone"}


def test_the_command_says_what_it_took_what_it_assumed_and_what_is_missing(tmp_path: Path) -> None:
    words = [str(FILES / "vllm_python_failed.json"), "--system", "vllm", "--model", "tiny", "--hardware", "h100", "--root", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "results", "import", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "12 requests, 4 failed",
        "taken from: vLLM's bench serve (Python client), open loop, 40 requests/s",
        "assumed: output_tokens: of 4 failed",
        "not recorded: version, kv_tokens, ",
        "give what you know in --about FILE",
    ):
        assert said in done.stdout
    failed = subprocess.run([sys.executable, "-m", "results", "import", words[0]], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "give --system vllm" in failed.stderr
