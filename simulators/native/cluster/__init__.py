"""Several engines that serve one stream of requests: replicas behind a router, prefill and decode apart, live migration.

Read first: `arrangement.py` (how many engines there are, and who decides), then `loop.py` (one clock for all). `instance.py` is one engine
of a cluster. `placement.py` says what there is to decide; `routers.py`, `pools.py` and `llumnix.py` decide it. `link.py` is what KV caches
travel over. `apart.py` serves replicas one by one where the router looks at none of them.
"""
