"""Families without experts: grouped-query attention and a gated MLP in every layer, with or without windows."""

from simulators.errors import NotAvailable
from simulators.native.architecture.attention import GroupedQuery
from simulators.native.architecture.feed_forward import Dense, Experts, FeedForward
from simulators.native.architecture.fields import FULL, Fields

SLIDING = "sliding_attention"
Part = tuple[GroupedQuery, FeedForward]


def grouped_query(config: Fields, *, kind: str = FULL, gated: bool = False) -> GroupedQuery:
    """Attention of a layer of this kind. A window as long as the longest request is none."""
    chunked = kind.startswith("chunked")
    window = None if kind == FULL else config.text.get("attention_chunk_size" if chunked else "sliding_window")
    if window is not None and window >= config.size("max_position_embeddings", default=window + 1):
        window = None
    return GroupedQuery(
        heads=config.size("num_attention_heads"),
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        reach=window,
        chunked=chunked and window is not None,
        gated=gated,
    )


def alike(config: Fields, kinds: list[str]) -> list[Part]:
    """Layers of these kinds, each with the same MLP."""
    mlp = Dense(intermediate=config.size("intermediate_size"))
    return [(grouped_query(config, kind=kind), mlp) for kind in kinds]


def plain(config: Fields) -> list[Part]:
    """Llama, Phi-3 and Phi-4, OLMo 2 and 3, Mistral: a sliding_window is of every layer, unless layer_types says of which."""
    layers = config.size("num_hidden_layers")
    return alike(config, config.layer_types([SLIDING if config.text.get("sliding_window") else FULL] * layers))


def qwen(config: Fields) -> list[Part]:
    """Qwen 2 and 3: windows where use_sliding_window says so, from layer max_window_layers on."""
    return alike(config, qwen_kinds(config))


def qwen_kinds(config: Fields) -> list[str]:
    """The kinds of Qwen's layers."""
    layers, windows = config.size("num_hidden_layers"), bool(config.text.get("use_sliding_window"))
    first = config.size("max_window_layers", default=layers) if windows else layers
    return [SLIDING if i >= first else FULL for i in range(layers)]


def gemma2(config: Fields) -> list[Part]:
    """Gemma 2 (arXiv 2408.00118, section 2): every other layer has a window, from the first on."""
    return alike(config, config.layer_types(config.every(2, otherwise=SLIDING)))


def gemma3(config: Fields) -> list[Part]:
    """Gemma 3 (arXiv 2503.19786, section 2): five layers with a window, then one without."""
    return alike(config, config.layer_types(config.every(config.size("sliding_window_pattern", default=6), otherwise=SLIDING)))


def gemma4(config: Fields) -> list[Part]:
    """Gemma 4: as Gemma 3, but a layer without a window has other heads, whose keys are its values where attention_k_eq_v says so; some
    models have experts beside the MLP of every layer. Raises NotAvailable for those with embeddings a layer (E2B, E4B).
    """
    if config.text.get("hidden_size_per_layer_input") or config.text.get("num_kv_shared_layers"):
        raise NotAvailable("native: Gemma 4's embeddings per layer and shared KV (E2B, E4B) are not modelled; its 31B and 26B-A4B are")
    local = grouped_query(config, kind=SLIDING)
    shared = bool(config.text.get("attention_k_eq_v"))
    everywhere = GroupedQuery(
        heads=local.heads,
        kv_heads=config.size("num_global_key_value_heads") if shared else local.kv_heads,
        head_dim=config.size("global_head_dim", default=local.head_dim),
        keys_are_values=shared,
    )
    intermediate = config.size("intermediate_size")
    mlp: FeedForward = Dense(intermediate=intermediate)
    if config.text.get("enable_moe_block"):
        count, top_k, each = config.need("num_experts", "top_k_experts", "moe_intermediate_size")
        mlp = Experts(count=count, top_k=top_k, intermediate=each, shared=intermediate)
    kinds = config.layer_types(config.every(6, otherwise=SLIDING))
    return [(everywhere if kind == FULL else local, mlp) for kind in kinds]
