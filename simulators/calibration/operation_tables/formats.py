"""What the tables call the formats of weights that a model's config.json says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.errors import NotAvailable
from simulators.native.architecture.formats import WeightFormat

DENSE = {"16 bit": "bfloat16", "FP8": "fp8", "FP8 in blocks": "fp8_block", "NVFP4": "nvfp4"}  # gemm_dtype, gemm_type
EXPERTS = {**DENSE, "4-bit integers": "int4_wo", "MXFP4": "w4a16_mxfp4"}  # moe_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormats:
    """Of one model. blocks: whether its FP8 has a scale for each block of a matrix, not one for a matrix or a channel."""

    blocks: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TableFormats":
        """config: the model's config.json."""
        nested = config.get("text_config") or {}
        quantisation = config.get("quantization_config") or nested.get("quantization_config") or {}
        return cls(blocks=bool(quantisation.get("weight_block_size")))

    def dense(self, weights: WeightFormat) -> str:
        """As in the tables of products and of latent attention. Raises NotAvailable for a format that these do not have."""
        return _named(self.kind(weights), DENSE, "dense products")

    def experts(self, weights: WeightFormat) -> str:
        """As in the tables of experts. Raises NotAvailable for a format that these do not have."""
        return _named(self.kind(weights), EXPERTS, "experts")

    def kind(self, weights: WeightFormat) -> str:
        """What the tables tell apart."""
        if weights.arithmetic in ("fp4", "mxfp4"):
            return "NVFP4" if weights.arithmetic == "fp4" else "MXFP4"
        if weights.arithmetic == "fp8":
            return "FP8 in blocks" if self.blocks else "FP8"
        bits = int(8 * weights.bytes)  # scales and zero points are a fraction of a bit
        return f"{bits} bit" if bits >= 16 else f"{bits}-bit integers"


def _named(kind: str, names: Mapping[str, str], of: str) -> str:
    if kind not in names:
        raise NotAvailable(f"calibration aic: there are no times of {of} with weights in {kind}; there are {', '.join(names)}")
    return names[kind]
