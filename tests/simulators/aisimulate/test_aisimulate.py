"""AISimulate's adapter without AISimulate: its settings, what it writes, what it refuses, what it makes of bad output."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from results.project.folder import ROOT
from results.record import Run
from simulators.aisimulate.adapter import AISimulate
from simulators.aisimulate.files import read_rows, to_records, write_trace
from simulators.aisimulate.sending import at_times, sending
from simulators.aisimulate.tables import AISimulateTables
from simulators.errors import SimulatorError
from simulators.foreign.step_points import fit
from tests.simulators.profiles import LIMITS, Law, make_measured, make_profile, with_limits
from workloads.trace import Request, Trace

LAW = Law()


def make_aisimulate(**changes: Any) -> AISimulate:
    """As conf/simulator/aisimulate.yaml has it; so the file and the constructor must agree."""
    made = hydra.utils.instantiate(OmegaConf.merge(OmegaConf.load(ROOT / "conf" / "simulator" / "aisimulate.yaml"), changes))
    assert isinstance(made, AISimulate)
    return made


def make_tables(*, ending_decodes: bool = True) -> AISimulateTables:
    times = fit("aisimulate", make_profile(LAW))
    return AISimulateTables.of(times, tokens=1024, batch=65, context=4096, ending_decodes=ending_decodes, decode_floor=1e-3)


def shared_trace() -> Trace:
    """Two prompts with their first block in common, and one that shares nothing."""
    return Trace(
        name="shared",
        block_size=32,
        requests=(
            Request(request_id=7, arrival=0.25, input_tokens=70, output_tokens=3, blocks=(900, 901)),
            Request(request_id=3, arrival=0.5, input_tokens=70, output_tokens=4, blocks=(900, 902)),
            Request(request_id=5, arrival=1.000123, input_tokens=10, output_tokens=1),
        ),
    )


def row(request: Request, start: float, **changes: Any) -> dict[str, Any]:
    """A row of its output, for a request that it took 1 s to answer."""
    at = (request.arrival - start) * 1e3
    return {
        "session_id": str(request.request_id),
        "arrival_time_ms": at,
        "first_admit_ms": at + 1,
        "first_token_ms": at + 500,
        "last_token_ms": at + 1000,
        "input_length": request.input_tokens,
        "output_length": request.output_tokens,
        "requested_output_length": request.output_tokens,
        "terminal_status": "completed",
        "turn_index": 0,
        "readmission_count": 0,
        "admission_history": [{"reused_input_tokens": 16}],
        **changes,
    }


def read(tmp_path: Path, trace: Trace, rows: list[dict[str, Any]]) -> list[Any]:
    path, log = tmp_path / "requests.jsonl", tmp_path / "log"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return to_records(trace, at_times(trace), read_rows(path, trace, at_times(trace), log), 0.0, log)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frontend": "some"}, "frontend must be one of none, offset, got 'some'"),
        ({"topology": "ring"}, "topology must be colocated or pd, got 'ring'"),
        ({"decode_instances": 0}, "prefill_instances and decode_instances must be >= 1, got 1 and 0"),
        ({"releases": {"v0_1": {"nearest": {"gpu": "l4"}}}}, "release 0.1.0.dev2, device nearest must have a system and versions"),
        ({"releases": {"v0_1": {"devices": {"h100": {"versions": []}}}}}, "device h100 must have a system and versions"),
        ({"release": "v9"}, "release must be one of nearest, v0_1, v0_13, got 'v9'"),
        ({"release": "v0_1", "tokenization": {"workers": 1}}, "release 0.1.0.dev2 has no tokenization; set release=nearest"),
        ({"limit": 0}, "limit must be > 0 s, got 0"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make_aisimulate(**changes)


@pytest.mark.parametrize(
    ("limits", "changes", "track", "profile", "message"),
    [
        (LIMITS, {}, "calibrated", None, "the calibrated track of run vllm-law-0 needs a profile of its engine"),
        (with_limits(max_num_seqs=None), {}, "matched", None, "does not say the engine's max_num_seqs"),
        (with_limits(kv_tokens=None), {}, "calibrated", make_profile(LAW), "does not say the engine's kv_tokens"),
        (with_limits(chunked_prefill=False), {}, "matched", None, "has chunked prefill off, which it cannot be set to"),
        (LIMITS, {"frontend": "offset"}, "matched", None, "frontend=offset needs a profile with front-end samples"),
        (LIMITS, {"topology": "pd"}, "matched", None, "topology=pd needs the link between devices; set interconnect_gb_s"),
    ],
)
def test_what_it_cannot_be_set_to_is_one_line_before_it_starts(
    limits: Any, changes: dict[str, Any], track: Any, profile: Any, message: str, tmp_path: Path
) -> None:
    measured = make_measured([(0.5, 100, 10)], limits=limits)
    with pytest.raises(SimulatorError, match=message) as error:
        make_aisimulate(**changes).simulate(measured, track=track, profile=profile, scratch=tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "log").exists()


def test_prompts_share_the_blocks_that_the_trace_says_and_no_others(tmp_path: Path) -> None:
    write_trace(shared_trace(), at_times(shared_trace()), tmp_path / "trace.jsonl")
    first, second, third = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert first["hash_ids"][0] == second["hash_ids"][0]
    assert [len(r["hash_ids"]) for r in (first, second, third)] == [3, 3, 1]  # enough for every token, or prompts would be cut
    rest = [*first["hash_ids"][1:], *second["hash_ids"][1:], *third["hash_ids"]]
    assert len(set(rest)) == len(rest)
    assert first["hash_ids"][0] not in rest


def test_arrivals_are_milliseconds_that_are_not_rounded(tmp_path: Path) -> None:
    write_trace(shared_trace(), at_times(shared_trace()), tmp_path / "trace.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert [r["timestamp"] for r in rows] == pytest.approx([250, 500, 1000.123], abs=1e-9)
    assert [r["session_id"] for r in rows] == ["7", "3", "5"]


def test_records_are_seconds_since_the_traces_start_in_its_order(tmp_path: Path) -> None:
    trace = shared_trace()
    records = read(tmp_path, trace, [row(r, 0.25) for r in reversed(trace.requests)])
    assert [r.request_id for r in records] == [7, 3, 5]
    for asked, record in zip(trace, records, strict=True):
        assert record.first_token == pytest.approx(asked.arrival + 0.5)
        assert record.finished == pytest.approx(asked.arrival + 1)
        assert record.cached_tokens == 16
        assert record.token_times is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"session_id": "8"}, "3 requests asked, 3 rows came out: 1 missing .ids 7.*1 unknown .ids 8"),
        ({"input_length": 64}, r"request 7 of \(70, 3\) tokens at 0.25 s was simulated as \(64, 3\) tokens"),
        ({"arrival_time_ms": 1.0}, "request 7 of .* at 0.25 s was simulated as .* at 0.251 s"),
        ({"first_token_ms": float("nan")}, "request 7 has first_token=nan"),
        ({"first_token_ms": -1.0}, "request 7, sent at 0.25 s, has"),
    ],
)
def test_bad_output_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    trace = shared_trace()
    first, *rest = trace.requests
    with pytest.raises(SimulatorError, match=message):
        read(tmp_path, trace, [row(first, 0.25, **changes), *(row(r, 0.25) for r in rest)])


def test_a_lost_row_is_named(tmp_path: Path) -> None:
    trace = shared_trace()
    with pytest.raises(SimulatorError, match=r"3 requests asked, 2 rows came out: 1 missing .ids 5.*"):
        read(tmp_path, trace, [row(r, 0.25) for r in trace.requests[:2]])


def test_a_rejected_request_is_a_failure(tmp_path: Path) -> None:
    trace = shared_trace()
    nothing = dict.fromkeys(("first_admit_ms", "first_token_ms", "last_token_ms"))
    rejected = row(trace.requests[0], 0.25, terminal_status="rejected", output_length=0, admission_history=[], **nothing)
    records = read(tmp_path, trace, [rejected, *(row(r, 0.25) for r in trace.requests[1:])])
    assert [r.error for r in records] == ["aisimulate: rejected after 0 of 3 tokens", None, None]


def test_the_tables_give_the_profiles_points_back() -> None:
    points = make_profile(LAW).points()
    steps = points[points["kind"] != "frontend"].reset_index(drop=True)
    assert make_tables().step(steps) == pytest.approx(steps["time"].to_numpy(), rel=0.01)


def test_apart_a_prefill_step_is_the_prefill_alone() -> None:
    steps = pd.DataFrame([(256, 0, 0, 0.0), (0, 0, 8, 512.0)], columns=["new_tokens", "prefill_context", "batch", "context"])
    assert make_tables(ending_decodes=False).step(steps) == pytest.approx([LAW.prefill(256), LAW.decode(8, 512)], rel=0.01)


def test_more_work_never_takes_less_time() -> None:
    tables = make_tables()
    assert (np.diff(tables.gemm) >= 0).all()
    assert (np.diff(tables.generation, axis=1) >= 0).all()
    assert (np.diff(tables.prefill(np.arange(1, 1024), 100)) > 0).all()


def with_turns(*after: tuple[int, ...]) -> Run:
    """A run of requests each of which waits for these."""
    measured = make_measured([(0.5 + i, 100, 10) for i in range(len(after))])
    asked = tuple(dataclasses.replace(r, after=a, delay=0.2 if a else 0.0) for r, a in zip(measured.trace, after, strict=True))
    return dataclasses.replace(measured, trace=dataclasses.replace(measured.trace, requests=asked))


def test_turns_are_sessions_and_branches_are_sent_when_they_were() -> None:
    chains = with_turns((), (), (0,), (1,), (2,))
    made = sending(chains, chains.trace_as_sent())
    assert (sorted(made.sessions), made.looped) == ([(0, 2, 4), (1, 3)], True)
    for branching in (with_turns((), (0,), (0,)), with_turns((), (), (0, 1))):
        made = sending(branching, branching.trace_as_sent())
        assert (made.sessions, made.looped) == (((0,), (1,), (2,)), False)
