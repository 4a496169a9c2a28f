"""KVLayout: which layers of a model share a block of KV, and how many bytes it takes (vLLM, vllm/v1/core/kv_cache_utils.py)."""

from collections import Counter
from dataclasses import dataclass

from simulators.native.architecture.attention import Attention, GatedDeltaNet, GroupedQuery
from simulators.native.architecture.decoder import Decoder
from simulators.native.kv.groups import KVGroup, grouped


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLayout:
    """Blocks of a model's KV on one device of those that share each layer; of all stages of a pipeline together."""

    block_size: int  # tokens of a block
    block_bytes: float  # of a block
    groups: tuple[KVGroup, ...] = ()  # as in Limits; (): one, with attention to all of a context
    state_bytes: float = 0.0  # that a sequence keeps beside blocks

    def blocks(self, tokens: int, under_way: int) -> int:
        """Blocks that a sequence of so many tokens holds at most, while up to `under_way` tokens of it are being computed."""
        return sum(group.most(tokens, self.block_size, under_way) for group in self.groups or (KVGroup(),))


def whole_layout(shape: Decoder, *, tensor: int, block_size: int) -> KVLayout:
    """Every layer keeps all of a context, in one group; states are beside the blocks. tensor: devices that share each layer."""
    return KVLayout(
        block_size=block_size, block_bytes=block_size * shape.kv_bytes_per_device(tensor), state_bytes=shape.state_bytes / tensor
    )


def grouped_layout(shape: Decoder, *, tensor: int, block_size: int) -> KVLayout:
    """Layers that keep the same part of a context are in groups of as many layers each, whose blocks take the same bytes.

    A state is one block: blocks are made of so many more tokens that a state fits one (its Platform._align_hybrid_block_size). The layers
    must have pages of one size (`one_page_size`). A model all of whose layers attend to all of a context has one group.
    """
    kinds = Counter[KVGroup]()
    for layer, layers in shape.groups:
        kinds[_kind(layer.attention)] += layers
    if kinds.keys() == {KVGroup()}:
        return whole_layout(shape, tensor=tensor, block_size=block_size)
    token = max(_token_bytes(shape, tensor))
    if states := kinds[KVGroup(state=True)]:
        state = shape.state_bytes / states / tensor
        block_size *= int(-(-state // (block_size * token)))
    groups, layers = grouped(+kinds)
    return KVLayout(block_size=block_size, block_bytes=block_size * token * layers, groups=groups)


def one_page_size(shape: Decoder, *, tensor: int) -> bool:
    """Whether a token takes as many bytes in each layer that caches it."""
    return len(_token_bytes(shape, tensor)) == 1


def _kind(attention: Attention) -> KVGroup:
    """What such a layer must keep. An indexer selects from all of a context."""
    if isinstance(attention, GatedDeltaNet):
        return KVGroup(state=True)
    if isinstance(attention, GroupedQuery):
        return KVGroup(window=attention.reach, chunked=attention.chunked)
    return KVGroup()


def _token_bytes(shape: Decoder, tensor: int) -> set[float]:
    return {shape.cached_bytes(attention) / min(tensor, attention.shared_by) for attention, _ in shape.caching}
