"""The roofline's numbers by architecture, and the host's share of a step: laws, and what one computes by hand."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from simulators.errors import SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import ARCHITECTURES, Efficiency, architecture_of, efficiency_of
from simulators.native.latency.host import Host, runs_eagerly
from simulators.native.latency.roofline import TOKENS, Roofline
from tests.simulators.native.latency.test_step_time import LLAMA_8B, PEAK, batch

CONF = Path(__file__).parents[4] / "conf"
NATIVE: Any = OmegaConf.to_container(OmegaConf.load(CONF / "simulator" / "native.yaml"))
HARDWARE: dict[str, Any] = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in (CONF / "hardware").glob("*.yaml")}
SHAPE = decoder_of(LLAMA_8B)
LAYERS = len(SHAPE.layers)
MATRICES = [(p.matrix.inputs, p.matrix.outputs) for p in SHAPE.products(SHAPE.layers[0])]
H100 = Device.from_hardware(HARDWARE["h100"])
HOST = Host(step=1e-3, sequence=1e-5, gap=5e-4, launch_piecewise=1e-4, launch_eager=1e-3)


@pytest.mark.parametrize("name", sorted(HARDWARE))
def test_every_hardware_file_is_whole(name: str) -> None:
    """The same keys everywhere, peaks in their order, and an architecture that has numbers, the same as by name."""
    said = HARDWARE[name]
    assert said["name"] == name and said.keys() == HARDWARE["h100"].keys()
    assert architecture_of(said) == ARCHITECTURES.get(name) and (name == "cpu" or said["architecture"] in NATIVE["architectures"])
    assert said["fp8_tflops"] is None or said["fp8_tflops"] == pytest.approx(2 * said["fp16_tflops"], rel=0.02)
    general = Efficiency(**{k: v for k, v in NATIVE["roofline"].items() if k != "_target_"})
    chosen = efficiency_of(said, general, NATIVE["architectures"])
    assert (chosen == general) == (name == "cpu")


def test_a_recording_may_bring_hardware_without_an_architecture() -> None:
    assert architecture_of({"name": "a40"}) == "ampere_gddr6"
    assert architecture_of({"name": "mine", "architecture": "hopper_hbm"}) == "hopper_hbm"
    assert architecture_of({"name": "mine"}) is None
    with pytest.raises(SimulatorError, match=r"hardware mine has the architecture volta_hbm.*native.yaml has ampere_hbm"):
        efficiency_of({"name": "mine", "architecture": "volta_hbm"}, PEAK, NATIVE["architectures"])


def test_a_product_is_smooth_between_the_roofs() -> None:
    blended = dataclasses.replace(PEAK, blend=2.0, gemm_start=1e-6)
    assert blended.product(3.0, 4.0) == pytest.approx(5.0 + 1e-6)
    assert blended.product(0.0, 4.0) == 4.0 + 1e-6 and PEAK.product(3.0, 4.0) == 4.0
    times = [Roofline(SHAPE, H100, blended).seconds(batch((n, 0))) for n in (1, 100, 300, 600, 4096)]
    sharp = [Roofline(SHAPE, H100, PEAK).seconds(batch((n, 0))) for n in (1, 100, 300, 600, 4096)]
    ratios = [a / b for a, b in zip(times, sharp, strict=True)]
    assert times == sorted(times) and max(ratios) == ratios[2] < math.sqrt(2) and min(ratios) > 1  # it bends at some 300 tokens


@pytest.mark.parametrize("tokens", [3, 17, 40, 150, 700, 5000, 100_000])
def test_between_the_tokens_it_was_computed_at(tokens: int) -> None:
    """The law's straight pieces are within half a per cent of the formula; beyond the last they go on."""
    efficiency = dataclasses.replace(PEAK, blend=2.0)
    law = Roofline(SHAPE, H100, efficiency).law
    found = law.seconds([tokens, 0, 0, 0, tokens, 0, 0, 0, 0, 1]) - law.seconds([0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    expected = LAYERS * sum(
        efficiency.product(2 * tokens * k * n / H100.flops, 2 * (k * n + tokens * (k + n)) / H100.memory_bandwidth) for k, n in MATRICES
    )
    assert found == pytest.approx(expected, rel=5e-3) and max(TOKENS) > 30_000


def test_a_decode_beside_a_prompt_takes_a_tile_of_queries() -> None:
    plain, device = dataclasses.replace(PEAK, attention_flops=0.5), Device.from_hardware(HARDWARE["a40"])
    tiled = dataclasses.replace(plain, query_tile=64)
    alone, beside = batch(*[(1, 2000)] * 32), batch((8, 0), *[(1, 2000)] * 32)
    times = [[Roofline(SHAPE, device, e).seconds(b) for b in (alone, beside)] for e in (plain, tiled)]
    rows = 4 * LAYERS * 32 * 128 * 32 * 64 * (2000 + 64 / 2 * 63 / 32) / (device.flops * 0.5)  # FLOPs of all tiles
    read = 32 * 2001 * SHAPE.kv_bytes_per_token / device.memory_bandwidth
    assert times[0][0] == times[1][0] and times[1][1] - times[0][1] == pytest.approx(rows - read, rel=0.01)


def seconds(host: Host | None, *work: tuple[int, int]) -> float:
    return Roofline(SHAPE, H100, PEAK, host=host).seconds(batch(*work))


def test_the_host_between_steps_and_beside_them() -> None:
    """One after another it is added; ahead of time it is hidden where the device takes longer."""
    decode = [(1, 500)] * 8
    device = seconds(None, *decode)
    assert seconds(HOST, *decode) == pytest.approx(device + 5e-4 + 1e-3 + 8e-5)
    ahead = HOST.of(overlapped=True, config={})
    assert seconds(ahead, *decode) == pytest.approx(device + 5e-4)
    slow = dataclasses.replace(ahead, step=1.0)
    assert seconds(slow, *decode) == pytest.approx(1.0 + 8e-5 + 5e-4)


def test_launches_are_hidden_or_set_the_pace() -> None:
    """A step of decodes is one graph; one with a prompt has launches in every layer, and without graphs all steps have."""
    decode, mixed = [(1, 500)], [(1, 500), (4, 0)]
    bare = dataclasses.replace(HOST, step=0.0, sequence=0.0, gap=0.0, launch_piecewise=1.0, launch_eager=2.0)
    assert seconds(bare, *decode) == seconds(None, *decode) and seconds(bare, *mixed) == LAYERS * 1.0
    eager = bare.of(overlapped=False, config={"enforce_eager": True})
    assert seconds(eager, *decode) == seconds(eager, *mixed) == LAYERS * 2.0


@pytest.mark.parametrize(
    ("engine", "eager"),
    [
        ({}, False),
        ({"enforce_eager": True}, True),
        ({"enforce_eager": True, "details": {"vllm_config": {"model_config": {"enforce_eager": False}}}}, False),
        ({"details": {"vllm_config": {"model_config": {"enforce_eager": True}}}}, True),
    ],
)
def test_who_runs_without_graphs(engine: dict[str, Any], eager: bool) -> None:
    """What the engine says of itself counts more than what it was asked."""
    assert runs_eagerly(engine) is eager


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blend": 0.5}, "roofline.blend must be >= 1"),
        ({"activations": 0.0}, "roofline.activations must be > 0"),
        ({"query_tile": 0}, "query_tile"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PEAK, **changes)
    with pytest.raises(ValueError, match=r"host.step must be >= 0 s, got -1"):
        dataclasses.replace(HOST, step=-1.0)
