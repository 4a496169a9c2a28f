"""ProductTimes: times of dense matrix products, by the format of the weights.

Table gemm_perf: (m, k) by (k, n) in `gemm_dtype`. Its rows of fp8 quantise the activations by tensor at run time, those of fp8_block in
blocks of 128, those of nvfp4 in groups of 16; the time holds that (ai-dynamo/aiconfigurator collector/vllm/collect_gemm.py builds a whole
RowParallelLinear). Weights in 4-bit integers have no such table.

Products in blocks of FP8 were timed without a CUDA graph in some versions (use_cuda_graph=False there): each takes as long as its kernels
take to be started from Python, 55 to 330 us, where an engine replays a graph. Those versions are passed over.
"""

from dataclasses import dataclass

import pandas as pd

from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.grid import MS, TableGrid
from simulators.errors import NotAvailable

DTYPE = "bfloat16"  # 16-bit floats take the same time
LITTLE = {"m": 64, "n": 1024, "k": 1024}  # products up to these sizes take 3 to 27 us when a graph starts them
STARTED = 4e-5  # s; from here on they were started one by one


@dataclass(frozen=True, kw_only=True)
class ProductTimes:
    """Of one format of weights."""

    grid: TableGrid  # over m (rows of activations), n (outputs), k (inputs)

    @classmethod
    def read(cls, files: TableFiles, dtype: str = DTYPE) -> "ProductTimes":
        """dtype: as in the table's gemm_dtype. Raises NotAvailable where the device has none of it."""
        try:
            rows, name = files.read("gemm", "gemm_perf", {"gemm_dtype": dtype}, usable=_in_a_graph)
        except NotAvailable as error:
            raise NotAvailable(f"{error} (timed in CUDA graphs)") from None
        return cls(grid=TableGrid.of(name, rows, ("m", "n", "k")))

    def seconds(self, m: float, n: float, k: float) -> float:
        """s. A product wider than the table is taken as equal blocks of columns, a narrower one as its narrowest. Raises OutsideTables."""
        return self.grid.in_parts("n", m=m, n=max(n, float(self.grid.axes["n"][0])), k=k)

    def rows(self) -> list[int]:
        """The numbers of rows that were measured: between them times are smooth."""
        return [int(m) for m in self.grid.axes["m"]]


def _in_a_graph(rows: pd.DataFrame) -> bool:
    little = rows[(rows["m"] <= LITTLE["m"]) & (rows["n"] <= LITTLE["n"]) & (rows["k"] <= LITTLE["k"])]
    return little.empty or float(little["latency"].median()) * MS < STARTED
