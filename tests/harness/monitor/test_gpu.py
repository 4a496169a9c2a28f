"""GPUs: read through a stand-in for NVML's library by real processes; what a bench chooses when it sees one."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engine import computes_on
from harness.monitor import gpu
from results.project.folder import ROOT
from tests.patience import measured_again
from tests.stand_ins.nvml import nvml

HARDWARE = ("a100", "cpu", "h100", "h200", "rtx_pro_6000")
H200 = gpu.Gpu(index=0, name="NVIDIA H200", uuid="GPU-aaaa", memory_gb=143.0, driver="580.1")
SEEN = gpu.Seen(gpus=(H200,))


def ask(code: str, environ: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gpus_are_named_in_a_run_s_provenance(tmp_path: Path) -> None:
    code = "import json; from harness import provenance; print(json.dumps(provenance.collect(None)['gpus']))"
    told = json.loads(ask(code, nvml(tmp_path)))
    assert told == [{"index": i, "name": "NVIDIA H200", "memory_gb": 143.0, "driver": "580.1"} for i in (0, 1)]


@pytest.mark.parametrize(("visible", "indices"), [("1", [1]), ("1,0", [1, 0]), ("GPU-bb", [1]), ("", [])])
def test_cuda_s_choice_of_gpus_is_followed(tmp_path: Path, visible: str, indices: list[int]) -> None:
    code = "import json; from harness.monitor import gpu; print(json.dumps([g.index for g in gpu.look().gpus]))"
    assert json.loads(ask(code, nvml(tmp_path) | {"CUDA_VISIBLE_DEVICES": visible})) == indices


@measured_again
def test_a_watch_reads_power_clocks_and_load_and_leaves_out_what_is_not_told(tmp_path: Path) -> None:
    code = (
        "import time; from harness.monitor import gpu\nepoch = time.monotonic()\n"
        "with gpu.Watch(gpu.look().gpus, 0.05) as watch: time.sleep(1)\n"
        "frame = watch.frame(epoch); assert frame['time'].between(0, time.monotonic() - epoch).all()\n"
        "print(frame.groupby('name')['value'].agg(['min', 'max', 'count']).to_json(orient='index'))"
    )
    seen = json.loads(ask(code, nvml(tmp_path)))
    assert (seen["gpu0_power_w"]["min"], seen["gpu1_power_w"]["max"]) == (500.0, 100.0)
    assert seen["gpu0_power_w"]["count"] > 2
    assert seen["gpu0_sm_clock_mhz"]["max"] == 1980 and seen["gpu0_memory_clock_mhz"]["max"] == 3201
    assert seen["gpu0_utilization"]["max"] == 0.5 and seen["gpu0_memory_used_gb"]["max"] == 100.0
    assert seen["gpu0_throttle_reasons"]["max"] == 4
    assert "gpu0_energy_j" not in seen


def test_without_gpus_nothing_is_read_and_it_says_why() -> None:
    with gpu.Watch((), 0.05) as watch:
        pass
    frame = watch.frame(0.0)
    assert len(frame) == 0 and list(frame.columns) == ["time", "name", "value"]
    if not gpu.look().gpus:
        assert "no NVIDIA GPU" in str(gpu.look().why_none)
        assert gpu.facts() == []


def test_a_gpu_is_measured_unless_the_user_chose_otherwise() -> None:
    all_of_it = {"engine=vllm", "model=llama_3_1_8b", "workload=azure_conv_8k", "profile=gpu", "gates=gpu", "hardware=h200"}
    assert set(gpu.choices(SEEN, [], HARDWARE)) == all_of_it
    assert set(gpu.choices(SEEN, ["engine=sglang", "load.rho=0.8"], HARDWARE)) == all_of_it - {"engine=vllm"}
    assert set(gpu.choices(SEEN, ["model=tiny", "hardware=h100"], HARDWARE)) == all_of_it - {"model=llama_3_1_8b", "hardware=h200"}
    assert "engine=vllm_pd" not in gpu.choices(SEEN, ["engine=vllm_pd"], HARDWARE) != []
    for engine in ("vllm_cpu", "recorded"):
        assert gpu.choices(SEEN, [f"engine={engine}"], HARDWARE) == []
    assert gpu.choices(gpu.Seen(gpus=(), why_none="none"), [], HARDWARE) == []


def test_a_server_elsewhere_is_labelled_by_its_user_and_by_no_default() -> None:
    assert gpu.choices(SEEN, ["engine=attached", "model=llama_3_1_8b", "hardware=h100"], HARDWARE) == []
    for named, missing in ([], "model=... and hardware=..."), (["model=tiny"], "hardware=..."):
        with pytest.raises(ValueError, match=f"engine=attached.* name {missing} "):
            gpu.choices(SEEN, ["engine=attached", *named], HARDWARE)


TOY = "_target_: tests.stand_ins.toy_engine.ToyServer\nlaw: {_target_: tests.stand_ins.toy_engine.Law}\n"


def new_engine(folder: Path, where: str) -> Path:
    """A configuration folder with an engine of somebody's own, called mine."""
    (folder / "engine").mkdir(exist_ok=True)
    (folder / "engine" / "mine.yaml").write_text(f"{TOY}computes_on: {where}\n")
    return folder


def bench_of(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A bench of that engine, on a machine with two H200."""
    argv = [sys.executable, "-m", "harness", "--config-dir", str(folder), *words, "engine=mine"]
    return subprocess.run(argv, cwd=ROOT, env=nvml(folder), capture_output=True, text=True, timeout=540)


def test_a_new_engine_says_itself_that_it_computes_on_a_gpu(tmp_path: Path) -> None:
    done = bench_of(new_engine(tmp_path, "gpu"), "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "_target_: tests.stand_ins.toy_engine.ToyServer" in done.stdout
    assert "name: h200" in done.stdout and "name: llama_3_1_8b" in done.stdout
    done = bench_of(new_engine(tmp_path, "cpu"), "--cfg", "job")
    assert "name: cpu" in done.stdout and "name: llama_3_1_8b" not in done.stdout


def test_a_new_engine_says_itself_that_it_is_elsewhere(tmp_path: Path) -> None:
    unnamed = bench_of(new_engine(tmp_path, "elsewhere"), "model=tiny")
    assert unnamed.returncode == 1
    assert "engine=mine: what that server computes and on what is not asked of it: name hardware=... " in unnamed.stderr
    lost = ("model=tiny", "hardware=h100", "workload=csv", "workload.source.path=/nowhere/trace.csv")  # ends every bench before it starts
    assert "/nowhere/trace.csv" in bench_of(tmp_path, *lost).stderr  # h100, whatever GPU is here
    here = bench_of(new_engine(tmp_path, "gpu"), *lost)
    assert "hardware=h100, but the GPU here is an 'NVIDIA H200'" in here.stderr


@pytest.mark.parametrize(
    ("text", "where"),
    [("computes_on: gpu", "gpu"), ("a: 1", None), ("a: [", None), ("- 1", None), ("word", None), ("url: ???\na: ${b}", None)],
)
def test_what_an_engine_does_not_say_is_not_known_and_a_broken_file_is_left_to_hydra(tmp_path: Path, text: str, where: str | None) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "mine.yaml").write_text(text)
    assert computes_on("mine", [tmp_path]) == where
    assert computes_on("missing", [tmp_path]) is None


def test_a_word_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine.yaml: computes_on must be one of cpu, gpu, elsewhere, got 'GPU'"):
        computes_on("mine", [new_engine(tmp_path, "GPU")])


def test_every_engine_of_conf_says_where_it_computes() -> None:
    silent = [path.stem for path in (ROOT / "conf" / "engine").glob("*.yaml") if computes_on(path.stem) is None]
    assert silent == ["recorded"]  # nothing computes


def test_a_gpu_is_not_taken_for_another() -> None:
    wrong = gpu.mislabelled(SEEN, "h100", HARDWARE)
    assert wrong is not None and "hardware=h100, but the GPU here is an 'NVIDIA H200': give hardware=h200" in wrong
    assert gpu.mislabelled(SEEN, "h200", HARDWARE) is None
    assert gpu.mislabelled(SEEN, "h200_600w", (*HARDWARE, "h200_600w")) is None
    unknown = gpu.Seen(gpus=(dataclasses.replace(H200, name="NVIDIA B300"),))
    assert gpu.mislabelled(unknown, "h100", HARDWARE) is None
    assert gpu.mislabelled(gpu.Seen(gpus=(), why_none="none"), "h100", HARDWARE) is None


@pytest.mark.parametrize(
    ("name", "hardware"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000"),
    ],
)
def test_hardware_is_known_by_the_gpu_s_own_name(name: str, hardware: str) -> None:
    assert gpu.named(name, HARDWARE) == hardware


@pytest.mark.parametrize("words", [("--cfg", "job"), ("seed=1", "--cfg", "job"), ("--cfg", "job", "seed=1")])
def test_a_bench_on_a_gpu_box_picks_it_up_and_says_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words], cwd=ROOT, env=nvml(tmp_path), capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr
    assert "_target_: harness.engines.vllm.Vllm\n" in done.stdout and "environment: vllm\n" in done.stdout
    assert "name: h200" in done.stdout and "name: llama_3_1_8b" in done.stdout


def test_a_gpu_that_is_not_known_is_one_line(tmp_path: Path) -> None:
    environ = nvml(tmp_path, "NVIDIA Tesla K80")
    done = subprocess.run([sys.executable, "-m", "harness"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=540)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("plumbline: the GPU here is an 'NVIDIA Tesla K80'") and "hardware=NAME" in line and "engine=vllm_cpu" in line
