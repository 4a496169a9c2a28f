"""`python -m harness.microbench engine=vllm_cpu`: what the engine's API server takes of the CPU, as lines for conf/simulator/native.yaml.

Of conf/bench.yaml it takes engine, model and paths. A small model will do: the CPU time of a server does not depend on the engine's.
"""

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli
from harness.engines.prose_model import ProseModel, tokenizer
from harness.microbench.frontend import BURSTS, BurstCost, ServerCost, front_processes, idle_shares, observe
from harness.microbench.prose import APIS, ProseSender
from results.project.folder import ROOT

IDLE = 3.0  # s for which the idle server is watched
REPEATS = 3  # of every burst; one before them does not count


def run(cfg: DictConfig) -> int:
    """Start the engine, send, print. Raises EngineError."""
    engine: Any = instantiate(cfg.engine, _convert_="all")
    model, paths = instantiate(cfg.model, _convert_="all"), instantiate(cfg.paths, _convert_="all")
    words = tokenizer(model.vocab_size)
    talking = ProseModel(name=f"{model.name}-prose", config={**model.config, "vocab_size": words.get_vocab_size()})
    with engine.serve(talking.folder(ROOT / paths.models), ROOT / paths.logs / "frontend.log") as endpoint:
        names = front_processes(endpoint.core_pids)
        idle = idle_shares(names, IDLE)
        for api in APIS:
            sender = ProseSender(endpoint, words, api)
            seen: list[BurstCost] = [observe(burst, sender, names, idle) for _ in range(1 + REPEATS) for burst in BURSTS]
            for process in sorted(set(names.values())):
                print(f"{api} {process}: {line(ServerCost.fit(seen[len(BURSTS) :], process))}", flush=True)
    return 0


def line(cost: ServerCost) -> str:
    """As in conf/simulator/native.yaml; the residual as a comment."""
    parts = ", ".join(f"{name}: {getattr(cost, name):.3g}" for name in ("request", "prompt_token", "step", "token"))
    return f"{{ {parts} }} # s of CPU; median residual {cost.residual:.1%}"


if __name__ == "__main__":
    cli.main("bench", run)
