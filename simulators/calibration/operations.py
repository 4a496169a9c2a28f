"""A step as the sum of its operations, each from a measured table. Read `Steps.parts`.

The layers' operations (layer_operations.py), and per step: the embedding's all-reduce, the product with the language model's head for the
rows that generate a token, the gathering of their logits, and a fixed cost. It is AIConfigurator's composition, with the logits' gathering,
which vLLM's V1 engine does (vllm/model_executor/layers/logits_processor.py), the fixed cost and the two effects of `Kernels` added. Groups
of devices with requests of their own (data parallelism) are taken to have equal work, in step with each other.
"""

from dataclasses import dataclass, field
from functools import cached_property

from simulators.calibration.layer_operations import LayerOperations, StepWork
from simulators.calibration.operation_tables.model import ModelTables
from simulators.calibration.operation_tables.products import ProductTimes
from simulators.native.architecture.decoder import DecoderLayer
from simulators.native.architecture.feed_forward import Dense
from simulators.native.architecture.formats import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """What the tables have no times for. conf/calibration/aic.yaml says where each is from.

    kernel: s of an element-wise kernel that moves nothing. bandwidth: share of the memory bandwidth that such kernels reach.
    step: s of a step outside the kernels.
    """

    kernel: float
    bandwidth: float
    step: float

    def __post_init__(self) -> None:
        if self.kernel < 0 or self.step < 0:
            raise ValueError(f"calibration aic: overheads.kernel and overheads.step must be >= 0 s, got {self.kernel} and {self.step}")
        if not 0 < self.bandwidth <= 1:
            raise ValueError(f"calibration aic: overheads.bandwidth must be in (0, 1], got {self.bandwidth}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """What a table of single operations does not say about a step's kernels. None: unknown, and left out.

    query_tile: FlashAttention 2 computes so many rows of queries of one head at once. A step with a prompt's chunk has one kernel for all
    its sequences: it takes a whole tile for the single row of a decode, and reads the context anew for each query head. In a step of
    decodes alone, the heads that share a KV head are the rows of one tile (vllm-project/flash-attention csrc/flash_attn: kBlockM of
    run_mha_fwd_splitkv_dispatch, seqlenq_ngroups_swapped of mha_varlen_fwd). FlashAttention 3 packs them in either case: None.
    l2, l2_bandwidth: bytes of the device's last cache, and bytes/s from it: a kernel reads there what the one before has just written.
    """

    query_tile: int | None = None
    l2: float | None = None
    l2_bandwidth: float | None = None


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Step times of one model on one kind of device. memory_bandwidth: bytes/s of one device."""

    tables: ModelTables
    overheads: Overheads
    memory_bandwidth: float
    kernels: Kernels = field(default_factory=Kernels)

    def seconds(self, *, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> float:
        """s of a step: `new` tokens of a prompt that has `cached` before them, and `batch` sequences, one token each on `context`.

        Raises OutsideTables where an operation was not measured.
        """
        return sum(self.parts(new=new, cached=cached, batch=batch, context=context).values())

    def parts(self, *, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> dict[str, float]:
        """The step's s by operation, over all layers."""
        tables, decoder, parts = self.tables, self.tables.decoder, dict[str, float]()
        work, rows = StepWork(new=new, cached=cached, batch=batch, context=max(1, context)), batch + (new > 0)
        for layer, number in self.layers:
            for name, seconds in {**layer.parts(work), "element-wise": self.element_wise(layer.layer, work.tokens)}.items():
                parts[name] = parts.get(name, 0.0) + number * seconds
        parts["gemm head"] = self.head.seconds(rows, -(-decoder.vocab // tables.parallel.tensor), decoder.hidden)
        if tables.sums is not None and tables.logits is not None:
            parts["all-reduce"] += tables.sums.seconds(work.tokens * decoder.hidden)
            parts["gather of logits"] = tables.logits.seconds(rows * decoder.vocab)
        parts["step"] = self.overheads.step
        return parts

    @cached_property
    def layers(self) -> tuple[tuple[LayerOperations, int], ...]:
        """The operations of each kind of layer, and how many such layers there are. Raises NotAvailable."""
        groups = self.tables.decoder.groups
        return tuple((LayerOperations.of(layer, self.tables, self.kernels.query_tile), number) for layer, number in groups)

    @property
    def head(self) -> ProductTimes:
        """Of the output layer."""
        return self.tables.products(self.tables.decoder.output_format or plain(2))

    def bends(self) -> list[int]:
        """Tokens of a step between which its times are smooth: those that products and experts were measured at."""
        experts = {rows // layer.groups for layer, _ in self.layers if layer.experts is not None for rows in layer.experts.rows()}
        return sorted({*self.head.rows(), *experts} - {0})

    def element_wise(self, layer: DecoderLayer, tokens: int) -> float:
        """s of one layer's kernels that only move activations: two norms with the residual added, and the gated activation.

        That of routed experts is in their table, that of shared ones is not. layer: as one device has it.
        """
        ffn = layer.feed_forward
        gate = 3 * (ffn.intermediate if isinstance(ffn, Dense) else ffn.shared)  # elements read and written, a token
        norm = 4 * self.tables.decoder.hidden
        moved = (norm, norm, gate) if gate else (norm, norm)
        return sum(self.overheads.kernel + self.moving(self.tables.decoder.dtype_bytes * tokens * elements) for elements in moved)

    def moving(self, moved: float) -> float:
        """s of reading and writing so many bytes: those that fit the device's last cache go there, the others to memory."""
        memory, kernels = self.memory_bandwidth * self.overheads.bandwidth, self.kernels
        if not kernels.l2 or not kernels.l2_bandwidth:
            return moved / memory
        held = min(moved, kernels.l2)
        return held / kernels.l2_bandwidth + (moved - held) / memory
