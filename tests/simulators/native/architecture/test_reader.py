"""Readers: nested settings, patterns of layers, formats that a config.json states, and what it says about what it does not know."""

from typing import Any

import pytest

from simulators.errors import NotAvailable, SimulatorError
from simulators.native.architecture.attention import GatedDeltaNet, GroupedQuery
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.feed_forward import Dense, Experts
from simulators.native.architecture.reader import FAMILIES, decoder_of
from tests.simulators.native.architecture.test_published_sizes import config, decoder

LLAMA = config("llama_3_1_8b")
INT8 = {"num_bits": 8, "type": "int"}
SKIPS_ATTENTION = {"quant_method": "fp8", "modules_to_not_convert": [f"model.layers.{i}.self_attn" for i in range(32)]}


def formats(found: Decoder) -> list[tuple[float, float, float]]:
    """(attention, MLP or experts, shared) bytes of a weight in each kind of layer."""
    return [(g.attention_format.bytes, g.feed_forward_format.bytes, g.shared_format.bytes) for g, _ in found.groups]


@pytest.mark.parametrize(
    ("named", "near"),
    [
        ("LlamaForCausalML", "LlamaForCausalLM"),
        ("DeepseekV4ForCausalLM", "DeepseekV3ForCausalLM"),
        ("Qwen4MoeForCausalLM", "Qwen3MoeForCausalLM"),
    ],
)
def test_an_unknown_architecture_is_named_beside_the_nearest_known_one(named: str, near: str) -> None:
    with pytest.raises(NotAvailable, match=f"does not know the architecture {named}; the nearest that it knows is {near}$"):
        decoder_of(LLAMA | {"architectures": [named]})


@pytest.mark.parametrize("name", ["mixtral_8x7b", "deepseek_v3", "qwen3_next_80b_a3b", "gpt_oss_20b", "glm_4_5", "llama_4_scout"])
def test_a_size_that_is_missing_is_named(name: str) -> None:
    whole = config(name)
    inner = whole.get("text_config", whole)
    for size in ("hidden_size", "num_experts_per_tok"):
        less = {key: value for key, value in inner.items() if key != size}
        with pytest.raises(SimulatorError, match=rf"config\.json lacks {size}; give the whole"):
            decoder_of({**whole, "text_config": less} if inner is not whole else less)


def test_the_nested_settings_of_a_language_model_are_read() -> None:
    """A model that sees has the same language model as one that does not."""
    nested = {"architectures": ["Mistral3ForConditionalGeneration"], "text_config": {**LLAMA, "architectures": None}}
    assert decoder_of(nested) == decoder_of(LLAMA)


def test_every_other_layer_of_gpt_oss_has_a_window() -> None:
    attention = [layer.attention for layer in decoder("gpt_oss_20b").layers]
    assert [a.reach for a in attention if isinstance(a, GroupedQuery)] == [128, None] * 12


def test_every_sixth_layer_of_gemma_has_no_window_and_may_have_other_heads() -> None:
    for name, last in (("gemma_3_27b", (16, 128)), ("gemma_4_26b_a4b", (2, 512))):
        attention = [layer.attention for layer in decoder(name).layers]
        assert {a.reach for i, a in enumerate(attention) if i % 6 != 5 and isinstance(a, GroupedQuery)} == {1024}
        assert {(a.reach, a.kv_heads, a.head_dim) for a in attention[5::6] if isinstance(a, GroupedQuery)} == {(None, *last)}


def test_a_window_as_long_as_the_longest_request_is_none() -> None:
    windowed = {**config("mistral_7b"), "sliding_window": 32768}
    assert decoder_of(windowed).reach is None and decoder("mistral_7b").reach == 4096


def test_three_of_four_layers_of_qwen3_next_are_linear() -> None:
    linear = [isinstance(layer.attention, GatedDeltaNet) for layer in decoder("qwen3_next_80b_a3b").layers]
    assert linear == [True, True, True, False] * 12


def test_deepseek_begins_with_dense_layers() -> None:
    kinds = [type(layer.feed_forward) for layer in decoder("deepseek_v3").layers]
    assert kinds == [Dense] * 3 + [Experts] * 58


def test_llama_4_has_experts_in_every_other_layer_of_maverick_and_full_attention_in_every_fourth() -> None:
    layers = decoder("llama_4_maverick").layers
    assert [isinstance(layer.feed_forward, Experts) for layer in layers] == [False, True] * 24
    assert [layer.attention.reach for layer in layers if isinstance(layer.attention, GroupedQuery)] == [8192, 8192, 8192, None] * 12


def test_a_latent_is_cached_whole_by_every_device_and_kv_heads_are_split_as_far_as_they_go() -> None:
    assert decoder("deepseek_v3").kv_bytes_per_device(8) == decoder("deepseek_v3").kv_bytes_per_token
    assert decoder("qwen3_30b_a3b").kv_bytes_per_device(8) == decoder("qwen3_30b_a3b").kv_bytes_per_token / 4


def test_what_quantization_config_skips_stays_in_16_bits() -> None:
    assert formats(decoder_of(LLAMA | {"quantization_config": SKIPS_ATTENTION})) == [(2, 1, 1)]
    assert formats(decoder("gpt_oss_120b")) == [(2, 0.53125, 0.53125)] * 2
    assert formats(decoder("kimi_k2_5")) == [(2, 2, 2), (2, 0.5625, 2)]  # a dense layer, then experts in int4 beside a shared one


def test_modules_are_skipped_by_name_by_shell_pattern_and_by_regular_expression() -> None:
    for skipped in (["model.layers.*.self_attn"], ["re:.*self_attn.*"], ["o_proj"], ["model.layers.*.self_attn*"]):
        given = {
            "quant_method": "compressed-tensors",
            "ignore": skipped,
            "config_groups": {"group_0": {"weights": INT8}},
        }
        assert formats(decoder_of(LLAMA | {"quantization_config": given})) == [(2, 1, 1)], skipped
    nothing = {"quant_method": "fp8", "modules_to_not_convert": ["gate", "lm_head"]}  # a router's name is no part of gate_proj
    assert formats(decoder_of(LLAMA | {"quantization_config": nothing})) == [(1, 1, 1)]


FP8_KV = {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}
FP4 = {"num_bits": 4, "type": "float", "group_size": 16}
INT4 = {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}


@pytest.mark.parametrize(
    ("given", "each", "arithmetic"),
    [
        ({"quant_method": "fp8"}, 1.0, "fp8"),
        ({"quant_method": "mxfp4"}, 0.5 + 1 / 32, "mxfp4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 0.5 + 2.5 / 128, "16 bit"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True}, 0.5 + 2 / 64, "16 bit"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, 1.0, "16 bit"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 0.5 + 1 / 16, "fp4"),
        ({"producer": {"name": "modelopt"}, "quant_algo": "FP8"}, 1.0, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": INT4}}}, 0.5 + 2 / 128, "16 bit"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": FP4, "input_activations": FP4}}}, 0.5625, "fp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": FP4}}}, 0.5625, "16 bit"),
    ],
)
def test_formats_are_those_that_quantization_config_states(given: dict[str, Any], each: float, arithmetic: str) -> None:
    [(layer, _)] = decoder_of(LLAMA | {"quantization_config": given}).groups
    assert (layer.feed_forward_format.bytes, layer.feed_forward_format.arithmetic) == (each, arithmetic)


@pytest.mark.parametrize("given", [FP8_KV, {"kv_cache_scheme": "FP8"}, {"kv_cache_quant_algo": "FP8"}])
def test_a_kv_cache_in_fp8_goes_with_the_weights_where_they_say_so(given: dict[str, Any]) -> None:
    found = decoder_of(LLAMA | {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8", **given}})
    assert found.kv_bytes_per_token == decoder_of(LLAMA).kv_bytes_per_token / 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"quant_method": "higgs"}, "does not know the quant_method higgs of quantization_config; it knows fp8, mxfp4, awq, gptq"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "does not know the quant_algo W4A8_AWQ of modelopt; it knows FP8, NVFP4"),
    ],
)
def test_an_unknown_quantisation_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(NotAvailable, match=said):
        decoder_of(LLAMA | {"quantization_config": given})


def test_gemma_4_with_embeddings_per_layer_is_refused() -> None:
    small = config("gemma_4_26b_a4b")
    small["text_config"]["hidden_size_per_layer_input"] = 256
    with pytest.raises(NotAvailable, match=r"embeddings per layer and shared KV \(E2B, E4B\) are not modelled"):
        decoder_of(small)


def test_every_family_says_in_one_line_what_an_empty_config_lacks() -> None:
    for name in FAMILIES:
        with pytest.raises(SimulatorError, match=r"config\.json lacks [\w, ]+; give the whole config\.json$"):
            decoder_of({"architectures": [name]})
