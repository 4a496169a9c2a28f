"""Collectives: times of what devices of one node send each other.

Tables custom_allreduce_perf (the engine's own all-reduce; in a captured CUDA graph, and started one by one) and nccl_perf (op_name
all_gather, all_reduce, alltoall, reduce_scatter), by num_gpus. message_size is in 16-bit elements (NCCL's all-reduce over 8 H200 then
gives 460 GB/s of bus bandwidth, as it should; as bytes it would be half), of all devices together for a gathering or a scattering
(ai-dynamo/aiconfigurator operators/moe_dispatch.rs: tokens of all ranks times the hidden size). A message larger than the largest goes in
equal parts, one after another; more devices than were measured are another node, and there is no answer.
"""

from dataclasses import dataclass
from typing import Literal

from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.grid import TableGrid
from simulators.errors import NotAvailable

DTYPES = frozenset({"bfloat16", "half"})
Operation = Literal["all_gather", "all_reduce", "alltoall", "reduce_scatter"]


@dataclass(frozen=True, kw_only=True)
class Collective:
    """One operation over so many devices."""

    grid: TableGrid  # over message_size, elements

    @classmethod
    def all_reduce(cls, files: TableFiles, gpus: int, kernel: str) -> "Collective":
        """The engine's own. kernel: what its kernel_source ends with (graph, eager). Raises NotAvailable."""
        rows, name = files.read("comm", "custom_allreduce_perf", {"num_gpus": gpus})
        chosen = rows[rows["kernel_source"].str.endswith(kernel)]
        if chosen.empty:
            raise NotAvailable(f"{name} has no kernel source that ends in {kernel!r}; it has {sorted(set(rows['kernel_source']))}")
        return cls(grid=TableGrid.of(name, chosen, ("message_size",)))

    @classmethod
    def nccl(cls, files: TableFiles, gpus: int, operation: Operation) -> "Collective":
        """NCCL's. Raises NotAvailable."""
        rows, name = files.read("comm", "nccl_perf", {"num_gpus": gpus, "op_name": operation, "nccl_dtype": DTYPES}, of="nccl")
        return cls(grid=TableGrid.of(name, rows, ("message_size",)))

    def seconds(self, elements: float) -> float:
        """s of a message; one smaller than the smallest takes as long as that."""
        return self.grid.in_parts("message_size", message_size=max(elements, float(self.grid.axes["message_size"][0])))
