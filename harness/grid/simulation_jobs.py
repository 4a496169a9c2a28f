"""A study's simulations as Hydra jobs, one per measured run and simulator.

The launcher that the command line names runs them; without one, all cores of this machine.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate

from harness import environment, simulate
from harness.command_line import launchers
from harness.console import say, stage, stages
from harness.engine import EngineError
from harness.simulation import Outcome, outcome_path
from results.record import simulated_id
from results.storage.place import Place, PlaceError
from results.storage.store import remove_simulated

Pending = dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]]  # measured runs and settings to the simulators that lack them
LOOK, AHEAD = 2.0, 64  # s between two looks at what the jobs have left, and how many jobs a look asks after: they end about in order


@dataclass(frozen=True, kw_only=True)
class SimulationJobs:
    """The simulations of a study that are still to be done, and the outcomes of all."""

    simulators: Sequence[str]  # their names in conf/simulator
    tracks: Sequence[str]  # that are asked for
    overrides: Sequence[str]  # of conf/bench.yaml
    own: Mapping[str, Sequence[str]]  # more of them for the jobs of one simulator, by its name
    runs: Place  # the folder of run folders
    retry: frozenset[str]  # 'unavailable' and 'simulated': jobs that ended so are done once more
    _failed: dict[str, str] = field(default_factory=dict)  # simulator to why its environment could not be had
    _keys: dict[str, str] = field(default_factory=dict)  # simulator to the hash of its settings

    def run(self, measured: Mapping[str, Sequence[str]]) -> None:
        """Simulate what is not simulated yet. A failure stops no other job; `outcomes` has it, and the older run of its id is removed.

        measured: the runs that each simulator is asked for. Those with settings of their own come last, one after another.
        """
        lacking: dict[str, tuple[str, ...]] = {}
        for simulator in self.simulators:
            runs = tuple(run_id for run_id in measured[simulator] if not self._done(run_id, simulator))
            if runs and self._environments(simulator):
                lacking[simulator] = runs
            else:
                self._forget(runs, simulator)
        together: Pending = defaultdict(list)
        for simulator in sorted(lacking, key=lambda name: name in self.own):
            together[lacking[simulator], tuple(self.own.get(simulator, ()))].append(simulator)
        for (runs, own), simulators in together.items():
            say(f"simulate {', '.join(simulators)} on {len(runs)} measured runs", style="bold")
            self._launch(runs, simulators, own)
            for simulator in simulators:
                self._forget(runs, simulator)

    def outcomes(self, run_id: str, simulators: Sequence[str], *, ran: bool) -> Mapping[str, Outcome]:
        """What became of a measured run on each of these simulators. ran: this call ran what was lacking, so that a job without an outcome
        is a failure.
        """
        found = {}
        for simulator in simulators:
            outcome = simulate.read_outcome(self.runs, run_id, simulator, self._key(simulator))
            reason = self._failed.get(simulator, "its job left no result (see what it said above)")
            if outcome is not None or ran:
                found[simulator] = outcome or Outcome(failures={simulator: reason})
        return found

    def _done(self, run_id: str, simulator: str) -> bool:
        outcome = simulate.read_outcome(self.runs, run_id, simulator, self._key(simulator))
        if outcome is None or outcome.failures or "simulated" in self.retry or (outcome.unavailable and "unavailable" in self.retry):
            return False
        return all((self.runs / run / "run.json").is_file() for run in outcome.runs.values())

    def _forget(self, runs: Sequence[str], simulator: str) -> None:
        """Remove the simulated runs of these measured ones for which no job with today's settings left an outcome."""
        if not runs:
            return
        system = instantiate(compose(config_name="bench", overrides=self._settings(simulator)).simulators[simulator]).system
        for run_id, track in product(runs, self.tracks):
            if simulate.read_outcome(self.runs, run_id, simulator, self._key(simulator)) is None:
                remove_simulated(self.runs, simulated_id(run_id, system, track))

    def _environments(self, simulator: str) -> bool:
        """Make the environments that a simulator needs, before its jobs do so all at once; False when one cannot be had."""
        parts = compose(config_name="bench", overrides=self._settings(simulator))
        for name in environment.named(instantiate(parts.simulators[simulator]).environment, instantiate(parts.calibration).environment):
            try:
                with stage("environment", name):
                    environment.ensure(name)
            except EngineError as error:
                self._failed[simulator] = str(error)
                return False
        return True

    def _launch(self, runs: Sequence[str], simulators: Sequence[str], own: Sequence[str]) -> None:
        """One Hydra multirun over runs and simulators."""
        hydra = HydraConfig.get()
        launcher = [o for o in hydra.overrides.hydra if o.startswith(("hydra/launcher=", "hydra.launcher.", "+hydra.launcher."))]
        if not any(o.startswith("hydra/launcher=") for o in launcher):
            launcher.append(f"hydra/launcher={launchers.usual()}")
        if any(o.startswith("hydra.launcher.ray.init.address=") for o in launcher):
            launcher.append(
                "+hydra.launcher.ray.init.object_store_memory=null"
            )  # the launcher's own; refused by a cluster that runs already
        folders = [f"--config-dir={s.path}" for s in hydra.runtime.config_sources if s.provider == "command-line"]
        sweep = [f"engine.run={','.join(runs)}", f"simulator={','.join(f'[{s}]' for s in simulators)}"]
        settings = ["engine=recorded", f"tracks=[{','.join(self.tracks)}]", *self.overrides, *own, *launcher]
        jobs = [outcome_path(self.runs, run_id, [simulator]) for run_id, simulator in product(runs, simulators)]
        for left in jobs:  # so that what is read afterwards is of these jobs
            left.unlink(missing_ok=True)
        with subprocess.Popen([sys.executable, "-m", "harness.simulate", "-m", *folders, *sweep, *settings]) as process:
            try:
                _watch(process, jobs)
            except BaseException:
                process.terminate()
                process.wait()
                raise

    def _settings(self, simulator: str) -> list[str]:
        return [f"simulator=[{simulator}]", f"tracks=[{','.join(self.tracks)}]", *self.overrides, *self.own.get(simulator, ())]

    def _key(self, simulator: str) -> str:
        if simulator not in self._keys:
            self._keys[simulator] = simulate.key(compose(config_name="bench", overrides=self._settings(simulator)))
        return self._keys[simulator]


def _watch(process: "subprocess.Popen[bytes]", jobs: Sequence[Place]) -> None:
    """Wait for the end, and say now and then how many of the jobs have left an outcome. jobs: the files that they leave."""
    progress, left = stages("simulation jobs"), list(jobs)
    progress(0, len(jobs))
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK)
        with suppress(PlaceError):  # the next look may reach the storage again, and the jobs say it themselves
            left = [job for job in left[:AHEAD] if not job.is_file()] + left[AHEAD:]
        progress(len(jobs) - len(left), len(jobs))
