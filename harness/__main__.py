"""`python -m harness [overrides]`: one bench from Hydra's conf/bench.yaml. On a machine with an NVIDIA GPU it is a GPU's bench."""

from typing import get_args

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli
from harness.bench import Bench
from harness.command_line import kinds
from harness.settings import Load
from results.record import Track

KINDS: kinds.Kinds = {  # of what stands in conf/bench.yaml itself
    "load": (lambda value: isinstance(value, Load), "a group of settings: give one of them, e.g. load.rho=0.8"),
    "hardware": (kinds.group, "names and values, as in conf/hardware"),
    "simulators": (kinds.group, "filled by simulator=[NAME,...]"),
    "tracks": (kinds.some_of(get_args(Track)), f"a list of {', '.join(get_args(Track))}"),
    "telemetry_interval": (kinds.number, "a number of seconds"),
    "seed": (kinds.whole, "a whole number"),
    "repeat": (kinds.whole, "a whole number"),
}


def run(cfg: DictConfig) -> int:
    """Instantiate the bench and run it; return its exit code. Raises ValueError for a part of another kind."""
    bench: Bench = instantiate(cfg, _convert_="all")
    kinds.check({name: getattr(bench, name) for name in KINDS}, KINDS)
    return bench.run()


def main() -> None:
    """Entry point."""
    cli.main_on_gpu("bench", run)


if __name__ == "__main__":
    main()
