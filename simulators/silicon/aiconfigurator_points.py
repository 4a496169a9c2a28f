"""AIConfiguratorPoints: AIConfigurator on measured points: its estimate of a server that batches continuously (`cli estimate`, mode agg).

It has no requests: one prompt and one answer of the loop's mean lengths, so many in flight, and its own operation times; nothing is fitted.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.silicon.points import MeasuredPoint
from results.silicon.predictions import PointPrediction
from simulators.errors import SimulatorError
from simulators.foreign.program import interpreter, run_program
from simulators.silicon.servers import server_of
from simulators.silicon.wheel import REASON, in_wheel, stated, with_times, without_times

DRIVER = Path(__file__).with_name("aiconfigurator_driver.py")


@dataclass(frozen=True, kw_only=True)
class AIConfiguratorPoints:
    """conf/study/silicon.yaml says what each setting means."""

    systems: Mapping[str, str]  # GPU to the name of its operation times
    versions: Mapping[str, str]  # of each engine, with which these were measured
    models: Mapping[str, Mapping[str, str]]  # name in conf/model, and format of the experts' weights, to its name of the model
    dense: Sequence[str]  # of the models: without experts
    protocol: Mapping[str, Any]  # of LoopProtocol: its `least`
    servers: Sequence[Mapping[str, Any]]  # rules of servers.py
    limit: float  # s of CPU time for all of them
    environment: str = "aisimulate"  # name under .envs/

    name = "aiconfigurator"

    @property
    def mean(self) -> float:
        """Of the lengths, as a share of the longest: they are uniform from `least` of it."""
        return (1 + float(self.protocol["least"])) / 2

    def predict(
        self, points: Sequence[MeasuredPoint], models: Mapping[str, str], halves: Mapping[str, Sequence[str]]
    ) -> list[PointPrediction]:
        """Each of vLLM's and SGLang's points with a stated concurrency. models: of the points, to names in conf/model."""
        half_of = {model: half for half, members in halves.items() for model in members}
        jobs = [(point, models.get(point.model, "")) for point in stated(points)]
        asked = [self._asked(point, model) for point, model in jobs]
        answers = iter(self._answers([words for words in asked if isinstance(words, dict)]))
        found = [{"error": words} if isinstance(words, str) else next(answers) for words in asked]
        return [self._prediction(p, half_of.get(model, ""), answer) for (p, model), answer in zip(jobs, found, strict=True)]

    def _asked(self, point: MeasuredPoint, model: str) -> dict[str, Any] | str:
        """What its function is called with, or why it cannot be."""
        try:
            system, known = in_wheel(self.name, point, model, self.systems, self.models)
        except SimulatorError as error:
            return str(error)
        ways, experts = (None, None) if model in self.dense else (point.devices // point.expert_parallel, point.expert_parallel)
        return {
            "model": known,
            "system": system,
            "backend": point.engine,
            "version": self.versions[point.engine],
            "isl": round(self.mean * point.input_tokens),
            "osl": round(self.mean * point.output_tokens),
            "batch_size": -(-point.concurrency // point.data_parallel),
            "parallelism": {
                "tp_size": point.tensor_parallel,
                "attention_dp_size": point.data_parallel,
                "moe_tp_size": ways,
                "moe_ep_size": experts,
            },
            "kv": server_of(point, model, self.servers).kv,
        }

    def _answers(self, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One a point. Raises SimulatorError where the program fails as a whole."""
        if not asked:
            return []
        with tempfile.TemporaryDirectory(prefix="plumbline-aiconfigurator-") as folder:
            scratch = Path(folder)
            (scratch / "asked").write_text("".join(json.dumps(words) + "\n" for words in asked), encoding="utf-8")
            argv = [str(interpreter(self.environment)), "-P", str(DRIVER), str(scratch / "asked"), str(scratch / "answers")]
            run_program(self.name, argv, cwd=scratch, log=scratch / "log", limit=self.limit)
            return [json.loads(line) for line in (scratch / "answers").read_text(encoding="utf-8").splitlines()]

    def _prediction(self, point: MeasuredPoint, half: str, answer: Mapping[str, Any]) -> PointPrediction:
        if "error" in answer:
            return without_times(self.name, point, half, " ".join(answer["error"].split())[:REASON])
        length = self.mean * point.output_tokens
        return with_times(self.name, point, half, ttft_ms=answer["ttft"], tpot_ms=answer["tpot"], output_tokens=length)
