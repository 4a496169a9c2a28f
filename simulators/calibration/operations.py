"""A step as the sum of its operations, each from a measured table. Read `Steps.parts`.

Per layer: four matrix products (queries-keys-values, attention output, gate and up, down), attention of the prompt's chunk and of the
decoding sequences, two all-reduces with tensor parallelism, three element-wise kernels; per step: the embedding's all-reduce, the
product with the language model's head for the rows that generate a token, the gathering of their logits, and a fixed cost.
It is the composition that AIConfigurator makes of a Llama (aiconfigurator_core/sdk/models/llama.py), with the logits' gathering,
which vLLM's V1 engine does (vllm/model_executor/layers/logits_processor.py), the fixed cost and the two effects of `Kernels` added.
"""

import math
from contextlib import suppress
from dataclasses import dataclass, field

from simulators.calibration.tables import OperationTables, OutsideTables, TableGrid
from simulators.errors import SimulatorError
from simulators.native.architecture.uniform import Uniform


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
    """Step times of one model on one device, split over `tensor_parallel` of them. memory_bandwidth: bytes/s of one device."""

    shape: Uniform
    tables: OperationTables
    overheads: Overheads
    memory_bandwidth: float
    tensor_parallel: int = 1
    kernels: Kernels = field(default_factory=Kernels)

    def __post_init__(self) -> None:
        if self.shape.dtype_bytes != 2:
            raise SimulatorError("calibration aic: its tables are of 16-bit models; this one's torch_dtype is another")
        tp, shape = self.tensor_parallel, self.shape
        odd = {"attention heads": shape.heads, "intermediate size": shape.intermediate, "hidden size": shape.hidden}
        for what, size in odd.items():
            if size % tp:
                raise SimulatorError(f"calibration aic: {what} {size} cannot be split over {tp} devices")

    def seconds(self, *, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> float:
        """s of a step: `new` tokens of a prompt that has `cached` before them, and `batch` sequences, one token each on `context`.

        Raises OutsideTables where an operation was not measured.
        """
        return sum(self.parts(new=new, cached=cached, batch=batch, context=context).values())

    def parts(self, *, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> dict[str, float]:
        """The step's s by operation, over all layers."""
        layers, tokens, rows = self.shape.layers, new + batch, batch + (new > 0)
        parts = {f"gemm {name}": layers * self.product(tokens, n, k) for name, (n, k) in self.layer_products().items()}
        parts["gemm head"] = self.product(rows, -(-self.shape.vocab // self.tensor_parallel), self.shape.hidden)
        if new:
            parts["attention prompt"] = layers * self.prompt_attention(new, cached)
        if batch:
            parts["attention decode"] = layers * self.decode_attention(batch, max(1, context), beside_prompt=new > 0)
        if self.tensor_parallel > 1:
            parts["all-reduce"] = (2 * layers + 1) * self.tables.reduce.at(message_size=tokens * self.shape.hidden)
            parts["gather of logits"] = _whole(self.tables.gather, rows * self.shape.vocab)
        parts["element-wise"] = layers * self.element_wise(tokens)
        parts["step"] = self.overheads.step
        return parts

    def layer_products(self) -> dict[str, tuple[int, int]]:
        """(n, k) of a layer's products on one device: the outputs of the first of a pair are split, the inputs of the second."""
        shape, tp = self.shape, self.tensor_parallel
        attention = shape.heads * shape.head_dim // tp
        kv = max(1, shape.kv_heads // tp) * shape.head_dim  # fewer KV heads than devices: each device has one, a copy
        return {
            "qkv": (attention + 2 * kv, shape.hidden),
            "out": (shape.hidden, attention),
            "gate-up": (2 * shape.intermediate // tp, shape.hidden),
            "down": (shape.hidden, shape.intermediate // tp),
        }

    def product(self, m: int, n: int, k: int) -> float:
        """s of (m, k) by (k, n).

        A product wider than the table is taken as equal column blocks, one after another (same bytes, same FLOPs).
        """
        blocks = math.ceil(n / float(self.tables.gemm.axes["n"][-1]))
        return blocks * self.tables.gemm.at(m=m, n=n / blocks, k=k)

    def prompt_attention(self, new: int, cached: int) -> float:
        """s of one layer's attention of a chunk: that of the whole prompt so far, times the share of its query-key pairs in the chunk.

        The tables have whole prompts only; AIConfigurator takes the same share.
        """
        total = new + cached
        return self.tables.prompt_attention.at(batch_size=1, isl=total) * (1 - (cached / total) ** 2)

    def decode_attention(self, batch: int, context: int, *, beside_prompt: bool) -> float:
        """s of one layer's attention of decoding sequences, alone or in the kernel that computes a prompt's chunk, too."""
        alone = self.tables.decode_attention.at(batch_size=batch, step=context)
        tile = self.kernels.query_tile
        return max(alone, self.tiles_attention(batch, context, tile)) if beside_prompt and tile else alone

    def tiles_attention(self, batch: int, context: int, tile: int) -> float:
        """s of one layer's attention of the last `tile` tokens of each of `batch` prompts, on `context` tokens before them.

        From a table of batches of whole prompts, by the share of query-key pairs. A batch larger than the table is taken in equal parts.
        """
        table, total = self.tables.prompt_attention, context + tile
        share = 1 - (context / total) ** 2
        *larger, least = [float(batch), *(float(b) for b in table.axes["batch_size"][::-1] if b < batch)]
        for part in larger:
            with suppress(OutsideTables):
                return batch / part * table.at(batch_size=part, isl=total) * share
        return batch / least * table.at(batch_size=least, isl=total) * share

    def element_wise(self, tokens: int) -> float:
        """s of one layer's kernels that only move activations: two norms with the residual added, the gated activation."""
        norm, gate = 4 * self.shape.hidden, 3 * self.shape.intermediate // self.tensor_parallel  # elements read and written, a token
        return sum(self.overheads.kernel + self.moving(self.shape.dtype_bytes * tokens * elements) for elements in (norm, norm, gate))

    def moving(self, moved: float) -> float:
        """s of reading and writing so many bytes: those that fit the device's last cache go there, the others to memory."""
        memory, kernels = self.memory_bandwidth * self.overheads.bandwidth, self.kernels
        if not kernels.l2 or not kernels.l2_bandwidth:
            return moved / memory
        held = min(moved, kernels.l2)
        return held / kernels.l2_bandwidth + (moved - held) / memory


def _whole(grid: TableGrid, size: int) -> float:
    """s of a message; one larger than the table's largest goes in equal parts, one after another."""
    parts = math.ceil(size / float(grid.axes["message_size"][-1]))
    return parts * grid.at(message_size=size / parts)
