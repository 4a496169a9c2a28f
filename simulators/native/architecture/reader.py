"""Reader: from a config.json to a Decoder."""

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from simulators.errors import NotAvailable
from simulators.native.architecture import dense, hybrid, latent, mixtures
from simulators.native.architecture.attention import Attention, GatedDeltaNet
from simulators.native.architecture.decoder import Decoder, DecoderLayer
from simulators.native.architecture.feed_forward import Experts, FeedForward
from simulators.native.architecture.fields import Fields
from simulators.native.architecture.formats import plain
from simulators.native.architecture.quantisation import BESIDE, PARTS, Quantisation

Family = Callable[[Fields], Sequence[tuple[Attention, FeedForward]]]

# architectures of config.json; those with ConditionalGeneration nest the language model's settings
FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": dense.plain,
    "MistralForCausalLM": dense.plain,
    "Mistral3ForConditionalGeneration": dense.plain,
    "Phi3ForCausalLM": dense.plain,
    "Olmo2ForCausalLM": dense.plain,
    "Olmo3ForCausalLM": dense.plain,
    "Qwen2ForCausalLM": dense.qwen,
    "Qwen3ForCausalLM": dense.qwen,
    "Qwen3VLForConditionalGeneration": dense.qwen,
    "Gemma2ForCausalLM": dense.gemma2,
    "Gemma3ForCausalLM": dense.gemma3,
    "Gemma3ForConditionalGeneration": dense.gemma3,
    "Gemma4ForCausalLM": dense.gemma4,
    "Gemma4ForConditionalGeneration": dense.gemma4,
    "MixtralForCausalLM": mixtures.mixtral,
    "MiniMaxM2ForCausalLM": mixtures.mixtral,
    "GptOssForCausalLM": mixtures.gpt_oss,
    "Qwen2MoeForCausalLM": mixtures.qwen_moe,
    "Qwen3MoeForCausalLM": mixtures.qwen_moe,
    "Qwen3VLMoeForConditionalGeneration": mixtures.qwen_moe,
    "Glm4MoeForCausalLM": mixtures.glm_moe,
    "Llama4ForCausalLM": mixtures.llama4,
    "Llama4ForConditionalGeneration": mixtures.llama4,
    "Qwen3NextForCausalLM": hybrid.qwen_next,
    "Qwen3_5ForCausalLM": hybrid.qwen_next,
    "Qwen3_5ForConditionalGeneration": hybrid.qwen_next,
    "Qwen3_5MoeForCausalLM": hybrid.qwen_next,
    "Qwen3_5MoeForConditionalGeneration": hybrid.qwen_next,
    "MiniCPM3ForCausalLM": latent.deepseek,
    "DeepseekV2ForCausalLM": latent.deepseek,
    "DeepseekV3ForCausalLM": latent.deepseek,
    "DeepseekV32ForCausalLM": latent.deepseek,
    "KimiK2ForCausalLM": latent.deepseek,
    "KimiK25ForConditionalGeneration": latent.deepseek,
    "GlmMoeDsaForCausalLM": latent.deepseek,
}
TIED = ("Gemma2", "Gemma3", "Gemma4")  # families whose embeddings are the output layer's weights where config.json does not say

# what Transformers fills in where a config.json leaves it out (its Gemma3TextConfig: Google's own leave out most of it)
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Gemma3": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
    },
}


def decoder_of(config: Mapping[str, Any]) -> Decoder:
    """The sizes of a model, from its Hugging Face config.json; read once and kept.

    Raises NotAvailable for an unknown architecture, dtype or quantisation, SimulatorError for a missing size.
    """
    return _decoder(json.dumps(dict(config), sort_keys=True, default=list))


@lru_cache(maxsize=256)
def _decoder(text: str) -> Decoder:
    config = json.loads(text)
    name, family = _family(config)
    fields = _filled(Fields.of(config), name)
    hidden, vocab, _ = fields.need("hidden_size", "vocab_size", "num_hidden_layers")
    parts = BESIDE if name.startswith("Gemma4") else PARTS
    formats = Quantisation(fields.get("quantization_config"), plain(fields.dtype_bytes), parts)
    tied = config.get("tie_word_embeddings", fields.text.get("tie_word_embeddings"))
    return Decoder(
        hidden=hidden,
        vocab=vocab,
        layers=tuple(_layer(formats, i, attention, mlp) for i, (attention, mlp) in enumerate(family(fields))),
        dtype_bytes=fields.dtype_bytes,
        tied_embeddings=name.startswith(TIED) if tied is None else bool(tied),
        kv_element=formats.kv_element,
    )


def _layer(formats: Quantisation, number: int, attention: Attention, feed_forward: FeedForward) -> DecoderLayer:
    experts = isinstance(feed_forward, Experts)
    own = formats.of(number, "expert" if experts else "dense")
    return DecoderLayer(
        attention=attention,
        feed_forward=feed_forward,
        attention_format=formats.of(number, "linear" if isinstance(attention, GatedDeltaNet) else "attention"),
        feed_forward_format=own,
        shared_format=formats.of(number, "shared") if experts else own,
    )


def _family(config: Mapping[str, Any]) -> tuple[str, Family]:
    name = str((config.get("architectures") or ["none given"])[0])
    if name in FAMILIES:
        return name, FAMILIES[name]
    near = get_close_matches(name, FAMILIES, n=1, cutoff=0.0)[0]
    raise NotAvailable(f"native: the roofline does not know the architecture {name}; the nearest that it knows is {near}")


def _filled(fields: Fields, name: str) -> Fields:
    """The fields, with what Transformers fills in for such a model."""
    given = next((given for family, given in DEFAULTS.items() if name.startswith(family)), {})
    return Fields(fields.whole, {**given, **fields.text}) if given else fields
