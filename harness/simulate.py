"""`python -m harness.simulate engine=recorded engine.run=RUN_ID simulator=[native]`: simulate a stored run; no database, no report.

This is one job of a study. A Hydra multirun is many jobs, which the launcher runs where it likes:
`python -m harness.simulate -m engine=recorded engine.run=A,B simulator=[vidur],[native] hydra/launcher=joblib`. A job writes its outcome
beside the runs, since the study that started it may get nothing else back from the launcher.
"""

import dataclasses
import json
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.console import say, stages
from harness.engines.recorded import Recorded
from harness.simulation import Outcome, Simulation, outcome_path
from results.identity import digest
from results.storage.durable import write_text
from results.storage.place import Place, place


def run(cfg: DictConfig) -> int:
    """Simulate; return the exit code: 0, or 1 when something failed."""
    parts = {
        field.name: instantiate(cfg[field.name], _convert_="all") for field in dataclasses.fields(Simulation) if field.name != "tracks"
    }
    simulation = Simulation(tracks=list(cfg.tracks), **parts)
    recorded = instantiate(cfg.engine, _convert_="all")
    if not isinstance(recorded, Recorded):
        raise ValueError("harness.simulate takes stored runs: give engine=recorded engine.run=RUN_ID")
    measured, profile = recorded.load()
    outcome = simulation.run(measured, profile, progress=stages(f"simulations of {measured.run_id}"))
    path = outcome_path(place(simulation.paths.runs), measured.run_id, cfg.simulators)
    write_text(path, json.dumps({"key": key(cfg), **dataclasses.asdict(outcome)}, indent=1) + "\n")
    for name, reason in outcome.failures.items():
        say(f"FAILED: {measured.run_id}, {name}: {reason}", style="bold red")
    return 1 if outcome.failures else 0


def key(cfg: DictConfig) -> str:
    """The hash of a job's settings: with the measured run they decide its outcome."""
    whole: Any = OmegaConf.to_container(cfg, resolve=True)
    return digest({part: whole[part] for part in ("simulators", "tracks", "calibration")})


def read_outcome(root: Place, run_id: str, simulator: str, settings: str) -> Outcome | None:
    """The outcome of the job that had these settings (`key` of them); None: there was none, so the job is still to be done."""
    path = outcome_path(root, run_id, [simulator])
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if told.pop("key") != settings:
        return None
    return Outcome(**told)


if __name__ == "__main__":
    cli.main("bench", run, verb="simulate", measures=False)
