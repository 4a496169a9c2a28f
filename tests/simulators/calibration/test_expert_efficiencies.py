"""Efficiencies of experts' products: a table that obeys the law gives back its numbers, whatever is in its other rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulators.calibration.efficiencies import Peaks
from simulators.calibration.experts.efficiencies import of_gpu

GPU = Peaks(kind="hopper_hbm", flops=1e15, bandwidth=4e12)
BLEND = 3.0


def took(arithmetic: np.ndarray, traffic: np.ndarray, flops: float, moved: float, start: float) -> np.ndarray:
    one, other = arithmetic / flops, traffic / moved
    return 1e3 * (start + (one**BLEND + other**BLEND) ** (1 / BLEND))


def expert_table() -> pd.DataFrame:
    rows = [
        (n, k, e, h, i, tp)
        for n in (1, 8, 64, 512, 4096)
        for k, e in ((2, 8), (8, 128))
        for h, i in ((4096, 14336), (2048, 768))
        for tp in (1, 2)
    ]
    table = pd.DataFrame(rows, columns=["num_tokens", "topk", "num_experts", "hidden_size", "inter_size", "moe_tp_size"])
    n, k, e, h, i, tp = (table[c].to_numpy(dtype=np.float64) for c in table.columns)
    pairs, each = n * k, 3 * h * i / tp
    moved = np.minimum(e, pairs) * each * 2 + pairs * 2 * (2 * h + 3 * i / tp)
    computed = (pairs + 40 * np.minimum(e, pairs)) * (1 + 200 * tp / i)  # tiles of rows, and experts too narrow for the units
    table["latency"] = took(2 * computed * each / GPU.flops, moved / GPU.bandwidth, 0.4, 0.8, 3e-5)
    balanced = pd.concat([table] * 2).assign(distribution="balanced", moe_ep_size=1, moe_dtype="bfloat16")
    return pd.concat([balanced, balanced.assign(distribution="power_law_1.2", latency=9.0), balanced.assign(moe_ep_size=4, latency=7.0)])


def product_table() -> pd.DataFrame:
    rows = [(m, n, k) for m in (1, 16, 128, 1024, 8192) for n in (4096, 8192, 16384) for k in (4096, 8192, 14336, 2048)]
    table = pd.DataFrame(rows, columns=["m", "n", "k"])
    m, n, k = (table[c].to_numpy(dtype=np.float64) for c in table.columns)
    moved = n * k + 2 * (m * k + m * n)
    table["latency"] = took(2 * m * n * k / (2 * GPU.flops), moved / GPU.bandwidth, 0.5, 0.9, 8e-6)
    return table.assign(gemm_dtype="fp8")


def test_a_table_that_obeys_the_law_gives_its_numbers(tmp_path: Path) -> None:
    for family, table in (("moe", expert_table()), ("gemm", product_table())):
        for version, content in (("0.9.0", table.assign(latency=1.0)), ("0.10.0", table)):  # the newest is taken
            folder = tmp_path / family / "vllm" / version
            folder.mkdir(parents=True)
            content.to_parquet(folder / f"{family}_perf.parquet")
    numbers, errors = of_gpu(tmp_path, GPU, BLEND)
    expected = {
        "16 bit.expert_flops": 0.4,
        "16 bit.expert_bytes": 0.8,
        "16 bit.expert_start": 3e-5,
        "16 bit.expert_tile": 40.0,
        "16 bit.expert_narrowness": 200.0,
        "fp8.gemm_flops": 0.5,
        "fp8.gemm_bytes": 0.9,
        "fp8.gemm_start": 8e-6,
    }
    assert numbers == pytest.approx(expected, rel=1e-3) and max(errors.values()) < 1e-3


def test_a_gpu_without_tables_has_no_numbers(tmp_path: Path) -> None:
    assert of_gpu(tmp_path, GPU, BLEND) == ({}, {})
