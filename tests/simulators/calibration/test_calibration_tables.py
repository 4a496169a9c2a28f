"""Tables: interpolation exact for power laws, no answer outside, and which version is taken."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulators.calibration.tables import OperationTables, OutsideTables, TableGrid
from simulators.errors import NotAvailable
from tests.simulators.calibration import made_tables as law


def tables(root: Path, *, version: str | None = "0.19.0", heads: int = 8, all_reduce: str = "graph") -> OperationTables:
    return OperationTables(
        root=root, framework="vllm", version=version, heads=heads, kv_heads=heads // 2, head_dim=64, gpus=2, all_reduce=all_reduce
    )


def test_between_its_points_a_power_law_is_met_exactly_and_at_them_the_table(tmp_path: Path) -> None:
    found = tables(law.made(tmp_path))
    for m, n, k in itertools.product((1, 3, 64, 100), (8, 77, 4096), (1, 9, 4000)):
        assert found.gemm.at(m=m, n=n, k=k) == pytest.approx(1e-3 * law.gemm_ms(m, n, k), rel=1e-12)
    assert found.decode_attention.at(batch_size=5, step=100) == pytest.approx(1e-3 * law.decode_ms(5, 100), rel=1e-12)
    assert found.reduce.at(message_size=5000) == pytest.approx(1e-3 * law.reduce_ms(5000), rel=1e-12)
    assert found.gather.at(message_size=5000) == pytest.approx(1e-3 * law.gather_ms(5000), rel=1e-12)


@pytest.mark.parametrize("point", [{"m": 5000, "n": 8, "k": 8}, {"m": 8, "n": 0.5, "k": 8}, {"m": 8, "n": 8, "k": 4097}])
def test_outside_there_is_no_answer(tmp_path: Path, point: dict[str, float]) -> None:
    with pytest.raises(OutsideTables, match=r"tiny_gpu/gemm/vllm/0.19.0/gemm_perf was measured for [mnk] from 1 to 4096"):
        tables(law.made(tmp_path)).gemm.at(**point)


def test_a_hole_in_a_table_is_outside_but_its_measured_neighbours_are_not() -> None:
    rows = pd.DataFrame([(1, 1, 1.0), (1, 10, 2.0), (10, 1, 4.0)], columns=["a", "b", "latency"])
    grid = TableGrid.of("holey", rows, ("a", "b"))
    assert grid.at(a=10, b=1) == pytest.approx(4e-3)
    assert grid.at(a=1, b=10**0.5) == pytest.approx(8**0.5 / 2 * 1e-3 * 2**0.0)
    with pytest.raises(OutsideTables, match="holey was not measured around a 5, b 5"):
        grid.at(a=5, b=5)


def test_the_engines_own_version_is_taken_else_the_newest(tmp_path: Path) -> None:
    for version, scale in (("0.9.0", 1.0), ("0.10.0", 2.0), ("0.24.0", 3.0)):
        root = law.made(tmp_path, version=version, scale=scale)
    took = {v: tables(root, version=v).gemm.at(m=8, n=8, k=8) / (1e-3 * law.gemm_ms(8, 8, 8)) for v in ("0.9.0", "0.10.0", "0.31.0", None)}
    assert took == pytest.approx({"0.9.0": 1.0, "0.10.0": 2.0, "0.31.0": 3.0, None: 3.0})


def test_what_no_version_has_is_not_available(tmp_path: Path) -> None:
    root = law.made(tmp_path)
    with pytest.raises(NotAvailable, match="no generation_attention_perf with num_heads 12, num_key_value_heads 6, head_dim 64"):
        _ = tables(root, heads=12).decode_attention
    with pytest.raises(NotAvailable, match="no kernel source that ends in 'magic'"):
        _ = tables(root, all_reduce="magic").reduce


def test_only_the_tables_that_were_read_are_named(tmp_path: Path) -> None:
    found = tables(law.made(tmp_path))
    assert found.used() == []
    assert np.isfinite(found.gemm.values).all()
    assert found.used() == ["tiny_gpu/gemm/vllm/0.19.0/gemm_perf"]
