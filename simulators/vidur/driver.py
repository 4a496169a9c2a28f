"""Runs inside Vidur's own environment: tells it the engine's model and machine, runs its main path, asks it for single step times.

Usage: python -P driver.py JOB.json VIDUR-FLAG...   (PYTHONPATH names a git checkout, if that is what runs)

JOB.json: model, device, node (fields of Vidur's configs, each with a name; null where Vidur's own are used), probes (steps as
{new_tokens, prefill_context, batch, context}), report (where to write {output, version, train_s, simulate_s, predicted}, the last
in seconds per probe). Vidur finds new models and machines through its configs' subclasses; nothing of it is edited.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import vidur  # type: ignore[import-not-found]
from vidur.config import SimulationConfig  # type: ignore[import-not-found]
from vidur.config.device_sku_config import BaseDeviceSKUConfig  # type: ignore[import-not-found]
from vidur.config.model_config import Llama2ModelConfig  # type: ignore[import-not-found]
from vidur.config.node_sku_config import BaseNodeSKUConfig  # type: ignore[import-not-found]
from vidur.entities import Batch  # type: ignore[import-not-found]
from vidur.simulator import Simulator  # type: ignore[import-not-found]
from vidur.utils.random import set_seeds  # type: ignore[import-not-found]


def declare(base: type, getter: str, values: Mapping[str, Any] | None) -> type | None:
    """A config of Vidur's, by subclassing: its fields' values, and the name that `getter` returns."""
    if values is None:
        return None
    fields = [(key, type(value), value) for key, value in values.items() if key != "name"]
    return make_dataclass("Declared", fields, bases=(base,), namespace={getter: staticmethod(lambda: values["name"])})


def batch_of(probe: Mapping[str, int]) -> Any:
    """A step as Vidur sees it: one prefill chunk (if any) and `batch` decodes (if any)."""
    new, before, decodes, context = (probe[k] for k in ("new_tokens", "prefill_context", "batch", "context"))
    tokens = [new] * (new > 0) + [1] * decodes
    processed = [before] * (new > 0) + [context] * decodes
    requests = [
        SimpleNamespace(id=i, num_processed_tokens=p, _is_prefill_complete=done, is_prefill_complete=done)
        for i, (p, done) in enumerate(zip(processed, [False] * (new > 0) + [True] * decodes, strict=True))
    ]
    if "num_kv_tokens" in Batch.__init__.__code__.co_varnames:  # the PyPI release counts the step's own tokens in
        return Batch(SimpleNamespace(id=1), requests, tokens, [p + t for p, t in zip(processed, tokens, strict=True)])
    return Batch(1, requests, tokens)


def predict(simulator: Any, probes: Sequence[Mapping[str, int]]) -> list[float]:
    """Seconds that Vidur's predictor gives each step, through the scheduler that uses it."""
    replica = next(iter(simulator.scheduler._replica_schedulers.values()))
    predictor = replica.get_replica_stage_scheduler(0)._execution_time_predictor
    return [float(predictor.get_execution_time(batch_of(probe), 0).total_time) for probe in probes]


def main() -> None:
    """Vidur's own main(), between two clocks, and the probes after it."""
    job = json.loads(Path(sys.argv.pop(1)).read_text())
    declared = [  # kept alive, or Vidur would not find them
        declare(Llama2ModelConfig, "get_name", job["model"]),
        declare(BaseDeviceSKUConfig, "get_type", job["device"]),
        declare(BaseNodeSKUConfig, "get_type", job["node"]),
    ]
    start = time.monotonic()
    config = SimulationConfig.create_from_cli_args()
    set_seeds(config.seed)
    simulator = Simulator(config)
    trained = time.monotonic()
    simulator.run()
    report = {
        "output": config.metrics_config.output_dir,
        "version": getattr(vidur, "__version__", None),
        "declared": len([d for d in declared if d is not None]),
        "train_s": trained - start,
        "simulate_s": time.monotonic() - trained,
        "predicted": predict(simulator, job["probes"]),
    }
    Path(job["report"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
