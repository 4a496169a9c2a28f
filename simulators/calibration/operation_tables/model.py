"""ModelTables: the tables that one model needs, split over its devices in one way. Read `on_one_device`, then the methods."""

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property

from simulators.calibration.operation_tables.attention import AttentionTimes, Heads
from simulators.calibration.operation_tables.collectives import Collective
from simulators.calibration.operation_tables.experts import BALANCED, ExpertTimes, Mixture
from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.formats import TableFormats
from simulators.calibration.operation_tables.latent import LatentSizes, LatentTimes
from simulators.calibration.operation_tables.products import ProductTimes
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.architecture import attention as kinds
from simulators.native.architecture.decoder import Decoder, DecoderLayer
from simulators.native.architecture.feed_forward import Dense
from simulators.native.architecture.formats import WeightFormat
from simulators.native.latency.parallelism import Parallelism

KV_DTYPES = {2: "bfloat16", 1: "fp8"}  # bytes of an element of KV -> as in the tables' kv_cache_dtype
NONE = "take another source of calibration"


@dataclass(frozen=True, kw_only=True)
class ModelTables:
    """Every method raises NotAvailable where nothing of the kind was measured."""

    decoder: Decoder
    files: TableFiles
    parallel: Parallelism = field(default_factory=Parallelism)  # over how many devices
    formats: TableFormats = field(default_factory=TableFormats)  # of its weights
    all_reduce: str = "graph"  # what its kernel source ends with ('graph': in a captured CUDA graph)
    distribution: str = BALANCED  # of the tokens over the experts, as in experts.py

    def __post_init__(self) -> None:
        if self.decoder.dtype_bytes != 2:
            raise SimulatorError("calibration aic: its tables are of 16-bit activations; this model's torch_dtype is another")
        if self.parallel.pipeline > 1 or self.parallel.dispatch != "all_gather":
            raise NotAvailable(f"calibration aic: there are no times of pipeline stages and of all-to-all dispatch; {NONE}")

    def products(self, weights: WeightFormat) -> ProductTimes:
        """Of dense products with weights in this format."""
        dtype = self.formats.dense(weights)
        if dtype not in self._products:
            self._products[dtype] = ProductTimes.read(self.files, dtype)
        return self._products[dtype]

    @cached_property
    def _products(self) -> dict[str, ProductTimes]:
        return {}

    def attention(self, layer: DecoderLayer) -> AttentionTimes | LatentTimes:
        """Of a layer's attention. layer: as one device has it."""
        attention = layer.attention
        if isinstance(attention, kinds.GroupedQuery):
            heads = Heads(
                queries=attention.heads,
                kv=attention.kv_heads,
                dim=attention.head_dim,
                kv_dtype=self.kv_dtype,
                window=attention.reach,
            )
            return AttentionTimes.read(self.files, heads)
        if not isinstance(attention, kinds.LatentAttention) or attention.indexer is not None:
            raise NotAvailable(f"calibration aic: there are no times of linear and of sparse attention; {NONE}")
        sizes = LatentSizes(
            hidden=self.decoder.hidden,
            query_rank=attention.query_rank,
            rank=attention.rank,
            rope=attention.rope,
            nope=attention.nope,
            value=attention.value,
        )
        dtype = self.formats.dense(layer.attention_format)
        return LatentTimes.read(self.files, sizes, heads=attention.heads, dtype=dtype, kv_dtype=self.kv_dtype)

    @property
    def kv_dtype(self) -> str:
        """Of the KV cache, as the tables have it."""
        size = self.decoder.element_bytes
        if size not in KV_DTYPES:
            raise NotAvailable(f"calibration aic: there are no times of attention with {size:g} bytes an element of KV; {NONE}")
        return KV_DTYPES[int(size)]

    def experts(self, layer: DecoderLayer) -> ExpertTimes | None:
        """Of a layer's routed experts; None: it has none."""
        ffn, parallel = layer.feed_forward, self.parallel
        if isinstance(ffn, Dense):
            return None
        mixture = Mixture(
            hidden=self.decoder.hidden,
            intermediate=ffn.intermediate,
            experts=ffn.count,
            top_k=ffn.top_k,
            tensor=parallel.expert_tensor,
            expert=parallel.expert,
            dtype=self.formats.experts(layer.feed_forward_format),
        )
        return ExpertTimes.read(self.files, mixture, self.distribution)

    @cached_property
    def sums(self) -> Collective | None:
        """All-reduces over the devices of a group; None: a group is one device."""
        return Collective.all_reduce(self.files, self.parallel.tensor, self.all_reduce) if self.parallel.tensor > 1 else None

    @cached_property
    def logits(self) -> Collective | None:
        """The gathering of the logits over the devices of a group; None: a group is one device."""
        return Collective.nccl(self.files, self.parallel.tensor, "all_gather") if self.parallel.tensor > 1 else None

    @cached_property
    def exchange(self) -> tuple[Collective, Collective] | None:
        """The gathering of all groups' tokens before the experts, the scattering of the sums after them; None: there is one group."""
        if self.parallel.data == 1:
            return None
        devices = self.parallel.stage
        return Collective.nccl(self.files, devices, "all_gather"), Collective.nccl(self.files, devices, "reduce_scatter")


def on_one_device(layer: DecoderLayer, tensor_parallel: int) -> DecoderLayer:
    """The layer with the heads and the intermediate sizes that one device computes; experts keep their size (the tables split them).

    Fewer KV heads than devices: each has one, a copy. Raises SimulatorError where a size cannot be split.
    """
    tp, attention, ffn = tensor_parallel, layer.attention, layer.feed_forward
    if isinstance(attention, kinds.GatedDeltaNet):
        return layer
    heads = _split(attention.heads, tp, "attention heads")
    mine: kinds.Attention
    if isinstance(attention, kinds.GroupedQuery):
        mine = dataclasses.replace(attention, heads=heads, kv_heads=max(1, attention.kv_heads // tp))
    else:
        mine = dataclasses.replace(attention, heads=heads)
    if isinstance(ffn, Dense):
        return dataclasses.replace(
            layer, attention=mine, feed_forward=Dense(intermediate=_split(ffn.intermediate, tp, "intermediate size"))
        )
    shared = dataclasses.replace(ffn, shared=_split(ffn.shared, tp, "shared intermediate size"))
    return dataclasses.replace(layer, attention=mine, feed_forward=shared)


def _split(size: int, devices: int, what: str) -> int:
    if size % devices:
        raise SimulatorError(f"calibration aic: {what} {size} cannot be split over {devices} devices")
    return size // devices
