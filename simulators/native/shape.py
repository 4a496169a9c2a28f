"""Shape: what a model's config.json says about its sizes: parameters, FLOPs, bytes of KV."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.system import SimulatorError

# decoders with grouped-query attention and a gated MLP (three matrices), all layers alike
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense decoder. Sizes in elements; dtype_bytes: bytes of one weight and one activation."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    dtype_bytes: int
    tied_embeddings: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Shape":
        """From a Hugging Face config.json. Raises SimulatorError for an unknown architecture, dtype or a missing size."""
        named = config.get("architectures") or ["none given"]
        if named[0] not in ARCHITECTURES:
            raise SimulatorError(f"native: the roofline does not know the architecture {named[0]}; it knows {', '.join(ARCHITECTURES)}")
        missing = [key for key in SIZES if not isinstance(config.get(key), int)]
        if missing:
            raise SimulatorError(f"native: the model's config.json lacks {', '.join(missing)}; give the whole config.json")
        dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
        if dtype not in BYTES:
            raise SimulatorError(f"native: the roofline does not know the torch_dtype {dtype}; it knows {', '.join(BYTES)}")
        return cls(
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            vocab=config["vocab_size"],
            dtype_bytes=BYTES[dtype],
            tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        )

    @property
    def layer_matrices(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the matrix products of one layer: query-key-value, attention output, gate and up, down."""
        attention = self.heads * self.head_dim
        return (
            (self.hidden, attention + 2 * self.kv_heads * self.head_dim),
            (attention, self.hidden),
            (self.hidden, 2 * self.intermediate),
            (self.intermediate, self.hidden),
        )

    @property
    def parameters(self) -> int:
        """Weights of all matrices, embeddings included; norms (a few thousand) left out."""
        layer = sum(k * n for k, n in self.layer_matrices)
        return self.layers * layer + (1 if self.tied_embeddings else 2) * self.vocab * self.hidden

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return self.parameters * self.dtype_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes
