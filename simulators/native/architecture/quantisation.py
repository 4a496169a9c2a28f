"""Which of a model's matrices are in fewer bits, as quantization_config of its config.json says."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import translate
from typing import Any

from simulators.errors import NotAvailable
from simulators.native.architecture.formats import WEIGHTS, WeightFormat, grouped

PREFIXES = ("model", "model.language_model", "language_model.model")
SKIPPED = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")
KNOWN = "fp8, mxfp4, awq, gptq, modelopt, compressed-tensors"
# a matrix that stands for all of its part, by the names that families give it
PARTS: Mapping[str, tuple[str, ...]] = {
    "attention": ("self_attn.o_proj",),
    "linear": ("linear_attn.out_proj",),
    "dense": ("mlp.down_proj", "feed_forward.down_proj"),
    "shared": ("mlp.shared_experts.down_proj", "mlp.shared_expert.down_proj", "feed_forward.shared_expert.down_proj"),
    "expert": ("mlp.experts.0.down_proj", "block_sparse_moe.experts.0.w2", "feed_forward.experts.down_proj"),
}
# the same where an MLP is beside experts that are not in it, as in Gemma 4
BESIDE = {**PARTS, "shared": ("mlp.down_proj",), "expert": ("experts.0.down_proj",)}


class Quantisation:
    """Formats of the matrices of one model.

    given: quantization_config (None: there is none). plain: the format of what is not converted. parts: PARTS or BESIDE. Raises
    NotAvailable for a method of which nothing is known.
    """

    def __init__(self, given: Mapping[str, Any] | None, plain: WeightFormat, parts: Mapping[str, tuple[str, ...]]) -> None:
        self._plain, self._parts = plain, parts
        self._format = _format(given) if given else None
        skipped = [name for key in SKIPPED for name in (given or {}).get(key) or ()]
        self._names = {name for name in skipped if not _is_pattern(name)}
        patterns = [name.removeprefix("re:") if name.startswith("re:") else translate(name) for name in skipped if _is_pattern(name)]
        self._pattern = re.compile("|".join(f"(?:{p})" for p in patterns)) if patterns else None
        self.kv_element = _kv_element(given or {})

    def of(self, layer: int, part: str) -> WeightFormat:
        """Format of a part of a layer, one of PARTS."""
        if self._format is None or any(self._skips(name) for name in self._modules(layer, part)):
            return self._plain
        return self._format

    def _modules(self, layer: int, part: str) -> Iterator[str]:
        yield from (f"{prefix}.layers.{layer}.{name}" for prefix in PREFIXES for name in self._parts[part])

    def _skips(self, name: str) -> bool:
        ancestors = list(_ancestors(name))
        if any(found in self._names for found in ancestors) or any(end in self._names for end in _ends(name)):
            return True
        return self._pattern is not None and any(self._pattern.match(found) for found in ancestors)


def _is_pattern(name: str) -> bool:
    return name.startswith("re:") or "*" in name


def _ancestors(name: str) -> Iterator[str]:
    """The name itself, and all modules that it is in: a skipped module has all its matrices skipped."""
    parts = name.split(".")
    yield from (".".join(parts[:n]) for n in range(len(parts), 0, -1))


def _ends(name: str) -> Iterator[str]:
    """Ends of the name: a bare `down_proj` is every matrix of that name."""
    parts = name.split(".")
    yield from (".".join(parts[n:]) for n in range(1, len(parts)))


def _format(given: Mapping[str, Any]) -> WeightFormat:
    """The format that a quantization_config names."""
    method = str(given.get("quant_method") or (given.get("producer") or {}).get("name") or "").lower()
    if method == "fp8":
        return WEIGHTS["fp8"]
    if method == "mxfp4":
        return WEIGHTS["mxfp4"]
    if method in ("awq", "gptq"):
        group = given.get("group_size")
        zeros = bool(given.get("zero_point", not given.get("sym", True)))
        return grouped(int(given.get("bits") or 4), group if group and group > 0 else None, zeros=zeros)  # -1: a scale a channel
    if method.startswith("modelopt"):
        return _modelopt(given)
    if method == "compressed-tensors":
        return _compressed(next(iter((given.get("config_groups") or {}).values()), {}))
    named = method or "none given"
    raise NotAvailable(f"native: the roofline does not know the quant_method {named} of quantization_config; it knows {KNOWN}")


def _modelopt(given: Mapping[str, Any]) -> WeightFormat:
    algorithm = str(given.get("quant_algo") or "").upper()
    if algorithm.startswith("FP8"):
        return WEIGHTS["fp8"]
    if algorithm.startswith(("NVFP4", "FP4")):
        return WEIGHTS["nvfp4"]
    raise NotAvailable(f"native: the roofline does not know the quant_algo {algorithm or 'none given'} of modelopt; it knows FP8, NVFP4")


def _compressed(group: Mapping[str, Any]) -> WeightFormat:
    """Of compressed-tensors: a group of layers that are alike; weights alone in fewer bits are multiplied in 16."""
    weights, inputs = group.get("weights") or {}, group.get("input_activations")
    bits, kind, size = int(weights.get("num_bits") or 8), str(weights.get("type") or "int"), weights.get("group_size")
    if kind == "float":
        found = WEIGHTS["fp8"] if bits == 8 else WEIGHTS["mxfp4"] if size == 32 else WEIGHTS["nvfp4"]
        return found if inputs else WeightFormat(bytes=found.bytes, arithmetic="16 bit")
    return grouped(bits, size, zeros=not weights.get("symmetric", True), arithmetic="int8" if inputs and bits == 8 else "16 bit")


def _kv_element(given: Mapping[str, Any]) -> float | None:
    """Bytes of an element of the KV cache that goes with the weights; None: as activations."""
    scheme = given.get("kv_cache_scheme")
    stated = str(given.get("kv_cache_quant_algo") or "").upper()
    if isinstance(scheme, Mapping):
        return float(scheme["num_bits"]) / 8 if isinstance(scheme.get("num_bits"), int) else None
    return 1.0 if "FP8" in (stated, str(scheme or "").upper()) else None
