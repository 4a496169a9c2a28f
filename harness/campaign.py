"""`python -m harness.campaign [campaign=h200] [until=540]`: many benches on a machine that may be had for minutes at a time.

Tasks are measured in the order of their value (conf/campaign/*.yaml). The result of a task is one file in the folder `out`. The file
appears whole when the task ends. A task whose file is there is finished and is not measured again, wherever the next call runs (an
empty file will do for a run that is kept elsewhere). One server serves the tasks that follow each other on one engine. A task that fails
is reported, its server's log is kept in `out`, and the next call tries it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from harness import cli
from harness.command_line import kinds
from harness.console import say
from harness.grid.plan import FORMER_NAMES, Group, Task, chosen, tasks
from harness.grid.runner import Runner
from harness.grid.task_order import timetable
from harness.grid.task_store import TaskArchives
from harness.microbench.benchmarks import Benchmarks

KINDS: kinds.Kinds = {  # of what stands in conf/campaign.yaml itself
    "until": (kinds.seconds_or_none, "a number of seconds, or null: to the end"),
    "out": (lambda value: isinstance(value, str), "a folder"),
    "tasks": (kinds.words, "a list of names or patterns, e.g. tasks=['vllm-*']"),
    "overrides": (kinds.words, "a list of settings, e.g. overrides=['load.duration=30']"),
    "plan": (kinds.flag, "true or false"),
}


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """groups: what to measure, in the order of value. common: Hydra overrides of conf/bench.yaml for all of them.

    limit: the longest that a task may be expected to take, s. start: about how long a server takes to start, s. most: size of a task's
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

    def tasks(self, overrides: Sequence[str]) -> list[Task]:
        """All tasks in the order of value. Raises ValueError for one that would take longer than the limit."""
        found = tasks(self.groups, self.common, overrides, engines=self.engines, operations=self.operations)
        for task in found:
            if task.seconds > self.limit:
                what = f"campaign: task {task.name} would take about {task.seconds:.0f} s, more than {self.limit:g}"
                raise ValueError(f"{what}; shorten load.duration, profile.budget, capacity.duration or operations.budget")
        return found


def run(cfg: DictConfig) -> int:
    """One call of the campaign that conf/campaign.yaml and the command line describe."""
    kinds.check(cfg, KINDS)
    plan: Campaign = instantiate(cfg.campaign, _convert_="all")
    found = plan.tasks(list(cfg.overrides))
    wanted = chosen(found, cfg.tasks)
    store = TaskArchives(folder=Path(cfg.out), most=plan.most)
    if cfg.plan:
        print_plan([task for task in found if task.key in wanted], store, start=plan.start, until=cfg.until)
        return 0
    return Runner(tasks=found, wanted=wanted, store=store, start=plan.start, until=cfg.until, operations=plan.operations).run()


def print_plan(wanted: Sequence[Task], store: TaskArchives, *, start: float, until: float | None) -> None:
    """Print which tasks would be done when, one line each; measure nothing. See timetable() for the arguments."""
    done = {task.key for task in wanted if store.has(task)}
    for task in wanted:
        if task.key in done:
            say(f"{'finished':>15}  {task.archive}")
    slots = timetable(wanted, done=done, start=start, until=until)
    for slot in slots:
        when = "not reached" if slot.begins is None or slot.ends is None else f"{_clock(slot.begins)} to {_clock(slot.ends)}"
        more = f", {start:.0f} s more for its server to start" if slot.starts else ""
        say(f"{when:>15}  {slot.task.archive}  engine {slot.task.engine}  about {slot.task.seconds:.0f} s{more}")
    last = max((slot.ends for slot in slots if slot.ends is not None), default=0.0)
    within = "" if until is None else f" of the {until:g} s given"
    reached = [slot for slot in slots if slot.ends is not None]
    up = sum(slot.task.seconds for slot in reached)
    say(
        f"{len(reached)} of {len(slots)} tasks that are left would be done after about {last:.0f} s{within} (minutes:seconds above), "
        f"of which servers are up for {up:.0f} s"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"


if __name__ == "__main__":
    cli.main("campaign", run, renamed=FORMER_NAMES)
