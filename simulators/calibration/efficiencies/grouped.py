"""The same of the grouped products of experts, and of dense products in fewer bits: FP8, NVFP4, MXFP4, 4-bit integers.

    .envs/core/bin/python -m simulators.calibration.efficiencies --of experts     # or products: of dense ones by format

A layer's experts take expert_start + |arithmetic / expert_flops, traffic / expert_bytes|, the norm that dense products have (`blend`):
arithmetic of all tokens' products, traffic of the weights of those experts that have a token. Fitted are rows of gated experts whose tokens
were spread evenly: there it is known which experts have tokens. Peaks in FP8 and FP4 are two and four times those in 16 bits (NVIDIA's data
sheets); weights in 4 bits beside 16-bit activations are multiplied in 16 bits. The law does not know that a kernel pads an expert's tokens
to a tile, nor other choices that a kernel makes by size: a tenth of the rows is off by a third and more.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from simulators.calibration.efficiencies.dense import Floats, Peaks, TableRows, product_rows
from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.grid import MS
from simulators.calibration.operation_tables.products import read_products
from simulators.errors import NotAvailable

EXPERT_NAMES = ("expert_flops", "expert_bytes", "expert_start")
EXPERT_START = {"expert_flops": 0.5, "expert_bytes": 0.8, "expert_start": 2e-5}  # where the fits begin
FRAMEWORK = "vllm"
MOST = 1 << 14  # tokens
UNGATED = (1856, 2688, 5120)  # intermediate sizes of Nemotron's experts, which have two matrices


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of weights, as the tables have it."""

    bytes: float  # of a weight, its scales included
    speed: int  # the peak of its products over that in 16 bits


FORMATS: Mapping[str, Format] = {
    "bfloat16": Format(bytes=2, speed=1),
    "fp8": Format(bytes=1, speed=2),
    "fp8_block": Format(bytes=1, speed=2),
    "nvfp4": Format(bytes=0.5 + 1 / 16, speed=4),
    "w4a16_mxfp4": Format(bytes=0.5 + 1 / 32, speed=1),
    "int4_wo": Format(bytes=0.5 + 2 / 128, speed=1),
}


@dataclass(frozen=True, kw_only=True)
class ExpertRows:
    """A GPU's rows of one format: what each has to do, in seconds at the peaks, and how long it took."""

    arithmetic: Floats
    traffic: Floats
    seconds: Floats
    blend: float  # exponent of the norm of both, of dense products

    def predicted(self, numbers: Mapping[str, float]) -> Floats:
        """Seconds of each row by the law with these numbers."""
        one, other = self.arithmetic / numbers["expert_flops"], self.traffic / numbers["expert_bytes"]
        longer, shorter = np.maximum(one, other), np.minimum(one, other)
        return np.asarray(numbers["expert_start"] + longer * np.power(1 + np.power(shorter / longer, self.blend), 1 / self.blend))

    def errors(self, numbers: Mapping[str, float]) -> Floats:
        """Relative errors, as logarithms."""
        errors: Floats = np.log(self.predicted(numbers) / self.seconds)
        return errors

    def fitted(self) -> dict[str, float]:
        """The numbers that fit best: least squares of the logarithms, outliers counted less (soft L1 from 10 % on)."""
        from scipy.optimize import least_squares  # here: it takes long to import

        def errors(x: Floats) -> Floats:
            return self.errors(dict(zip(EXPERT_NAMES, np.exp(x), strict=True)))

        start = np.log([EXPERT_START[name] for name in EXPERT_NAMES])
        found = np.exp(least_squares(errors, start, loss="soft_l1", f_scale=0.1).x)
        return dict(zip(EXPERT_NAMES, map(float, found), strict=True))


def expert_rows(root: Path, gpu: Peaks, dtype: str, blend: float) -> ExpertRows:
    """root: the GPU's folder of tables. Raises NotAvailable when it has no such experts."""
    files, form = TableFiles(root=root, framework=FRAMEWORK, version=None), FORMATS[dtype]
    rows, _ = files.read("moe", "moe_perf", {"moe_dtype": dtype, "distribution": "balanced"})
    rows = rows[~rows["inter_size"].isin(UNGATED) & (rows["num_tokens"] <= MOST)]
    hidden, inter, top_k, experts, tensor, expert, tokens = _columns(rows)
    pairs, held = tokens * top_k / expert, experts / expert
    known = (expert == 1) | (tokens * top_k >= experts)  # else it depends on the device whether it has any token
    usual = (inter / tensor >= 128) & (tensor <= 8) & (expert <= 16)
    touched, weights = np.minimum(held, pairs), 3 * hidden * inter / tensor
    moved = 2 * pairs * (hidden + inter + (2 * inter + hidden) / tensor)
    took = rows["latency"].to_numpy(dtype=np.float64) * MS
    use = known & usual & (took > 0)
    if not use.any():
        raise NotAvailable(f"efficiencies: {root} has no experts in {dtype} that can be told")
    return ExpertRows(
        arithmetic=(2 * pairs * weights / (gpu.flops * form.speed))[use],
        traffic=((touched * weights * form.bytes + moved) / gpu.bandwidth)[use],
        seconds=took[use],
        blend=blend,
    )


def dense_rows(root: Path, gpu: Peaks, dtype: str) -> TableRows:
    """Dense products in a format. Raises NotAvailable when the GPU has none that were timed in CUDA graphs."""
    rows, _ = read_products(TableFiles(root=root, framework=FRAMEWORK, version=None), dtype)
    form = FORMATS[dtype]
    return product_rows(rows, dataclasses.replace(gpu, flops=gpu.flops * form.speed), form.bytes)


def _columns(rows: pd.DataFrame) -> list[Floats]:
    names = ("hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size", "num_tokens")
    return [rows[name].to_numpy(dtype=np.float64) for name in names]
