"""How the servers of the points were started: what their sources' scripts say, by engine, model and GPU (conf/study/silicon.yaml)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from results.silicon.points import MeasuredPoint

MATCHED = ("engine", "models", "gpus", "weights", "loop", "tensor_parallel")  # of a rule: which points it is for
LEAST = "from_concurrency"  # of a rule: requests in flight of the points that it is for, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class PointServer:
    """Settings of a server that limit what it computes at once."""

    max_num_batched_tokens: int = 8192  # tokens in one step (SGLang's chunked_prefill_size)
    prompts_in_step: int | None = None  # instead of that: as many of the longest prompts
    max_prefill_tokens: int = 16384  # of SGLang: new tokens of one prefill step
    max_num_seqs: int | None = None  # sequences in one step; None: the concurrency
    memory_utilization: float = 0.9  # share of the GPU's memory for weights, activations and KV
    kv: str | None = None  # format of the KV cache in fewer bits; None: as activations
    block_size: int = 16  # tokens of a KV block
    receive_interval: int = 1  # SGLang's scheduler_recv_interval: decode steps between two looks at what has arrived
    stream_interval: int = 1  # tokens of a request that are sent together after its first

    def tokens_in_step(self, point: MeasuredPoint) -> int:
        """Most tokens of a step."""
        return self.max_num_batched_tokens if self.prompts_in_step is None else self.prompts_in_step * point.input_tokens


def server_of(point: MeasuredPoint, model: str, rules: Sequence[Mapping[str, Any]]) -> PointServer:
    """The point's server: of all rules that are for it, a later one overrides an earlier. model: its name in conf/model.

    Raises ValueError for a rule with a word that is none.
    """
    found = PointServer()
    for rule in rules:
        values = {name: value for name, value in rule.items() if name not in (*MATCHED, LEAST)}
        if unknown := values.keys() - {f.name for f in fields(PointServer)}:
            raise ValueError(f"study.servers: {', '.join(sorted(unknown))} is no setting of a server; see PointServer")
        if _is_for(rule, point, model):
            found = replace(found, **values)
    return found


def _is_for(rule: Mapping[str, Any], point: MeasuredPoint, model: str) -> bool:
    has = {
        "engine": point.engine,
        "models": model,
        "gpus": point.gpu,
        "weights": point.weights,
        "loop": point.loop,
        "tensor_parallel": point.tensor_parallel,
    }
    return point.concurrency >= rule.get(LEAST, 0) and all(has[name] in _listed(rule[name]) for name in MATCHED if name in rule)


def _listed(wanted: str | int | Sequence[str | int]) -> Sequence[str | int]:
    return [wanted] if isinstance(wanted, str | int) else wanted
