"""Formats of weights: bytes of one, and which arithmetic the matrix products then use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Arithmetic = Literal["16 bit", "fp8", "int8", "fp4", "mxfp4"]


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
    # 4-bit floats (E2M1), a scale of 8 bits for 32 of them: OCP Microscaling Formats, version 1.0, section 5. Engines multiply them with
    # activations in MXFP8 (at the rate of FP8) or in 16 bits, never with ones in 4 bits
    "mxfp4": WeightFormat(bytes=0.5 + 1 / 32, arithmetic="mxfp4"),
    # the same with a scale in FP8 for 16 of them, and one a tensor (left out): NVIDIA, Pretraining LLMs with NVFP4, arXiv 2509.25149
    "nvfp4": WeightFormat(bytes=0.5 + 1 / 16, arithmetic="fp4"),
}


def grouped(bits: int, group: int | None, *, zeros: bool, arithmetic: Arithmetic = "16 bit") -> WeightFormat:
    """Integers of so many bits; a group of them has a 16-bit scale and, with `zeros`, a zero point. group None: a scale a channel."""
    beside = 0.0 if group is None else (2 + zeros * bits / 8) / group
    return WeightFormat(bytes=bits / 8 + beside, arithmetic=arithmetic)


def plain(bytes_each: int) -> WeightFormat:
    """Weights in the activations' own format."""
    return WeightFormat(bytes=bytes_each, arithmetic="16 bit")
