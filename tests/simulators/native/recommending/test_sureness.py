"""How sure a recommendation is: by the database's own measurements, else by what was published, else it says that there are none."""

import dataclasses
from pathlib import Path

import pytest

from analysis.scoring.fidelity import score
from results import database
from results.record import Run
from results.storage.store import write_run
from simulators.native.planning import settings
from simulators.native.planning.capacity import SustainedRate
from simulators.native.recommending.assessing import Assessment, assess
from simulators.native.recommending.recommend import demand_of
from simulators.native.recommending.sureness import ErrorsSeen, Sureness, all_seen, how_sure, kind_of, seen_of
from simulators.native.recommending.ways import ways
from tests.runs import make_run, make_simulated

NOWHERE = Path("no_such.duckdb")
SEEN = ErrorsSeen(hardware="h100", kind="dense", devices="one", source="a study", of="tpot", measurements=9, mean=0.1, largest=0.3)
CAPACITY = SustainedRate(rate=10.0, low=9.5, high=10.5, requests=2000, simulations=9, settled=True)


def sureness(*, seen: ErrorsSeen | None = SEEN, capacity: SustainedRate | None = CAPACITY, rate: float = 50.0) -> Sureness:
    return Sureness(seen=seen, capacity=capacity, why_not=None if capacity else "too short", rate=rate, devices_each=2)


def test_the_interval_is_that_of_the_simulations_and_of_the_errors_seen() -> None:
    sure = sureness()
    assert sure.rates == pytest.approx((9.5 * 0.9, 10.5 * 1.1)) and sure.replicas == (5, 6)
    assert "off by 10% in the mean, 30% at most, of tpot in 9 measurement(s) (a study)" in str(sure)
    assert "5 to 6 replica(s), 10 to 12 device(s)" in str(sure)
    wide = sureness(seen=dataclasses.replace(SEEN, mean=1.2))
    assert wide.replicas == (3, None) and "3 or more replica(s)." in str(wide)


def test_what_was_never_measured_is_said_to_be_so() -> None:
    alone = sureness(seen=None)
    assert alone.rates == (9.5, 10.5) and "Never held against a measurement like this" in str(alone) and "by simulation alone" in str(alone)
    unknown = sureness(capacity=None)
    assert unknown.replicas is None and "is not known: too short" in str(unknown)


def assessed(*words: str) -> Assessment:
    grid = ["effects.weights=null", "limits.max_num_batched_tokens=2048", "limits.max_num_seqs=256", "requests=300"]
    (way,) = ways([*grid, "rate=20", *words])
    return assess(way, demand_of(way))


def test_published_errors_count_for_the_same_gpu_kind_and_devices_only() -> None:
    seen = all_seen(NOWHERE)
    one = assessed("model=llama_3_1_8b", "hardware=h100", "tensor_parallel=1")
    found = seen_of(one, seen)
    assert found and (found.measurements, found.largest) == (25, 0.622) and "commit d441f1d, 2026-11-30" in found.source
    several = seen_of(assessed("model=llama_3_1_8b", "hardware=h100", "tensor_parallel=2"), seen)
    assert several and several.measurements == 7
    experts = assessed("model=qwen3_30b_a3b", "hardware=h100", "tensor_parallel=1")
    assert kind_of(settings.model("qwen3_30b_a3b")) == "experts" and seen_of(experts, seen) is None
    assert seen_of(assessed("model=llama_3_1_8b", "hardware=b300", "tensor_parallel=1"), seen) is None


def test_every_published_row_is_of_a_gpu_that_there_is() -> None:
    seen = all_seen(NOWHERE)
    assert {s.hardware for s in seen} <= {*settings.choices("hardware")}
    assert all(s.kind in ("dense", "experts") and s.devices in ("one", "several") and 0 < s.mean < 1 and s.measurements > 0 for s in seen)
    assert all(s.largest is None or s.largest >= s.mean for s in seen)


def held(folder: Path, hardware: str) -> Path:
    """A database with two measured runs on this GPU, and what native said of them: one tenth slower, and one fifth faster."""
    for repeat, factor in ((0, 1.1), (1, 0.8)):
        measured = make_run(f"measured-{repeat}", repeat=repeat, num_requests=60)
        config = {**measured.config, "model": settings.model("llama_3_1_8b")}
        measured = dataclasses.replace(measured, hardware=hardware, config=config)
        simulated = slower(make_simulated(measured, system="native", track="matched"), measured, factor)
        for run in (measured, simulated):
            write_run(folder / "runs", run)
    database.build([folder / "runs"], folder / "plumbline.duckdb")
    score(folder / "plumbline.duckdb")
    return folder / "plumbline.duckdb"


def slower(simulated: Run, measured: Run, factor: float) -> Run:
    """The measured records, their decoding so many times as long."""
    records = []
    for r in measured.records:
        assert r.first_token is not None and r.finished is not None and r.token_times is not None
        times = tuple(r.first_token + factor * (t - r.first_token) for t in r.token_times)
        records.append(dataclasses.replace(r, finished=times[-1], token_times=times))
    return dataclasses.replace(simulated, records=tuple(records), hardware=measured.hardware, config=measured.config)


def test_the_database_s_own_measurements_count_before_what_was_published(tmp_path: Path) -> None:
    seen = all_seen(held(tmp_path, "h100"))
    found = seen_of(assessed("model=llama_3_1_8b", "hardware=h100", "tensor_parallel=1"), seen)
    assert found and found.source.endswith("plumbline.duckdb") and found.measurements == 2
    assert found.mean == pytest.approx(0.15, abs=0.01) and found.largest == pytest.approx(0.2, abs=0.01)
    several = seen_of(assessed("model=llama_3_1_8b", "hardware=h100", "tensor_parallel=2"), seen)
    assert several and "gpu_recordings" in several.source
    (tmp_path / "plumbline.duckdb").write_bytes(b"none")
    assert all_seen(tmp_path / "plumbline.duckdb") == all_seen(NOWHERE)


def test_the_choice_is_simulated_until_its_rate_is_known() -> None:
    one = assessed("model=llama_3_1_8b", "hardware=h100", "tensor_parallel=1", "requests=4000", "precision=0.1")
    sure = how_sure(one, demand_of(one.way), all_seen(NOWHERE))
    assert sure.capacity and sure.replicas and one.replicas
    assert sure.replicas[0] <= one.replicas <= (sure.replicas[1] or one.replicas)
