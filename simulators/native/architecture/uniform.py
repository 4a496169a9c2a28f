"""Uniform: the sizes of a decoder all of whose layers are alike, with grouped-query attention and one MLP."""

from dataclasses import dataclass

from simulators.errors import NotAvailable
from simulators.native.architecture.attention import GroupedQuery
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.feed_forward import Dense


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Sizes in elements, as tables of operations ask for them."""

    hidden: int  # of the residual stream
    intermediate: int  # of the MLP
    layers: int  # of the decoder
    heads: int  # of the queries
    kv_heads: int  # of the keys and values
    head_dim: int  # of one head
    vocab: int  # tokens
    dtype_bytes: int  # bytes of one activation


def uniform(decoder: Decoder, whose: str) -> Uniform:
    """The sizes of such a decoder. whose: who asks, for the error. Raises NotAvailable for any other."""
    [(layer, count), *others] = decoder.groups
    attention, mlp = layer.attention, layer.feed_forward
    if others or not isinstance(attention, GroupedQuery) or not isinstance(mlp, Dense) or attention.reach is not None:
        raise NotAvailable(
            f"{whose}: its tables are of dense decoders, all layers with full grouped-query attention; this model has others"
        )
    return Uniform(
        hidden=decoder.hidden,
        intermediate=mlp.intermediate,
        layers=count,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        vocab=decoder.vocab,
        dtype_bytes=decoder.dtype_bytes,
    )
