"""Formats of weights and KV: bytes of an element, and which arithmetic the matrix products then use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Arithmetic = Literal["16 bit", "fp8", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """bytes: of a weight, its scales included. arithmetic: of the products with it (the device's peak for it is in conf/hardware)."""

    bytes: float
    arithmetic: Arithmetic


WEIGHTS: Mapping[str, WeightFormat] = {
    # weights and activations in FP8 (E4M3), a scale a channel (left out): NVIDIA, FP8 formats for deep learning, arXiv 2209.05433
    "fp8": WeightFormat(bytes=1.0, arithmetic="fp8"),
    # SmoothQuant: weights and activations in INT8; arXiv 2211.10438 (section 5.3: up to 1.56 times faster, half the memory)
    "smoothquant_int8": WeightFormat(bytes=1.0, arithmetic="int8"),
    # AWQ: weights in 4 bits, groups of 128 with an FP16 scale and a 4-bit zero point, products in FP16; arXiv 2306.00978
    "awq_int4": WeightFormat(bytes=0.5 + (2 + 0.5) / 128, arithmetic="16 bit"),
}
KV: Mapping[str, float] = {
    "fp8": 1.0,  # bytes of an element; scales a tensor, as vLLM's --kv-cache-dtype fp8
    "int4": 0.5 + 4 / 64,  # groups of 64 with scale and zero point in FP16; KIVI, arXiv 2402.02750, keeps 2 to 4 bits so
}
