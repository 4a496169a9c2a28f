"""Shape: what a model's config.json says about its sizes: parameters, FLOPs, bytes of KV."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.errors import NotAvailable, SimulatorError

# decoders with grouped-query attention and a gated MLP (three matrices), all layers alike
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
LATENT_ARCHITECTURES = ("MiniCPM3ForCausalLM",)  # the same with multi-head latent attention
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): all heads share one cached vector a token. In elements.

    rank: of the compressed keys and values; rope: of the key part beside it that carries positions; nope, value: of a head's other key
    part and of its value; query_rank: of the compressed query (None: it is not).
    """

    rank: int
    rope: int
    nope: int
    value: int
    query_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense decoder. Sizes in elements."""

    hidden: int  # of the residual stream
    intermediate: int  # of the MLP
    layers: int  # of the decoder
    heads: int  # of the queries
    kv_heads: int  # of the keys and values
    head_dim: int  # of one head
    vocab: int  # tokens
    dtype_bytes: int  # bytes of one activation, and of a weight and an element of the KV cache where the next two do not say otherwise
    tied_embeddings: bool = False  # whether the output layer has the embeddings' weights
    weight_element: float | None = None  # bytes of one weight of the layers' matrices
    kv_element: float | None = None  # bytes of one element of the KV cache
    latent: Latent | None = None  # its attention, when that is not grouped-query

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Shape":
        """From a Hugging Face config.json. Raises NotAvailable for an unknown architecture or dtype, SimulatorError for a missing size."""
        named = config.get("architectures") or ["none given"]
        known = (*ARCHITECTURES, *LATENT_ARCHITECTURES)
        if named[0] not in known:
            raise NotAvailable(f"native: the roofline does not know the architecture {named[0]}; it knows {', '.join(known)}")
        missing = [key for key in SIZES if not isinstance(config.get(key), int)]
        if missing:
            raise SimulatorError(f"native: the model's config.json lacks {', '.join(missing)}; give the whole config.json")
        dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
        if dtype not in BYTES:
            raise NotAvailable(f"native: the roofline does not know the torch_dtype {dtype}; it knows {', '.join(BYTES)}")
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
            latent=_latent(config) if named[0] in LATENT_ARCHITECTURES else None,
        )

    @property
    def layer_matrices(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the matrix products of one layer: query-key-value, attention output, gate and up, down."""
        return (*self._attention_matrices, (self.hidden, 2 * self.intermediate), (self.intermediate, self.hidden))

    @property
    def _attention_matrices(self) -> tuple[tuple[int, int], ...]:
        if self.latent is None:
            attention = self.heads * self.head_dim
            return (self.hidden, attention + 2 * self.kv_heads * self.head_dim), (attention, self.hidden)
        latent, query = self.latent, self.heads * (self.latent.nope + self.latent.rope)
        down = latent.rank + latent.rope
        compressed = (
            ((self.hidden, latent.query_rank + down), (latent.query_rank, query)) if latent.query_rank else ((self.hidden, query + down),)
        )
        return (*compressed, (latent.rank, self.heads * (latent.nope + latent.value)), (self.heads * latent.value, self.hidden))

    @property
    def prefill_pair_flops(self) -> int:
        """FLOPs of one layer's attention for a query and a key of a prompt: two products of a head's size, for every head."""
        if self.latent is None:
            return 4 * self.heads * self.head_dim
        return 2 * self.heads * (self.latent.nope + self.latent.rope + self.latent.value)

    @property
    def decode_pair_flops(self) -> int:
        """The same of a decode step; latent attention then works on the compressed vectors themselves (section 2.1.3 there)."""
        if self.latent is None:
            return self.prefill_pair_flops
        return 2 * self.heads * (2 * self.latent.rank + self.latent.rope)

    @property
    def parameters(self) -> int:
        """Weights of all matrices, embeddings included; norms (a few thousand) left out."""
        layer = sum(k * n for k, n in self.layer_matrices)
        return self.layers * layer + (1 if self.tied_embeddings else 2) * self.vocab * self.hidden

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights; embeddings and output stay in the activations' format, as in AWQ and SmoothQuant."""
        layers = self.layers * sum(k * n for k, n in self.layer_matrices)
        return layers * self.bytes_per_weight + (self.parameters - layers) * self.dtype_bytes

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of one weight of the layers' matrices."""
        return self.dtype_bytes if self.weight_element is None else self.weight_element

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of keys and values of one token in all layers."""
        element = self.dtype_bytes if self.kv_element is None else self.kv_element
        width = 2 * self.kv_heads * self.head_dim if self.latent is None else self.latent.rank + self.latent.rope
        return self.layers * width * element

    def kv_bytes_per_device(self, tensor_parallel: int) -> float:
        """Bytes of one token on each of so many devices.

        The KV heads are split over the devices, as far as they go; a latent cannot be split.
        """
        return self.kv_bytes_per_token / (1 if self.latent is not None else min(tensor_parallel, self.kv_heads))


def _latent(config: Mapping[str, Any]) -> Latent:
    names = {"rank": "kv_lora_rank", "rope": "qk_rope_head_dim", "nope": "qk_nope_head_dim", "value": "v_head_dim"}
    missing = [key for key in names.values() if not isinstance(config.get(key), int)]
    if missing:
        raise SimulatorError(f"native: the model's config.json lacks {', '.join(missing)}; give the whole config.json")
    return Latent(**{name: config[key] for name, key in names.items()}, query_rank=config.get("q_lora_rank"))
