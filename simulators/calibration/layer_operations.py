"""A layer as its operations on one device, each from a measured table. Read `LayerOperations.parts`.

What there is in a layer follows AIConfigurator's composition (its sdk/models): the products and the kernel of attention, or the whole
module of latent attention; the MLP's products, or router, shared experts and routed experts; the messages between the devices.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from simulators.calibration.operation_tables.attention import AttentionTimes
from simulators.calibration.operation_tables.collectives import Collective
from simulators.calibration.operation_tables.experts import ExpertTimes
from simulators.calibration.operation_tables.latent import LatentTimes
from simulators.calibration.operation_tables.model import ModelTables, on_one_device
from simulators.calibration.operation_tables.products import ProductTimes
from simulators.native.architecture.attention import GroupedQuery
from simulators.native.architecture.decoder import DecoderLayer
from simulators.native.architecture.feed_forward import Dense
from simulators.native.architecture.formats import WeightFormat, plain
from simulators.native.architecture.matrix import Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """What one device's step has to do."""

    new: int  # tokens of a prompt's chunk
    cached: int  # tokens of that prompt before them
    batch: int  # sequences that decode a token each
    context: int  # tokens that each of these has before it

    @property
    def tokens(self) -> int:
        """Rows of the products."""
        return self.new + self.batch


Named = dict[str, tuple[Matrix, WeightFormat]]


@dataclass(frozen=True, kw_only=True)
class LayerOperations:
    """Of one layer on one of the devices."""

    layer: DecoderLayer  # as one device has it
    hidden: int  # elements of the residual stream
    products: Callable[[WeightFormat], ProductTimes]  # of dense products, by the format of the weights
    attention: AttentionTimes | LatentTimes  # of its kernel, or of the whole module
    experts: ExpertTimes | None  # None: an MLP
    groups: int = 1  # of devices, each with requests of its own; their tokens meet in the experts
    sums: Collective | None = None  # over the devices of a group; None: a group is one device
    exchange: tuple[Collective, Collective] | None = None  # of tokens between the groups, to the experts and back; None: one group
    tile: int | None = None  # rows of queries that a decode takes beside a prompt's chunk (operations.py, Kernels)

    @classmethod
    def of(cls, layer: DecoderLayer, tables: ModelTables, tile: int | None) -> "LayerOperations":
        """layer: whole. Raises NotAvailable where an operation was not measured."""
        mine = on_one_device(layer, tables.parallel.tensor)
        experts = tables.experts(mine)
        return cls(
            layer=mine,
            hidden=tables.decoder.hidden,
            products=tables.products,
            attention=tables.attention(mine),
            experts=experts,
            groups=tables.parallel.data,
            sums=tables.sums,
            exchange=None if experts is None else tables.exchange,
            tile=tile,
        )

    def parts(self, work: StepWork) -> dict[str, float]:
        """s by operation, the kernels that only move activations left out. Raises OutsideTables."""
        return {**self._products(work.tokens), **self._attention(work), **self._experts(work.tokens), **self._messages(work.tokens)}

    def matrices(self) -> Named:
        """The dense products by name, as the device has them."""
        layer, ffn = self.layer, self.layer.feed_forward
        found: Named = {}
        if isinstance(layer.attention, GroupedQuery):
            found = _named(("qkv", "out"), layer.attention.matrices(self.hidden), layer.attention_format)
        if isinstance(ffn, Dense):
            return found | _named(("gate-up", "down"), ffn.matrices(self.hidden), layer.feed_forward_format)
        found["router"] = ffn.router(self.hidden), plain(2)
        return found | _named(("shared gate-up", "shared down"), ffn.shared_matrices(self.hidden), layer.shared_format)

    def _products(self, tokens: int) -> Mapping[str, float]:
        named = self.matrices().items()
        return {f"gemm {name}": self.products(weights).seconds(tokens, of.outputs, of.inputs) for name, (of, weights) in named}

    def _attention(self, work: StepWork) -> Mapping[str, float]:
        if isinstance(self.attention, LatentTimes):
            return {"latent attention": self.attention.step(work.new, work.cached, work.batch, work.context)}
        parts = {}
        if work.new:
            parts["attention prompt"] = self.attention.prompt(work.new, work.cached)
        if work.batch:
            alone = self.attention.decode(work.batch, work.context)
            beside = self.attention.tiles(work.batch, work.context, self.tile) if work.new and self.tile else 0.0
            parts["attention decode"] = max(alone, beside)
        return parts

    def _experts(self, tokens: int) -> Mapping[str, float]:
        return {} if self.experts is None else {"experts": self.experts.seconds(tokens * self.groups)}

    def _messages(self, tokens: int) -> Mapping[str, float]:
        """Attention's sum over a group's devices; then the MLP's, or all groups' tokens to the experts and their sums back.

        The groups are taken to have equally many tokens. All-gather and reduce-scatter are what vLLM does where no other kernel is
        installed (its --all2all-backend allgather_reducescatter); AIConfigurator's operators/moe_dispatch.rs has the sizes.
        """
        parts = {}
        if self.sums is not None:
            parts["all-reduce"] = (2 if self.exchange is None else 1) * self.sums.seconds(tokens * self.hidden)
        if self.exchange is not None:
            gather, scatter = self.exchange
            size = tokens * self.groups * self.hidden
            parts["gather of tokens"], parts["scatter of tokens"] = gather.seconds(size), scatter.seconds(size)
        return parts


def _named(names: tuple[str, str], matrices: Iterable[Matrix], weights: WeightFormat) -> Named:
    return {name: (matrix, weights) for name, matrix in zip(names, matrices, strict=False)}  # there may be none
