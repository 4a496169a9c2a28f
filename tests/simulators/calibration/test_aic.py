"""`calibration=aic`: a profile that simulators take like a measured one; on the real tables where their environment is there."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from results.profile import BENDS, Profile
from results.project.folder import ROOT
from results.record import Run
from simulators.calibration.aic import Aic
from simulators.calibration.operations import Kernels
from simulators.calibration.sources import Measured as Own
from simulators.errors import NotAvailable
from simulators.native.adapter import Native
from simulators.native.architecture.reader import decoder_of
from tests.environments import python_of
from tests.simulators.calibration import made_tables as law
from tests.simulators.profiles import MODEL, Law, make_measured, make_profile, with_limits

DEVICES = ("rtx_pro_6000", "h100", "h200", "a100", "b300", "gb200", "gb300")
MIXTRAL = {
    **MODEL,
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "intermediate_size": 256,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
REQUESTS = [(0.05 * i, 40 + 7 * i, 20) for i in range(30)]


def choice(group: str, name: str) -> Any:
    return OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / group / f"{name}.yaml"), resolve=True)


def source(**changes: Any) -> Aic:
    found = instantiate({**choice("calibration", "aic"), **changes})
    assert isinstance(found, Aic)
    return found


def on(name: str, run: Run, **config: Any) -> Run:
    asked = {**run.config, "hardware": {"name": name, "memory_bandwidth_gb_s": 1000.0}, **config}
    return dataclasses.replace(run, hardware=name, version="0.19.0", config=asked)


@pytest.fixture
def tiny(tmp_path: Path) -> Aic:
    law.made(tmp_path)
    return source(environment=None, data=str(tmp_path), devices={"tiny": "tiny_gpu"})


def test_its_profile_has_the_composed_times_within_the_engines_limits_and_says_where_they_are_from(tiny: Aic) -> None:
    run = on("tiny", make_measured(REQUESTS), model={**MODEL, "vocab_size": 4000})
    profile, steps = tiny.profile(run, None), tiny.steps(run)
    assert profile is not None
    work = profile.samples[["new_tokens", "prefill_context", "batch", "context"]].astype(int)
    for (new, cached, batch, context), time in zip(work.to_numpy().tolist(), profile.samples["time"], strict=True):
        assert time == steps.seconds(new=new, cached=cached, batch=batch, context=context)
    assert (profile.samples["new_tokens"] + profile.samples["batch"]).max() <= 512
    assert profile.samples["batch"].max() == 64
    held, fitted = profile.points(held_out=True), profile.points(held_out=False)
    assert set(held["kind"]) == set(fitted["kind"]) == {"prefill", "decode", "mixed"}
    assert not set(map(tuple, held[["new_tokens", "batch"]].values)) & set(map(tuple, fitted[["new_tokens", "batch"]].values))
    assert profile.provenance["tables"] == [
        "tiny_gpu/attention/vllm/0.19.0/context_attention_perf",
        "tiny_gpu/attention/vllm/0.19.0/generation_attention_perf",
        "tiny_gpu/gemm/vllm/0.19.0/gemm_perf",
    ]
    assert profile.provenance["tables_of_other_versions"] == []
    assert profile.frontend is None


def test_steps_beyond_the_tables_are_left_out_and_counted(tiny: Aic) -> None:
    run = on("tiny", make_measured([*REQUESTS, (3.0, 1500, 20)]), model={**MODEL, "vocab_size": 4000})
    profile = tiny.profile(run, None)
    assert profile is not None
    assert profile.provenance["points_outside"] > 0
    assert "generation_attention_perf was measured for step from 1 to 1024, not for 1520" in profile.provenance["outside"]
    assert profile.samples["context"].max() <= 1024


def test_it_takes_the_place_of_the_engines_own_profile_which_is_else_taken(tiny: Aic) -> None:
    own = make_profile(Law())
    run = on("tiny", make_measured(REQUESTS), model={**MODEL, "vocab_size": 4000})
    assert Own().profile(run, own) is own
    assert Own().profile(run, None) is None
    composed = tiny.profile(run, own)
    assert composed is not None
    assert composed.profile_id != own.profile_id


def test_a_model_whose_routing_was_published_takes_its_own_law_and_the_profile_says_which(tiny: Aic) -> None:
    run = on("tiny", make_measured(REQUESTS), model={**MIXTRAL, "vocab_size": 4000})
    balanced, other = tiny.profile(run, None), dataclasses.replace(tiny, experts_of={}).profile(run, None)
    assert balanced is not None and other is not None
    assert (balanced.provenance["experts"], other.provenance["experts"]) == ("balanced", "power_law_1.2")
    layers = run.config["model"]["num_hidden_layers"]
    work = other.samples["new_tokens"] + other.samples["batch"]
    more = [1e-3 * layers * law.experts_ms(tokens) for tokens in work]  # the made tables' uneven rows take twice the even ones' time
    assert (other.samples["time"] - balanced.samples["time"]).to_numpy() == pytest.approx(more, rel=0.05)


def test_what_is_known_of_an_engines_kernels_goes_into_its_profile(tiny: Aic) -> None:
    run = on("tiny", make_measured(REQUESTS), model={**MODEL, "vocab_size": 4000})
    tiled = dataclasses.replace(tiny, query_tiles={"tiny": 64})
    cached = {**run.config["hardware"], "l2_mb": 32, "l2_gb_s": 4000}
    known = tiled.steps(dataclasses.replace(run, config={**run.config, "hardware": cached})).kernels
    assert known == Kernels(query_tile=64, l2=32e6, l2_bandwidth=4e12)
    assert tiny.steps(run).kernels == Kernels()
    assert tiled.kernels("sglang", "tiny", {}).query_tile is None  # its decodes have steps of their own
    profile, plain = tiled.profile(run, None), tiny.profile(run, None)
    assert profile is not None and plain is not None
    longer = profile.samples["time"] > plain.samples["time"]
    assert set(profile.samples.loc[longer, "kind"]) == {"mixed"}
    assert profile.provenance["kernels"]["query_tile"] == 64
    sizes = set(profile.points(held_out=False).query("kind == 'prefill' and prefill_context == 0")["new_tokens"])
    assert {m for m in profile.provenance[BENDS] if m <= 512} <= sizes


def test_the_real_tables_attend_to_a_decode_beside_a_chunk_as_measured() -> None:
    """LLMServingSim's profile of this very kernel (RTX PRO 6000, vLLM 0.19, 16 prompt tokens; us a layer, the chunk's own 8 taken off)."""
    for model, tp, measured in (
        ("llama_3_1_8b", 1, {(32, 1024): 158, (64, 1024): 302, (128, 1024): 664, (64, 2048): 545}),
        ("qwen3_32b", 2, {(32, 1024): 148, (64, 1024): 289, (128, 1024): 638, (64, 2048): 531}),
    ):
        run, _, aic = real("rtx_pro_6000", model, tp)
        steps = aic.steps(run)
        for (batch, context), us in measured.items():
            layers = steps.tables.decoder.layers
            beside, alone = (steps.parts(new=n, batch=batch, context=context)["attention decode"] / len(layers) for n in (16, 0))
            assert 1e6 * beside == pytest.approx(us, rel=0.2)
            assert alone < 0.8e-6 * us


def test_without_tables_for_it_a_run_is_not_available(tiny: Aic) -> None:
    with pytest.raises(NotAvailable, match=r"no tables for vllm on cpu-test; .* calibration=first_requests"):
        tiny.profile(make_measured(REQUESTS), None)
    with pytest.raises(NotAvailable, match="does not say its hardware's memory_bandwidth_gb_s"):
        tiny.profile(on("tiny", make_measured(REQUESTS), hardware={"name": "tiny"}), None)


def test_folder_and_environment_are_not_both_given() -> None:
    with pytest.raises(ValueError, match="either an environment or a folder"):
        dataclasses.replace(source(), data="somewhere")


def real(hardware: str, model: str, tp: int, environment: str = "aisimulate") -> tuple[Run, Profile, Aic]:
    aic = source(environment=environment)
    python_of(environment)
    limits = with_limits(max_num_seqs=128, max_num_batched_tokens=2048, tensor_parallel=tp, kv_tokens=400_000)
    run = on(
        hardware, make_measured(REQUESTS, limits=limits), model=choice("model", model)["config"], hardware=choice("hardware", hardware)
    )
    profile = aic.profile(run, None)
    assert profile is not None
    return run, profile, aic


@pytest.mark.parametrize("hardware", DEVICES)
@pytest.mark.parametrize("environment", ["aisimulate", "aisimulate_0_13"])
def test_the_real_tables_respect_the_hardwares_peaks_and_grow_with_the_work(environment: str, hardware: str, tmp_path: Path) -> None:
    """Both layouts of the tables."""
    run, profile, aic = real(hardware, "llama_3_1_8b", 1, environment)
    steps, device = aic.steps(run), choice("hardware", hardware)
    weights = 2 * 7.5e9  # bytes of Llama 3.1 8B, its input embedding left out
    least = weights / (1e9 * device["memory_bandwidth_gb_s"])
    assert 1.0 * least < steps.seconds(batch=1, context=128) < 2.5 * least
    flops = 2 * 7.0e9 * 2048 / (1e12 * device["fp16_tflops"])
    assert 1.0 * flops < steps.seconds(new=2048) < 3.0 * flops
    for points in ([{"batch": b, "context": 512} for b in (1, 16, 128)], [{"new": n} for n in (16, 256, 1024, 2048)]):
        times = [steps.seconds(**p) for p in points]
        assert times == sorted(times)
    native = instantiate(choice("simulator", "native"))
    assert isinstance(native, Native)
    simulated = native.simulate(run, track="calibrated", profile=profile, scratch=tmp_path)
    assert all(r.error is None for r in simulated.records)


def test_the_real_tables_have_the_messages_between_two_devices() -> None:
    run, _, aic = real("rtx_pro_6000", "qwen3_32b", 2)
    parts = aic.steps(run).parts(new=2048)
    crossing = 129 * 2048 * 5120 * 2  # bytes that leave each of two devices in a step: every all-reduce's whole message
    assert 10e9 < crossing / parts["all-reduce"] < 64e9  # PCIe 5.0 x16 gives 64 GB/s a direction at most


MIXTURES = {  # of tables in each format: the run's hardware, its engine's version and devices
    "mixtral_8x7b": ("h100", "0.15.1", 2),
    "qwen3_30b_a3b": ("rtx_pro_6000", "0.19.0", 1),
    "gpt_oss_120b": ("h200", "0.24.0", 2),
    "deepseek_v3": ("h200", "0.19.0", 8),
}


@pytest.mark.parametrize("model", MIXTURES)
def test_the_real_tables_of_mixtures_respect_the_peaks_and_grow_with_the_work(model: str) -> None:
    """A decode reads the weights that its token is multiplied by; a prompt's tokens take that many products."""
    hardware, version, tp = MIXTURES[model]
    aic = source()
    python_of(str(aic.environment))
    limits, device = with_limits(tensor_parallel=tp), choice("hardware", hardware)
    config = choice("model", model)["config"]
    run = on(hardware, make_measured(REQUESTS, limits=limits), model=config, hardware=device)
    steps = aic.steps(dataclasses.replace(run, version=version))
    decoder = decoder_of(config)
    read = sum(n * p.per_token * p.matrix.weights * p.format.bytes for layer, n in decoder.groups for p in decoder.products(layer))
    assert steps.seconds(batch=1, context=128) > read / tp / (1e9 * device["memory_bandwidth_gb_s"])
    peak = 1e12 * max(device["fp16_tflops"], device.get("fp8_tflops") or 0)
    assert steps.seconds(new=2048) > 2 * decoder.active_parameters * 2048 / tp / peak
    for points in ([{"batch": b, "context": 512} for b in (1, 16, 128)], [{"new": n} for n in (16, 256, 1024, 2048)]):
        times = [steps.seconds(**p) for p in points]
        assert times == sorted(times)
