"""An engine's KV memory.

Read first: `kv_cache.py` (vLLM's paged memory as a scheduler sees it), then `block_pool.py` (its blocks). `radix_cache.py` is SGLang's.
`prefix_keys.py` gives each block of a prompt the key under which it can be shared.
"""
