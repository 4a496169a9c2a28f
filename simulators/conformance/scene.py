"""A scene: a small trace and the engine that it is asked of, as the measured run that a simulator gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import OmegaConf

from results.profile import Profile
from results.project.folder import CONF
from results.record import EngineLimits, RequestRecord, Run, Track
from simulators.conformance.law import KnownLaw
from workloads.trace import Request, Trace

LIMITS = EngineLimits(
    kv_tokens=65536,
    block_size=16,
    max_num_seqs=64,
    max_num_batched_tokens=512,
    max_model_len=4096,
    chunked_prefill=True,
    prefix_caching=False,
)
ON_H100 = EngineLimits(
    kv_tokens=262144,
    block_size=16,
    max_num_seqs=64,
    max_num_batched_tokens=8192,
    max_model_len=8192,
    chunked_prefill=True,
    prefix_caching=False,
)
SMALL: Mapping[str, Any] = MappingProxyType(  # a decoder of no account: the law has the times
    {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    }
)
LAW = KnownLaw()
SERVED_S = 1.0  # s that the recorded engine took for each request: no simulator may read it


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What is asked of one simulation. Two scenes alike are two simulations; a scene that two cases share is simulated once."""

    requests: tuple[tuple[float, int, int], ...]  # (when it is sent in s, prompt tokens, output tokens), in order
    law: KnownLaw = LAW  # step times of the calibrated track
    limits: EngineLimits = LIMITS  # of the engine
    ids: tuple[int, ...] = ()  # of the requests; empty: 0, 1, 2, ...
    shared: tuple[int, ...] = ()  # leading blocks that the request has in common with all others, of each; empty: none
    concurrency: int | None = None  # of a closed loop; None: requests come when they come
    model: str | None = None  # a name in conf/model, on an H100 and in the matched track; None: a small one whose times are the law's
    changed: Mapping[str, Any] = field(default_factory=dict)  # fields of the model's config.json that are others here; None takes one out

    @property
    def track(self) -> Track:
        """The track that it is simulated in."""
        return "calibrated" if self.model is None else "matched"

    def profile(self) -> Profile | None:
        """What the calibrated track takes."""
        return self.law.profile(self.limits) if self.model is None else None

    def measured(self) -> Run:
        """The run that is simulated. Its latencies are made up."""
        hardware: dict[str, Any] = {"name": "law", "memory_gb": 80.0} if self.model is None else _read(CONF / "hardware" / "h100.yaml")
        trace = self._trace()
        return Run(
            run_id="conformance",
            kind="measured",
            system="vllm",
            version=None,
            workload="conformance",
            model=self.model or "small",
            hardware=hardware["name"],
            trace=trace,
            records=tuple(map(_recorded, trace)),
            limits=self.limits,
            started_at="2026-01-01T00:00:00+00:00",
            wall_s=trace.duration,
            config={
                "engine": {"name": "vllm"},
                "model": self._config(),
                "hardware": hardware,
                "load": {} if self.concurrency is None else {"loop": "closed", "concurrency": self.concurrency, "ramp": 0.0},
                "seed": 0,
            },
        )

    def _trace(self) -> Trace:
        ids, shared = self.ids or range(len(self.requests)), self.shared or [0] * len(self.requests)
        size = self.limits.block_size or 1
        return Trace(
            name="conformance",
            requests=tuple(
                Request(
                    request_id=number, arrival=sent, input_tokens=prompt, output_tokens=output, blocks=_blocks(common, prompt, size, place)
                )
                for place, (number, common, (sent, prompt, output)) in enumerate(zip(ids, shared, self.requests, strict=True))
            ),
            block_size=size if any(shared) else None,
        )

    def _config(self) -> dict[str, Any]:
        config = dict(SMALL) if self.model is None else _read(CONF / "model" / f"{self.model}.yaml")["config"]
        return {name: value for name, value in {**config, **self.changed}.items() if value is not None}


def _blocks(common: int, prompt: int, size: int, place: int) -> tuple[int, ...]:
    """Ids of a prompt's whole blocks: the first ones everybody's, the others its own. None where it shares none."""
    own = 1000 * (place + 1)
    return tuple(range(common)) + tuple(range(own, own + prompt // size - common)) if common else ()


def _recorded(request: Request) -> RequestRecord:
    return RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=request.arrival,
        first_token=request.arrival + SERVED_S,
        finished=request.arrival + 2 * SERVED_S,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
    )


def _read(path: Path) -> dict[str, Any]:
    read: Any = OmegaConf.to_container(OmegaConf.load(path))
    return {str(name): value for name, value in read.items()}
