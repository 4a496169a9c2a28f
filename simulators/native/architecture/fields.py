"""Fields: a config.json's settings, those of its language model where it nests them; each says when it is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulators.errors import NotAvailable, SimulatorError

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
NESTED = ("text_config", "language_config", "llm_config")  # where models that see or hear keep the settings of their language model
FULL, LINEAR = "full_attention", "linear_attention"  # of layer_types; every other name there is of a window or of chunks


@dataclass(frozen=True, slots=True)
class Fields:
    """whole: the config.json. text: its language model's settings."""

    whole: Mapping[str, Any]
    text: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Fields":
        """From a config.json."""
        nested = next((config[key] for key in NESTED if isinstance(config.get(key), Mapping)), None)
        return cls(config, config if nested is None else nested)

    def need(self, *names: str) -> list[int]:
        """Sizes of these names. Raises SimulatorError naming those that are missing."""
        missing = [name for name in names if not isinstance(self.text.get(name), int)]
        if missing:
            raise SimulatorError(f"native: the model's config.json lacks {', '.join(missing)}; give the whole config.json")
        return [int(self.text[name]) for name in names]

    def size(self, name: str, default: int | None = None) -> int:
        """One size; without a default it must be there."""
        found = self.text.get(name)
        if isinstance(found, int) or default is None:
            return self.need(name)[0]
        return default

    def get(self, name: str, default: Any = None) -> Any:
        """A setting of the language model, or else of the whole."""
        found = self.text.get(name)
        return self.whole.get(name, default) if found is None else found

    @property
    def head_dim(self) -> int:
        """Elements of a head: stated, or an equal part of the residual stream."""
        return self.text.get("head_dim") or self.size("hidden_size") // self.size("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        """KV heads; as many as heads where none are stated."""
        return self.text.get("num_key_value_heads") or self.size("num_attention_heads")

    @property
    def dtype_bytes(self) -> int:
        """Bytes of an activation. Raises NotAvailable for a dtype of unknown size."""
        dtype = str(self.get("torch_dtype") or self.get("dtype") or "bfloat16").removeprefix("torch.")
        if dtype not in BYTES:
            raise NotAvailable(f"native: the roofline does not know the torch_dtype {dtype}; it knows {', '.join(BYTES)}")
        return BYTES[dtype]

    def layer_types(self, default: Sequence[str]) -> list[str]:
        """The kind of attention of each layer: as config.json lists them, else by default. Raises SimulatorError when they are too few."""
        layers = self.size("num_hidden_layers")
        found = list(self.text.get("layer_types") or default)
        if len(found) < layers:
            raise SimulatorError(f"native: the model's config.json has {layers} layers and {len(found)} layer_types; give a type for each")
        return found[:layers]

    def every(self, interval: int, *, otherwise: str) -> list[str]:
        """Layer types of a pattern: each `interval`-th layer has full attention, those before it another kind."""
        return [FULL if (i + 1) % interval == 0 else otherwise for i in range(self.size("num_hidden_layers"))]
