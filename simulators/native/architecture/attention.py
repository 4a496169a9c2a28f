"""The kinds of attention: their matrices, what they cache of a token or keep of a sequence, FLOPs of a query and a key.

All sizes in elements. `reach` is how many tokens a query attends to at most (None: all): a sliding window, or what an indexer selects.
"""

from dataclasses import dataclass

from simulators.native.architecture.matrix import Matrix, by_inputs, by_outputs, whole

INDEX_SCALE = 4  # bytes of the scale beside an indexer's key in FP8 (DeepSeek's FlashMLA and DeepGEMM keep it so; vLLM and SGLang, too)
CHUNK = 64  # tokens that the kernels of gated delta nets take at once (fla's chunk_gated_delta_rule, which vLLM and SGLang use)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQuery:
    """Grouped-query attention (arXiv 2305.13245); with as many KV heads as heads multi-head, with one multi-query attention."""

    heads: int  # of the queries
    kv_heads: int  # of the keys and values
    head_dim: int  # of one head
    reach: int | None = None  # tokens of its sliding window or its chunk, the query's own among them
    gated: bool = False  # whether each head's output is multiplied by a gate that the query's product computes, too (arXiv 2505.06708)
    chunked: bool = False  # whether reach is of a chunk, at whose end it begins anew (Llama 4)
    keys_are_values: bool = False  # whether there is no product for the values; both are cached all the same (Gemma 4's global layers)

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Of the products: query-key-value in one, output."""
        queries, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        inward = (2 if self.gated else 1) * queries + (1 if self.keys_are_values else 2) * kv
        return by_outputs(hidden, inward), by_inputs(queries, hidden)

    @property
    def kv_width(self) -> int:
        """Elements of a token in the KV cache."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def shared_by(self) -> int:
        """Over how many devices the KV cache can be split."""
        return self.kv_heads

    @property
    def prefill_pair_flops(self) -> int:
        """FLOPs for a query and a key of a prompt: two products of a head's size, for every head."""
        return 4 * self.heads * self.head_dim

    @property
    def decode_pair_flops(self) -> int:
        """The same of a decode step."""
        return self.prefill_pair_flops

    @property
    def token_width(self) -> int:
        """Elements of a token's queries, keys, values and outputs."""
        return 2 * self.head_dim * (self.heads + self.kv_heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """What selects the tokens that sparse attention reads (DeepSeek-V3.2, arXiv 2512.02556, section 2.1)."""

    heads: int  # of its queries; it has one key a token
    head_dim: int  # of these
    query_inputs: int  # of the product for its queries
    top_k: int  # tokens that it selects

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Queries, keys, and the weights of its heads; every device has them all."""
        return whole(self.query_inputs, self.heads * self.head_dim), whole(hidden, self.head_dim + self.heads)

    @property
    def cached_bytes(self) -> int:
        """Bytes of a token's key, in FP8 with a scale."""
        return self.head_dim + INDEX_SCALE

    @property
    def pair_flops(self) -> int:
        """FLOPs for a query and a key, in FP8."""
        return 2 * self.heads * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): all heads share one cached vector a token."""

    heads: int  # of the queries
    rank: int  # of the compressed keys and values
    rope: int  # of the key part beside it that carries positions
    nope: int  # of a head's other key part
    value: int  # of a head's value
    query_rank: int | None = None  # of the compressed query; None: it is not compressed
    indexer: Indexer | None = None  # of sparse attention; None: a query attends to all tokens

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Of the products: down to the compressed vectors, up from them, output, and the indexer's."""
        query, down = self.heads * (self.nope + self.rope), self.rank + self.rope
        inward = (
            (whole(hidden, self.query_rank + down), by_outputs(self.query_rank, query))
            if self.query_rank
            else (by_outputs(hidden, query), whole(hidden, down))
        )
        outward = by_outputs(self.rank, self.heads * (self.nope + self.value)), by_inputs(self.heads * self.value, hidden)
        return (*inward, *outward, *(() if self.indexer is None else self.indexer.matrices(hidden)))

    @property
    def reach(self) -> int | None:
        """Tokens that a query attends to at most."""
        return None if self.indexer is None else self.indexer.top_k

    @property
    def kv_width(self) -> int:
        """Elements of a token in the KV cache, the indexer's left out."""
        return self.rank + self.rope

    @property
    def shared_by(self) -> int:
        """Over how many devices the KV cache can be split: a latent cannot be."""
        return 1

    @property
    def prefill_pair_flops(self) -> int:
        """FLOPs for a query and a key of a prompt. Sparse attention works on the compressed vectors there, too."""
        if self.indexer is not None:
            return self.decode_pair_flops
        return 2 * self.heads * (self.nope + self.rope + self.value)

    @property
    def decode_pair_flops(self) -> int:
        """The same of a decode step, on the compressed vectors themselves (section 2.1.3 there)."""
        return 2 * self.heads * (2 * self.rank + self.rope)

    @property
    def token_width(self) -> int:
        """Elements of a token's queries, keys, values and outputs."""
        return 2 * self.heads * (self.nope + self.rope + self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet:
    """Linear attention with a gated delta rule (arXiv 2412.06464), as Qwen3-Next has it: a state a sequence instead of KV a token."""

    key_heads: int  # of the queries, and of the keys
    key_dim: int  # of one of these
    value_heads: int  # of the values
    value_dim: int  # of one of these
    kernel: int  # tokens that the convolution before it sees
    state_bytes: int  # of an element of its state

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Of the products: query, key, value, gate, and the two rates of a head in one; output."""
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        return by_outputs(hidden, 2 * keys + 2 * values + 2 * self.value_heads), by_inputs(values, hidden)

    @property
    def state_elements(self) -> int:
        """Elements of a sequence's state: a matrix for each head of the values."""
        return self.value_heads * self.key_dim * self.value_dim

    @property
    def convolved_elements(self) -> int:
        """Elements of the latest tokens that the convolution keeps for a sequence."""
        return (2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim) * (self.kernel - 1)

    @property
    def prefill_token_flops(self) -> int:
        """FLOPs for a token of a prompt: products with the state, and among the CHUNK tokens that are taken at once (section 3.3 there)."""
        on_state = 6 * self.key_dim * self.value_dim  # read twice, written once
        among = 2 * CHUNK * (3 * self.key_dim + 2 * self.value_dim)
        return self.value_heads * (on_state + among)

    @property
    def decode_flops(self) -> int:
        """FLOPs for a token of a decode step."""
        return 6 * self.state_elements

    @property
    def token_width(self) -> int:
        """Elements of a token's queries, keys, values, gates and outputs."""
        return 2 * self.key_heads * self.key_dim + 3 * self.value_heads * self.value_dim


CachingAttention = GroupedQuery | LatentAttention  # these keep KV of every token
Attention = CachingAttention | GatedDeltaNet
