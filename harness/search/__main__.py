"""`./plumbline search slo.ttft=0.5 slo.tpot=0.03`: the highest load that meets the SLO on a live engine, from Hydra's conf/search.yaml."""

import sys

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli
from harness.command_line import kinds
from harness.search.search import NO_ENGINE, Search

KINDS: kinds.Kinds = {  # of what stands in conf/search.yaml itself
    "hardware": (kinds.group, "names and values, as in conf/hardware"),
    "simulators": (kinds.group, "filled by simulator=[NAME]"),
    "telemetry_interval": (kinds.number, "a number of seconds"),
    "seed": (kinds.whole, "a whole number"),
}


def run(cfg: DictConfig) -> int:
    """Instantiate the search and run it; return its exit code. Raises ValueError for a part of another kind."""
    search: Search = instantiate(cfg, _convert_="all")
    kinds.check({name: getattr(search, name) for name in KINDS}, KINDS)
    return search.run()


def main() -> None:
    """Entry point."""
    if {"engine=none", "engine=null", "engine="} & {*sys.argv[1:]}:
        sys.exit(cli.fail(NO_ENGINE))
    cli.main_on_gpu("search", run)


if __name__ == "__main__":
    main()
