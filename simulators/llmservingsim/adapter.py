"""LLMServingSim (casys-kaist/LLMServingSim, MIT), unedited, from a clone that the user built: `-m serving` on the requests as sent.

Its step times are layer times of a real vLLM on the very GPU, which the clone has for an RTX PRO 6000 and an RTX 4090; on other hardware it
is not available. It has no way to take step times from an engine's profile, so no calibrated track. It is slow: ASTRA-Sim and a converter
of graphs run for every step, minutes for a hundred requests.

Tracks. shipped: its own defaults (2,048 tokens and 128 sequences a step, 0.9 of the GPU's memory). matched: the engine's limits.

Read `LLMServingSim.simulate` top to bottom. What of the clone must be there: clone.py; what goes in and comes out: files.py.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from results.profile import Profile
from results.record import Run, Track
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.checkout import BYTECODE, CACHE
from simulators.foreign.clone import described
from simulators.foreign.program import clean_environment, foreign_run, interpreter, run_program
from simulators.inputs import known_limits, one_engine, sent_trace
from simulators.llmservingsim.clone import ADDRESS, SYSTEM, VARIANT, Clone
from simulators.llmservingsim.files import (
    ServingLimits,
    ServingScenario,
    check_capacity,
    cluster,
    read_records,
    refuse_too_long,
    words,
    write_requests,
)
from simulators.simulator import Coverage

BLOCK_SIZE = 16  # tokens; its default, and vLLM's, where a run does not say


@dataclass(frozen=True, kw_only=True)
class LLMServingSim:
    """The settings of conf/simulator/llmservingsim.yaml, which says more of each; the constructor only checks them."""

    checkout: str | None  # folder of a clone, absolute or from the project's folder; None: it is not available
    devices: Mapping[str, str]  # name in conf/hardware to its own name of the GPU
    link: float  # GB/s between devices
    link_latency: float  # ns of a message between devices
    limit: float  # s of CPU time for a simulation
    environment: str = SYSTEM  # its environment under .envs/

    system: ClassVar[str] = SYSTEM
    coverage: ClassVar[Coverage] = Coverage(
        chunked_prefill="yes",
        prefix_caching="yes",
        kv_limit="yes",
        max_num_seqs="yes",
        token_budget="yes",
        preemption="yes",
        context_dependent_decode="yes",
        tensor_parallel="yes",
        pipeline_parallel="no",
        disaggregation="no",
        frontend_cost="no",
        token_times="yes",
        gqa="yes",
        experts="yes",
        notes="tensor_parallel: all-reduces by ASTRA-Sim over links of the settings; experts: by layer times of one device, tokens spread "
        "evenly; kv_limit: where a run does not say the engine's KV capacity, its own estimate; pipeline_parallel, disaggregation, expert "
        "and data parallelism, sessions, host memory: it has settings for them, which are not used here",
    )

    def __post_init__(self) -> None:
        least = {"link": self.link, "limit": self.limit}
        if wrong := [name for name, value in least.items() if not value > 0]:
            raise ValueError(f"simulator {SYSTEM}: {wrong[0]} must be > 0, got {least[wrong[0]]}")
        if self.link_latency < 0:
            raise ValueError(f"simulator {SYSTEM}: link_latency must be >= 0 ns, got {self.link_latency}")

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator."""
        return ("shipped", "matched")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        scratch, clone = scratch.resolve(), Clone.at(self.checkout)
        scenario = self._scenario(measured, track, clone)
        log, out = scratch / "log", scratch / "requests.csv"
        self._write(scenario, clone, scratch)
        argv, env = self._command(scenario, clone, scratch, out)
        usage = run_program(SYSTEM, argv, cwd=clone.folder, log=log, limit=self.limit, env=env)
        version = described(clone.folder)
        return foreign_run(
            self,
            measured,
            read_records(out, scenario.trace, log),
            usage,
            version=version,
            track=track,
            settings={
                "times_from": f"its own layer times of {scenario.model} on {scenario.device}, {VARIANT}",
                "kv_capacity": "its own estimate" if scenario.limits is None or scenario.limits.blocks is None else "the engine's",
                "kv_blocks": check_capacity(log, scenario.limits),
            },
            provenance={SYSTEM: version, "repository": ADDRESS},
        )

    def _scenario(self, measured: Run, track: Track, clone: Clone) -> ServingScenario:
        """What is to be simulated, in numbers. Raises SimulatorError when the run sent no request, NotAvailable when something lacks."""
        if measured.hardware not in self.devices:
            raise NotAvailable(f"{SYSTEM}: it has no layer times of {measured.hardware}, only of {', '.join(self.devices)}")
        one_engine(SYSTEM, measured)
        trace = sent_trace(SYSTEM, measured)
        device, parallel = self.devices[measured.hardware], measured.limits.tensor_parallel
        name = clone.profiled(measured.hardware, device, measured.config.get("model") or {}, parallel)
        limits = None if track == "shipped" else _limits(measured)
        refuse_too_long(trace, limits)
        hardware = measured.config.get("hardware") or {}
        if not hardware.get("memory_gb") or not hardware.get("memory_bandwidth_gb_s"):
            raise SimulatorError(
                f"{SYSTEM}: run {measured.run_id} does not say its hardware's memory_gb or memory_bandwidth_gb_s; set both in conf/hardware"
            )
        return ServingScenario(
            trace=trace,
            limits=limits,
            model=name,
            device=device,
            tensor_parallel=parallel,
            sizes=clone.model(name),
            memory=float(hardware["memory_gb"]),
            bandwidth=float(hardware["memory_bandwidth_gb_s"]),
            link=self.link,
            link_latency=self.link_latency,
        )

    def _write(self, scenario: ServingScenario, clone: Clone, scratch: Path) -> None:
        """Write its input files, and a folder in which its converter is called `chakra`, as its own setup would install it."""
        caching = scenario.limits is None or scenario.limits.prefix_caching
        try:
            (scratch / "cluster.json").write_text(json.dumps(cluster(scenario), indent=1))
            write_requests(scenario.trace, caching, scratch / "requests.jsonl")
            (scratch / "package").mkdir()
            (scratch / "package" / "chakra").symlink_to(clone.chakra)
        except OSError as error:
            raise SimulatorError(f"{SYSTEM}: its input files could not be written into {scratch}: {error}") from error

    def _command(self, scenario: ServingScenario, clone: Clone, scratch: Path, out: Path) -> tuple[list[str], dict[str, str]]:
        """Its command line and environment. It takes input files by their way from the clone only, and calls its converter `python`."""
        config, requests = (os.path.relpath(scratch / name, clone.folder) for name in ("cluster.json", "requests.jsonl"))
        python = interpreter(self.environment)
        paths = {
            "PATH": f"{python.parent}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": f"{clone.folder}:{scratch / 'package'}",
            "PYTHONPYCACHEPREFIX": str(CACHE / BYTECODE),
        }
        flags = words(scenario, config=config, requests=requests, out=out, inputs=scratch / "inputs")
        return [str(python), "-P", "-m", "serving", *flags], clean_environment(paths)


def _limits(measured: Run) -> ServingLimits:
    """The engine's own. Raises NotAvailable naming those that the run does not say; the KV capacity may be unknown."""
    batch, tokens = known_limits(SYSTEM, measured, ("max_num_seqs", "max_num_batched_tokens"))
    said = measured.limits
    block = said.block_size or BLOCK_SIZE
    return ServingLimits(
        block_size=block,
        batch=batch,
        tokens=tokens,
        chunked_prefill=said.chunked_prefill is not False,
        prefix_caching=bool(said.prefix_caching),
        blocks=None if said.kv_tokens is None else said.kv_tokens // block,
    )
