"""What goes into Splitwise-sim: a trace, a machine, a model and a table of step times, in its own formats."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from simulators.foreign.robust_fit import Floats
from simulators.foreign.step_points import chunk_time, decode_time, prompt_time
from simulators.foreign.step_times import StepTimes
from simulators.inputs import KVShape, Pools, mean_decode_context
from workloads.trace import Request, Trace

SHIFT = 1.0  # s added to every arrival: at 0 s its instances are not up yet
JITTER = 1e-7  # s: requests are moved later by at most this, each by another bit: one that arrives at the end of a step crashes it
EVERY_ROW = 512  # tokens up to which the table has every row; beyond, about 1 % apart
SECONDS_TO_MS = 1e3
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitwiseNames:
    """Keys of its table of step times."""

    model: str
    hardware: str


ENGINE = SplitwiseNames(model="engine-model", hardware="engine-device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`gpus` devices that hold one instance. memory: bytes of KV cache in all of them (the weights count as 0 bytes); None: its own."""

    name: str
    gpus: int
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitwiseLimits:
    """Limits of one instance.

    kv_tokens, kv: capacity of the KV cache, and a token's shape in it. batch, budget: sequences and tokens of a step. preemptions: how
    often a decode may be pushed aside.
    """

    kv_tokens: int
    kv: KVShape
    batch: int
    budget: int
    preemptions: int


@dataclass(frozen=True, kw_only=True)
class SplitwiseScenario:
    """What is to be simulated. limits: None for its own defaults. times: of the calibrated track. pools: None when colocated."""

    trace: Trace
    names: SplitwiseNames
    instance: Literal["splitwise", "orca"]
    tensor_parallel: int
    limits: SplitwiseLimits | None = None
    times: StepTimes | None = None
    pools: Pools | None = None

    @property
    def context(self) -> float:
        """Cached tokens at which the table's decode steps are taken."""
        return mean_decode_context(self.trace)


def asked_tokens(request: Request) -> int:
    """Output tokens to ask the simulator for, the first one included. It crashes on one, so two are asked for and the second is dropped."""
    return max(2, request.output_tokens)


def write_trace(trace: Trace, path: Path) -> None:
    """trace.csv. A request's id in it is its place in the trace."""
    n = len(trace)
    pd.DataFrame(
        {
            "request_id": np.arange(n),
            "request_type": 2,
            "application_id": 0,
            "arrival_timestamp": [r.arrival + SHIFT + JITTER * (i + 1) / (n + 1) for i, r in enumerate(trace)],
            "batch_size": 1,
            "prompt_size": [r.input_tokens for r in trace],
            "token_size": [asked_tokens(r) for r in trace],
        }
    ).to_csv(path, index=False)


def write_hardware(machine: Machine, folder: Path) -> Path:
    """processors/ (where the memory is given) and skus/machine.yaml: one server of exactly the instance's GPUs; returns skus/."""
    skus, processors = folder / "skus", folder / "processors"
    skus.mkdir(parents=True, exist_ok=True)
    (skus / "machine.yaml").write_text(
        f"_target_: server.Server\nname: machine\nprocessors:\n  - name: {machine.name}\n    count: {machine.gpus}\ninterconnects: {{}}\n"
    )
    if machine.memory is not None:
        processors.mkdir(exist_ok=True)
        each = -(-machine.memory // machine.gpus)  # rounded up, by less than a token in all
        (processors / f"{machine.name}.yaml").write_text(f"_target_: processor.GPU\nname: {machine.name}\nmemory_size: {each}\n")
    return skus


def write_model(name: str, size: str, kv: KVShape, folder: Path) -> dict[str, str]:
    """architectures/ and sizes/, returned as settings. Its KV bytes a token are 2 * hidden_size * num_layers * dtype_size.

    It knows no KV heads: hidden_size, which it uses for nothing else, is given as their elements. The weights are 0 bytes, as the
    machine's memory is that of the KV cache alone.
    """
    for kind, text in (
        (
            "architectures",
            f"_target_: model.LLMArchitecture\nname: {name}\nnum_layers: {kv.layers}\nhidden_size: {kv.width}\nnum_heads: 1\n",
        ),
        ("sizes", f"_target_: model.ModelSize\nweights: 0\ndtype_size: {kv.element}\n"),
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{name if kind == 'architectures' else size}.yaml").write_text(text)
    return {"architectures": str(folder / "architectures"), "sizes": str(folder / "sizes")}


def time_table(
    times: StepTimes, trace: Trace, budget: int, context: float, tensor_parallel: int, *, together: bool = False
) -> pd.DataFrame:
    """Its table of step times: one row per number x, with the step of x prompt tokens and the decode step of x sequences (ms).

    A row of more tokens than the budget holds the sum of chunks. Where the simulator keeps a token budget, such a step is one prompt, and
    the chunks are that prompt's. Where it keeps none (`together`), such a step is several of the trace's prompts, and each token attends to
    as many before it as the trace's tokens do on average; the same holds for a row of more tokens than the trace's longest prompt, and no
    row then takes less time than one of fewer tokens.
    """
    prompt = max(r.input_tokens for r in trace)
    longest = max(budget, prompt)
    spaced = np.geomspace(EVERY_ROW, max(EVERY_ROW + 1, longest), 1 + int(np.log(max(2.0, longest / EVERY_ROW)) / 0.01))
    rows = {*range(1, EVERY_ROW + 1), *np.ceil(spaced).astype(int).tolist(), *times.prefill.counts.astype(int).tolist()}
    x = np.array(sorted({*rows, *(r.input_tokens for r in trace), budget} - {0}))
    whole = np.where(x <= budget, chunk_time(times, x), 0.0)
    if together:
        several = x > min(budget, prompt)
        chunks, rest = np.divmod(x[several], budget)
        attended = sum(r.input_tokens**2 for r in trace) / (2 * sum(r.input_tokens for r in trace))
        whole[several] = chunks * _typical(times, budget, attended) + np.where(rest > 0, _typical(times, rest, attended), 0.0)
        whole = np.maximum.accumulate(whole)
    else:
        whole[x > budget] = [prompt_time(times, int(tokens), budget) for tokens in x[x > budget]]
    return pd.DataFrame(
        {
            "model": ENGINE.model,
            "hardware": ENGINE.hardware,
            "prompt_size": x,
            "batch_size": 1,
            "token_size": 2,
            "peak_power": 0,
            "average_power": 0,
            "prompt_time": whole * SECONDS_TO_MS,
            "token_time": decode_time(times, x, context) * SECONDS_TO_MS,
            "e2e_time": 0,
            "tensor_parallel": tensor_parallel,
        }
    )


def _typical(times: StepTimes, tokens: Any, attended: float) -> Floats:
    """s of a step of `tokens` prompt tokens that attend to so many each, on average."""
    return chunk_time(times, tokens, attended - np.asarray(tokens, float) / 2)


def write_schedulers(pools: Pools, folder: Path) -> str:
    """Its scheduler for disaggregated instances, with the link's rate in GiB/s; returns the folder.

    kv_jsq: the shortest queue of each kind. Its kv_token_jsq never counts a queue's tokens, so all requests go to one instance.
    """
    folder.mkdir()
    assert pools.transfer is not None
    (folder / "kv_jsq.yaml").write_text(
        "_target_: scheduler.KVJSQScheduler\noverheads: {}\nexecutor_overheads: {submit_task: 0, submit_flow: 0, finish_request: 0}\n"
        f"prompt_processors: []\ntoken_processors: []\ntransfer_bandwidth: {pools.transfer / GIB!r}\n"
    )
    return str(folder)


def write_job(scenario: SplitwiseScenario, scratch: Path) -> dict[str, Any]:
    """All its files, into `scratch`; returns what the driver is to lay over its own config files (see driver.py)."""
    write_trace(scenario.trace, scratch / "trace.csv")
    pools, limits, size = scenario.pools, scenario.limits, f"{scenario.names.model}-fp16"
    instance: dict[str, Any] = {"tensor_parallelism": scenario.tensor_parallel}
    memory = None
    settings: dict[str, Any] = {
        "end_time": 1e12,  # s: it crashes on arrivals after its end time, by default a day
        "trace": {"path": str(scratch / "trace.csv")},
        "hardware_repo": {"skus": str(scratch / "hardware" / "skus")},
    }
    if limits is not None:
        instance |= {"max_batch_size": limits.batch, "max_batch_tokens": limits.budget, "max_preemptions": limits.preemptions}
        memory = limits.kv_tokens * limits.kv.bytes_per_token
        settings["hardware_repo"]["processors"] = str(scratch / "hardware" / "processors")
        settings["model_repo"] = write_model(scenario.names.model, size, limits.kv, scratch / "model")
    write_hardware(Machine(name=scenario.names.hardware, gpus=scenario.tensor_parallel, memory=memory), scratch / "hardware")
    if limits is not None and scenario.times is not None:
        table = time_table(
            scenario.times, scenario.trace, limits.budget, scenario.context, scenario.tensor_parallel, together=scenario.instance == "orca"
        )
        table.to_csv(scratch / "times.csv", index=False)
        settings["performance_model"] = {"db_path": str(scratch / "times.csv")}
    instance_type = {"instance_type": "ORCA"} if scenario.instance == "orca" else {}
    if pools is None:
        settings["start_state"] = {"instance": instance}
    else:
        roles = (("prompt", pools.prefill), ("token", pools.decode))
        settings["start_state"] = {role: {**instance, **instance_type, "num_instances": count} for role, count in roles}
        if pools.transfer is not None:
            settings["orchestrator_repo"] = {"schedulers": write_schedulers(pools, scratch / "schedulers")}
    servers = 1 if pools is None else pools.prefill + pools.decode
    settings["cluster"] = {"power_budget": 0, "servers": [{"sku": "machine", "count": servers}], "interconnects": []}
    colocated = "orca" if scenario.instance == "orca" else "baseline"
    return {
        "start_state": "splitwise" if pools else colocated,
        "application": {
            "model_architecture": scenario.names.model,
            "model_size": size,
            "scheduler": "kv_jsq" if pools else "token_jsq",
        },
        "settings": settings,
    }
