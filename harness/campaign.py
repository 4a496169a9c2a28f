"""`python -m harness.campaign [campaign=h200] [until=540]`: many benches on a machine that may be had for minutes at a time.

Steps are measured in the order of their value (conf/campaign/*.yaml). Each one's result is one file of the folder `out`, there as soon as
the step ends and whole or not at all; a step whose file is there is finished and is not measured again, wherever the next call runs (an
empty file will do for a run that is kept elsewhere). One server serves the steps that follow each other on one engine. What fails is
said, with its server's log in `out`, and tried again by the next call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli
from harness.console import say
from harness.grid.plan import Group, Step, chosen, steps
from harness.grid.runner import Measuring
from harness.grid.task_order import timetable
from harness.grid.task_store import Archives
from harness.microbench.benchmarks import Benchmarks


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """groups: what to measure, in the order of value. common: Hydra overrides of conf/bench.yaml for all of them.

    limit: the longest that a step may be expected to take, s. start: about how long a server takes to start, s. most: size of a step's
    file, MiB, above which a line warns that it may not travel. engines: overrides by the name that groups give. operations: what is timed
    for the groups that want it.
    """

    groups: Sequence[Group]
    common: Sequence[str]
    limit: float
    start: float
    most: float
    engines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    operations: Benchmarks | None = None

    def steps(self, overrides: Sequence[str]) -> list[Step]:
        """All steps in the order of value. Raises ValueError for one that would take longer than the limit."""
        found = steps(self.groups, self.common, overrides, engines=self.engines, operations=self.operations)
        for step in found:
            if step.seconds > self.limit:
                what = f"campaign: step {step.name} would take about {step.seconds:.0f} s, more than {self.limit:g}"
                raise ValueError(f"{what}; shorten load.duration, profile.budget, capacity.duration or operations.budget")
        return found


def run(cfg: DictConfig) -> int:
    """One call of the campaign that conf/campaign.yaml and the command line describe."""
    plan: Campaign = instantiate(cfg.campaign, _convert_="all")
    found = plan.steps(list(cfg.overrides))
    wanted = chosen(found, cfg.steps)
    shelf = Archives(folder=Path(cfg.out), most=plan.most)
    if cfg.plan:
        print_plan([step for step in found if step.key in wanted], shelf, start=plan.start, until=cfg.until)
        return 0
    return Measuring(steps=found, wanted=wanted, shelf=shelf, start=plan.start, until=cfg.until, operations=plan.operations).run()


def print_plan(wanted: Sequence[Step], shelf: Archives, *, start: float, until: float | None) -> None:
    """What would be done when, one line per step; measures nothing. See timetable() for the arguments."""
    done = {step.key for step in wanted if shelf.has(step)}
    for step in wanted:
        if step.key in done:
            say(f"{'finished':>15}  {step.archive}")
    slots = timetable(wanted, done=done, start=start, until=until)
    for slot in slots:
        when = "not reached" if slot.begins is None or slot.ends is None else f"{_clock(slot.begins)} to {_clock(slot.ends)}"
        more = f", {start:.0f} s more for its server to start" if slot.starts else ""
        say(f"{when:>15}  {slot.step.archive}  engine {slot.step.engine}  about {slot.step.seconds:.0f} s{more}")
    last = max((slot.ends for slot in slots if slot.ends is not None), default=0.0)
    within = "" if until is None else f" of the {until:g} s given"
    reached = sum(slot.ends is not None for slot in slots)
    say(f"{reached} of {len(slots)} steps that are left would be done after about {last:.0f} s{within} (minutes:seconds above)")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"


if __name__ == "__main__":
    cli.main("campaign", run)
