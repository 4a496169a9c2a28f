"""A real vLLM server's steps, as its own scheduler decided them, and native's for the same requests with the same step durations.

The scheduler knows no time; what it can know is who had arrived when a step was scheduled. So a request reaches native's scheduler at the
beginning of the first step that vLLM scheduled after it had got the request, and a step lasts until vLLM scheduled the next one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from harness.engine import Endpoint, Engine
from harness.engines.model import Model
from harness.protocols import Workload
from harness.replay.client import Client, Replay
from results.project.folder import ROOT
from simulators.native import engine as native
from simulators.native.kv.prefix_keys import SPAN
from simulators.native.latency.step_law import StepLaw
from simulators.native.resolve import limits_of
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.sequence import Batch
from simulators.native.sequence import Sequence as Requested
from tests.choices import settings_of
from workloads.prompts import token_ids

PLUGINS = ROOT / "harness" / "engines" / "plugins"

Step = dict[str, Any]  # ids, tokens (of each), preempted


@dataclass(frozen=True, kw_only=True)
class Log:
    """What harness/engines/plugins/vllm_steps_scheduler.py wrote, from a moment on."""

    requests: Sequence[Mapping[str, Any]]
    steps: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path, since: float) -> "Log":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return cls(
            requests=[line for line in lines if "request" in line and line["time"] >= since],
            steps=[line for line in lines if "step" in line and line["step"] >= since],
        )

    def decisions(self) -> list[Step]:
        return [{key: step[key] for key in ("ids", "tokens", "preempted")} for step in self.steps]


class Durations:
    """A StepTime that takes the measured ones, in their order."""

    law: StepLaw | None = None

    def __init__(self, seconds: Sequence[float]) -> None:
        self._left = iter(seconds)

    def seconds(self, batch: Batch) -> float:
        return next(self._left)

    def note(self, works: NDArray[np.float64]) -> None:
        pass

    def describe(self) -> Mapping[str, Any]:
        return {}


def natives(log: Log, endpoint: Endpoint) -> list[Step]:
    """The steps of native's vllm_v1, in the log's form, as many as the log has."""
    limits = limits_of(endpoint.limits, {"engine": {"details": endpoint.details}}, "the server")
    begins = np.array([step["step"] for step in log.steps])
    sequences = [
        Requested(
            index=i,
            arrival=float(begins[np.searchsorted(begins, request["time"])]),
            prompt=request["prompt"],
            output=request["output"],
            own_key=-(i + 1) * SPAN,
        )
        for i, request in enumerate(log.requests)
    ]
    names = [request["request"] for request in log.requests]
    durations = Durations([*np.diff(begins), *[1.0] * len(begins)])  # the rest for steps that vLLM did not make
    steps = native.run(sequences, VllmV1(limits), durations, in_flight=limits.in_flight)
    return [
        {
            "ids": [names[s.index] for s in step.batch.sequences],
            "tokens": list(step.batch.tokens),
            "preempted": sorted(names[s.index] for s in step.batch.preempted),
        }
        for step in islice(steps, len(begins))
    ]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A replay on a real server, and its steps."""

    replay: Replay
    log: Log
    endpoint: Endpoint

    def same(self) -> float:
        """The share of vLLM's steps that native decided alike: who, in which order, how many tokens each, who was preempted."""
        ours, theirs = natives(self.log, self.endpoint), self.log.decisions()
        return float(np.mean([a == b for a, b in zip(ours, theirs, strict=False)])) * min(1.0, len(ours) / len(theirs))


def serve(folder: Path, *, requests: int, rate: float, **engine_settings: Any) -> Served:
    """Start vLLM's CPU build with the logging scheduler, replay azure_conv_like on it."""

    def part(path: str, **settings: object) -> Any:
        return instantiate(OmegaConf.merge(OmegaConf.load(ROOT / "conf" / path), settings))

    steps = folder / "steps.jsonl"
    settings: dict[str, Any] = {
        "extra_args": ["--scheduler-cls", "vllm_steps_scheduler.LoggedScheduler"],
        "env": {"PYTHONPATH": str(PLUGINS), "PLUMBLINE_STEPS": str(steps)},
        **engine_settings,
    }
    engine: Engine = part("engine/vllm_cpu.yaml", **settings)
    model: Model = part("model/tiny.yaml")
    client: Client = instantiate(settings_of("client", "default"))
    workload: Workload = part("workload/azure_conv_like.yaml")
    with engine.serve(model.folder(folder), folder / "log") as endpoint:
        trace = workload.trace(rate=rate, num_requests=requests, seed=0, max_model_len=endpoint.limits.max_model_len)
        replay = client.replay(endpoint, trace, token_ids(trace, vocab_size=model.vocab_size, seed=0))
    return Served(replay=replay, log=Log.read(steps, replay.epoch), endpoint=endpoint)
