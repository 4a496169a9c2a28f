"""When vLLM's hybrid KV cache manager keeps layers in groups, and when all of a context is kept in every layer (0.19; vllm/config/vllm.py).

It is off with a KV connector (0.32: with one that does not support it), with KV events (0.19 only), for attention in chunks beside a
drafter with a KV cache, or with VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE=0 in its environment, and with
disable_hybrid_kv_cache_manager. Prefix caching and the attention backend do not matter to it. GPUs of NVIDIA and AMD have it.
"""

from simulators.native.architecture.decoder import Decoder
from simulators.native.memory.layout import one_page_size

OFF, LEFT_OUT = "vLLM's hybrid KV cache manager is off", "not modelled"
HANDED_OVER = ("distserve", "splitwise", "llumnix")  # arrangements in which KV goes from engine to engine


def why_whole(shape: Decoder, *, tensor: int, policy: str, arrangement: str, prefix_caching: bool, drafter: str | None) -> str | None:
    """Why layers that need not keep all of a context do so all the same in a simulation; None: they do not, or there are none.

    drafter: the method of speculation; None: there is none. What begins with OFF is so in vLLM as well.
    """
    if not shape.windows and not shape.state_bytes:
        return None
    if policy != "vllm_v1":
        return f"{LEFT_OUT} of the policy {policy}"
    own_cache = drafter not in (None, "ngram")
    if shape.chunked and own_cache:
        return f"{OFF} for attention in chunks beside a drafter with a KV cache"
    if arrangement in HANDED_OVER:
        return f"{OFF} where engines hand KV over"
    if not one_page_size(shape, tensor=tensor):
        return f"{LEFT_OUT} of layers whose pages differ in size"
    if prefix_caching and (shape.state_bytes or own_cache):
        return f"{LEFT_OUT} with shared prefixes of {'states' if shape.state_bytes else 'a drafter with a KV cache'}"
    if shape.state_bytes and drafter is not None:
        return f"{LEFT_OUT} with states of drafts"
    return None
