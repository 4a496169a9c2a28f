"""Capacity, profile and structured output of a real vLLM on the CPU, of a model with weights, and its core's death."""

import math
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.engine import Engine, EngineError
from harness.engines.hf_model import HfModel
from harness.probing.capacity import Capacity
from harness.probing.profiler import Profiler
from harness.protocols import Workload
from harness.replay.client import Client
from harness.replay.protocols.completions import Completions
from results.profile import Profile
from results.project.folder import CONF
from tests.choices import settings_of
from tests.harness.engines import structured
from tests.harness.engines.test_vllm import descendants, is_core
from tests.stand_ins import hf_folder


def part(path: str, /, **settings: object) -> Any:
    return instantiate(OmegaConf.merge(OmegaConf.load(CONF / path), settings))


@pytest.mark.e2e
def test_capacity_and_profile_of_a_real_engine_whose_core_then_dies(tmp_path: Path) -> None:
    # made-up weights would put spaces between the words of JSON without end
    flags = ["--structured-outputs-config.backend", "xgrammar", "--structured-outputs-config.disable_any_whitespace=true"]
    engine: Engine = part("engine/vllm_cpu.yaml", load_format="auto", extra_args=flags)
    model: HfModel = part("model/hf.yaml", path=str(hf_folder.write_folder(tmp_path / "counting")))
    client: Client = instantiate(settings_of("client", "default"))
    capacity: Capacity = part("capacity/default.yaml", duration=6.0, pilot=8)
    few = {
        "prefill": [64],
        "chunks": [64],
        "decode_batches": [1, 8],
        "held_out_batches": [4],
        "decode_contexts": [64],
        "mixed_batches": [4],
    }
    profiler: Profiler = part("profile/cpu.yaml", budget=60.0, repeats=1, max_prompt=1200, max_batch=8, **few)
    workload: Workload = part("workload/azure_conv_like.yaml")
    log, others = tmp_path / "server.log", descendants()
    words = r"vllm ended with .* during the run; its log says: "
    with pytest.raises(EngineError, match=words) as caught, engine.serve(model.folder(tmp_path), log) as endpoint:
        assert hf_folder.counts(endpoint, tmp_path / "counting", start=1000)
        assert structured.fits(structured.answer(endpoint, "/v1/completions", {"prompt": list(range(600, 640))}))
        assert structured.is_measured_whole(endpoint, Completions())
        size, first = model.vocab_size, model.first_id
        result = capacity.measure(endpoint, client, workload, vocab_size=size, first_id=first, seed=1)
        profile = profiler.measure(endpoint, client, model=model.config, hardware="cpu", vocab_size=size, first_id=first)
        started = descendants() - others
        next(process for process in started if is_core(process)).send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(started, timeout=540)
        assert not alive
    assert "\n" not in str(caught.value) and str(log) in str(caught.value)
    assert 0 <= result.low <= result.rate <= result.high < math.inf  # on a slow machine three answers may leave the low end at 0
    assert result.rate > 0
    points = profile.points()
    assert set(points["kind"]) == {"prefill", "decode", "mixed", "frontend"}
    assert (points["context"][points["kind"] == "decode"] >= 64).all()
    prefill = points[(points["kind"] == "prefill") & (points["prefill_context"] == 0)].set_index("new_tokens")["time"]
    assert prefill[1024] > prefill[64] > 0
    assert profile.write(tmp_path / "profile") == tmp_path / "profile"
    assert Profile.read(tmp_path / "profile").points().equals(points)
