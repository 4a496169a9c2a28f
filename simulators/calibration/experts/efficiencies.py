"""What experts' grouped products, and products in FP8 and FP4, reach of the peaks, by kind of GPU; fitted to published tables alone.

    .envs/core/bin/python -m simulators.calibration.experts.efficiencies   # numbers of conf/simulator/native.yaml, and how well they fit

The law is that of a product in simulators/native/latency/roofline.py: a start, and the norm of arithmetic and traffic at a share of each
peak, with the exponent `blend` of the kind's 16-bit products. A row of the tables of experts is a whole layer of them: gate, up and down,
and the sorting of tokens; its `balanced` rows are taken, in which n tokens touch min(count, n * top_k) experts. Their arithmetic has two
numbers more: `tile`, tokens that each touched expert computes beyond its own (a kernel takes whole tiles of rows), and `narrowness`,
elements: experts whose intermediate size on one device is that small take twice as long for a multiplication. Without these two, shapes
that were left out of a fit were wrong by 12 to 19 % in the median from 512 tokens on, and 4 to 12 % too fast; with them by 5 to 12 %.

FP8 is in blocks of 128 by 128 for experts, as the models that come in FP8 have it, and a scale a tensor for other products: the tables'
block-wise rows of these have a start of 70 to 280 us, which no model's step has. MXFP4 is measured as engines serve it: by activations in
MXFP8 where the tables have that (its peak is that of FP8), else by 16-bit ones, whose shares of that peak are small.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulators.calibration.efficiencies import FRAMEWORK, GPUS, SMALLEST, Floats, Peaks
from simulators.calibration.operation_tables.files import installed
from simulators.calibration.operation_tables.grid import MS
from simulators.native.architecture.formats import WEIGHTS, WeightFormat, plain

# the tables' formats, and how many times the 16-bit peak a device has in their arithmetic
EXPERT_FORMATS: Mapping[str, str] = {  # of two for one arithmetic, the first there is
    "bfloat16": "16 bit",
    "fp8_block": "fp8",
    "fp8": "fp8",
    "nvfp4": "fp4",
    "w4a8_mxfp4_mxfp8": "mxfp4",
    "w4a16_mxfp4": "mxfp4",
}
PRODUCT_FORMATS: Mapping[str, str] = {"fp8": "fp8", "nvfp4": "fp4"}
TIMES = {"16 bit": 1.0, "fp8": 2.0, "fp4": 4.0, "mxfp4": 2.0}
FORMATS: Mapping[str, WeightFormat] = {"16 bit": plain(2), "fp8": WEIGHTS["fp8"], "fp4": WEIGHTS["nvfp4"], "mxfp4": WEIGHTS["mxfp4"]}
TOKENS, SLICE = 8192, 128  # the most tokens, and the smallest part of an expert's intermediate size, of the rows that are taken
FEWEST = 50  # rows that a fit takes
NAMES = ("flops", "bytes", "start", "tile", "narrowness")  # the last two of experts alone
START, LEAST, MOST = (0.5, 0.8, 2e-5, 16.0, 64.0), (1e-2, 1e-2, 1e-9, 1e-2, 1e-2), (1.0, 1.0, 1e-3, 512.0, 4096.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Measured products, an element a row. arithmetic, traffic: s at the peaks."""

    arithmetic: Floats
    traffic: Floats
    seconds: Floats  # that they took
    tile: Floats | None = None  # s at the peak of one token more at each expert; None: products without experts
    inner: Floats | None = None  # an expert's intermediate size on the device

    def law(self, numbers: Floats, blend: float) -> Floats:
        """Seconds by the numbers, in the order of NAMES."""
        flops, moved, start, *of_experts = numbers
        arithmetic = self.arithmetic
        if self.tile is not None and self.inner is not None:
            arithmetic = (arithmetic + of_experts[0] * self.tile) * (1 + of_experts[1] / self.inner)
        one, other = arithmetic / flops, self.traffic / moved
        longer, shorter = np.maximum(one, other), np.minimum(one, other)
        return np.asarray(start + longer * np.power(1 + np.power(shorter / longer, blend), 1 / blend))


def fitted(rows: Rows, blend: float) -> tuple[Floats, Floats]:
    """The numbers, and the errors that are left, as logarithms.

    Least squares of the logarithms, outliers counted less (soft L1 from 10 % on).
    """
    from scipy.optimize import least_squares  # here: it takes long to import

    def errors(logarithms: Floats) -> Floats:
        return np.asarray(np.log(rows.law(np.exp(logarithms), blend) / rows.seconds))

    count = 3 if rows.tile is None else 5
    bounds = (np.log(LEAST[:count]), np.log(MOST[:count]))
    found = least_squares(errors, np.log(START[:count]), bounds=bounds, loss="soft_l1", f_scale=0.1).x
    return np.exp(found), errors(found)


def expert_rows(table: pd.DataFrame, gpu: Peaks, arithmetic: str) -> Rows:
    """Of the rows of one format."""
    rows = table[(table["distribution"] == "balanced") & (table["moe_ep_size"] == 1) & (table["num_tokens"] <= TOKENS)]
    rows = rows[rows["inter_size"] / rows["moe_tp_size"] >= SLICE]
    names = ("num_tokens", "topk", "num_experts", "hidden_size", "inter_size", "moe_tp_size", "latency")
    tokens, top_k, count, hidden, whole, split, took = (rows[c].to_numpy(dtype=np.float64) for c in names)
    pairs, each, inner = tokens * top_k, 3 * hidden * whole / split, whole / split
    touched, peak = np.minimum(count, pairs), gpu.flops * TIMES[arithmetic]
    moved = touched * each * FORMATS[arithmetic].bytes + pairs * 2 * (2 * hidden + 3 * inner)
    return Rows(
        arithmetic=2 * pairs * each / peak, traffic=moved / gpu.bandwidth, seconds=took * MS, tile=2 * touched * each / peak, inner=inner
    )


def product_rows(table: pd.DataFrame, gpu: Peaks, arithmetic: str) -> Rows:
    """The same of single products as large as a layer's."""
    rows = table[(table["n"] * table["k"] >= SMALLEST) & table["m"].le(TOKENS) & table[["n", "k"]].ge(1024).all(axis=1)]
    rows = rows[rows["n"].le(1 << 16) & rows["k"].le(1 << 14)]
    m, n, k, took = (rows[c].to_numpy(dtype=np.float64) for c in ("m", "n", "k", "latency"))
    moved = n * k * FORMATS[arithmetic].bytes + 2 * (m * k + m * n)
    return Rows(arithmetic=2 * m * n * k / (gpu.flops * TIMES[arithmetic]), traffic=moved / gpu.bandwidth, seconds=took * MS)


def of_gpu(root: Path, gpu: Peaks, blend: float) -> tuple[dict[str, float], dict[str, float]]:
    """A GPU's numbers by `arithmetic.name`, and the median size of the error of each fit. root: its folder of tables."""
    numbers: dict[str, float] = {}
    errors: dict[str, float] = {}
    families: Any = (
        ("expert", "moe", "moe_dtype", EXPERT_FORMATS, expert_rows),
        ("gemm", "gemm", "gemm_dtype", PRODUCT_FORMATS, product_rows),
    )
    for prefix, family, column, formats, rows_of in families:
        table = _read(root, family)
        for name, arithmetic in formats.items():
            rows = rows_of(table[table[column] == name], gpu, arithmetic) if len(table) else None
            if rows is None or f"{arithmetic}.{prefix}_flops" in numbers or len(rows.seconds) < FEWEST:
                continue
            found, left = fitted(rows, blend)
            for what, value in zip(NAMES, found, strict=False):
                numbers[f"{arithmetic}.{prefix}_{what}"] = float(value)
            errors[f"{arithmetic}.{prefix}"] = float(np.median(np.abs(np.expm1(left))))
    return numbers, errors


def of_kind(numbers: Mapping[str, Mapping[str, float]], kind: str) -> dict[str, float]:
    """The geometric means over the GPUs of a kind; {} where none has tables."""
    mine = [found for name, found in numbers.items() if GPUS[name].kind == kind and found]
    return {key: float(np.exp(np.mean([np.log(found[key]) for found in mine]))) for key in (mine[0] if mine else ())}


def _read(root: Path, family: str) -> pd.DataFrame:
    found = (root / family / FRAMEWORK).glob(f"*/{family}_perf.parquet")
    newest = max(found, key=lambda path: [int(part) for part in path.parent.name.split(".")], default=None)
    return pd.DataFrame() if newest is None else pd.read_parquet(newest)


def main(environment: str, blends: Mapping[str, float]) -> None:
    """Print the numbers by GPU and by kind."""
    folder = installed(environment)
    numbers = {}
    for name, gpu in GPUS.items():
        numbers[name], errors = of_gpu(folder / name, gpu, blends[gpu.kind])
        print(f"{name}: {_line(numbers[name])}; median errors {', '.join(f'{key} {value:.1%}' for key, value in errors.items())}")
    for kind in sorted({gpu.kind for gpu in GPUS.values()}):
        print(f"{kind}: {_line(of_kind(numbers, kind))}")


def _line(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{key}: {value:.3g}" for key, value in numbers.items()) or "no tables"


if __name__ == "__main__":
    import yaml  # type: ignore[import-untyped]

    from results.project.folder import CONF

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", default="aisimulate", help="under .envs, whose package has the tables")
    native = yaml.safe_load((CONF / "simulator" / "native.yaml").read_text())
    main(parser.parse_args().environment, {kind: float(said["blend"]) for kind, said in native["architectures"].items()})
