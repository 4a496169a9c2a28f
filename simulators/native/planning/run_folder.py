"""A prediction as a run folder, in the form that all runs have."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from results.record import EngineLimits, Run
from results.storage.run_tables import StoreError
from results.storage.store import write_run
from simulators.errors import SimulatorError
from simulators.native.latency.parallelism import Parallelism
from simulators.native.planning import settings
from simulators.native.predictor import VERSION, Prediction, provenance
from simulators.native.resolve import NULL_BLOCKS
from simulators.native.scheduling.scheduler import Limits
from workloads.trace import Trace


def keep(cfg: DictConfig, trace: Trace, outcome: Prediction, parallel: Parallelism) -> Path:
    """Write the run into the folder `out` of the settings and return its own. Raises SimulatorError where it cannot be written."""
    try:
        return write_run(Path(cfg.out), _run(cfg, trace, outcome, parallel))
    except StoreError as error:
        raise SimulatorError(str(error)) from error


def _run(cfg: DictConfig, trace: Trace, outcome: Prediction, parallel: Parallelism) -> Run:
    """The outcome in the form that all runs have."""
    started = datetime.now(UTC)
    told: Any = OmegaConf.to_container(cfg)
    model, hardware = settings.model(cfg.model), settings.choice("hardware", cfg.hardware)
    return Run(
        run_id=f"{started:%Y%m%dT%H%M%S}-native-{trace.name}",
        kind="simulated",
        track="calibrated" if cfg.profile else "shipped",
        system="native",
        version=VERSION,
        workload=trace.name,
        model=cfg.model,
        hardware=cfg.hardware,
        trace=trace,
        records=outcome.served.records,
        limits=_told(outcome.limits, parallel),
        started_at=started.isoformat(timespec="seconds"),
        wall_s=outcome.served.seconds,
        rate=trace.rate,
        slo=settings.slo(cfg),
        config={"model": model, "hardware": hardware, "simulator": {"settings": told, **outcome.config()}},
        provenance=provenance(),
    )


def _told(limits: Limits, parallel: Parallelism) -> EngineLimits:
    """The limits as a run has them."""
    names = {field.name for field in dataclasses.fields(EngineLimits)} & {field.name for field in dataclasses.fields(Limits)}
    return EngineLimits(
        kv_tokens=(limits.kv_blocks + NULL_BLOCKS) * limits.block_size,
        tensor_parallel=parallel.tensor,
        data_parallel=parallel.data,
        pipeline_parallel=parallel.pipeline,
        expert_parallel=parallel.expert,
        **{name: getattr(limits, name) for name in names},
    )
