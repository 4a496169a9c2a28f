"""Which measured runs are repeats of one another (they form a cell), and which measured the same configuration, on whatever requests."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from results.identity import digest, named

SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "chunked_prefill", "prefix_caching", "tensor_parallel")
PLACES = tuple(  # settings that say where an engine is found and computes, not what it is (the hardware goes by its own name)
    f"{engine}.{name}"
    for engine in ("engine", "engine.prefill", "engine.decode")
    for name in ("environment", "python", "computes_on", "port", "env.PYTHONPATH")
)
LOOP = ("load.concurrency", "load.ramp")  # of a closed loop alone
TOLD = ("engine.details", "engine.unknown")  # not settings: what an engine said of itself
CLIENT = ("protocol", "extra_body", "ignore_eos", "adapters", "adapters_seed")  # settings that say what is asked, not how it is sent
ASKED = ("workload", "load", "seed", "slo", "client")  # what an engine is asked to serve: no part of its configuration


def study_of(meta: Mapping[str, Any]) -> str | None:
    """The study that a run is part of, from its run.json; None: it is part of none."""
    name = (meta["config"].get("study") or {}).get("name")
    return None if name is None else str(name)


def cell_of(meta: Mapping[str, Any]) -> str:
    """The cell of a measured run, 12 hex digits, from its run.json: the one that its study gave it, or a hash of all settings that repeats
    share.
    """
    given = (meta["config"].get("study") or {}).get("cell")
    return digest(settings_of(meta)) if given is None else str(given)


def configuration_of(meta: Mapping[str, Any]) -> str:
    """The configuration of a measured run, 12 hex digits: the engine with all its settings, the model and the hardware."""
    return digest({name: value for name, value in settings_of(meta).items() if name.partition(".")[0] not in ASKED})


def settings_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """All that repeats have in common, by name ('max_num_seqs', 'engine.dtype', 'slo.ttft', 'load.rho'), from a measured run's run.json.

    The rate is left out where rho is given, because capacity is measured anew for each repeat. Left out too are where the engine is found,
    and where its class lies in the code: a class goes by its own name.
    """
    config = {name: named(copy.deepcopy(meta["config"].get(name) or {})) for name in ("engine", "model", "workload", "load")}
    for name in (*PLACES, *TOLD):
        drop(config, name)
    client = named(copy.deepcopy(meta["config"].get("client") or {}))
    config["client"] = {name: value for name, value in client.items() if name in CLIENT}
    drop_open_loop(config)
    return {
        **dict(_flat(config)),
        "seed": meta["config"].get("seed"),
        **{f"slo.{name}": limit for name, limit in meta["slo"].items()},
        **{name: meta[name] for name in ("system", "version", "model", "hardware", "workload")},
        **{name: meta["limits"][name] for name in SETTINGS},
    }


def drop(settings: dict[str, Any], name: str) -> None:
    """Remove the setting of this name, 'engine.env.PYTHONPATH' say, where there is one."""
    *path, last = name.split(".")
    for step in path:
        inner = settings.get(step)
        if not isinstance(inner, dict):
            return
        settings = inner
    settings.pop(last, None)


def drop_open_loop(settings: dict[str, Any]) -> None:
    """Remove what a closed loop alone has from the settings of an open one: it is the one that it was before there were closed loops."""
    if (settings.get("load") or {}).get("concurrency") is None:
        for name in LOOP:
            drop(settings, name)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
