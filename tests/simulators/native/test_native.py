"""Native in the bench and on the command line: runs in, runs out, one line when it cannot."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from results.project.folder import ROOT
from results.record import EngineLimits, Run
from results.storage.store import read_run, write_run
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.adapter import Native
from simulators.native.architecture.reader import decoder_of
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.frontend.station import Station
from simulators.native.planning.capacity import SustainedRate
from simulators.native.planning.compare import Candidate, front
from simulators.native.planning.settings import judge, settings, trace
from simulators.native.resolve import limits_of
from simulators.native.serve import COMPILED_FROM
from tests.runs import LIMITS, make_run, make_trace
from tests.simulators.foreign.copies import gaps, linked
from tests.simulators.native.latency.test_step_time import LLAMA_8B, TINY, profile
from tests.simulators.profiles import MODEL, Law, make_measured, make_profile, with_limits
from workloads.columns import columns_of
from workloads.files import write_csv

H200 = {"name": "h200", "memory_gb": 141, "fp16_tflops": 989.4, "memory_bandwidth_gb_s": 4800, "interconnect_gb_s": 900}


def native(**changes: Any) -> Native:
    """As conf/simulator/native.yaml has it."""
    settings = OmegaConf.load(ROOT / "conf" / "simulator" / "native.yaml")
    made: Native = instantiate(OmegaConf.merge(settings, changes))
    return made


def measured(**changes: Any) -> Run:
    run = make_run(failures=(3,))
    records = list(run.records)
    records[5] = dataclasses.replace(
        records[5], sent=None, scheduled=None, first_token=None, finished=None, token_times=None, error="no socket"
    )
    config = {**run.config, "model": TINY, "hardware": H200}
    return dataclasses.replace(run, records=tuple(records), config=config, **changes)


def test_it_is_a_simulator() -> None:
    simulator = native()
    assert (simulator.system, simulator.environment) == ("native", None)
    assert simulator.tracks() == ("shipped", "matched", "calibrated", "oracle")


def test_the_memory_model_stands_in_where_only_the_kv_capacity_is_unknown(tmp_path: Path) -> None:
    """In process an engine says nothing of its KV cache, but how many sequences it takes is in its arguments."""
    known = native().simulate(measured(), track="matched", profile=None, scratch=tmp_path)
    silent = measured(limits=dataclasses.replace(measured().limits, kv_tokens=None))
    made = native().simulate(silent, track="matched", profile=None, scratch=tmp_path)
    shipped = native().simulate(silent, track="shipped", profile=None, scratch=tmp_path)
    assert made.config["simulator"]["limits"]["max_num_seqs"] == known.config["simulator"]["limits"]["max_num_seqs"]
    room = [run.config["simulator"]["limits"] for run in (made, shipped)]
    assert room[0]["kv_blocks"] * room[0]["block_size"] == pytest.approx(room[1]["kv_blocks"] * room[1]["block_size"], rel=1e-3)
    said = [run.config["simulator"]["kv_capacity"] for run in (known, made, shipped)]
    assert said == ["the engine's", "our memory model's", "our memory model's"]
    calibrated = native().simulate(silent, track="calibrated", profile=make_profile(Law()), scratch=tmp_path)
    assert calibrated.config["simulator"]["limits"] == made.config["simulator"]["limits"]


@pytest.mark.parametrize("track", ["shipped", "matched", "calibrated"])
def test_a_run_comes_out_for_each_track(track: Any, tmp_path: Path) -> None:
    asked = measured()
    run = native().simulate(asked, track=track, profile=profile(), scratch=tmp_path)
    assert (run.kind, run.system, run.track, run.measured_run_id) == ("simulated", "native", track, asked.run_id)
    assert run.records[5].error == "not sent in the measured run"
    for ours, theirs in zip(run.records, asked.records, strict=True):
        assert (ours.request_id, ours.arrival, ours.sent) == (theirs.request_id, theirs.arrival, theirs.sent)
        if theirs.sent is not None:
            assert ours.first_token is not None and ours.finished is not None and theirs.sent < ours.first_token <= ours.finished
    assert "requests in" in (tmp_path / "log").read_text()
    stored = read_run(write_run(tmp_path / "runs", run))
    assert stored.records == run.records


MOE = {
    **TINY,
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
}


def test_replicas_that_share_experts_are_several_engines_of_one_system(tmp_path: Path) -> None:
    """Each has its own KV and scheduler; an exchange in every layer makes their steps longer than those of replicas that share nothing."""
    asked = measured()
    config, finished = {**asked.config, "model": MOE}, {}
    for data, expert in ((1, 1), (2, 2)):
        limits = dataclasses.replace(asked.limits, data_parallel=data, expert_parallel=expert)
        run = native().simulate(dataclasses.replace(asked, limits=limits, config=config), track="matched", profile=None, scratch=tmp_path)
        assert run.system == "native" and run.config["simulator"]["step_time"]["parallel"]["expert"] == expert
        finished[data] = [r.finished for r in run.records if r.finished is not None]
        stored = read_run(write_run(tmp_path / f"runs{data}", run))
        assert (stored.limits.data_parallel, stored.limits.expert_parallel) == (data, expert)
    assert len(finished[1]) == len(finished[2]) > 5 and finished[1] != finished[2]
    together, apart = (Arrangement().of_replicas(2, share_experts=shared) for shared in (True, False))
    assert (together, apart) == (Arrangement(kind="data_parallel", instances=2), Arrangement(instances=2, router="balanced"))
    several = native(arrangement={"instances": 2})
    shared = dataclasses.replace(asked, limits=dataclasses.replace(asked.limits, data_parallel=2), config=config)
    with pytest.raises(NotAvailable, match="the 2 replicas of an engine are an arrangement of their own; leave arrangement as it is"):
        several.simulate(shared, track="matched", profile=None, scratch=tmp_path)


def test_the_stages_of_a_measured_engine_are_simulated(tmp_path: Path) -> None:
    asked = measured()
    staged = dataclasses.replace(asked, limits=dataclasses.replace(asked.limits, pipeline_parallel=2))
    run = native().simulate(staged, track="matched", profile=None, scratch=tmp_path)
    assert run.config["simulator"]["limits"]["pipeline_parallel_size"] == 2
    assert run.records != native().simulate(asked, track="matched", profile=None, scratch=tmp_path).records


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    once, again = (native().simulate(measured(), track="calibrated", profile=profile(), scratch=tmp_path) for _ in range(2))
    assert once.records == again.records and once.config == again.config


def test_the_calibrated_track_uses_the_profile_and_its_front_end(tmp_path: Path) -> None:
    simulator = native(frontend_after=0.25, frontend={"api": "none"})
    run = simulator.simulate(measured(), track="calibrated", profile=profile(), scratch=tmp_path)
    settings = run.config["simulator"]
    assert settings["step_time"]["profile"] == "made" and settings["step_time"]["steps"] == settings["steps"]
    front = settings["frontend"]  # the profile's 5 ms, and 1 us for each prompt token but the first
    assert front["before"] + front["before_per_token"] + front["after"] == pytest.approx(0.005)
    assert front["after"] == pytest.approx(0.00125) and front["before_per_token"] == 1e-6
    assert "held-out points" in (tmp_path / "log").read_text()


def ttft(run: Run) -> float:
    return sum(r.first_token - r.arrival for r in run.records if r.first_token is not None) / len(run.records)


@pytest.mark.parametrize("track", ["shipped", "matched"])
def test_the_api_servers_stand_before_an_engine_that_has_a_server(track: Any, tmp_path: Path) -> None:
    """Our own client sends token ids; a recording is taken for chat. One made in process passed no server; an unknown engine has none."""

    def made(simulator: Native, run: Run) -> Run:
        return simulator.simulate(run, track=track, profile=None, scratch=tmp_path)

    off = made(native(frontend={"api": "none"}), measured())
    assert "API servers: " not in (tmp_path / "log").read_text()
    ours = made(native(), measured())
    assert "API servers: " in (tmp_path / "log").read_text()
    recorded = made(native(), measured(provenance={"recorded_by": "someone else; imported"}))
    assert ttft(off) < ttft(ours) < ttft(recorded)
    use = ours.config["simulator"]["frontend"]["use"]
    assert ttft(ours) - ttft(off) >= use["before"] > ours.config["simulator"]["frontend"]["station"]["request"]
    for nobody in ({"provenance": {"recorded_by": "someone else; imported", "in_process": True}}, {"system": "mine"}):
        assert made(native(), measured(**nobody)).records == off.records
    slow, two = made(native(frontend={"cpu_scale": 2.0}), measured()), made(native(frontend={"api_servers": 2}), measured())
    assert ttft(two) <= ttft(ours) < ttft(slow)


def test_the_calibrated_tracks_front_end_costs_on_an_idle_server_what_the_profile_says(tmp_path: Path) -> None:
    run = native(frontend_after=0.25).simulate(measured(), track="calibrated", profile=profile(), scratch=tmp_path)
    told = run.config["simulator"]["frontend"]
    station = Station(**told["station"])
    assert station.prompt_token == 1e-6 and 0 < station.idle(1) < 0.005
    assert told["before"] + station.idle(1) + told["after"] == pytest.approx(0.005)
    assert told["after"] == pytest.approx((0.005 - station.idle(1)) / 4) and told["before_per_token"] == 0
    assert told["use"]["before"] >= station.request + station.hand_over and told["use"]["first_token"] >= station.after


def test_prefill_and_decode_apart_are_a_system_of_their_own(tmp_path: Path) -> None:
    """A client sees the decode instance's first token, one step after the KV cache has arrived there (harness/engines/vllm_pd.py)."""
    law, gb_s = Law(), 0.02
    asked = linked(make_measured([(0.5, 100, 3), (9.0, 200, 1)]), gb_s)
    simulator = native(arrangement={"kind": "distserve", "instances": 2})
    run = simulator.simulate(asked, track="calibrated", profile=make_profile(law), scratch=tmp_path)
    sent = decoder_of(MODEL).kv_bytes_per_token / (1e9 * gb_s / 2)
    assert run.system == simulator.system == "native_pd"
    first = [law.frontend + law.prefill(n) + n * sent + law.decode(1, n) for n in (100, 200)]
    assert gaps(run.records[0]) == pytest.approx([first[0], law.decode(1, 101), law.decode(1, 102)], rel=0.02)
    assert gaps(run.records[1]) == pytest.approx([first[1]], rel=0.02)
    assert [r.output_tokens for r in run.records] == [3, 1]
    longest = with_limits(max_model_len=103)
    full = simulator.simulate(
        linked(make_measured([(0.5, 100, 3)], limits=longest), gb_s), track="calibrated", profile=make_profile(law), scratch=tmp_path
    )
    assert full.records[0].error is None and full.records[0].output_tokens == 3


@pytest.mark.parametrize(
    ("track", "arrangement", "message"),
    [
        ("oracle", {"instances": 2}, "the oracle track has the steps of one engine"),
        ("calibrated", {"kind": "distserve", "instances": 2}, "set interconnect_gb_s in conf/hardware"),
    ],
)
def test_what_an_arrangement_cannot_is_not_available(track: Any, arrangement: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=message):
        native(arrangement=arrangement).simulate(make_measured([(0.5, 100, 3)]), track=track, profile=make_profile(Law()), scratch=tmp_path)


def test_replicas_in_the_bench_share_the_load(tmp_path: Path) -> None:
    burst = make_measured([(0.5, 400, 3)] * 8)
    finished = []
    for arrangement in ({}, {"instances": 4}):
        run = native(arrangement=arrangement).simulate(burst, track="calibrated", profile=make_profile(Law()), scratch=tmp_path)
        finished.append(max(r.finished or 0.0 for r in run.records))
    assert run.system == "native_replicas"
    assert finished[1] < finished[0]


def test_a_slower_engine_is_slower(tmp_path: Path) -> None:
    samples = profile().samples.assign(time=lambda frame: 3 * frame["time"])
    slow = dataclasses.replace(profile(), samples=samples)
    mean = []
    for given in (profile(), slow):
        run = native().simulate(measured(), track="calibrated", profile=given, scratch=tmp_path)
        mean.append(sum(r.finished - r.arrival for r in run.records if r.finished is not None))
    assert mean[1] > 2.5 * mean[0]


def test_a_profile_s_step_times_serve_a_mixture_of_experts_as_any_other_model(tmp_path: Path) -> None:
    mixture = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / "tiny_moe.yaml").config)
    dense, sparse = (dataclasses.replace(run, config={**run.config, "model": model}) for run in [measured()] for model in (TINY, mixture))
    one, other = (native().simulate(run, track="calibrated", profile=profile(), scratch=tmp_path) for run in (dense, sparse))
    assert tuple(one.records) == tuple(other.records)


def test_what_the_engine_told_of_its_scheduler_is_used() -> None:
    account = {
        "async_scheduling": True,
        "policy": "priority",
        "long_prefill_token_threshold": 128,
        "watermark": 0.01,
        "scheduler_reserve_full_isl": False,
    }
    config = {"engine": {"details": {"vllm_config": {"scheduler_config": account}}}}
    limits = limits_of(LIMITS, config, "x")
    assert (limits.in_flight, limits.policy, limits.long_prefill_token_threshold) == (2, "priority", 128)
    assert (limits.watermark, limits.reserve_full_prompt) == (0.01, False)
    assert limits.kv_blocks == 16384 // 16 - 1  # vLLM keeps one block for itself
    apart = {"engine": {"details": {"prefill": {"vllm_config": {"scheduler_config": account}}}}}  # harness/engines/vllm_pd.py
    assert limits_of(LIMITS, apart, "x") == limits
    plain = limits_of(LIMITS, {}, "x")
    assert (plain.in_flight, plain.policy, plain.reserve_full_prompt) == (1, "fcfs", True)


SGLANG = {
    "schedule_policy": "fcfs",
    "schedule_conservativeness": 0.5,
    "max_prefill_tokens": 4096,
    "enable_mixed_chunk": True,
    "disable_overlap_schedule": True,
    "attention_backend": "torch_native",
}


def sglang(**changes: Any) -> Run:
    """A run of SGLang, whose server told this of itself."""
    run = measured(system="sglang")
    return dataclasses.replace(run, config={**run.config, "engine": {"details": {"server_info": SGLANG | changes}}})


def test_what_sglang_told_of_itself_is_used() -> None:
    limits = limits_of(LIMITS, sglang().config, "x")
    assert (limits.kv_blocks, limits.in_flight, limits.max_model_len) == (16384 // 16, 1, (LIMITS.max_model_len or 0) + 4)
    told = limits.sglang
    assert (told.schedule_conservativeness, told.max_prefill_tokens, told.mixed_chunk, told.recomputes_prefixes) == (0.5, 4096, True, True)
    assert limits_of(LIMITS, sglang(disable_overlap_schedule=False).config, "x").in_flight == 2
    with pytest.raises(NotAvailable, match="orders its queue by lpm; only fcfs is modelled"):
        limits_of(LIMITS, sglang(schedule_policy="lpm").config, "x")


def test_the_engine_says_which_scheduler_is_simulated(tmp_path: Path) -> None:
    """A prompt that arrives while another request decodes: SGLang's decodes wait for it, vLLM's do not."""
    for run, chosen in ((sglang(enable_mixed_chunk=False), "sglang"), (measured(), "vllm_v1")):
        made = native(policy="auto").simulate(run, track="calibrated", profile=profile(), scratch=tmp_path)
        assert made.config["simulator"]["settings"]["policy"] == chosen
        again = native(policy=chosen).simulate(run, track="calibrated", profile=profile(), scratch=tmp_path)
        assert made.records == again.records


@pytest.mark.parametrize(
    ("track", "changes", "message"),
    [
        ("calibrated", {}, "the calibrated track needs a profile"),
        ("matched", {"limits": EngineLimits(block_size=16)}, "did not say its kv_tokens, max_num_seqs"),
    ],
)
def test_what_is_missing_is_told(track: Any, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=message):
        native().simulate(measured(**changes), track=track, profile=None, scratch=tmp_path)


def test_a_model_that_does_not_fit_says_by_how_much(tmp_path: Path) -> None:
    run = measured()
    small = dataclasses.replace(run, config={**run.config, "model": LLAMA_8B, "hardware": {**H200, "memory_gb": 16}})
    with pytest.raises(SimulatorError, match=r"16.1 GB of weights and 0.5 GB of KV .* 4.2 GB too much"):
        native().simulate(small, track="shipped", profile=None, scratch=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "fifo"}, "policy must be auto or one of vllm_v1"),
        ({"frontend_after": 2}, "frontend_after must be in"),
        ({"frontend": {"api": "grpc"}}, "frontend.api must be one of auto, none, chat, text, ids, got 'grpc'"),
        ({"frontend": {"cpu_scale": 0}}, "frontend.cpu_scale must be > 0"),
        ({"frontend": {"api_servers": 0}}, "frontend.api_servers must be >= 1"),
        ({"roofline": {"link": 0}}, "roofline.link must be in"),
        ({"shipped": {"memory_utilization": 1.5}}, "shipped.memory_utilization must be in"),
    ],
)
def test_bad_settings_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        native(**changes)


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulators.native", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=540)


def test_a_trace_on_the_command_line(tmp_path: Path) -> None:
    write_csv(make_trace(30), tmp_path / "trace.csv")
    done = cli(f"trace={tmp_path}/trace.csv", "model=llama_3_1_8b", "hardware=h200", "rate=20", f"out={tmp_path}/runs")
    assert done.returncode == 0, done.stderr
    assert "ttft" in done.stdout and "30 requests in" in done.stdout
    assert re.search(r"fluidity\W+[\d.]+", done.stdout), done.stdout  # it knows its tokens' times
    (folder,) = (tmp_path / "runs").iterdir()
    run = read_run(folder)
    assert run.measured_run_id is None and run.rate == pytest.approx(20) and len(run.records) == 30


def test_a_plan_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Each of these takes as long to import as the rest of a plan of a trace in CSV that the compiled engine serves."""
    write_csv(make_trace(2000), tmp_path / "trace.csv")
    words = [f"trace={tmp_path}/trace.csv", "model=llama_3_1_8b", "hardware=h200"]
    assert columns_of(make_trace(2000)).output_tokens.sum() > COMPILED_FROM
    assert cli(*words).returncode == 0  # keeps the machine code, where no process has
    unneeded = {"numba", "scipy", "pandas", "hydra", "plotly", "pyarrow.compute", "pyarrow.parquet"}
    code = f"import runpy, sys; sys.argv[1:] = {words!r}; runpy.run_module('simulators.native', run_name='__main__')\n"
    code += f"print('loaded:', *{unneeded!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0 and "2000 requests in" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_what_the_compiled_engine_serves_does_without_pandas(tmp_path: Path) -> None:
    """Importing it takes a fifth of a second."""
    words = ["model=llama_3_1_8b", "hardware=h200", "rate=20", "requests=300", f"out={tmp_path}/runs"]
    code = (
        f"import runpy, sys; sys.argv[1:] = {words!r}; sys.modules['pandas'] = None\n"
        "try: runpy.run_module('simulators.native', run_name='__main__')\nexcept SystemExit as end: assert not end.code, end.code"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_workload_is_composed_as_a_bench_has_it() -> None:
    """azure_conv_8k is azure_conv_like with other lengths: Azure's own of 2023."""
    cfg = settings(["model=llama_3_1_8b", "hardware=h200", "rate=20", "requests=2000"])
    found = trace(cfg)
    assert found.name == "azure_conv_8k" and len(found) == 2000 and found.rate == pytest.approx(20, rel=0.1)
    assert 1000 < sum(r.input_tokens for r in found) / 2000 < 1250


def test_a_profile_on_the_command_line(tmp_path: Path) -> None:
    write_csv(make_trace(30), tmp_path / "trace.csv")
    dataclasses.replace(profile(), limits=LIMITS).write(tmp_path / "profile")
    profiled = f"profile={tmp_path}/profile"
    done = cli(f"trace={tmp_path}/trace.csv", "model=tiny", "hardware=cpu", profiled, "limits.max_num_seqs=4")
    assert done.returncode == 0, done.stderr
    assert "held-out points" in done.stdout and "ttft" in done.stdout


def test_capacity_on_the_command_line() -> None:
    """The database's own SLO attainment of other requests is above the share below its interval, and below it above."""
    words = ("model=tiny", "hardware=cpu", "limits.max_num_seqs=4", "workload=fixed")
    done = cli("capacity", *words)
    assert done.returncode == 0, done.stderr
    told = re.search(r"up to ([\d.e+]+) requests/s on 1 device\(s\), 95% interval ([\d.e+]+) to ([\d.e+]+)", done.stdout)
    assert told, done.stdout
    rate, low, high = map(float, told.groups())
    assert 0 < 0.9 * rate < low <= rate <= high < 1.1 * rate
    other = judge(settings([*words, "seed=1"]))
    kept, lost = (other.metrics_of(other.served(at, 20_000))["slo_attainment", None] for at in (0.97 * low, 1.03 * high))
    assert kept is not None and lost is not None and kept >= 0.9 > lost


def test_settings_against_each_other(tmp_path: Path) -> None:
    """One that cannot be, one that no rate satisfies and two that sustain a rate: each has its devices, and none has a rate of 0."""
    swept = ("effects.kv=[null,fp8,int2]", "slo.ttft=[1.0,1e-9]")
    common = ("model=llama_3_1_8b", "hardware=h200", "tensor_parallel=2", "limits.max_num_seqs=16")
    done = cli("compare", *common, *swept, "requests=400", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert all(done.stdout.count(f"effects.kv={kv},") == 2 for kv in ("null", "fp8", "int2"))
    assert done.stdout.count("effects.kv must be one of") == 2 and done.stdout.count("at no rate do 90%") == 2 and "*" in done.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in done.stdout.splitlines() if "slo.ttft" in line]
    assert [devices for _, devices, _ in rows] == ["2"] * 4 + ["-"] * 2
    assert sum(rate not in ("0", "-") for _, _, rate in rows) == 2
    assert "TTFT <=" not in done.stdout, "limits that differ are in the rows alone"


def sustained(rate: float) -> SustainedRate:
    return SustainedRate(rate=rate, low=rate, high=rate, requests=1, simulations=1, settled=True)


def test_the_front_is_what_nothing_beats() -> None:
    made = [
        Candidate(label=f"{rate}, {tpot}", devices=1, capacity=sustained(rate), latencies={("tpot", "p50"): tpot})
        for rate, tpot in ((1, 0.1), (2, 0.2), (3, 0.4), (2, 0.3), (0.5, 0.1), (3, 0.5))
    ]
    assert [c.label for c in front(made)] == ["1, 0.1", "2, 0.2", "3, 0.4"]
    double = Candidate(label="two devices", devices=2, capacity=sustained(3.9), latencies={("tpot", "p50"): 0.2})
    assert double not in front([*made, double])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trace=missing.csv", "model=tiny", "hardware=h200"), "missing.csv"),
        (("TRACE", "model=tinny", "hardware=h200"), "did you mean tiny"),
        (("TRACE", "model=tiny", "hardware=h200", "rate=-1"), "rate must be a number > 0 (requests/s), or null, got -1"),
        (
            ("TRACE", "model=tiny", "hardware=h200", "limits.max_num_seqs=0"),
            "limits.max_num_seqs must be a whole number >= 1, or null, got 0",
        ),
        (("TRACE", "model=tiny", "hardware=h200", "profile=nowhere"), "nowhere/profile.json"),
        (("TRACE", "model=tiny"), "these settings have no value: hardware"),
        (("TRACE", "model=tiny", "hardwar=h200"), "no setting is called 'hardwar'; did you mean hardware?"),
        (("TRACE", "h200"), "'h200' is no setting; give KEY=VALUE"),
        (("workload=azure_con_8k", "model=tiny", "hardware=h200"), "did you mean azure_conv_8k"),
        (("workload=csv", "model=tiny", "hardware=h200"), "workload=csv needs workload.source.path, which a bench can give; here give"),
        (("guess", "model=tiny"), "'guess' is no command; there are predict, capacity, compare"),
        (("TRACE", "model=tiny", "hardware=h200", "policy=fifo"), "policy must be one of vllm_v1"),
        (("TRACE", "model=tiny", "hardware=h200", "arrangement.kind=ring"), "arrangement.kind must be one of replicas"),
        (
            ("TRACE", "model=llama_3_1_8b", "hardware=h200", "policy=orca", "arrangement.kind=llumnix", "arrangement.instances=2"),
            "got orca",
        ),
        (("TRACE", "model=llama_3_1_8b", "hardware=a100", "effects.weights=fp8"), "a100 has no fp8 arithmetic"),
        (("capacity", "TRACE", "model=tiny", "hardware=h200"), "too short for a queue to build up"),
        (("capacity", "TRACE", "model=tiny", "hardware=h200", "slo.ttft=null", "slo.tpot=null"), "the SLO has no limit"),
    ],
)
def test_bad_command_lines_end_in_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    write_csv(make_trace(5), tmp_path / "trace.csv")
    done = cli(*(f"trace={tmp_path}/trace.csv" if a == "TRACE" else a for a in arguments))
    assert done.returncode == 1 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def closed(run: Run, concurrency: int | None, **load: Any) -> Run:
    """The run as a closed loop."""
    return dataclasses.replace(run, rho=None, config={**run.config, "load": {"loop": "closed", "concurrency": concurrency, **load}})


@pytest.mark.parametrize("load", [{}, {"ramp": 0.5}])
def test_a_closed_loop_stays_one_and_its_window_holds_the_same_requests(load: dict[str, float], tmp_path: Path) -> None:
    asked = closed(measured(), 3, **load)
    run = native().simulate(asked, track="matched", profile=None, scratch=tmp_path)
    served = [r for r in run.records if r.finished is not None]
    ends = sorted(r.finished for r in served if r.finished is not None)
    first = [0.0, 0.5 * 1 / 3, 0.5 * 2 / 3] if load else sorted(r.sent for r in asked.records if r.sent is not None)[:3]
    assert sorted(r.arrival for r in served) == sorted([*first, *ends[: len(served) - 3]])
    assert asked.window is not None and run.window is not None and run.window != asked.window
    inside, theirs = ({r.request_id for r in of.records if of.window[0] <= r.arrival <= of.window[1]} for of in (run, asked))  # type: ignore[index]
    assert theirs - {5} <= inside
    assert run.config["simulator"]["coverage"]["closed_loop"] == "yes"
    assert run.trace == asked.trace and read_run(write_run(tmp_path / "runs", run)).records == run.records


def test_a_closed_loop_is_replayed_where_it_is_asked_for_or_its_size_is_not_known(tmp_path: Path) -> None:
    asked = closed(measured(), 3)
    replayed = native(loop="replayed")
    assert replayed.system == "native_replayed"
    runs = [
        replayed.simulate(asked, track="matched", profile=None, scratch=tmp_path),
        native().simulate(closed(asked, None), track="matched", profile=None, scratch=tmp_path),
    ]
    for run in runs:
        assert [r.sent for r in run.records] == [r.sent for r in asked.records] and run.window == asked.window
        assert run.config["simulator"]["coverage"]["closed_loop"] == "no"
    with pytest.raises(NotAvailable, match="was no closed loop"):
        replayed.simulate(measured(), track="matched", profile=None, scratch=tmp_path)
    assert (
        "closed_loop" not in native().simulate(measured(), track="matched", profile=None, scratch=tmp_path).config["simulator"]["coverage"]
    )


def test_a_prediction_says_what_was_offered_and_a_capacity_what_was_asked(tmp_path: Path) -> None:
    write_csv(make_trace(50), tmp_path / "trace.csv")
    chosen = (f"trace={tmp_path}/trace.csv", "model=llama_3_1_8b", "hardware=h200")
    predicted = cli(*chosen, "rate=20")
    assert "20 requests/s offered for " in predicted.stdout and "goodput (requests/s)" in predicted.stdout, predicted.stdout
    capacity = cli("capacity", "workload=fixed", *chosen[1:], "slo.ttft=0.5", "slo.tpot=0.03", "requests=2000")
    assert "Asked: llama_3_1_8b on h200, requests of fixed, TTFT <= 500 ms, TPOT <= 30 ms." in capacity.stdout, (
        capacity.stdout + capacity.stderr
    )
    compared = cli("compare", "workload=fixed", *chosen[1:], "slo.ttft=0.5", "slo.tpot=0.03", "requests=2000")
    assert "TPOT <= 30 ms. Sought: the highest rate at which 90% of the requests meet" in compared.stdout


def test_limits_that_any_rate_meets_are_told_with_their_unit() -> None:
    done = cli("capacity", "workload=fixed", "model=llama_3_1_8b", "hardware=h200", "slo.ttft=500", "slo.tpot=30", "requests=300")
    assert done.returncode == 1 and "the limits are loose (slo.ttft=0.5 is 500 ms)" in done.stderr
