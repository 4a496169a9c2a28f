"""Generations of attention kernels as shares of a device's peak 16-bit arithmetic that prefill attention reaches.

FlashInfer (arXiv 2501.01005) builds its kernels from FlashAttention-2's and -3's algorithms, so it has their shares. None of these papers
gives a share of bandwidth for decode over paged KV that holds across devices, so that stays what conf/simulator/native.yaml has.
"""

from collections.abc import Mapping

AMPERE, HOPPER = "ampere", "hopper"
GENERATION: Mapping[str, str] = {"a100": AMPERE, "h100": HOPPER, "h200": HOPPER}

SHARES: Mapping[str, Mapping[str, float]] = {
    # FlashAttention-2's paper, section 1: the first one reaches 25 to 40 % of an A100's peak
    "flash_attention_1": {AMPERE: 0.33},
    # the same paper, section 1: 50 to 73 % on an A100; FlashAttention-3's abstract: 35 % on an H100
    "flash_attention_2": {AMPERE: 0.62, HOPPER: 0.35},
    # FlashAttention-3 (arXiv 2407.08608), abstract: up to 740 TFLOP/s, 75 %, on an H100
    "flash_attention_3": {HOPPER: 0.75},
    "flashinfer": {AMPERE: 0.62, HOPPER: 0.75},
}
