"""BLIS: what cannot be is one line before it starts; the real program, where PLUMBLINE_BLIS names one, gives back what was asked."""

import csv
import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from results.record import EngineLimits, Run
from results.storage import conformance
from simulators.blis.files import COLUMNS, read_records, write_trace
from simulators.conformance.__main__ import main
from simulators.conformance.scene import ON_H100, Scene
from simulators.errors import NotAvailable, SimulatorError
from tests.simulators.foreign.copies import configured
from tests.simulators.profiles import make_measured, overtaken

BINARY = os.environ.get("PLUMBLINE_BLIS")
real = pytest.mark.skipif(not BINARY, reason="set PLUMBLINE_BLIS to a binary in a clone of github.com/inference-sim/inference-sim")
REQUESTS = sorted((0.5 + 0.02 * i + 1e-3 * (7 * i % 5), 20 + 37 * i % 700, 1 + 11 * i % 50) for i in range(60))


def on_h100(**limits: Any) -> Run:
    """A measured run of an 8B model on an H100."""
    scene = Scene(requests=tuple(REQUESTS), limits=dataclasses.replace(ON_H100, **limits), model="llama_3_1_8b", ids=tuple(range(100, 160)))
    return overtaken(scene.measured(), 20)


def simulate(measured: Run, scratch: Path, *, track: Any = "matched", **changes: Any) -> Run:
    scratch.mkdir(exist_ok=True)
    run: Run = configured("blis", **changes).simulate(measured, track=track, profile=None, scratch=scratch)
    return run


@real
@pytest.mark.e2e
@pytest.mark.parametrize("backend", ["trained-physics", "roofline"])
def test_every_request_comes_back_as_asked_and_twice_the_same(backend: str, tmp_path: Path) -> None:
    measured = on_h100()
    for track in ("shipped", "matched"):
        run, again = (simulate(measured, tmp_path / f"{track}{part}", track=track, backend=backend) for part in (1, 2))
        assert run.records == again.records
        assert run.system == ("blis" if backend == "trained-physics" else "blis_roofline")
        for record, asked, real_one in zip(run.records, run.trace, measured.records, strict=True):
            assert (record.request_id, record.input_tokens, record.output_tokens) == (
                asked.request_id,
                asked.input_tokens,
                asked.output_tokens,
            )
            assert record.sent == real_one.sent and (record.sent or 0) < (record.first_token or 0) <= (record.finished or 0)
    assert run.version and run.version.startswith("sha256-") and run.config["simulator"]["timing"]["wall_s"] > 0


@real
@pytest.mark.e2e
def test_limits_and_devices_count_and_none_is_lost_behind_its_default_horizon(tmp_path: Path) -> None:
    few = simulate(on_h100(max_num_seqs=1), tmp_path / "few")  # takes far longer than twice the arrivals
    many = simulate(on_h100(), tmp_path / "many")
    two = simulate(on_h100(tensor_parallel=2), tmp_path / "two")
    last = [max(r.finished or 0.0 for r in run.records) for run in (few, many)]
    assert last[0] > 2 * REQUESTS[-1][0] and last[0] > 3 * last[1] - 2 * REQUESTS[-1][0]
    assert all(a.finished is not None for a in few.records)
    lone = [run.records[0].finished or 0.0 for run in (two, many)]
    assert lone[0] < lone[1]


@real
@pytest.mark.e2e
def test_the_conformance_kit_can_ask_it(tmp_path: Path) -> None:
    main(["check", "blis", "--out", str(tmp_path)])
    found = conformance.read("blis", tmp_path)
    assert found is not None and (found.measured("tensor_parallel"), found.measured("gqa")) == ("yes", "yes")
    assert found.measured("kv_limit") is None  # the law's cases need a calibrated track


def test_the_trace_has_every_request_in_microseconds(tmp_path: Path) -> None:
    trace = on_h100().trace_as_sent()
    header, rows = write_trace(trace, tmp_path)
    assert "trace_version: 3" in header.read_text()
    with rows.open() as stream:
        read = list(csv.DictReader(stream))
    assert tuple(read[0]) == COLUMNS
    asked = [(r.request_id, r.input_tokens, r.output_tokens) for r in trace]
    assert [(int(r["request_id"]), int(r["input_tokens"]), int(r["output_tokens"])) for r in read] == asked
    assert [int(r["arrival_time_us"]) for r in read] == pytest.approx([1e6 * r.arrival for r in trace], abs=0.5)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("[]", r"2 requests asked, 0 rows came out: 2 missing \(ids 0, 1\)"),
        ("{", r"its results cannot be read"),
        ('[{"request_id": 0, "ttft_us": 5, "e2e_us": 9, "input_tokens": 10, "output_tokens": 2}]', r"1 missing \(ids 1\)"),
        (
            '[{"request_id": 0, "ttft_us": 5, "e2e_us": 9, "input_tokens": 10, "output_tokens": 2}, '
            '{"request_id": 1, "ttft_us": 5, "e2e_us": 9, "input_tokens": 10, "output_tokens": 1}]',
            r"request 1 of 10 \+ 2 tokens was simulated as 10 \+ 1;",
        ),
        (
            '[{"request_id": 0, "ttft_us": 9, "e2e_us": 5, "input_tokens": 10, "output_tokens": 2}, '
            '{"request_id": 1, "ttft_us": 5, "e2e_us": 9, "input_tokens": 10, "output_tokens": 2}]',
            r"request 0 has a TTFT of .* and an E2E of",
        ),
    ],
)
def test_results_that_cannot_be_are_one_line(results: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(results)
    (tmp_path / "log").write_text("its last words\n")
    trace = make_measured([(0.5, 10, 2), (0.6, 10, 2)]).trace_as_sent()
    with pytest.raises(SimulatorError, match=message) as error:
        read_records(tmp_path / "results.json", trace, tmp_path / "log")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("measured", "changes", "message"),
    [
        (on_h100(), {"binary": None}, r"blis: no binary; build one from .* set simulators.blis.binary, or PLUMBLINE_BLIS"),
        (on_h100(), {"binary": "nowhere/blis"}, r"blis: no file .*nowhere/blis, .*defaults.yaml, .*hardware_config.json"),
        (make_measured(REQUESTS), {}, r"it has no coefficients of cpu-test, only of h100, a100, l40s"),
        (on_h100(data_parallel=2), {}, r"is of an engine with 2 data-parallel replicas, and it is set up for one"),
        (dataclasses.replace(on_h100(), limits=EngineLimits()), {}, r"does not say the engine's kv_tokens, max_num_seqs, max_num_batched"),
    ],
)
def test_what_it_cannot_be_asked_is_not_available(measured: Run, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    for name in ("blis", "defaults.yaml", "hardware_config.json"):
        (tmp_path / name).write_text("")
    with pytest.raises(NotAvailable, match=message) as error:
        simulate(measured, tmp_path / "scratch", **{"binary": str(tmp_path / "blis"), **changes})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"), [({"backend": "magic"}, r"backend must be trained-physics or roofline"), ({"limit": 0}, r"limit must be > 0 s")]
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        configured("blis", **changes)
