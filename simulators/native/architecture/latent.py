"""Families with multi-head latent attention: DeepSeek, Kimi-K2, GLM-5, MiniCPM3."""

from simulators.native.architecture.attention import Indexer, LatentAttention
from simulators.native.architecture.feed_forward import FeedForward
from simulators.native.architecture.fields import Fields
from simulators.native.architecture.mixtures import dense_first


def deepseek(config: Fields) -> list[tuple[LatentAttention, FeedForward]]:
    """DeepSeek V2, V3 and R1 (arXiv 2405.04434, 2412.19437), Kimi-K2 (arXiv 2507.20534), MiniCPM3; with an indexer where config.json has
    its sizes: DeepSeek V3.2 (arXiv 2512.02556), GLM-5 (arXiv 2602.15763).
    """
    attention = _attention(config)
    return [(attention, mlp) for mlp in dense_first(config)]


def _attention(config: Fields) -> LatentAttention:
    heads, rank, rope, nope, value = config.need(
        "num_attention_heads", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"
    )
    query_rank = config.text.get("q_lora_rank")
    indexer = None
    if config.text.get("index_topk"):
        index_heads, head_dim, top_k = config.need("index_n_heads", "index_head_dim", "index_topk")
        indexer = Indexer(heads=index_heads, head_dim=head_dim, query_inputs=query_rank or config.size("hidden_size"), top_k=top_k)
    return LatentAttention(heads=heads, rank=rank, rope=rope, nope=nope, value=value, query_rank=query_rank, indexer=indexer)
