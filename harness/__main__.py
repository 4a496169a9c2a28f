"""`python -m harness [overrides]`: one bench from Hydra's conf/bench.yaml. On a machine with an NVIDIA GPU it is a GPU's bench."""

import sys
from collections.abc import Mapping, Sequence

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli, usage
from harness.bench import Bench
from harness.console import say
from harness.monitor import gpu
from harness.settings import Load

KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {  # of what stands in conf/bench.yaml itself; in words
    "load": (Load, "a group of settings: give one of them, e.g. load.rho=0.8"),
    "hardware": (Mapping, "names and values, as in conf/hardware"),
    "simulators": (Mapping, "filled by simulator=[NAME,...]"),
    "tracks": (Sequence, "a list, e.g. tracks=[shipped,matched]"),
    "telemetry_interval": ((int, float), "a number of seconds"),
    "seed": (int, "a whole number"),
    "repeat": (int, "a whole number"),
}


def run(cfg: DictConfig) -> int:
    """Instantiate the bench and run it; return its exit code. Raises ValueError for a part of another kind."""
    bench: Bench = instantiate(cfg, _convert_="all")
    for name, (kind, words) in KINDS.items():
        value = getattr(bench, name)
        if not isinstance(value, kind) or isinstance(value, str | bool):
            raise ValueError(f"{name} must be {words}, got {value!r}")
    return bench.run()


def main() -> None:
    """Entry point."""
    if usage.wanted(sys.argv[1:]):
        cli.main("bench", run)
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
