"""Families with experts and grouped-query attention."""

from simulators.native.architecture.dense import Part, grouped_query, plain, qwen_kinds
from simulators.native.architecture.feed_forward import Dense, Experts, FeedForward
from simulators.native.architecture.fields import FULL, Fields


def mixtral(config: Fields) -> list[Part]:
    """Mixtral (arXiv 2401.04088) and MiniMax-M2: every layer has experts, whose size is the intermediate_size."""
    count, top_k, each = config.need("num_local_experts", "num_experts_per_tok", "intermediate_size")
    experts = Experts(count=count, top_k=top_k, intermediate=each)
    return [(attention, experts) for attention, _ in plain(config)]


def gpt_oss(config: Fields) -> list[Part]:
    """gpt-oss (arXiv 2508.10925): the same, and every other layer has a window."""
    experts = mixtral(config)[0][1]
    kinds = config.layer_types(config.every(2, otherwise="sliding_attention"))
    return [(grouped_query(config, kind=kind), experts) for kind in kinds]


def qwen_moe(config: Fields) -> list[Part]:
    """Qwen 2 and 3 with experts (arXiv 2407.10671, section 2.2.2; 2505.09388, section 2)."""
    mlps = [qwen_feed_forward(config, layer) for layer in range(config.size("num_hidden_layers"))]
    return [(grouped_query(config, kind=kind), mlp) for kind, mlp in zip(qwen_kinds(config), mlps, strict=True)]


def qwen_feed_forward(config: Fields, layer: int) -> FeedForward:
    """What Qwen's layer number `layer` has: experts, but where mlp_only_layers or decoder_sparse_step say otherwise."""
    step = config.size("decoder_sparse_step", default=1)
    if not config.text.get("num_experts") or layer in (config.text.get("mlp_only_layers") or ()) or (layer + 1) % step:
        return Dense(intermediate=config.size("intermediate_size"))
    count, top_k, each = config.need("num_experts", "num_experts_per_tok", "moe_intermediate_size")
    return Experts(count=count, top_k=top_k, intermediate=each, shared=config.size("shared_expert_intermediate_size", default=0))


def dense_first(config: Fields) -> list[FeedForward]:
    """DeepSeek's order (arXiv 2401.06066): some dense layers, then experts, some of them shared by all tokens."""
    layers, first = config.size("num_hidden_layers"), config.size("first_k_dense_replace", default=0)
    if not config.text.get("n_routed_experts"):
        return [Dense(intermediate=config.size("intermediate_size"))] * layers
    count, top_k, each = config.need("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
    experts = Experts(count=count, top_k=top_k, intermediate=each, shared=each * config.size("n_shared_experts", default=0))
    every = config.size("moe_layer_freq", default=1)
    return [experts if i >= first and i % every == 0 else Dense(intermediate=config.size("intermediate_size")) for i in range(layers)]


def glm_moe(config: Fields) -> list[Part]:
    """GLM-4.5 (arXiv 2508.06471, section 2.1): DeepSeek's order with grouped-query attention."""
    return [(grouped_query(config), mlp) for mlp in dense_first(config)]


def llama4(config: Fields) -> list[Part]:
    """Llama 4: chunked attention but in every fourth layer, experts in every interleave_moe_layer_step-th beside a shared one."""
    interval = config.size("no_rope_layer_interval", default=4)
    stated = config.text.get("no_rope_layers") or None  # 1: with rotary embeddings, so in chunks
    default = config.every(interval, otherwise="chunked_attention")
    if stated:
        default = ["chunked_attention" if rope else FULL for rope in stated]
    count, top_k, each = config.need("num_local_experts", "num_experts_per_tok", "intermediate_size")
    experts = Experts(count=count, top_k=top_k, intermediate=each, shared=each)
    dense = Dense(intermediate=config.size("intermediate_size_mlp"))
    step = config.size("interleave_moe_layer_step", default=1)
    kinds = config.layer_types(default)
    return [(grouped_query(config, kind=kind), dense if (i + 1) % step else experts) for i, kind in enumerate(kinds)]
