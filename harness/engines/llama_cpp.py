"""llama.cpp's server (llama-server), attached: what it says of itself, how its events tell their tokens, how its cache is emptied.

Seen with its commit 0c1e570 (October 2026): its HTTP server (cpp-httplib) says keep-alive and closes all the same after a stream, and an
idle connection holds one of its threads, behind which requests on others may wait for seconds. So each request gets a connection.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.engine import Endpoint
from harness.engines import limits, server

SYSTEM = "llama_cpp"
OWNER = "llamacpp"  # what its /v1/models says
METRICS = "llamacpp:"  # begins the names of its metrics, which it has with --metrics
COUNTING = {"timings_per_token": True}  # then each event says `timings.predicted_n`: output tokens so far


def describe(url: str, served: str, headers: Mapping[str, str] | None = None) -> Endpoint:
    """Ask a running llama-server what it is; served: the model's name.

    A slot runs one sequence. The size of the whole KV cache is not told: slots share it or have parts of their own.
    """
    status, text = server.fetch(f"{url}/props", headers=headers)
    props: Mapping[str, Any] = json.loads(text) if status == 200 else {}
    slot = props.get("default_generation_settings") or {}
    said = {"max_num_seqs": props.get("total_slots"), "max_model_len": slot.get("n_ctx")}
    found, unknown = limits.combine({"/props": {name: value for name, value in said.items() if value is not None}})
    return Endpoint(
        url=url,
        served_model=served,
        system=SYSTEM,
        version=props.get("build_info"),
        limits=found,
        unknown=unknown,
        details=limits.without_secrets({"props": props}),
        keeps_connections=False,
        counting=COUNTING,
    )


def resets(endpoint: Endpoint) -> Sequence[str]:
    """Paths that empty its slots, one after the other, when they are posted to (it needs --slot-save-path)."""
    slots = endpoint.limits.max_num_seqs or 0
    return [f"/slots/{number}?action=erase" for number in range(slots)]
