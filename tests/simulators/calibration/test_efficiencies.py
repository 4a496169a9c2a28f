"""What GPUs reach of their peaks: found again in made-up tables; in the published ones, what conf/simulator/native.yaml has."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from simulators.calibration.efficiencies import GPUS, KINDS, NAMES, TableRows, fitted, of_kind, rows_of
from simulators.calibration.operation_tables.files import installed
from simulators.errors import NotAvailable
from tests.environments import python_of

ROOT = Path(__file__).parents[3]
TRUE = {
    "gemm_flops": 0.66,
    "gemm_bytes": 0.88,
    "gemm_start": 4e-6,
    "blend": 2.5,
    "attention_flops": 0.6,
    "attention_tokens": 0.4,
    "attention_start": 1.2e-5,
    "attention_bytes": 0.9,
}


def made(noise: float) -> dict[str, TableRows]:
    rng = np.random.default_rng(0)
    rows = {}
    for which, names in (("gemm", NAMES[:4]), ("prompts", NAMES[4:7]), ("decodes", NAMES[7:])):
        work = 10.0 ** rng.uniform(-6, -2, (600, 2))
        blank = TableRows(names=names, work=work, seconds=np.ones(600))
        rows[which] = TableRows(names=names, work=work, seconds=blank.predicted(TRUE) * rng.lognormal(0, noise, 600))
    return rows


@pytest.mark.parametrize(("noise", "near"), [(0.0, 1e-3), (0.05, 0.05)])
def test_the_numbers_of_made_up_tables_are_found_again(noise: float, near: float) -> None:
    assert fitted(made(noise)) == pytest.approx(TRUE, rel=near)


def test_a_kind_takes_its_own_gpus_else_its_memory_else_the_family() -> None:
    numbers = {name: dict.fromkeys(NAMES, float(i + 1)) for i, name in enumerate(GPUS)}
    order = {name: float(i + 1) for i, name in enumerate(GPUS)}
    assert of_kind("hopper_hbm", numbers)["gemm_flops"] == pytest.approx((order["h100_sxm"] * order["h200_sxm"]) ** 0.5)
    assert of_kind("hopper_hbm", numbers)["gemm_start"] == (order["h100_sxm"] + order["h200_sxm"]) / 2
    assert of_kind("ampere_gddr6", numbers)["gemm_flops"] == pytest.approx(order["l40s"])
    alone = {"rtx_pro_6000_server": numbers["rtx_pro_6000_server"]}
    assert of_kind("ada_gddr6", alone)["gemm_flops"] == pytest.approx(order["rtx_pro_6000_server"])
    with pytest.raises(NotAvailable, match="no GPU with tables has hbm"):
        of_kind("ampere_hbm", alone)


@pytest.fixture(scope="module")
def tables() -> Path:
    """The folder of aiconfigurator-core's tables."""
    python_of("aisimulate")
    return installed("aisimulate")


@pytest.mark.e2e
def test_the_settings_are_what_the_tables_say(tables: Path) -> None:
    """Each kind's eight numbers; and its tables within 10 % (median), those of a GPU that was left out within 25 %."""
    rows = {name: rows_of(tables / name, gpu) for name, gpu in GPUS.items()}
    numbers = {name: fitted(families) for name, families in rows.items()}
    settings = OmegaConf.load(ROOT / "conf" / "simulator" / "native.yaml").architectures
    assert settings.keys() == set(KINDS)
    for kind in KINDS:
        assert {name: settings[kind][name] for name in NAMES} == pytest.approx(of_kind(kind, numbers), rel=0.02, abs=1e-8), kind
    for gpu, families in rows.items():
        left_out = of_kind(GPUS[gpu].kind, {name: found for name, found in numbers.items() if name != gpu})
        for which, family in families.items():
            assert np.median(np.abs(family.errors(numbers[gpu]))) < 0.1, (gpu, which)
            assert np.median(np.abs(family.errors(left_out))) < 0.25, (gpu, which)


@pytest.mark.e2e
@pytest.mark.usefixtures("tables")
def test_the_command_prints_each_kind() -> None:
    words = [sys.executable, "-m", "simulators.calibration.efficiencies"]
    lines = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.partition(":")[0] for line in lines if ": {" in line} == {*GPUS, *KINDS}
    assert len([line for line in lines if line.startswith("| ") and "%" in line]) == 2 * len(GPUS)
