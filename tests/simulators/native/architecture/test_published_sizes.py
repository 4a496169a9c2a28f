"""Sizes that readers get from a config.json, held to what its makers published, and to Transformers' own modules."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from results.project.folder import CONF, ROOT
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.reader import decoder_of

ELSEWHERE = {"config", "hf"}  # the shape is read from a file that the user names
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem not in ELSEWHERE)
TRANSFORMERS = ROOT / ".envs" / "vllm_cpu" / "bin" / "python"  # an environment with Transformers


def config(name: str) -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml").config)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def decoder(name: str) -> Decoder:
    return decoder_of(config(name))


@dataclass(frozen=True)
class Published:
    """What a model's makers say, in billions of weights, and how exactly they say it."""

    model: str
    total: float
    active: float | None
    source: str
    within: float = 0.01


# Active weights: our count has the output layer and not the embeddings; some count both, so it is held to 6 % (and to half a unit)
PUBLISHED = [
    Published("llama_3_1_8b", 8.03, None, "huggingface.co/meta-llama/Llama-3.1-8B: 8.03B params"),
    Published("llama_3_1_70b", 70.6, None, "huggingface.co/meta-llama/Llama-3.1-70B: 70.6B params"),
    Published("mistral_7b", 7.24, None, "huggingface.co/mistralai/Mistral-7B-v0.1: 7.24B params"),
    Published("qwen2_5_7b", 7.61, None, "Qwen2.5-7B-Instruct's model card: 7.61B, 6.53B without embeddings"),
    Published("qwen3_32b", 32.8, None, "Qwen3-32B's model card: 32.8B, 31.2B without embeddings"),
    Published("phi_4", 14.7, None, "Phi-4's model card: 14.7B params"),
    Published("olmo_2_32b", 32.2, None, "OLMo-2-0325-32B: 32.2B params"),
    Published("gemma_2_9b", 9.24, None, "Gemma 2, arXiv 2408.00118, table 2: 918M embedding + 8,324M others"),
    Published("gemma_3_27b", 27.0, None, "Gemma 3, arXiv 2503.19786, table 1: 1,416M embedding + 25,600M others, the vision encoder aside"),
    Published("gemma_4_26b_a4b", 25.2, 3.8, "Gemma 4's model card: 25.2B total, 3.8B active"),
    Published("mixtral_8x7b", 46.7, 12.9, "mistral.ai/news/mixtral-of-experts: 46.7B total, 12.9B a token"),
    Published("mixtral_8x22b", 141.0, 39.0, "mistral.ai/news/mixtral-8x22b: 141B, 39B active"),
    Published("qwen2_57b_a14b", 57.4, 14.0, "Qwen2, arXiv 2407.10671, section 2.2.2: 57B with 14B activated"),
    Published("qwen3_30b_a3b", 30.5, 3.3, "Qwen3-30B-A3B's model card: 30.5B, 3.3B activated"),
    Published("qwen3_235b_a22b", 235.0, 22.0, "Qwen3-235B-A22B's model card: 235B, 22B activated"),
    Published("qwen3_next_80b_a3b", 80.0, 3.0, "Qwen3-Next-80B-A3B's model card: 80B, 3B activated"),
    Published("qwen3_5_35b_a3b", 35.0, 3.0, "Qwen3.5-35B-A3B's model card: 35B, 3B activated"),
    Published("qwen3_5_397b_a17b", 397.0, 17.0, "Qwen3.5-397B-A17B's model card: 397B, 17B activated"),
    Published("deepseek_v2_lite", 15.7, 2.4, "DeepSeek-V2, arXiv 2405.04434, appendix B: 15.7B, 2.4B activated"),
    Published("deepseek_v3", 671.0, 37.0, "DeepSeek-V3, arXiv 2412.19437, abstract: 671B, 37B activated; MTP aside"),
    Published("deepseek_v3_2", 671.0, 37.0, "DeepSeek-V3.2, arXiv 2512.02556: V3.1-Terminus with an indexer"),
    Published("kimi_k2", 1040.0, 32.6, "Kimi K2, arXiv 2507.20534, table 2: 1.04T, 32.6B activated", within=0.015),
    Published("kimi_k2_5", 1040.0, 32.6, "the same language model: Kimi-K2.5's model card: 1T, 32B activated", within=0.015),
    Published("glm_4_5_air", 106.0, 12.0, "GLM-4.5, arXiv 2508.06471, table 1: 106B, 12B activated"),
    Published("glm_4_5", 355.0, 32.0, "the same: 355B with MTP and without embeddings, 32B activated"),
    Published("glm_5_fp8", 744.0, 40.0, "GLM-5, arXiv 2602.15763, abstract: 744B, 40B activated"),
    Published("minimax_m2_5", 230.0, 10.0, "MiniMax-M2's model card: 230B, 10B active"),
    Published("llama_4_scout", 109.0, 17.0, "Llama 4's model card: 109B, 17B activated; 0.9B of them see", within=0.012),
    Published("llama_4_maverick", 400.0, 17.0, "Llama 4's model card: 400B, 17B activated"),
    Published("gpt_oss_20b", 20.91, 3.61, "gpt-oss, arXiv 2508.10925, table 1: 20.91B, 3.61B active", within=0.002),
    Published("gpt_oss_120b", 116.83, 5.13, "gpt-oss, arXiv 2508.10925, table 1: 116.83B, 5.13B active", within=0.002),
]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda p: p.model)
def test_weights_are_as_many_as_published(published: Published) -> None:
    found = decoder(published.model)
    assert found.parameters / 1e9 == pytest.approx(published.total, rel=published.within)
    if published.active is not None:
        embeddings = found.vocab * found.hidden / 1e9
        low, high = found.active_parameters / 1e9, found.active_parameters / 1e9 + embeddings
        assert 0.94 * low - 0.5 <= published.active <= 1.06 * high + 0.5


def test_every_real_model_of_conf_is_held_to_a_published_size() -> None:
    assert {p.model for p in PUBLISHED} == {*MODELS} - {"tiny", "tiny_moe", "tiny_prose"}


@pytest.mark.parametrize(
    ("model", "kv_bytes"),
    [
        ("deepseek_v3", 70_272),  # DeepSeek, Insights into DeepSeek-V3, arXiv 2505.09343, table 1: 70.272 KB a token
        ("llama_3_1_70b", 327_680),  # as many KV heads and layers as Qwen2.5-72B, of which that table has 327.680 KB
        ("qwen3_5_397b_a17b", 15 * 2 * 2 * 256 * 2),  # 15 of 60 layers cache: 2 KV heads of 256 (its model card)
        ("kimi_k2", 61 * (512 + 64) * 2),  # a latent of 512 and 64 rotary elements a layer, as DeepSeek-V3
        ("gpt_oss_120b", 36 * 2 * 8 * 64 * 2),  # 8 KV heads of 64 in 36 layers (gpt-oss, arXiv 2508.10925, section 2.2)
        # every layer caches 656 bytes a token in FP8 and 1,152 in 16 bits, and 132 of the indexer's key (vLLM's blog on DeepSeek-V3.2)
        ("deepseek_v3_2", 61 * (576 * 2 + 132)),
    ],
)
def test_kv_of_a_token_is_as_published(model: str, kv_bytes: int) -> None:
    assert decoder(model).kv_bytes_per_token == kv_bytes


def test_a_state_has_a_matrix_a_head_and_a_few_tokens() -> None:
    """Qwen3-Next (its model card): 36 linear layers, 32 heads of 128 by 128; the convolution keeps 3 tokens of 2 * 2048 + 4096 channels."""
    assert decoder("qwen3_next_80b_a3b").state_bytes == 36 * (32 * 128 * 128 + 3 * 8192) * 2


@pytest.mark.parametrize(
    ("model", "gigabytes"),
    [
        ("gpt_oss_120b", 60.8 * 1.0737),  # arXiv 2508.10925, table 1: a checkpoint of 60.8 GiB, experts in MXFP4
        ("gpt_oss_20b", 12.8 * 1.0737),  # the same: 12.8 GiB
        ("kimi_k2_5", 595.0),  # experts in int4, groups of 32: huggingface.co/moonshotai/Kimi-K2.5, 595 GB of safetensors
        ("deepseek_v3", 671.0),  # arXiv 2412.19437: weights in FP8; embeddings and output layer in 16 bits
    ],
)
def test_weights_take_as_much_memory_as_the_published_checkpoint(model: str, gigabytes: float) -> None:
    assert decoder(model).weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.006)


# counts the weights of the modules that Transformers makes of a config.json; vectors and convolutions aside
COUNT = """
import json, sys, torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
SAME = {"kimi_k2": "deepseek_v3"}  # a name that only remote code knows
for line in sys.stdin:
    whole = json.loads(line)
    text = {**whole, **whole.get("text_config", {})}
    for key in ("quantization_config", "text_config", "architectures"):
        text.pop(key, None)
    kind = text.pop("model_type")
    made = CONFIG_MAPPING[SAME.get(kind, kind)](**text)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made)
    weights = {id(p): p.numel() for name, p in model.named_parameters() if p.dim() > 1 and "bias" not in name and "conv1d" not in name}
    print(sum(weights.values()), flush=True)
"""


@pytest.mark.e2e
def test_weights_are_as_many_as_in_the_modules_of_transformers() -> None:
    lines = "".join(json.dumps(config(name)) + "\n" for name in MODELS)
    done = subprocess.run([TRANSFORMERS, "-c", COUNT], input=lines, capture_output=True, text=True, timeout=300, cwd=Path("/"), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = dict(zip(MODELS, map(int, done.stdout.split()), strict=True))
    ours = {name: decoder(name).parameters for name in MODELS}
    # within a millionth: gates of a single output (Qwen's shared expert) are matrices there, and left out here
    assert {name: (ours[name], n) for name, n in theirs.items() if abs(ours[name] / n - 1) > 1e-5} == {}
