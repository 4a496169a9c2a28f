"""One cell of a study on a real engine: start it, find its capacity and its step times, replay the workload, make the Run.

The bench (bench.py) and the campaign (campaign.py) are both made of these pieces. Nothing here needs a database or a plot, so that a
measuring machine may lack what makes them.
"""

import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness import cli, provenance
from harness.console import say, stage
from harness.engine import Endpoint, Engine, LocalEngine
from harness.gates import FailedGate, Gates, invalid_reason
from harness.monitor import gpu
from harness.monitor.contention import Contention
from harness.monitor.telemetry import Telemetry
from harness.probing.capacity import Capacity
from harness.probing.profiler import Profiler, unfinished
from harness.probing.rehearsal import pinned, rehearse, remarks
from harness.probing.repeatability import unsteady
from harness.probing.steady_state import LEAST, mean_in_flight, steady_window
from harness.protocols import ServedModel, Workload
from harness.replay.client import Client, Replay
from harness.replay.protocols.completions import Completions
from harness.settings import Load, Paths, check_price
from results.profile import REPEATABILITY, Profile
from results.record import SLO, Run
from results.storage.place import Place
from results.storage.store import write_run
from workloads.prompts import token_ids
from workloads.trace import Trace

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

CPU = "cpu"  # conf/hardware of an engine that has no GPU
WARMUP_SEED, CAPACITY_SEED = 1_000_003, 2_000_003  # offsets: what warms up or calibrates is never the workload that is scored
RETRY_SEED = 3_000_017  # offset of the prompts of each further try: the cache of a server that cannot be emptied may hold those before
UNSETTLED = FailedGate(f"the closed loop shows no steady state of {LEAST} requests or more: raise load.duration, or load.num_requests")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A trace replayed on an engine, and judged by the gates."""

    trace: Trace  # what was asked
    replay: Replay  # what came back
    telemetry: "pd.DataFrame"  # long form: time, name, value
    started: datetime  # when the run began, UTC
    rate: float | None  # offered requests/s; None: a closed loop offers none
    rho: float | None  # of the capacity, where known
    window: tuple[float, float]  # of the measurement, s since the trace's start
    failed: tuple[FailedGate, ...]  # gates that it did not pass
    core_wait: float | None = None  # share of the time for which others had the core that the engine needed; None: not known
    pinned: Mapping[str, Any] = field(default_factory=dict)  # how the lengths of text prompts were pinned; JSON-able; {}: there are none
    in_flight: float | None = None  # requests in flight on average over the window of a closed loop; None: an open loop, or no window


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One engine, one workload, one load. The fields are those of conf/bench.yaml."""

    engine: Engine  # what is measured
    model: ServedModel  # what it serves
    hardware: Mapping[str, Any]  # on what: as in conf/hardware
    workload: Workload  # what makes the requests
    load: Load  # how much of it is offered
    slo: SLO  # limits of a good request
    client: Client  # how the requests are sent
    gates: Gates  # what a run must pass to be VALID
    capacity: Capacity  # how the engine's capacity is found
    profile: Profiler  # how the engine's step times are found
    paths: Paths  # where things go
    telemetry_interval: float  # s between two polls of the metrics and the GPUs; 0: none
    seed: int  # of the requests and their prompts
    repeat: int  # number of this repeat of the same measurement

    def preflight(self) -> None:
        """Find out now, not after minutes of measuring, that the workload's file is missing or malformed, or the GPU another one than said,
        or its price none, or a closed loop asked of a workload with sessions, or more client processes than CPUs, or its key not there.

        Raises ValueError, EngineError.
        """
        check_price(self.hardware)
        if self.client.processes > (cpus := len(os.sched_getaffinity(0))):
            raise ValueError(f"client.processes={self.client.processes}: each is pinned to a CPU, and here are {cpus}; give at most that")
        self.client.check_environment()
        hardware = str(self.hardware["name"])
        if hardware != CPU and self.engine.computes_on != "elsewhere":
            wrong = gpu.mislabelled(gpu.look(), hardware, cli.known("hardware"))
            if wrong is not None:
                raise ValueError(wrong)
        limit = self.model.longest
        asked = self.workload.trace(rate=1.0, num_requests=self.load.num_requests, seed=self.seed, max_model_len=limit)
        if self.load.concurrency is not None and any(request.after for request in asked):
            raise ValueError(f"load.concurrency: workload {self.workload.name} has sessions, which say themselves what waits for what")

    @contextmanager
    def serving(self, log: Path) -> Iterator[Endpoint]:
        """The engine started and warmed up; this process, the client, keeps off its cores meanwhile. log: of the server."""
        with ExitStack() as stack:
            with stage("engine", "start, and wait until it is ready"):
                endpoint = stack.enter_context(self.engine.serve(self.model.folder(Path(self.paths.models)), log))
            stack.enter_context(_away_from(endpoint.details.get("core_cpus") or []))
            self._warm_up(endpoint)
            yield endpoint

    def find_capacity(self, endpoint: Endpoint) -> dict[str, Any]:
        """The rate (requests/s) that the engine sustains, given or measured, and how it came about; JSON-able."""
        if self.load.capacity is not None:
            return {"rate": self.load.capacity, "source": "given as load.capacity"}
        ready = self._rehearsed(endpoint)
        with stage("capacity", "requests/s that it can sustain") as progress, Contention(endpoint.core_pids) as contention:
            result = self.capacity.measure(
                ready,
                self.client,
                self.workload,
                **self._ids(ready),
                seed=self.seed + CAPACITY_SEED,
                progress=progress,
            )
        say(f"  capacity {result.rate:.2f} requests/s [{result.low:.2f}, {result.high:.2f}]", style="dim")
        self._warn(contention.share, "the capacity is too low by about as much")
        return dataclasses.asdict(result) | {"core_wait": contention.share}

    def find_profile(self, endpoint: Endpoint) -> Profile:
        """The engine's step times; of one engine, where there are several behind the endpoint. The protocol is no matter of theirs: token
        ids go to /v1/completions, where prompts can be of any length.
        """
        client = dataclasses.replace(self.client, protocol=Completions(), adapters=None, extra_body=None, ignore_eos=True, processes=1)
        one = dataclasses.replace(endpoint, url=endpoint.instance_url or endpoint.url)
        with stage("profile", "step times") as progress:
            profile = self.profile.measure(
                one,
                client,
                model=self.model.config,
                hardware=str(self.hardware["name"]),
                vocab_size=self.model.vocab_size,
                first_id=self.model.first_id,
                progress=progress,
            )
        self._warn(profile.provenance["core_wait"], "the step times are uncertain")
        for line in filter(None, (unfinished(profile), unsteady(profile))):
            say(f"  {line}", style="yellow")
        return profile

    def _warn(self, core_wait: float | None, what: str) -> None:
        """Say it when others had the engine's core for longer than a run's gate would let pass."""
        if core_wait is not None and core_wait > self.gates.max_core_wait:
            say(f"  others had the engine's core for {core_wait:.1%} of that time: {what}", style="yellow")

    def replay(self, endpoint: Endpoint, capacity: Mapping[str, Any] | None, *, attempt: int = 0) -> Replayed:
        """Replay the workload on an engine whose prefix cache is emptied first, and watch the engine and its GPUs meanwhile.

        attempt: how many replays came before it; each has the same requests, of the same lengths, but prompts of its own.
        """
        import pandas as pd  # here: it takes long to import

        started = datetime.now(UTC)
        endpoint = self._rehearsed(endpoint)
        rate, rho = self.load.offered(capacity["rate"] if capacity else None)
        asked, loop = self._asked(endpoint, capacity), self.load.loop()
        for line in remarks(self.client, endpoint, asked):
            say(f"  {line}", style="yellow")
        prompts = self._prompts(asked, self.seed + attempt * RETRY_SEED, endpoint)
        gpus = self._gpus(endpoint)
        self.engine.reset_cache(endpoint)
        interval = self.telemetry_interval
        with stage("replay", self._in_words(asked)) as progress:
            with (
                Telemetry(f"{endpoint.url}/metrics", interval, self.engine.sample) as telemetry,
                gpu.Watch(gpus, interval) as watch,
                Contention(endpoint.core_pids) as contention,
            ):
                release = loop.over(len(asked)) if loop else None
                replay = self.client.replay(endpoint, asked, prompts, release=release, progress=progress)
            seen = pd.concat([telemetry.frame(replay.epoch), watch.frame(replay.epoch)], ignore_index=True)
        steady = steady_window(replay.records, loop.concurrency) if loop else None
        window, wait = steady or (0.0, replay.trace.duration), contention.share
        shared = endpoint.text_prompts.overhead if endpoint.text_prompts else 0
        failed = self.gates.check(replay.trace, replay, window=window, cpus=1, expect_cold=True, shared_by_all=shared, core_wait=wait)
        return Replayed(
            trace=replay.trace,
            replay=replay,
            telemetry=seen,
            started=started,
            rate=rate,
            rho=rho,
            window=window,
            failed=failed if loop is None or steady else (*failed, UNSETTLED),
            core_wait=wait,
            pinned=pinned(endpoint, asked),
            in_flight=mean_in_flight(replay.records, replay.ended, steady) if steady else None,
        )

    def _asked(self, endpoint: Endpoint, capacity: Mapping[str, Any] | None) -> Trace:
        """The requests. Those of a closed loop have no arrivals, and are as many as it can come to at the most."""
        known = capacity["rate"] if capacity else None
        rate, _ = self.load.offered(known)
        if rate is None:
            return self._trace(math.inf, num_requests=self.load.most(known), seed=self.seed, endpoint=endpoint)
        return self._trace(rate, num_requests=self.load.count(rate), seed=self.seed, endpoint=endpoint)

    def _in_words(self, asked: Trace) -> str:
        if self.load.concurrency is None:
            return f"{len(asked)} requests in {asked.duration:.0f} s"
        ends = f"{len(asked)} requests" if self.load.num_requests else f"{self.load.duration:.0f} s"
        return f"{self.load.concurrency} in flight, {ends}"

    def run(
        self,
        done: Replayed,
        endpoint: Endpoint,
        log: Path,
        *,
        capacity: Mapping[str, Any] | None,
        profile: Profile | None,
        facts: Mapping[str, Any],
        earlier: Mapping[str, str] = MappingProxyType({}),
    ) -> Run:
        """The Run of a replay. facts: its provenance. earlier: the runs that this one is another try of, and why each is INVALID."""
        import pandas as pd  # here: it takes long to import

        reason, more = invalid_reason(done.failed), f"-try{len(earlier) + 1}" if earlier else ""
        load = f"rho{done.rho:.2f}" if done.rho else f"rate{done.rate:.3g}" if done.rate else f"c{self.load.concurrency}"
        return Run(
            run_id=f"{done.started:%Y%m%dT%H%M%S}-{endpoint.system}-{self.workload.name}-{load}{more}",
            kind="measured",
            system=endpoint.system,
            version=endpoint.version,
            workload=self.workload.name,
            model=self.model.name,
            hardware=str(self.hardware["name"]),
            trace=done.trace,
            records=done.replay.records,
            limits=endpoint.limits,
            started_at=done.replay.started_at,
            wall_s=done.replay.wall_s,
            slo=self.slo,
            rho=done.rho,
            rate=done.rate,
            repeat=self.repeat,
            valid=reason is None,
            invalid_reason=reason,
            window=done.window,
            config=self.config(endpoint, capacity, profile) | ({"earlier_tries": dict(earlier)} if earlier else {}),
            provenance={**facts, "core_wait": done.core_wait, **_where_known(done), **_repeatability(profile), **done.pinned},
            telemetry=pd.concat([done.telemetry, self.engine.steps(log, done.replay.epoch)], ignore_index=True),
        )

    def facts(self) -> dict[str, Any]:
        """Where this is measured and with which code; of an engine by its interpreter, also the commit of its checkout."""
        engine, facts = self.engine, provenance.collect(self.engine.environment)
        if isinstance(engine, LocalEngine) and engine.environment is None and engine.python is not None:
            facts |= provenance.engine_commit(engine.system, engine.python)
        return facts

    def config(self, endpoint: Endpoint, capacity: Mapping[str, Any] | None, profile: Profile | None) -> dict[str, Any]:
        """The settings of its run, JSON-able: those of its parts, and what the engine said of itself."""
        return {
            "engine": _asdict(self.engine) | {"details": dict(endpoint.details), "unknown": list(endpoint.unknown)},
            "model": dict(self.model.config),
            "hardware": dict(self.hardware),
            "workload": _asdict(self.workload),
            "load": {"_target_": _asdict(self.load)["_target_"], **self.load.as_asked()},
            "capacity": capacity,
            "client": _asdict(self.client) | {"protocol": _asdict(self.client.protocol)},
            "gates": _asdict(self.gates),
            "profile": profile.profile_id if profile else None,
            "seed": self.seed,
        }

    def _gpus(self, endpoint: Endpoint) -> tuple[gpu.Gpu, ...]:
        """The GPUs that the engine computes on: none on a CPU."""
        if self.hardware["name"] == CPU:
            return ()
        seen = gpu.look()
        if seen.why_none is not None:
            say(f"  {seen.why_none}; power and clocks are not recorded", style="yellow")
        return seen.gpus[: endpoint.devices]

    def _trace(self, rate: float, *, num_requests: int, seed: int, endpoint: Endpoint) -> Trace:
        return self.workload.trace(rate=rate, num_requests=num_requests, seed=seed, max_model_len=endpoint.limits.max_model_len)

    def _prompts(self, trace: Trace, seed: int, endpoint: Endpoint) -> list[list[int]]:
        return token_ids(trace, **self._ids(endpoint), seed=seed)

    def _ids(self, endpoint: Endpoint) -> dict[str, int]:
        """The numbers that prompts are made of: the model's ordinary token ids, or those of the words that text prompts have."""
        if endpoint.text_prompts is not None:
            return {"vocab_size": len(endpoint.text_prompts.words), "first_id": 0}
        return {"vocab_size": self.model.vocab_size, "first_id": self.model.first_id}

    def _rehearsed(self, endpoint: Endpoint) -> Endpoint:
        folder = self.model.folder(Path(self.paths.models))
        return rehearse(self.client, endpoint, folder=folder, first_id=self.model.first_id)

    def _warm_up(self, endpoint: Endpoint) -> None:
        if self.load.warmup == 0:
            return
        seed, endpoint = self.seed + WARMUP_SEED, self._rehearsed(endpoint)
        trace = self._trace(math.inf, num_requests=self.load.warmup, seed=seed, endpoint=endpoint).without_sessions()
        with stage("warm-up", f"{self.load.warmup} requests, discarded") as progress:
            self.client.replay(endpoint, trace, self._prompts(trace, seed, endpoint), progress=progress)


def _where_known(done: Replayed) -> dict[str, Any]:
    """What is told of a closed loop, and of a client of several processes."""
    shards = [{"cpu": shard.cpu, "cpu_s": shard.cpu_s, "requests": len(shard.request_ids)} for shard in done.replay.shards]
    told = {"in_flight": done.in_flight, "client_processes": shards or None}
    return {name: value for name, value in told.items() if value is not None}


def _repeatability(profile: Profile | None) -> dict[str, Any]:
    """What the engine's profile says of how well the machine repeats itself; {}: nothing."""
    told = profile.provenance.get(REPEATABILITY) if profile else None
    return {} if told is None else {REPEATABILITY: told}


def store(root: Place, run: Run, profile: Profile | None, log: Path | None) -> Place:
    """Write the run's folder, with the engine's profile and its server's log in it, where there are any; return it."""
    files = {} if log is None else {"server.log": log}
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        if profile is not None:
            files |= {path.name: path for path in profile.write(Path(scratch) / "profile").iterdir()}
        return write_run(root, run, files)


@contextmanager
def _away_from(cpus: Sequence[int]) -> Iterator[None]:
    """Keep this process, the client, off the cores that the engine computes on, where there are others."""
    allowed = os.sched_getaffinity(0)
    if allowed - set(cpus):
        os.sched_setaffinity(0, allowed - set(cpus))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _asdict(part: object) -> dict[str, Any]:
    """A part's settings, with the class that has them."""
    settings = dataclasses.asdict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else dict(vars(part))
    return {"_target_": f"{type(part).__module__}.{type(part).__qualname__}", **settings}
