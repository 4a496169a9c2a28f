"""`python -m harness.campaign [campaign=h200] [until=540]`: many benches on a machine that may be had for minutes at a time.

Steps are measured in the order of their value (conf/campaign/*.yaml). Each one's result is one file of the folder `out`, there as soon as
the step ends and whole or not at all; a step whose file is there is finished and is not measured again, wherever the next call runs (an
empty file will do for a run that is kept elsewhere). One server serves the steps that follow each other on one engine. What fails is
said, with its server's log in `out`, and tried again by the next call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli
from harness.console import say
from harness.measuring import Measuring
from harness.plan import Group, Step, chosen, steps
from harness.shelf import Archives


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """groups: what to measure, in the order of value. common: Hydra overrides of conf/bench.yaml for all of them.

    limit: the longest that a step may be expected to take, s. start: about how long a server takes to start, s. most: size of a step's
    file, MiB, above which a line warns that it may not travel.
    """

    groups: Sequence[Group]
    common: Sequence[str]
    limit: float
    start: float
    most: float

    def steps(self, overrides: Sequence[str]) -> list[Step]:
        """All steps in the order of value. Raises ValueError for one that would take longer than the limit."""
        found = steps(self.groups, self.common, overrides)
        for step in found:
            if step.seconds > self.limit:
                what = f"campaign: step {step.name} would take about {step.seconds:.0f} s, more than {self.limit:g}"
                raise ValueError(f"{what}; shorten load.duration, profile.budget or capacity.duration")
        return found


def run(cfg: DictConfig) -> int:
    """One call of the campaign that conf/campaign.yaml and the command line describe."""
    plan: Campaign = instantiate(cfg.campaign, _convert_="all")
    found = plan.steps(list(cfg.overrides))
    wanted = chosen(found, cfg.steps)
    shelf = Archives(folder=Path(cfg.out), most=plan.most)
    if cfg.show:
        for step in found:
            if step.key in wanted:
                say(f"{step.archive}  engine {step.engine}  {'finished' if shelf.has(step) else f'about {step.seconds:.0f} s'}")
        return 0
    return Measuring(steps=found, wanted=wanted, shelf=shelf, start=plan.start, until=cfg.until).run()


if __name__ == "__main__":
    cli.main("campaign", run)
