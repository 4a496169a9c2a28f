"""What kernels reach of the peaks of each GPU that has published operation tables, by kind of GPU, checked with each GPU left out.

    .envs/core/bin/python -m simulators.calibration.efficiencies      # the numbers of conf/simulator/native.yaml, and how well they predict

The law is that of simulators/native/latency/roofline.py. Its numbers are fitted to the logarithms of a GPU's times: of products as large as
a layer's, of attention of whole prompts, of attention of decodes whose KV is too large for a cache. A kind of GPUs has the geometric means
over its GPUs. A kind that none of them is of (Ampere on a card with GDDR6) has those over all GPUs with its memory, or else its family of
memory: GDDR6 keeps its ECC in the memory itself, which takes bandwidth, and how far a card can hold its clock is a matter of the board
(power, cooling) more than of the chip's generation.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulators.calibration.operation_tables.files import installed
from simulators.calibration.operation_tables.grid import MS
from simulators.calibration.operation_tables.products import DTYPE
from simulators.errors import NotAvailable

Floats = npt.NDArray[np.float64]
Law = Callable[[Floats], Floats]

FRAMEWORK = "vllm"  # whose tables are taken, those of the newest version
CACHE = 400e6  # bytes of KV from which on no GPU's last cache holds it
HEAD = 128  # elements of a head in the rows that are taken
SMALLEST = 1 << 23  # elements of a weight matrix; smaller ones are of no model's layer that is worth a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """A GPU that has tables, and its data sheet's peaks."""

    kind: str  # generation and board, as in simulators/native/latency/efficiency.py
    flops: float  # FLOP/s, dense, 16 bit
    bandwidth: float  # bytes/s


# by aiconfigurator-core's names; peaks as in its systems/*.yaml and conf/hardware
GPUS: Mapping[str, Peaks] = {
    "a100_sxm": Peaks(kind="ampere_hbm", flops=312e12, bandwidth=2039e9),
    "h100_sxm": Peaks(kind="hopper_hbm", flops=989.4e12, bandwidth=3350e9),
    "h200_sxm": Peaks(kind="hopper_hbm", flops=989.4e12, bandwidth=4800e9),
    "b200_sxm": Peaks(kind="blackwell_hbm", flops=2250e12, bandwidth=8000e9),
    "b300_sxm": Peaks(kind="blackwell_hbm", flops=2250e12, bandwidth=8000e9),
    "l40s": Peaks(kind="ada_gddr6", flops=362.05e12, bandwidth=864e9),
    "rtx_pro_6000_server": Peaks(kind="blackwell_gddr7", flops=500e12, bandwidth=1597e9),
}
KINDS = ("ampere_hbm", "hopper_hbm", "blackwell_hbm", "ampere_gddr6", "ada_gddr6", "blackwell_gddr7")
NAMES = ("gemm_flops", "gemm_bytes", "gemm_start", "blend", "attention_flops", "attention_tokens", "attention_start", "attention_bytes")
STARTS = ("gemm_start", "attention_start")  # s; the others are shares, and an exponent
START = {  # where the fits begin
    "gemm_flops": 0.7,
    "gemm_bytes": 0.8,
    "gemm_start": 3e-6,
    "blend": 2.0,
    "attention_flops": 0.5,
    "attention_tokens": 0.5,
    "attention_start": 1e-5,
    "attention_bytes": 0.8,
}


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """One family of a GPU's rows: what each has to do, in seconds at the peaks, and how long it took."""

    names: tuple[str, ...]  # of the numbers that it is to say
    work: Floats  # two columns: arithmetic and traffic, s
    seconds: Floats  # of each row

    def predicted(self, numbers: Mapping[str, float]) -> Floats:
        """Seconds of each row by the law with these numbers."""
        arithmetic, traffic = self.work.T
        if "blend" in self.names:
            one, other, p = arithmetic / numbers["gemm_flops"], traffic / numbers["gemm_bytes"], numbers["blend"]
            longer, shorter = np.maximum(one, other), np.minimum(one, other)
            return np.asarray(numbers["gemm_start"] + longer * np.power(1 + np.power(shorter / longer, p), 1 / p))
        if "attention_flops" in self.names:
            took = arithmetic / numbers["attention_flops"] + traffic / numbers["attention_tokens"]
        else:
            took = traffic / numbers["attention_bytes"]
        return np.asarray(numbers["attention_start"] + took)

    def errors(self, numbers: Mapping[str, float]) -> Floats:
        """Relative errors, as logarithms."""
        errors: Floats = np.log(self.predicted(numbers) / self.seconds)
        return errors


def rows_of(root: Path, gpu: Peaks) -> dict[str, TableRows]:
    """The families of a GPU's rows. root: its folder of tables. Raises NotAvailable when one is not there."""
    gemm, prompts, decodes = _read(root, "gemm", "gemm_perf"), _attention(root, "context"), _attention(root, "generation")
    gemm = gemm[
        (gemm["gemm_dtype"] == DTYPE) & (gemm["n"] * gemm["k"] >= SMALLEST) & gemm["m"].le(8192) & gemm[["n", "k"]].ge(1024).all(axis=1)
    ]
    gemm = gemm[gemm["n"].le(1 << 16) & gemm["k"].le(1 << 14)]
    m, n, k = (gemm[c].to_numpy(dtype=np.float64) for c in "mnk")
    prompts = prompts[prompts["isl"].between(128, 8192) & (prompts["batch_size"] <= 8)]
    batch, length, heads, kv = _sizes(prompts)
    tokens_of, under = decodes["batch_size"].to_numpy(dtype=np.float64), decodes["step"].to_numpy(dtype=np.float64) + 1
    read = 2 * 2 * HEAD * decodes["num_key_value_heads"].to_numpy(dtype=np.float64) * tokens_of * under
    large = read > CACHE

    def family(names: tuple[str, ...], flops: Floats, moved: Floats, rows: pd.DataFrame) -> TableRows:
        work = np.stack([flops / gpu.flops, moved / gpu.bandwidth], axis=1)
        return TableRows(names=names, work=work, seconds=rows["latency"].to_numpy(dtype=np.float64) * MS)

    return {
        "gemm": family(NAMES[:4], 2 * m * n * k, 2 * (m * k + n * k + m * n), gemm),
        "prompts": family(NAMES[4:7], 2 * HEAD * heads * batch * length * (length + 1), 4 * HEAD * batch * length * (heads + kv), prompts),
        "decodes": family(NAMES[7:], 0 * read[large], read[large], decodes[large]),
    }


def fitted(rows: Mapping[str, TableRows]) -> dict[str, float]:
    """The numbers that fit a GPU's rows best: least squares of the logarithms, outliers counted less (soft L1 from 10 % on)."""
    from scipy.optimize import least_squares  # here: it takes long to import

    numbers: dict[str, float] = {}
    for family in rows.values():
        names = family.names
        given = dict(numbers)

        def errors(x: Floats, family: TableRows = family, names: Sequence[str] = names, given: Mapping[str, float] = given) -> Floats:
            return family.errors({**given, **dict(zip(names, np.exp(x), strict=True))})

        with np.errstate(over="ignore"):  # a trial of an exponent near 0 is turned down, infinite as it is
            found = least_squares(errors, np.log([START[name] for name in names]), loss="soft_l1", f_scale=0.1).x
        numbers |= dict(zip(names, (float(v) for v in np.exp(found)), strict=True))
    return numbers


def of_kind(kind: str, numbers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The numbers of a kind of GPUs from those of single ones: means over its own, else over its memory, else over the family of that."""
    memory = kind.split("_")[1]
    family = memory.rstrip("67")
    mine: list[str] = []
    for ending in (kind, f"_{memory}", f"_{family}"):
        mine = mine or [name for name in numbers if ending in GPUS[name].kind]
    if not mine:
        raise NotAvailable(f"efficiencies: no GPU with tables has {memory}")
    mean = {name: float(np.exp(np.mean([np.log(numbers[gpu][name]) for gpu in mine]))) for name in NAMES}
    return mean | {name: float(np.mean([numbers[gpu][name] for gpu in mine])) for name in STARTS}  # a start may be next to nothing


def table(numbers: Mapping[str, Mapping[str, float]], rows: Mapping[str, Mapping[str, TableRows]]) -> str:
    """Markdown: of each GPU and family the signed mean, median size and p90 of the error, fitted and left out, in per cent."""
    lines = ["| GPU | numbers of | gemm | attention of prompts | attention of decodes |", "| --- | --- | --- | --- | --- |"]
    for gpu, families in rows.items():
        others = {name: found for name, found in numbers.items() if name != gpu}
        for how, used in (("its own fit", numbers[gpu]), (f"the others ({GPUS[gpu].kind})", of_kind(GPUS[gpu].kind, others))):
            cells = [_cell(family.errors(used)) for family in families.values()]
            lines.append(f"| {gpu} | {how} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(errors: Floats) -> str:
    sizes = np.abs(np.expm1(errors))
    return f"{np.median(np.expm1(errors)):+.1%}, {np.median(sizes):.1%}, {np.quantile(sizes, 0.9):.1%}"


def _sizes(rows: pd.DataFrame) -> tuple[Floats, ...]:
    return tuple(rows[c].to_numpy(dtype=np.float64) for c in ("batch_size", "isl", "num_heads", "num_key_value_heads"))


def _attention(root: Path, which: str) -> pd.DataFrame:
    rows = _read(root, "attention", f"{which}_attention_perf")
    rows = rows[(rows["head_dim"] == HEAD) & (rows["kv_cache_dtype"] == DTYPE) & rows["num_key_value_heads"].between(1, 8)]
    rows = rows[rows["num_heads"].between(8, 64) & (rows["num_heads"] / rows["num_key_value_heads"]).between(4, 8)]
    rows = rows[rows["kernel_source"].str.contains("flash_attn$|fa[23]$|trtllm", regex=True)]  # what vLLM takes by itself
    return rows[rows["window_size"] == 0] if "window_size" in rows else rows


def _read(root: Path, family: str, file: str) -> pd.DataFrame:
    found = sorted((root / family / FRAMEWORK).glob(f"*/{file}.parquet"), key=lambda path: [int(p) for p in path.parent.name.split(".")])
    if not found:
        raise NotAvailable(f"efficiencies: {root / family / FRAMEWORK} has no {file}; .envs/aisimulate has the tables")
    return pd.read_parquet(found[-1])


def main(environment: str) -> None:
    """Print the numbers by GPU and by kind, and the table of errors."""
    folder = installed(environment)
    rows = {name: rows_of(folder / name, gpu) for name, gpu in GPUS.items()}
    numbers = {name: fitted(families) for name, families in rows.items()}
    for name, found in [*numbers.items(), *((kind, of_kind(kind, numbers)) for kind in KINDS)]:
        print(f"{name}: {{{', '.join(f'{key}: {value:.3g}' for key, value in found.items())}}}")
    print(table(numbers, rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", default="aisimulate", help="under .envs, whose package has the tables")
    main(parser.parse_args().environment)
