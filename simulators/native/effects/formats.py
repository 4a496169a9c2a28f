"""Formats of a KV cache in fewer bits; those of weights are in simulators/native/architecture/formats.py."""

from collections.abc import Mapping

KV: Mapping[str, float] = {
    "fp8": 1.0,  # bytes of an element; scales a tensor, as vLLM's --kv-cache-dtype fp8
    "int4": 0.5 + 4 / 64,  # groups of 64 with scale and zero point in FP16; KIVI, arXiv 2402.02750, keeps 2 to 4 bits so
}
