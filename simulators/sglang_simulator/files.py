"""What goes into SGLang's simulator: the engine's arguments, the simulator's configuration, a model's config.json, the requests' tokens.

Read first: `SglangScenario` (what is to be simulated, resolved to numbers), then `write_job`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulators.errors import SimulatorError
from simulators.sglang_simulator.clone import SYSTEM
from workloads.trace import Trace

MARGIN = 8  # tokens of context beyond the longest request: SGLang cuts an answer short, without an error, when it comes within 2
TAKEN = 2  # token ids from here on are the prompts': the driver's first request has 0, every answer is of 1
VOCABULARY = 32768  # token ids of the model that stands in where step times are the profile's
STAND_IN: Mapping[str, Any] = {  # of no size: its scheduler reads nothing of a model but its kind of attention
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": VOCABULARY,
    "torch_dtype": "bfloat16",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangLimits:
    """The engine's limits in SGLang's terms; chunk: new tokens of a prefill step, -1: no chunks, and then at most `budget`."""

    kv_tokens: int
    page: int
    batch: int
    chunk: int
    budget: int
    prefix_caching: bool

    def arguments(self) -> dict[str, Any]:
        """Arguments of SGLang's Engine."""
        return {
            "max_total_tokens": self.kv_tokens,
            "page_size": self.page,
            "max_running_requests": self.batch,
            "chunked_prefill_size": self.chunk,
            "max_prefill_tokens": self.budget,
            "disable_radix_cache": not self.prefix_caching,
        }


@dataclass(frozen=True, kw_only=True)
class SglangScenario:
    """What is to be simulated."""

    trace: Trace  # as sent
    model: Mapping[str, Any]  # config.json
    limits: SglangLimits | None  # None: SGLang's own defaults (as shipped)
    predictor: Mapping[str, Any]  # of the simulator's configuration
    accelerator: Mapping[str, Any]  # likewise: name, and hbm_capacity_gb (GiB)
    tensor_parallel: int
    version: str | None  # of SGLang, whose operation times are taken; None: the step times are the profile's

    @property
    def start(self) -> float:
        """s: its clock starts with the first request, and a first request that comes later would be answered before it was sent."""
        return min(request.arrival for request in self.trace)

    def settings(self) -> dict[str, Any]:
        """The simulator's configuration file."""
        version = {} if self.version is None else {"backend_version": self.version}
        scheduler = {"tp_size": self.tensor_parallel, "ep_size": 1, "dp_size": 1, "pp_size": 1, "backend_name": "sglang", **version}
        return {"platform": {"accelerator": dict(self.accelerator)}, "predictor": dict(self.predictor), "scheduler": scheduler}

    def engine(self, model: Path) -> dict[str, Any]:
        """Arguments of SGLang's Engine. model: folder of a config.json."""
        return {
            "model_path": str(model),
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "device": "cpu",
            "sampling_backend": "pytorch",
            "context_length": _longest(self.trace) + MARGIN,
            "random_seed": 0,
            "log_level": "warning",
            **(self.limits.arguments() if self.limits else {}),
        }


def _longest(trace: Trace) -> int:
    return max(r.input_tokens + r.output_tokens for r in trace)


def refuse_too_long(scenario: SglangScenario) -> None:
    """Raise SimulatorError naming the first request that can never run: SGLang would cut its answer short."""
    if scenario.limits is None:
        return
    room = scenario.limits.kv_tokens - MARGIN
    for r in scenario.trace:
        if r.input_tokens + r.output_tokens > room:
            raise SimulatorError(
                f"{SYSTEM}: request {r.request_id} of {r.input_tokens} + {r.output_tokens} tokens does not fit into "
                f"{scenario.limits.kv_tokens} tokens of KV cache, of which SGLang keeps {MARGIN} free; leave it out"
            )


def write_job(scenario: SglangScenario, steps: Mapping[str, Any] | None, scratch: Path) -> tuple[Path, Path]:
    """Write every file; return the job's and the simulator's configuration. steps: fields of StepModel."""
    model = scratch / "model"
    model.mkdir()
    longest = _longest(scenario.trace) + MARGIN
    config = {**scenario.model, "max_position_embeddings": max(longest, int(scenario.model.get("max_position_embeddings", 0)))}
    (model / "config.json").write_text(json.dumps(config))
    settings, job = scratch / "simulator.json", scratch / "job.json"
    settings.write_text(json.dumps(scenario.settings(), indent=1))
    prompts = token_ids(scenario.trace, vocabulary=int(config["vocab_size"]))
    np.savez(
        scratch / "requests.npz",
        created=np.array([r.arrival - scenario.start for r in scenario.trace]),
        output=np.array([r.output_tokens for r in scenario.trace]),
        ends=np.cumsum([len(prompt) for prompt in prompts]),
        tokens=np.concatenate(prompts),
    )
    job.write_text(
        json.dumps(
            {
                "engine": scenario.engine(model),
                "requests": str(scratch / "requests.npz"),
                "steps": steps,
                "steps_file": str(scratch / "steps.pkl"),
                "report": str(scratch / "report.json"),
            }
        )
    )
    return job, settings


def token_ids(trace: Trace, *, vocabulary: int) -> list[Any]:
    """Each prompt's token ids: alike where prompts share the trace's blocks, and other ones from the first token of any other block on.

    A block is known by what precedes it. Its first token tells blocks apart (of as many as there are ids), the others follow it.
    """
    size = trace.block_size or max(r.input_tokens for r in trace)
    known: dict[tuple[int, ...], int] = {}
    fresh = sum(len(r.blocks) for r in trace)  # numbers from here on are nobody else's
    prompts = []
    for request in trace:
        numbers = [known.setdefault(request.blocks[: place + 1], len(known)) for place in range(len(request.blocks))]
        while len(numbers) * size < request.input_tokens:
            numbers.append(fresh)
            fresh += 1
        within = np.arange(size)
        tokens = np.concatenate([TAKEN + (number + within * (number + 1)) % (vocabulary - TAKEN) for number in numbers])
        prompts.append(tokens[: request.input_tokens].astype(np.int32))
    return prompts
