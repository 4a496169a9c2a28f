"""Decoder: the sizes of a model, layer by layer."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from simulators.native.architecture.attention import Attention, CachingAttention, GatedDeltaNet, GroupedQuery, LatentAttention
from simulators.native.architecture.feed_forward import Dense, Experts, FeedForward
from simulators.native.architecture.formats import WeightFormat
from simulators.native.architecture.matrix import Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLayer:
    """One layer of a decoder, and the formats of its matrices."""

    attention: Attention
    feed_forward: FeedForward
    attention_format: WeightFormat  # of the attention's matrices
    feed_forward_format: WeightFormat  # of the MLP's, or of each expert's
    shared_format: WeightFormat  # of what every token passes beside experts

    def with_format(self, given: WeightFormat) -> "DecoderLayer":
        """The same layer with all its matrices in this format."""
        return dataclasses.replace(self, attention_format=given, feed_forward_format=given, shared_format=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A matrix in a format. per_token: how many times a token is multiplied by such a matrix; copies: how many there are."""

    matrix: Matrix
    format: WeightFormat
    part: str  # attention, dense, router, shared or expert
    copies: int = 1
    per_token: int = 1


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder-only model. Sizes in elements. Norms, biases and convolutions are left out: they are below a thousandth of the weights."""

    hidden: int  # of the residual stream
    vocab: int  # tokens
    layers: tuple[DecoderLayer, ...]  # in order
    dtype_bytes: int  # bytes of one activation, of an embedding, and of an element of the KV cache where the next does not say otherwise
    tied_embeddings: bool = False  # whether the output layer has the embeddings' weights
    kv_element: float | None = None  # bytes of one element of the KV cache
    output_format: WeightFormat | None = None  # of the output layer; None: as activations

    @cached_property
    def groups(self) -> tuple[tuple[DecoderLayer, int], ...]:
        """Layers that are alike, and how many of each there are."""
        return tuple(Counter(self.layers).items())

    @cached_property
    def parameters(self) -> int:
        """All weights, embeddings included."""
        layers = sum(n * p.copies * p.matrix.weights for layer, n in self.groups for p in self.products(layer))
        return layers + (1 if self.tied_embeddings else 2) * self.vocab * self.hidden

    @cached_property
    def active_parameters(self) -> int:
        """Weights that one token is multiplied by: of the experts those that it takes, and the output layer."""
        return sum(n * p.per_token * p.matrix.weights for layer, n in self.groups for p in self.products(layer)) + self.vocab * self.hidden

    @cached_property
    def weight_bytes(self) -> float:
        """Bytes of all weights; embeddings are in the activations' format."""
        layers = sum(n * p.copies * p.matrix.weights * p.format.bytes for layer, n in self.groups for p in self.products(layer))
        return layers + self.embedding_bytes

    @property
    def embedding_bytes(self) -> float:
        """Bytes of the embeddings and the output layer."""
        return self.vocab * self.hidden * (self.dtype_bytes + (0.0 if self.tied_embeddings else self.output_bytes))

    @property
    def output_bytes(self) -> float:
        """Bytes of a weight of the output layer."""
        return self.dtype_bytes if self.output_format is None else self.output_format.bytes

    @property
    def element_bytes(self) -> float:
        """Bytes of an element of the KV cache."""
        return self.dtype_bytes if self.kv_element is None else self.kv_element

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Bytes of one token in the KV cache of all layers, of layers with a window as long as it is within the window."""
        return self.kv_bytes_per_device(1)

    @cached_property
    def state_bytes(self) -> float:
        """Bytes that linear attention keeps of a sequence in all layers, whatever its length."""
        linear = [(layer.attention, n) for layer, n in self.groups if isinstance(layer.attention, GatedDeltaNet)]
        return sum(n * (a.state_elements * a.state_bytes + a.convolved_elements * self.dtype_bytes) for a, n in linear)

    @property
    def reach(self) -> int | None:
        """Tokens that a query attends to at most in those layers that have such a limit; None: no layer has one."""
        found = {a.reach for a, _ in self.caching if a.reach is not None}
        return max(found, default=None)

    @property
    def windows(self) -> list[int]:
        """Tokens of the windows, or chunks, that some of its layers attend to; ascending."""
        return sorted({a.reach for a, _ in self.caching if isinstance(a, GroupedQuery) and a.reach is not None})

    @property
    def chunked(self) -> bool:
        """Whether some of its layers attend within chunks of the context."""
        return any(isinstance(a, GroupedQuery) and a.chunked for a, _ in self.caching)

    @property
    def caching(self) -> list[tuple[CachingAttention, int]]:
        """Attention that caches KV of every token, and in how many layers it is."""
        return [(layer.attention, n) for layer, n in self.groups if not isinstance(layer.attention, GatedDeltaNet)]

    def cached_bytes(self, attention: CachingAttention) -> float:
        """Bytes of one token in the KV cache of one layer."""
        indexer = attention.indexer if isinstance(attention, LatentAttention) else None
        return attention.kv_width * self.element_bytes + (0 if indexer is None else indexer.cached_bytes)

    def kv_bytes_per_device(self, tensor_parallel: int) -> float:
        """Bytes of one token on each of so many devices: KV heads are split over them, as far as they go."""
        return sum(n * self.cached_bytes(a) / min(tensor_parallel, a.shared_by) for a, n in self.caching)

    def products(self, layer: DecoderLayer) -> Iterator[Product]:
        """The matrix products of a layer."""
        for matrix in layer.attention.matrices(self.hidden):
            yield Product(matrix=matrix, format=layer.attention_format, part="attention")
        ffn = layer.feed_forward
        if isinstance(ffn, Dense):
            for matrix in ffn.matrices(self.hidden):
                yield Product(matrix=matrix, format=layer.feed_forward_format, part="dense")
            return
        yield Product(matrix=ffn.router(self.hidden), format=WeightFormat(bytes=self.dtype_bytes, arithmetic="16 bit"), part="router")
        for matrix in ffn.shared_matrices(self.hidden):
            yield Product(matrix=matrix, format=layer.shared_format, part="shared")
        for matrix in ffn.matrices(self.hidden):
            yield Product(matrix=matrix, format=layer.feed_forward_format, part="expert", copies=ffn.count, per_token=ffn.top_k)

    def with_weights(self, given: WeightFormat) -> "Decoder":
        """The same model with the matrices of its layers in this format; embeddings and output stay, as in AWQ and SmoothQuant."""
        return dataclasses.replace(self, layers=tuple(layer.with_format(given) for layer in self.layers))

    @property
    def experts(self) -> Experts | None:
        """Its layers' experts; None: it has none. The families here have the same in every layer that has any."""
        return next((layer.feed_forward for layer in self.layers if isinstance(layer.feed_forward, Experts)), None)
