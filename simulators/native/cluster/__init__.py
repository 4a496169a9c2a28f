"""Several engines that serve one stream of requests: replicas behind a router, prefill and decode apart, live migration.

Read first: `loop.py` (one clock for all). `instance.py` is one engine of it; `placement.py` says what an arrangement decides, and
`routers.py`, `pools.py` and `llumnix.py` are arrangements; `link.py` is what KV caches travel over.
"""
