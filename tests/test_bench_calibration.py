"""A bench over a stored run without a profile: the calibrated track from another source, and what the run and the report say of it."""

import dataclasses

from results.record import Run
from results.storage.store import read_run, run_folders, write_run
from tests.benches import Bench
from tests.simulators.calibration import made_tables
from tests.simulators.calibration.made_runs import run_of
from tests.simulators.profiles import MODEL, make_measured

PLAYED_BACK = ("engine=recorded", "engine.run=vllm-law-0", "simulator=[native]", "tracks=[calibrated]")


def stored(bench: Bench) -> Run:
    """A run of a model and a device that the made tables have, in the bench's folder of measured runs."""
    run = make_measured([(0.05 * i, 40 + 7 * i, 20) for i in range(150)])
    hardware = {"name": "tiny", "memory_gb": 8, "memory_bandwidth_gb_s": 1000.0}
    run = dataclasses.replace(run, hardware="tiny", config={**run.config, "model": {**MODEL, "vocab_size": 4000}, "hardware": hardware})
    write_run(bench.folder / "measured", run)
    return run


def test_the_run_and_the_report_say_where_the_step_times_are_from(bench: Bench) -> None:
    stored(bench)
    made_tables.made(bench.folder / "tables")
    data = ("calibration.environment=null", f"calibration.data={bench.folder / 'tables'}", "+calibration.devices.tiny=tiny_gpu")
    done = bench.run(*PLAYED_BACK, "calibration=aic", *data)
    assert done.returncode == 0, done.stdout + done.stderr
    (simulated,) = map(read_run, run_folders(bench.runs))
    told = simulated.config["simulator"]["step_times_from"]
    assert told["source"] == "aic"
    assert told["profile"] == simulated.config["simulator"]["step_time"]["profile"] == "aic-tiny-tiny-tp1"
    assert "composed from the operation times of aiconfigurator-core for tiny_gpu" in bench.report.read_text()


def test_a_source_that_has_nothing_for_a_run_is_shown_with_its_reason(bench: Bench) -> None:
    stored(bench)
    done = bench.run(*PLAYED_BACK, "calibration=first_requests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not available: native:calibrated: calibration first_requests: run vllm-law-0 is scored on its first 100 requests" in done.stdout
    assert run_folders(bench.runs) == []


def test_another_run_calibrates_and_the_scored_one_does_not(bench: Bench) -> None:
    for run_id, rate, seed in (("calm", 8.0, 1), ("busy", 20.0, 2)):
        write_run(bench.folder / "measured", run_of(run_id, rate=rate, seed=seed, requests=60))
    asked = (
        "engine=recorded",
        "engine.run=busy",
        "simulator=[native]",
        "tracks=[calibrated]",
        "calibration=run",
        "calibration.iterations=2",
    )
    done = bench.run(*asked, "calibration.run=calm")
    assert done.returncode == 0, done.stdout + done.stderr
    (simulated,) = map(read_run, run_folders(bench.runs))
    told = simulated.config["simulator"]["step_times_from"]
    assert (told["source"], told["fitted_to"]["run_id"], told["fitted_to_requests"]) == ("run", "calm", 60)
    assert "roofline, fitted to the other run calm" in bench.report.read_text()
    refused = bench.run(*asked, "calibration.run=busy")
    assert refused.returncode == 0, refused.stdout + refused.stderr
    assert "not available: native:calibrated: calibration run: busy is the run that is scored (the same run_id)" in refused.stdout
    assert run_folders(bench.runs) == []
    missing = bench.run(*asked, "calibration.run=cosy")
    assert missing.returncode == 1
    assert "calibration run: no run named cosy" in missing.stdout


def test_without_another_source_a_run_without_a_profile_has_no_calibrated_track(bench: Bench) -> None:
    stored(bench)
    done = bench.run(*PLAYED_BACK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not available: native:calibrated: native: the calibrated track needs a profile" in done.stdout


def test_a_simulator_that_has_none_of_the_tracks_is_not_passed_over_in_silence(bench: Bench) -> None:
    stored(bench)
    done = bench.run("engine=recorded", "engine.run=vllm-law-0", "simulator=[vidur]", "tracks=[shipped]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not available: vidur:shipped: as configured it has the tracks calibrated only" in done.stdout
