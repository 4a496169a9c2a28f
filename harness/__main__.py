"""`python -m harness [overrides]`: one bench from Hydra's conf/bench.yaml. On a machine with an NVIDIA GPU it is a GPU's bench."""

import sys

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli
from harness.bench import Bench
from harness.console import say
from harness.monitor import gpu


def run(cfg: DictConfig) -> int:
    """Instantiate the bench and run it; return its exit code."""
    bench: Bench = instantiate(cfg, _convert_="all")
    return bench.run()


def main() -> None:
    """Entry point."""
    try:
        seen = gpu.look()
        chosen = gpu.choices(seen, sys.argv[1:], cli.known("hardware"))
    except ValueError as error:
        sys.exit(cli.fail(str(error)))
    if chosen and not any(word.startswith("-") for word in sys.argv[1:]):
        say(f"{seen.gpus[0].name}: {' '.join(chosen)} (name any of them to choose otherwise)", style="bold")
    cli.main("bench", run, chosen)


if __name__ == "__main__":
    main()
