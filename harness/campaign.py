"""`python -m harness.campaign [campaign=h200] [until=540]`: many benches on a machine that may be had for minutes at a time.

Steps are measured in the order of their value (conf/campaign/*.yaml). Each one's result is one file of the folder `out`, there as soon as
the step ends and whole or not at all; a step whose file is there is finished and is not measured again, wherever the next call runs (an
empty file will do for a run that is kept elsewhere). One server serves the steps that follow each other on one engine. What fails is
said, with its server's log in `out`, and tried again by the next call.
"""

import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness import cli, environment
from harness.cell import Cell, store
from harness.console import say, stage
from harness.plan import Group, Step, steps
from harness.system import Endpoint, EngineError
from results.archive import extract, pack
from results.profile import Profile

MIB = 1 << 20
CELL = tuple(Cell.__dataclass_fields__)


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


@dataclass(kw_only=True)
class Call:
    """One call of a campaign. steps: all; wanted: keys of those to measure now.

    until: s from `began` (a time.monotonic() value) by when the last step should have ended; None: no end.
    """

    plan: Campaign
    steps: Sequence[Step]
    wanted: frozenset[str]
    out: Path
    until: float | None
    began: float = field(default_factory=time.monotonic)
    failed: dict[str, str] = field(default_factory=dict)  # step key to reason

    def run(self) -> int:
        """Measure what is left, as far as the time reaches; return the exit code: 0, or 1 when a step failed."""
        self.out.mkdir(parents=True, exist_ok=True)
        with _alone(self.out):
            for leftover in self.out.glob(".*.tmp"):
                leftover.unlink()
            self._say_state()
            self._preflight()
            while (step := self._next(serving=None)) is not None:
                self._visit(step)
            self._say_state()
        names = {step.key: step.name for step in self.steps}
        for reason in dict.fromkeys(self.failed.values()):
            say(f"FAILED: {', '.join(names[key] for key, why in self.failed.items() if why == reason)}: {reason}", style="bold red")
        return 1 if self.failed else 0

    def finished(self, step: Step) -> bool:
        """Whether its result is there."""
        return (self.out / step.archive).is_file()

    def left(self) -> list[Step]:
        """The wanted steps that are not finished."""
        return [step for step in self.steps if step.key in self.wanted and not self.finished(step)]

    def _preflight(self) -> None:
        """See before a server is started for it that a setting is wrong or missing, or a workload's file."""
        reasons: dict[str, str | None] = {}
        for step in self.left():
            parts = str((step.settings.engine, step.settings.workload))
            if parts not in reasons:
                reasons[parts] = None
                try:
                    _cell(step).preflight()
                except (ValueError, InstantiationException, OmegaConfBaseException) as error:
                    reasons[parts] = cli.cause(error)
            if (reason := reasons[parts]) is not None:
                self.failed[step.key] = " ".join(reason.split())

    def _next(self, serving: str | None) -> Step | None:
        """The first step that is left, can be done and fits in the time. serving: the engine that is running."""
        done = {step.key for step in self.steps if self.finished(step)}
        for step in self.left():
            if step.key in self.failed or not done.issuperset(step.needs):
                continue
            if any(key in self.wanted and key not in done and key not in self.failed for key in step.after):
                continue
            start = 0.0 if step.engine == serving else self.plan.start
            if self.until is None or time.monotonic() - self.began + start + step.seconds <= self.until:
                return step
        return None

    def _visit(self, first: Step) -> None:
        """Start the server of a step, do it and the steps after it that are the same engine's, stop the server."""
        log = self.out / f".{first.engine}.server.log"
        step: Step | None = first
        ready: int | None = None  # bytes of the log when the server was
        try:
            cell = _cell(first)
            if cell.engine.environment is not None:
                with stage("environment", cell.engine.environment):
                    environment.ensure(cell.engine.environment)
            facts = cell.facts()
            with cell.serving(log) as endpoint:
                ready = log.stat().st_size
                while step is not None and step.engine == first.engine:
                    self._do(step, endpoint, log, ready, facts)
                    step = self._next(serving=first.engine)
        except (RuntimeError, ValueError) as error:
            if ready is None:  # no server: nothing of its engine in this call
                lost = [other for other in self.left() if other.engine == first.engine]
            else:
                lost = [other for other in self.left() if other is step]
            self.failed |= {other.key: _one_line(error) for other in lost}
            self._keep_log(step or first, log, _one_line(error))
        finally:
            log.unlink(missing_ok=True)

    def _do(self, step: Step, endpoint: Endpoint, log: Path, ready: int, facts: dict[str, Any]) -> None:
        """Measure one step and keep its result. A run keeps the log's first `ready` bytes and its own part."""
        say(f"step {step.name} ({step.key})", style="bold")
        begin = log.stat().st_size
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            content = Path(scratch) / "content"
            content.mkdir()
            cell = _cell(step)
            if step.kind == "profile":
                cell.find_profile(endpoint).write(content / "profile")
            elif step.kind == "capacity":
                (content / "capacity.json").write_text(json.dumps(cell.find_capacity(endpoint), indent=1) + "\n")
            else:
                self._replay(step, cell, endpoint, log, (ready, begin), facts, content)
            archive = pack(content, self.out / step.archive)
        _failure_log(self.out, step).unlink(missing_ok=True)
        size = archive.stat().st_size / MIB
        if size > self.plan.most:
            say(f"  {archive.name} has {size:.0f} MiB, more than {self.plan.most:g}: split it where files must be small", style="yellow")

    def _replay(
        self, step: Step, cell: Cell, endpoint: Endpoint, log: Path, parts: tuple[int, int], facts: dict[str, Any], content: Path
    ) -> None:
        results = {other.key: other for other in self.steps}
        capacity = next((self._capacity(results[key]) for key in step.needs), None)
        profile = next((self._profile(results[key]) for key in step.after if self.finished(results[key])), None)
        replayed = cell.replay(endpoint, capacity)
        run = cell.run(replayed, endpoint, log, capacity=capacity, profile=profile, facts=facts)
        own = content.with_name("server.log")
        text = log.read_bytes()
        own.write_bytes(text[: parts[0]] + text[parts[1] :])
        store(content, run, profile, own)
        say(f"  {run.run_id}: {'valid' if run.valid else f'INVALID: {run.invalid_reason}'}", style="" if run.valid else "bold red")

    def _capacity(self, step: Step) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            found: dict[str, Any] = json.loads((extract(self.out / step.archive, Path(scratch)) / "capacity.json").read_text())
        return found

    def _profile(self, step: Step) -> Profile:
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            return Profile.read(extract(self.out / step.archive, Path(scratch)) / "profile")

    def _keep_log(self, step: Step, log: Path, reason: str) -> None:
        """The server's log beside the results, with the reason as its last line."""
        kept = _failure_log(self.out, step)
        if log.is_file():
            shutil.copyfile(log, kept)
        with kept.open("a") as out:
            out.write(f"\nplumbline, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {reason}\n")

    def _say_state(self) -> None:
        left = self.left()
        minutes = sum(step.seconds for step in left) / 60
        say(f"{self.out}: {len(self.wanted) - len(left)} of {len(self.wanted)} steps finished, {len(left)} left (about {minutes:.0f} min)")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder against a second campaign; the kernel lets go of it when the process dies."""
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EngineError(f"{out}: another campaign writes here; wait for it, or give another folder with out=FOLDER") from error
        yield


def _failure_log(out: Path, step: Step) -> Path:
    return out / f"{step.name}-{step.key}.failed.log"


def _cell(step: Step) -> Cell:
    values = {name: step.settings[name] for name in CELL}
    parts = {name: instantiate(v, _convert_="all") if isinstance(v, DictConfig) else v for name, v in values.items()}
    return Cell(**parts)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def run(cfg: DictConfig) -> int:
    """One call of the campaign that conf/campaign.yaml and the command line describe."""
    plan: Campaign = instantiate(cfg.campaign, _convert_="all")
    found = plan.steps(list(cfg.overrides))
    wanted = [step for step in found if not cfg.steps or any(fnmatch(step.name, pattern) for pattern in cfg.steps)]
    if not wanted:
        raise ValueError(f"steps={list(cfg.steps)}: no step is called so; known: {', '.join(step.name for step in found)}")
    if cfg.show:
        for step in wanted:
            state = "finished" if (Path(cfg.out) / step.archive).is_file() else f"about {step.seconds:.0f} s"
            say(f"{step.archive}  engine {step.engine}  {state}")
        return 0
    return Call(plan=plan, steps=found, wanted=frozenset(step.key for step in wanted), out=Path(cfg.out), until=cfg.until).run()


if __name__ == "__main__":
    cli.main("campaign", run)
