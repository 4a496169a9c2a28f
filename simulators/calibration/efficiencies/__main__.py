"""Prints the numbers by GPU and by kind of GPU, and the table of errors: fitted, and with each GPU left out."""

import argparse
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from simulators.calibration.efficiencies.dense import GPUS, KINDS, Family, fitted, of_kind, rows_of, table
from simulators.calibration.efficiencies.grouped import FORMATS, dense_rows, expert_rows
from simulators.calibration.operation_tables.files import SYSTEMS
from simulators.errors import NotAvailable
from simulators.foreign.program import interpreter

Numbers = Mapping[str, Mapping[str, float]]


def show(numbers: Numbers, rows: Mapping[str, Mapping[str, Family]]) -> None:
    """What was fitted to each GPU, what that makes of each kind that has any, and how near both come."""
    kinds = {}
    for kind in KINDS:
        with suppress(NotAvailable):
            kinds[kind] = of_kind(kind, numbers)
    for name, found in {**numbers, **kinds}.items():
        print(f"{name}: {{{', '.join(f'{key}: {value:.3g}' for key, value in found.items())}}}")
    print(table(numbers, rows))


def dense(folder: Path) -> None:
    """Products and attention of dense 16-bit models."""
    rows = {name: rows_of(folder / name, gpu) for name, gpu in GPUS.items()}
    show({name: fitted(families) for name, families in rows.items()}, rows)


def products(folder: Path) -> None:
    """Dense products in each format but 16 bits."""
    for dtype in ("fp8", "fp8_block", "nvfp4"):
        rows = {}
        for name, gpu in GPUS.items():
            with suppress(NotAvailable):
                rows[name] = {f"gemm in {dtype}": dense_rows(folder / name, gpu, dtype)}
        print(f"\n{dtype}")
        show({name: fitted(families) for name, families in rows.items()}, rows)


def experts(folder: Path) -> None:
    """Grouped products of experts in each format; the norm of arithmetic and traffic is that of the kind's dense products."""
    dense_ones = {name: fitted({"gemm": rows_of(folder / name, gpu)["gemm"]}) for name, gpu in GPUS.items()}
    for dtype in FORMATS:
        rows = {}
        for name, gpu in GPUS.items():
            with suppress(NotAvailable):
                blend = of_kind(gpu.kind, dense_ones)["blend"]
                rows[name] = {f"experts in {dtype}": expert_rows(folder / name, gpu, dtype, blend)}
        print(f"\n{dtype}")
        show({name: found.fitted() for name, families in rows.items() for found in families.values()}, rows)


WHAT = {"dense": dense, "products": products, "experts": experts}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", choices=WHAT, default="dense", help="of which kernels")
    parser.add_argument("--environment", default="aisimulate", help="under .envs, whose package has the tables")
    given = parser.parse_args()
    found = next((interpreter(given.environment).parent.parent / "lib").glob(f"python*/site-packages/{SYSTEMS}"))
    WHAT[given.of](found)
