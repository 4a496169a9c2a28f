"""AISimulatePoints: AISimulate on a stated sample of the points, as it is: its own operation times, nothing fitted.

It gets the same closed loop as our own simulator (loops.py), the server's limits, and the model's name that its wheel has; its own
scheduler of the engine serves it, with as many requests in flight as the point says. TTFT and TPOT are the means that it reports.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from results.record import EngineLimits
from results.silicon.points import MeasuredPoint
from results.silicon.predictions import PointPrediction
from simulators.aisimulate.files import parallelism, run_prediction, write_trace
from simulators.aisimulate.sending import at_times
from simulators.errors import SimulatorError
from simulators.silicon.loops import LoopProtocol, trace_of
from simulators.silicon.servers import PointServer, server_of
from simulators.silicon.wheel import REASON, in_wheel, stated, with_times, without_times

FAULT = "Error: "  # of its log: what follows the last is the reason


@dataclass(frozen=True, kw_only=True)
class AISimulatePoints:
    """conf/study/silicon.yaml says what each setting means."""

    points: int  # that are drawn
    seed: int  # of the draw
    processes: int  # at once
    limit: float  # s of CPU time for a point
    systems: Mapping[str, str]  # GPU to the name of its operation times
    versions: Mapping[str, str]  # of each engine, with which these were measured
    models: Mapping[str, Mapping[str, str]]  # name in conf/model, and format of the experts' weights, to its name of the model
    dense: Sequence[str]  # of the models: without experts
    protocol: Mapping[str, Any]  # of LoopProtocol
    servers: Sequence[Mapping[str, Any]]  # rules of servers.py
    environment: str = "aisimulate"  # name under .envs/

    name = "aisimulate"

    def predict(
        self, points: Sequence[MeasuredPoint], models: Mapping[str, str], halves: Mapping[str, Sequence[str]]
    ) -> list[PointPrediction]:
        """Each point of the sample. models: of the points, to names in conf/model."""
        half_of = {model: half for half, members in halves.items() for model in members}
        jobs = [(point, models.get(point.model, "")) for point in self.drawn(points)]
        found = Parallel(n_jobs=self.processes)(delayed(self.predicted)(point, model, half_of.get(model, "")) for point, model in jobs)
        return list(found)

    def drawn(self, points: Sequence[MeasuredPoint]) -> list[MeasuredPoint]:
        """So many of vLLM's and SGLang's points with a stated concurrency, by the seed; all, where there are no more."""
        all_of_them = stated(points)
        if len(all_of_them) <= self.points:
            return all_of_them
        chosen = np.random.default_rng(self.seed).choice(len(all_of_them), self.points, replace=False)
        return [all_of_them[i] for i in sorted(chosen.tolist())]

    def predicted(self, point: MeasuredPoint, model: str, half: str) -> PointPrediction:
        """What it says of a point, or why it says nothing. model: its name in conf/model."""
        scratch = Path(tempfile.mkdtemp(prefix="plumbline-aisimulate-"))
        try:
            said, output_tokens = self._run(point, model, scratch)
        except SimulatorError as error:
            return without_times(self.name, point, half, _shortened(str(error), scratch / "log"))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        times = {"ttft_ms": said["mean_ttft_ms"], "tpot_ms": said["mean_tpot_ms"]}
        return with_times(self.name, point, half, **times, output_tokens=output_tokens)

    def _run(self, point: MeasuredPoint, model: str, scratch: Path) -> tuple[dict[str, Any], float]:
        """Its summary, and the mean tokens of an answer. Raises SimulatorError."""
        protocol = LoopProtocol(**self.protocol)
        trace = trace_of(point.input_tokens, point.output_tokens, protocol.rounds * point.concurrency, protocol)
        write_trace(trace, at_times(trace), scratch / "trace.jsonl")
        run_prediction(self.name, self.environment, scratch, self.settings(point, model, scratch / "trace.jsonl"), limit=self.limit)
        said: dict[str, Any] = json.loads((scratch / "log").read_text().splitlines()[-1])
        if said["completed_requests"] != len(trace.requests):
            raise SimulatorError(f"{self.name}: it ended {said['completed_requests']} of {len(trace.requests)} requests")
        return said, float(np.mean([r.output_tokens for r in trace.requests]))

    def settings(self, point: MeasuredPoint, model: str, trace: Path) -> dict[str, Any]:
        """Its configuration of a point. Raises SimulatorError where its wheel has no such GPU or model."""
        system, known = in_wheel(self.name, point, model, self.systems, self.models)
        source = {"type": "trace", "format": "mooncake", "paths": [str(trace)], "block_size": point.input_tokens}
        engine = {
            "mode": "aggregated",
            "backend": point.engine,
            "backend_version": self.versions[point.engine],
            "model": known,
            "hardware": system,
            "context_length": point.input_tokens + point.output_tokens + 8,
            "workers": {"aggregated": _worker(point, server_of(point, model, self.servers), mixture=model not in self.dense)},
        }
        return {"traffic": {"source": source, "load": {"type": "concurrency", "concurrency": point.concurrency}}, "engine": engine}


def _worker(point: MeasuredPoint, server: PointServer, *, mixture: bool) -> dict[str, Any]:
    spread = EngineLimits(tensor_parallel=point.tensor_parallel, data_parallel=point.data_parallel, expert_parallel=point.expert_parallel)
    cache: dict[str, Any] = {
        "prefix_caching": False,
        "capacity": {"type": "default", "memory_fraction": server.memory_utilization},
    }
    if point.engine == "vllm":
        cache["block_size"] = server.block_size
    return {
        "parallelism": parallelism(spread, mixture=mixture),
        "scheduler": {
            "max_batched_tokens": server.tokens_in_step(point),
            "max_sequences": -(-point.concurrency // point.data_parallel),
        },
        "kv_cache": cache,
    }


def _shortened(message: str, log: Path) -> str:
    """The reason in a line: what its log says last, without folders."""
    text = log.read_text(errors="replace").strip() if log.is_file() else ""
    if FAULT not in text:
        return message.partition(";")[0]
    said = text.splitlines()[-1].rpartition(FAULT)[2]
    return f"aisimulate: {said.partition(' at /')[0].partition(' (first:')[0][:REASON]}"
