"""Vidur's adapter without Vidur: its settings, what it refuses, what it makes of bad output."""

import json
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from results.project.folder import ROOT
from results.record import EngineLimits, RequestRecord
from simulators.errors import NotAvailable, SimulatorError
from simulators.vidur.adapter import Vidur
from simulators.vidur.files import VidurNames, shipped_files, unusable, write_trace
from simulators.vidur.records import read_output, records
from tests.simulators.profiles import Law, make_measured, make_profile, with_limits, without
from workloads.trace import Request, Trace

COLUMNS = "Request Id,request_e2e_time,request_scheduling_delay,prefill_e2e_time,request_num_prefill_tokens,request_num_decode_tokens"


def make_vidur(**changes: Any) -> Vidur:
    """As conf/simulator/vidur.yaml has it, with smaller forests; so the file and the constructor must agree."""
    config = OmegaConf.load(ROOT / "conf" / "simulator" / "vidur.yaml")
    small = {"n_estimators": 20, "context_rows": 64, "operations": []}
    made = hydra.utils.instantiate(OmegaConf.merge(config, small, changes))
    assert isinstance(made, Vidur)
    return made


def refuse(
    match: str,
    tmp_path: Path,
    *,
    measured: Any = None,
    track: Any = "calibrated",
    profile: Any = "law",
    kind: type[SimulatorError] = SimulatorError,
    **changes: Any,
) -> None:
    """The simulation ends with one line that matches, before Vidur is started."""
    run = make_measured([(0.5, 100, 10)]) if measured is None else measured
    with pytest.raises(kind, match=match) as error:
        make_vidur(**changes).simulate(run, track=track, profile=make_profile(Law()) if profile == "law" else profile, scratch=tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "log").exists()


def test_the_pypi_release_has_the_calibrated_track_only() -> None:
    assert make_vidur().tracks() == ("calibrated",)
    assert make_vidur().coverage.preemption == "no"
    assert make_vidur().coverage.frontend_cost == "no"
    assert make_vidur().coverage.pipeline_parallel == "no"  # files.py always asks for one stage


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "conda"}, "source must be one of pypi, git, got 'conda'"),
        ({"scheduler": "fcfs"}, "scheduler must be one of sarathi, vllm, orca"),
        ({"k_fold": 1}, "k_fold must be >= 2, got 1"),
        ({"limit": 0}, r"limit > 0 s"),
        ({"commit": "main"}, "simulator vidur: commit must be all 40 hexadecimal digits, got 'main'"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make_vidur(**changes)


def test_a_request_longer_than_the_model_is_named(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 100, 10), (0.6, 4000, 97)], first_id=40)
    refuse("request 41 of 4000 [+] 97 tokens is longer than the model's 4096", tmp_path, measured=measured)


def test_a_request_larger_than_the_kv_cache_is_named(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 1000, 30)], limits=with_limits(kv_tokens=1024))
    refuse("request 0 of 1000 [+] 30 tokens does not fit into 1024 tokens of KV cache", tmp_path, measured=measured)


def test_a_prompt_that_the_vllm_scheduler_would_never_take_is_named(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 513, 10)])
    refuse("request 0 of 513 tokens exceeds the 512 of a step", tmp_path, measured=measured, scheduler="vllm")


def test_limits_that_the_engine_did_not_say_are_named_and_the_track_is_not_available(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 100, 10)], limits=EngineLimits(block_size=16, max_num_seqs=8))
    refuse("does not say the engine's kv_tokens, max_num_batched_tokens", tmp_path, measured=measured, kind=NotAvailable)


def test_the_calibrated_track_needs_a_profile(tmp_path: Path) -> None:
    refuse("the calibrated track of run vllm-law-0 needs a profile", tmp_path, profile=None, kind=NotAvailable)


def test_the_offset_needs_a_measured_front_end(tmp_path: Path) -> None:
    profile = without(make_profile(Law()), "frontend")
    refuse("frontend=offset needs a profile with front-end samples", tmp_path, profile=profile, frontend="offset")


def test_the_other_tracks_say_what_they_need(tmp_path: Path) -> None:
    refuse(r"no shipped track: the PyPI release ships no profiles", tmp_path, track="shipped")
    refuse(r"no matched track: .*mlp.csv is missing", tmp_path, track="matched", source="git", checkout=str(tmp_path))
    nowhere: dict[str, Any] = {"repository": str(tmp_path / "nowhere.git"), "commit": "0" * 40}
    refuse(r"no shipped track: vidur: no copy of commit 0000000", tmp_path, track="shipped", source="git", **nowhere)


def test_hardware_without_memory_and_a_model_without_layers_are_named(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 100, 10)])
    for key, message in (("hardware", "does not say its hardware's memory_gb"), ("model", "has no num_hidden_layers in its config.json")):
        scratch = tmp_path / key
        scratch.mkdir()
        config = {k: v for k, v in measured.config.items() if k != key}
        object.__setattr__(run := make_measured([(0.5, 100, 10)]), "config", config)
        refuse(message, scratch, measured=run)


def test_a_run_that_sent_nothing_is_refused(tmp_path: Path) -> None:
    run = make_measured([(0.5, 100, 10)])
    object.__setattr__(run, "records", (RequestRecord(request_id=0, arrival=0.499, error="never sent"),))
    refuse("sent no request, so there is nothing to simulate", tmp_path, measured=run)


def test_profiles_that_are_not_really_there(tmp_path: Path) -> None:
    files = shipped_files(tmp_path, VidurNames(model="m/n", device="a100", network="dgx"))
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a,b\n1,2\n")
    assert unusable(files.values()) is None
    files["attention"].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "attention.csv is a Git LFS pointer, not the data" in str(unusable(files.values()))
    files["attention"].write_text("")
    assert "attention.csv is empty" in str(unusable(files.values()))
    files["attention"].unlink()
    assert "attention.csv is missing" in str(unusable(files.values()))


def test_arrival_times_are_written_to_the_last_bit(tmp_path: Path) -> None:
    times = [0.1234567890123456, 3.0000000000000004, 86399.99999999999]
    trace = Trace(name="t", requests=tuple(Request(request_id=i, arrival=t, input_tokens=1, output_tokens=1) for i, t in enumerate(times)))
    for source, column in (("pypi", 1), ("git", 0)):
        write_trace(trace, source, tmp_path / "trace.csv")  # type: ignore[arg-type]
        rows = (tmp_path / "trace.csv").read_text().splitlines()[1:]
        assert [float(row.split(",")[column]) for row in rows] == times


REQUESTS = make_measured([(0.5, 100, 2), (0.6, 50, 1)], first_id=7).trace_as_sent().requests
ROWS = ["0,0.03,0.0,0.01,100,2,0", "1,0.02,0.005,0.02,50,1,0"]
STEPS = [(0.5, 0.01, [0], [100]), (0.51, 0.02, [0], [1]), (0.6, 0.02, [1], [50])]


def write_output(folder: Path, rows: list[str], steps: list[tuple[float, float, list[int], list[int]]]) -> Path:
    (folder / "request_metrics.csv").write_text("\n".join([COLUMNS + ",request_num_restarts", *rows]) + "\n")
    events = [{"ts": t * 1e6, "dur": d * 1e6, "args": {"request_ids": ids, "num_q_tokens": n}} for t, d, ids, n in steps]
    (folder / "chrome_trace.json").write_text(json.dumps({"traceEvents": events}))
    return folder


def read(folder: Path) -> dict[int, RequestRecord]:
    outcomes, steps = read_output(folder, REQUESTS, folder / "log")
    return {r.request_id: r for r in records(REQUESTS, outcomes, steps, offset=0.0, log=folder / "log")}


def test_good_output_becomes_records(tmp_path: Path) -> None:
    got = read(write_output(tmp_path, ROWS, STEPS))
    assert got[7].token_times == pytest.approx((0.51, 0.53))
    assert (got[7].first_token, got[7].finished) == pytest.approx((0.51, 0.53))
    assert got[8].scheduled == pytest.approx(0.605)
    assert got[8].token_times == (got[8].finished,)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:1], r"2 requests asked, 1 rows came out: 1 missing \(ids 8\)"),
        ([], r"2 requests asked, 0 rows came out: 2 missing \(ids 7, 8\)"),
        ([ROWS[0], "1,nan,0.0,0.02,50,1,0"], "output for request 8 has request_e2e_time=nan"),
        ([ROWS[0], "1,,0.0,0.02,50,1,0"], "output for request 8 has request_e2e_time=nan"),
        (["0,0.03,0.0,0.01,90,2,0", ROWS[1]], r"request 7 of 100 [+] 2 tokens was simulated as 90 [+] 2"),
        ([ROWS[0], "1,0.01,0.0,0.02,50,1,0"], "request 8 has delay 0.0 s, TTFT 0.02 s, E2E 0.01 s .* contradict"),
        ([ROWS[0], "1,0.02,-0.1,0.02,50,1,0"], "request 8 has delay -0.1 s"),
        (["0,0.0301,0.0,0.01,100,2,0", ROWS[1]], "request 7 has .* contradict each other"),
    ],
)
def test_bad_output_is_refused_by_name(rows: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=message):
        read(write_output(tmp_path, rows, STEPS))


def test_a_restarted_request_has_no_token_times(tmp_path: Path) -> None:
    got = read(write_output(tmp_path, ["0,0.03,0.0,0.01,100,2,1", ROWS[1]], STEPS[:1] + STEPS[2:]))
    assert got[7].token_times is None
    assert got[7].finished == pytest.approx(0.53)


def test_output_that_is_missing_or_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"cannot be read: FileNotFoundError.*request_metrics.csv"):
        read(tmp_path)
    trace = write_output(tmp_path, ROWS, STEPS) / "chrome_trace.json"
    trace.write_text(trace.read_text()[:-5])
    with pytest.raises(SimulatorError, match=r"cannot be read: JSONDecodeError"):
        read(tmp_path)


def test_a_scratch_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    refuse(r"its input files could not be written into .*/gone: ", tmp_path / "gone")
