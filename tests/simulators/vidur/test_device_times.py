"""Vidur on times of single operations: found for the run's own model and device, and (e2e) summed up by the real Vidur."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.environment import ensure
from harness.microbench.benchmarks import decode_grid, prompt_grid, token_grid
from results import database
from results.operations import COLUMNS, FOLDER, Operations
from results.record import Run
from results.storage.archive import pack, unpack_runs
from results.storage.store import write_run
from simulators.errors import NotAvailable
from simulators.vidur.device_times import DeviceTimes
from simulators.vidur.tables import OPERATIONS as LINEAR
from tests.simulators.profiles import MODEL, Law, make_measured, make_profile, with_limits
from tests.simulators.vidur.test_vidur import make_vidur

LAYERS = 4
PROMPTS, BUDGET = (40, 200, 480), 512


def linear(tokens: int) -> float:
    """s of each linear operation."""
    return 2e-5 + 4e-7 * tokens


def prefill(chunk: int, context: int) -> float:
    return 1e-5 + 1e-9 * chunk * (context + chunk / 2)


def decode(batch: int, context: int) -> float:
    return 2e-5 + 2e-8 * batch * context


def rows() -> Iterator[tuple[Any, ...]]:
    for n in token_grid(1024):
        yield from ((name, n, 0, 0, 0, linear(n)) for name in ("emb", *LINEAR))
    for chunk, context in prompt_grid(BUDGET, 1024):
        yield ("attn_prefill", chunk, 1, chunk, context, prefill(chunk, context))
        yield ("attn_kv_cache_save", chunk, 1, chunk, context, 1e-6)
    for batch, context in decode_grid(16, 1024, 1 << 20, 16):
        yield ("attn_decode", batch, batch, 0, context, decode(batch, context))
        yield ("attn_kv_cache_save", batch, batch, 0, context, 1e-6)


def make_operations(**changes: Any) -> Operations:
    times = pd.DataFrame([(*row, row[-1], row[-1], row[-1], 0.0) for row in rows()], columns=list(COLUMNS))
    made = Operations(
        operations_id="20260102T030405-operations-cpu-test",
        model=MODEL,
        hardware="cpu-test",
        tensor_parallel=1,
        block_size=16,
        kernels={"attention": "a law"},
        times=times,
        source="a law",
        started_at="2026-01-02T03:04:05+00:00",
        wall_s=1.0,
        wanted={"linear": 131, "prefill": 500, "decode": 500},
    )
    return dataclasses.replace(made, **changes)


def put(root: Path, **changes: Any) -> Path:
    made = make_operations(**changes)
    made.write(root / FOLDER / made.operations_id)
    return root


def test_the_newest_of_the_runs_own_device_and_model_is_taken(tmp_path: Path) -> None:
    put(tmp_path)
    put(tmp_path, operations_id="20260103T000000-operations-cpu-test")
    put(tmp_path, operations_id="20260104T000000-operations-other", hardware="other")
    put(tmp_path, operations_id="20260105T000000-operations-cpu-test", model=MODEL | {"hidden_size": 1024})
    found = DeviceTimes.find([tmp_path], make_measured([(0.5, 100, 10)]), None)
    assert found.operations.operations_id == "20260103T000000-operations-cpu-test"


@pytest.mark.parametrize("changes", [{"hardware": "h100"}, {"limits": with_limits(tensor_parallel=2)}])
def test_another_device_is_not_stood_in_for(tmp_path: Path, changes: dict[str, Any]) -> None:
    measured = dataclasses.replace(make_measured([(0.5, 100, 10)]), **changes)
    with pytest.raises(NotAvailable, match=r"no times of single operations of tiny on .*docs/gpu.md"):
        make_vidur(operations=[str(put(tmp_path))]).simulate(measured, track="matched", profile=None, scratch=tmp_path)


def test_times_of_a_budget_that_ended_too_early_are_refused(tmp_path: Path) -> None:
    times = make_operations().times
    prompts = times[times["operation"] == "attn_prefill"].index
    few = times.drop(prompts[3:])
    with pytest.raises(NotAvailable, match=r"hold too few \(3 of 500 prefill points\): measure longer"):
        DeviceTimes.find([put(tmp_path, times=few)], make_measured([(0.5, 100, 10)]), None)


def test_the_matched_track_is_there_where_times_are(tmp_path: Path) -> None:
    assert make_vidur(operations=[str(tmp_path)]).tracks() == ("calibrated",)
    assert make_vidur(operations=[str(put(tmp_path))]).tracks() == ("matched", "calibrated")


def test_a_campaigns_archive_is_unpacked_beside_the_runs_once(tmp_path: Path) -> None:
    content = put(tmp_path / "content")
    archive = pack(content, tmp_path / "vllm-operations-0123456789ab.tar.gz")
    root = tmp_path / "runs"
    assert unpack_runs([archive], root) == [root / FOLDER / "20260102T030405-operations-cpu-test"]
    assert unpack_runs([archive], root) == []
    assert make_vidur(operations=[str(root)]).tracks() == ("matched", "calibrated")
    write_run(root, make_measured([(0.5, 100, 10)]))
    assert database.build([root], tmp_path / "plumbline.duckdb") == 1  # the times are no run


def test_its_tables_are_in_vidurs_own_form(tmp_path: Path) -> None:
    found = DeviceTimes.find([put(tmp_path)], make_measured([(0.5, 100, 10)]), None)
    mlp, attention = found.linear(), found.attention()
    assert list(mlp["num_tokens"]) == token_grid(1024)
    assert mlp.set_index("num_tokens")["time_stats.mlp_up_proj.median"][512] == pytest.approx(1e3 * linear(512))  # ms
    assert {f"time_stats.{name}.{stat}" for name in ("emb", *LINEAR) for stat in ("min", "max", "mean", "median", "std")} <= set(mlp)
    assert len(attention) == len(prompt_grid(BUDGET, 1024)) + len(decode_grid(16, 1024, 1 << 20, 16))
    at = attention.set_index(["prefill_chunk_size", "kv_cache_size", "batch_size", "is_prefill"])
    assert at["time_stats.attn_prefill.median"][256, 512, 1, True] == pytest.approx(1e3 * prefill(256, 512))
    assert at["time_stats.attn_decode.median"][0, 512, 8, False] == pytest.approx(1e3 * decode(8, 512))
    assert not attention.isna().any().any()


@pytest.mark.e2e
def test_vidur_sums_the_operations_up(tmp_path: Path) -> None:
    ensure("vidur")
    requests = [(0.5 + 2 * i, n, 12) for i, n in enumerate(PROMPTS)] + [(20.0, 64, 60) for _ in range(8)]
    limits = with_limits(kv_tokens=2048)
    run = simulate(make_measured(requests, limits=limits), tmp_path)
    for record, n in zip(run.records, PROMPTS, strict=False):
        assert record.first_token is not None and record.sent is not None and record.token_times is not None
        # the PyPI release looks a prompt's attention up at a context that holds the prompt itself
        high = LAYERS * (len(LINEAR) * linear(n) + prefill(n, n + 64))
        low = LAYERS * (len(LINEAR) * linear(n) + prefill(n, 0))
        assert 0.97 * low < record.first_token - record.sent < 1.05 * high
        step = LAYERS * (len(LINEAR) * linear(8) + decode(1, n))  # tokens are rounded up to 8
        assert (record.token_times[-1] - record.token_times[0]) / 11 == pytest.approx(step, rel=0.08)
    told = run.config["simulator"]["calibration"]
    assert told["operations"] == "20260102T030405-operations-cpu-test"
    assert told["timed_up_to"] == {"tokens": 1024, "chunk": BUDGET, "prefill_context": 960, "batch": 16, "context": 992}
    assert told["steps"] > 0 and told["steps_outside"] == 0
    assert told["residuals"]["fitted"]["decode"]["n"] > 0  # against the engine's own profile, which it never saw
    assert run.track == "matched" and run.limits.kv_tokens == 2048


def simulate(measured: Run, folder: Path) -> Run:
    vidur, scratch = make_vidur(operations=[str(put(folder))]), folder / "scratch"
    scratch.mkdir()
    return vidur.simulate(measured, track="matched", profile=make_profile(Law()), scratch=scratch)
