"""Runs inside Splitwise-sim's own environment: its main path, the time of every token beside it, and its times for single steps.

Usage: PYTHONPATH=CHECKOUT python -P driver.py JOB.json   (in an empty folder, which its own files go to)

JOB.json: checkout, settings (laid over its own config files), probes (steps as {tokens, batch}), out (folder for ours).
Writes out/tokens.npz: request, time (s, of every token); and for every block of equal steps its end (s), step (s), steps, prompt_tokens,
decodes. Writes out/report.json: predicted (s per probe), simulate_s (of its run_simulation). Nothing of it is edited:
`ORCAInstance.complete_iteration` is called as it is, after a look at what is about to complete.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra.utils
import numpy as np
from omegaconf import OmegaConf

JOB = json.loads(Path(sys.argv[1]).read_text())
# its modules ask for this when they are imported; only Hydra's command line would answer them
hydra.utils.get_original_cwd = lambda: JOB["checkout"]

import run  # type: ignore[import-not-found]  # noqa: E402
from instance import ORCAInstance  # type: ignore[import-not-found]  # noqa: E402
from performance_model import get_iteration_duration  # type: ignore[import-not-found]  # noqa: E402
from request import GenerativeLLMRequest, RequestType  # type: ignore[import-not-found]  # noqa: E402
from simulator import clock  # type: ignore[import-not-found]  # noqa: E402

GROUPS = {  # of its configs/: the file that its own defaults take, or the paper's where they are a stub (a constant time model)
    "hardware_repo": "hardware_repo/default",
    "model_repo": "model_repo/default",
    "orchestrator_repo": "orchestrator_repo/default",
    "performance_model": "performance_model/db",
    "power_model": "power_model/constant",
    "arbiter": "arbiter/noop",
    "applications": "applications/solo",
}


class Tokens:
    """Every token's time, and every block of steps, as they complete."""

    def __init__(self) -> None:
        self.tokens: list[tuple[int, float]] = []
        self.blocks: list[tuple[float, float, int, int, int]] = []
        self.instance: Any = None  # any instance: all predict the same

    def watch(self, complete: Callable[[Any], None]) -> Callable[[Any], None]:
        """`complete_iteration`, with a look at the batch before it."""

        def complete_iteration(instance: Any) -> None:
            self._look(instance)
            complete(instance)

        return complete_iteration

    def _look(self, instance: Any) -> None:
        end, step, steps = clock(), instance.iteration_duration, int(instance.num_contiguous_iterations)
        for task in instance.prompt_tasks_in_batch:
            self.tokens.append((int(task.request.request_id), end))
        for task in instance.token_tasks_in_batch:
            self.tokens.extend((int(task.request.request_id), end - (steps - 1 - i) * step) for i in range(steps))
        prompt_tokens = sum(int(task.prompt_size) for task in instance.prompt_tasks_in_batch)
        self.blocks.append((end, step, steps, prompt_tokens, len(instance.token_tasks_in_batch)))
        self.instance = instance

    def write(self, path: Path) -> None:
        """tokens.npz."""
        request, time = zip(*self.tokens, strict=True) if self.tokens else ((), ())
        names = ("end", "step", "steps", "prompt_tokens", "decodes")
        columns = np.array(self.blocks, float).reshape(-1, len(names)).T
        arrays: dict[str, Any] = dict(zip(names, columns, strict=True))
        np.savez(path, request=np.array(request, int), time=np.array(time, float), **arrays)


def configure(job: Mapping[str, Any]) -> Any:
    """Its own config files, with the job's settings laid over them (a list replaces a list)."""
    configs = Path(job["checkout"]) / "configs"
    own = {group: OmegaConf.load(configs / f"{file}.yaml") for group, file in GROUPS.items()}
    router = {"_target_": "router.NoOpRouter", "overheads": OmegaConf.load(configs / "router" / "overheads" / "zero.yaml")}
    start = OmegaConf.load(configs / "start_state" / f"{job['start_state']}.yaml")
    base = OmegaConf.create({"seed": 0, "debug": False, "router": router, "start_state": start, **own})
    application = OmegaConf.merge(base.applications[0], job["application"])
    return OmegaConf.merge(base, job["settings"], {"applications": [application]})


def predict(instance: Any, probe: Mapping[str, int]) -> float:
    """Seconds that it gives a step of one prompt of `tokens` (if any) and `batch` decodes (if any)."""

    def task(node: int, prompt: int) -> Any:
        asked = GenerativeLLMRequest(
            request_id=0, application_id=0, request_type=RequestType.GENERATIVE_LLM, prompt_size=prompt, token_size=2
        )
        return asked.get_node(node)

    prompts = [task(0, probe["tokens"])] if probe["tokens"] else []
    return float(get_iteration_duration(batch=[*prompts, *(task(1, 1) for _ in range(probe["batch"]))], instance=instance))


def main() -> None:
    """Its own run_simulation, watched."""
    random.seed(0)
    tokens = Tokens()
    ORCAInstance.complete_iteration = tokens.watch(ORCAInstance.complete_iteration)
    start = time.monotonic()
    run.run_simulation(configure(JOB))
    took = time.monotonic() - start
    out = Path(JOB["out"])
    tokens.write(out / "tokens.npz")
    predicted = [predict(tokens.instance, probe) for probe in JOB["probes"]]
    (out / "report.json").write_text(json.dumps({"predicted": predicted, "simulate_s": took}))


if __name__ == "__main__":
    main()
