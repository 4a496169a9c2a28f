"""ExpertTimes: times of a mixture's routed experts on one device, from the choice of the experts to their weighted sum.

Table moe_perf (ai-dynamo/aiconfigurator collector/vllm/collect_moe.py, a whole FusedMoE layer on one device): num_tokens that the device
sees, hidden_size, inter_size of one expert (before it is split), topk of num_experts, moe_tp_size devices that share every expert, or
moe_ep_size devices that have their own, of which it is the one with the busiest experts; moe_dtype of the weights (int4_wo: 4-bit
integers, AWQ and GPTQ; w4a16_mxfp4: MXFP4 beside 16-bit activations); `distribution` of the tokens over the experts: balanced (as even as
can be), or power_law_A (how many tokens an expert gets is drawn with density x^-A).

Only sizes that were measured are answered, since a kernel's tiles and its choice depend on them. More tokens than the most are taken in
equal parts. Shared experts are dense products, not in here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.grid import TableGrid
from simulators.errors import NotAvailable

BALANCED = "balanced"
SIZES = ("hidden_size", "inter_size", "topk", "num_experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A layer of routed experts, and how it lies over the devices."""

    hidden: int  # elements of the residual stream
    intermediate: int  # of one expert
    experts: int  # routed ones
    top_k: int  # of them for a token
    tensor: int = 1  # devices that share every expert
    expert: int = 1  # devices that have experts of their own
    dtype: str = "bfloat16"  # of the weights, as in the table's moe_dtype


@dataclass(frozen=True, kw_only=True)
class ExpertTimes:
    """Of one layer on one device."""

    grid: TableGrid  # over num_tokens

    @classmethod
    def read(cls, files: TableFiles, mixture: Mixture, distribution: str = BALANCED) -> "ExpertTimes":
        """Raises NotAvailable where the device has no such experts, naming the sizes and the formats that it has."""
        need = {
            "hidden_size": mixture.hidden,
            "inter_size": mixture.intermediate,
            "topk": mixture.top_k,
            "num_experts": mixture.experts,
            "moe_tp_size": mixture.tensor,
            "moe_ep_size": mixture.expert,
            "moe_dtype": mixture.dtype,
            "distribution": distribution,
        }
        try:
            rows, name = files.read("moe", "moe_perf", need)
        except NotAvailable as error:
            raise NotAvailable(f"{error}; measured were {_measured(files, mixture)}") from None
        return cls(grid=TableGrid.of(name, rows, ("num_tokens",)))

    def seconds(self, tokens: float) -> float:
        """s of so many tokens, those of all devices whose experts these are. Raises OutsideTables."""
        return self.grid.in_parts("num_tokens", num_tokens=tokens)

    def rows(self) -> list[int]:
        """The token counts that were measured."""
        return [int(n) for n in self.grid.axes["num_tokens"]]


def _measured(files: TableFiles, mixture: Mixture) -> str:
    """What there is for a mixture of this width, else which widths there are."""
    try:
        rows, name = files.read("moe", "moe_perf", {"hidden_size": mixture.hidden})
    except NotAvailable:
        rows, name = files.read("moe", "moe_perf")
        return f"hidden sizes {_values(rows['hidden_size'])} ({name})"
    same = rows[(rows["inter_size"] == mixture.intermediate) & (rows["num_experts"] == mixture.experts) & (rows["topk"] == mixture.top_k)]
    if same.empty:
        shapes = sorted({tuple(int(v) for v in row) for row in rows[list(SIZES)].drop_duplicates().to_numpy()})
        return f"(hidden, intermediate, top k, experts) {shapes} ({name})"
    split = {(int(t), int(e)) for t, e in same[["moe_tp_size", "moe_ep_size"]].drop_duplicates().to_numpy()}
    return f"(tensor, expert) parallelism {sorted(split)}, formats {_values(same['moe_dtype'])}, {_values(same['distribution'])} ({name})"


def _values(column: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, set(column))))
