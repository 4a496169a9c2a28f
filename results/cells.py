"""Which measured runs are repeats of one another: those of one cell."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "chunked_prefill", "prefix_caching", "tensor_parallel")


def study_of(meta: Mapping[str, Any]) -> str | None:
    """The study that a run is part of, from its run.json; None: none."""
    name = (meta["config"].get("study") or {}).get("name")
    return None if name is None else str(name)


def cell_of(meta: Mapping[str, Any]) -> str:
    """The cell of a measured run, 12 hex digits, from its run.json: the study's own, or a hash of all that makes runs repeats.

    The rate is no part of it: at equal rho, capacity is measured anew for each repeat.
    """
    config = meta["config"]
    given = (config.get("study") or {}).get("cell")
    if given is not None:
        return str(given)
    what = {
        **{name: meta[name] for name in ("system", "version", "model", "hardware", "workload")},
        **{name: meta["limits"][name] for name in SETTINGS},
        **{f"config.{name}": config.get(name) for name in ("workload", "load", "seed")},
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
