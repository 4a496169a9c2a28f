"""vLLM as an engine: its command line from the configuration, and what it made of it read back from the running server.

One class serves the CPU build and the GPU build; conf/engine/vllm_cpu.yaml and vllm.yaml differ in settings only.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import environment
from harness.engine import ComputesOn, Endpoint, EngineError
from harness.engines import limits, server, step_log
from harness.monitor import telemetry

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

GIB = 1 << 30
PATIENCE = 60.0  # s for an answer about itself: beside NIXL's threads that never sleep (vllm_pd.py) a server may need tens of them
POSITIVE = (
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "block_size",
    "kv_cache_gib",
    "tensor_parallel",
    "pipeline_parallel_size",
    "data_parallel_size",
)
CORE_TITLES = ("VLLM::EngineCore", "VLLM::Worker")  # what vLLM calls its processes that compute


@dataclass(frozen=True, kw_only=True)
class Vllm:
    """A vLLM server. Most fields are options of vLLM by its own names; None leaves one to vLLM."""

    system: str = "vllm"  # its name in the database
    environment: str | None = "vllm_cpu"  # its environment under .envs/; None: `python` is given
    python: str | None = None  # an interpreter that has vllm, instead of the environment
    computes_on: ComputesOn = "cpu"  # which build of vllm the interpreter has
    port: int | None = None  # TCP port of 127.0.0.1; None: a free one
    max_model_len: int | None = None  # tokens, prompt and output
    max_num_seqs: int | None = None  # sequences in one step
    max_num_batched_tokens: int | None = None  # tokens in one step
    enable_chunked_prefill: bool | None = None  # prompts are cut to the tokens of a step
    enable_prefix_caching: bool | None = None  # prompts that begin alike share blocks
    block_size: int | None = None  # tokens in a KV block
    kv_cache_gib: float | None = None  # GiB of KV cache on each device; None: what gpu_memory_utilization leaves
    gpu_memory_utilization: float | None = None  # share of each GPU's memory for weights, activations and KV cache
    enforce_eager: bool = False  # no torch.compile and no CUDA graphs
    tensor_parallel: int = 1  # devices that share each layer
    pipeline_parallel_size: int = 1  # stages, each of some of the layers
    data_parallel_size: int = 1  # engine cores behind one server, each with its own KV cache and scheduler
    enable_expert_parallel: bool = False  # whole experts on each device, spread over tensor_parallel * data_parallel_size of them
    dtype: str = "auto"  # of the weights
    quantization: str | None = None  # of the weights, e.g. fp8; None: as the model's config.json says
    kv_cache_dtype: str | None = None  # of the KV cache, e.g. fp8; None: that of the model
    speculative_config: Mapping[str, Any] | None = None  # vLLM's: method, num_speculative_tokens, ...; None: no speculation
    load_format: str = "dummy"  # dummy: weights made up at start; auto: read from the model folder
    seed: int = 0  # of made-up weights and of sampling
    log_steps: bool = False  # every step's batch goes into the log, and from there into the run's telemetry
    extra_args: Sequence[str] = ()  # further options, as on vLLM's command line
    env: Mapping[str, str] = field(default_factory=dict)  # the server's environment variables, on top of this process's
    cpus: Sequence[int] = ()  # cores that the server may use; none: all
    pin_core: bool = False  # the engine core alone on the first of them
    ready_deadline: float = 600.0  # s from start to the first good health check
    stop_grace: float = 15.0  # s between SIGTERM and SIGKILL

    def __post_init__(self) -> None:
        if (self.environment is None) == (self.python is None):
            raise ValueError("engine vllm: give either environment (a name in conf/envs) or python (an interpreter that has vllm)")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"engine vllm: {name} must be positive, got {value}")

    @contextmanager
    def serve(self, model_dir: Path, log: Path) -> Iterator[Endpoint]:
        """Start the server on `model_dir`, yield when it answers, end it. Raises EngineError when it cannot be had."""
        python = environment.interpreter("vllm", self.environment, self.python)
        port = server.free_port() if self.port is None else self.port
        server.require_port(port)
        url = f"http://{server.HOST}:{port}"
        with server.child(
            self.argv(python, model_dir, port),
            name="vllm",
            env=self._environ(python),
            log=log,
            ready_url=f"{url}/health",
            deadline=self.ready_deadline,
            grace=self.stop_grace,
            cpus=self.cpus,
        ) as child:
            endpoint = describe(url, log.read_text(errors="replace"))
            pinned = server.pin_core(child, CORE_TITLES, self.cpus) if self.pin_core else {}
            computing = {"core_pids": [process.pid for process in server.cores(child, CORE_TITLES)]}
            yield dataclasses.replace(endpoint, details=dict(endpoint.details) | pinned | computing)

    def argv(self, python: Path, model_dir: Path, port: int) -> list[str]:
        """The command. `-m` rather than the `vllm` script, which the CPU build's package lacks a version for."""
        options: dict[str, Any] = {
            "model": str(model_dir),
            "served-model-name": model_dir.name,
            "host": server.HOST,
            "port": port,
            "load-format": self.load_format,
            "dtype": self.dtype,
            "seed": self.seed,
            "quantization": self.quantization,
            "kv-cache-dtype": self.kv_cache_dtype,
            "tensor-parallel-size": self.tensor_parallel,
            "pipeline-parallel-size": _several(self.pipeline_parallel_size),
            "data-parallel-size": _several(self.data_parallel_size),
            "enable-expert-parallel": self.enable_expert_parallel or None,
            "speculative-config": None if self.speculative_config is None else json.dumps(dict(self.speculative_config)),
            "max-model-len": self.max_model_len,
            "max-num-seqs": self.max_num_seqs,
            "max-num-batched-tokens": self.max_num_batched_tokens,
            "block-size": self.block_size,
            "kv-cache-memory-bytes": None if self.kv_cache_gib is None else int(self.kv_cache_gib * GIB),
            "gpu-memory-utilization": self.gpu_memory_utilization,
            "enable-chunked-prefill": self.enable_chunked_prefill,
            "enable-prefix-caching": self.enable_prefix_caching,
            "enforce-eager": self.enforce_eager,
            "enable-prompt-tokens-details": True,
            "disable-uvicorn-access-log": True,
            "enable-logging-iteration-details": True if self.log_steps else None,
        }
        return [str(python), "-m", "vllm.entrypoints.openai.api_server", *_flags(options), *self.extra_args]

    def _environ(self, python: Path) -> dict[str, str]:
        """The server's environment variables: no downloads, the cache reset and /server_info switched on, exact stamps in its log.

        /server_info lists the packages of an environment that uv made by running uv; without it on PATH it fails.
        """
        always = {
            "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), *environment.uv_folder()]),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_LOGGING_PREFIX": step_log.VLLM_STAMP,
            "PYTHONHASHSEED": "0",
        }
        if (python.parent.parent / "pyvenv.cfg").is_file():
            always["VIRTUAL_ENV"] = str(python.parent.parent)
        return server.environ(always | {key: str(value) for key, value in self.env.items()})

    def reset_cache(self, endpoint: Endpoint) -> None:
        """Empty the prefix cache. Raises EngineError when the server refuses, as it does with requests in flight."""
        try:
            status, text = server.fetch(f"{endpoint.url}/reset_prefix_cache", method="POST")
        except OSError as error:
            raise EngineError(f"vllm at {endpoint.url}: did not answer the reset of its prefix cache ({error}); see its log") from error
        if status != 200:
            raise EngineError(f"vllm at {endpoint.url}: reset of the prefix cache refused (HTTP {status}: {text[:200]})")

    def sample(self, metrics_text: str) -> Mapping[str, float]:
        """vLLM's gauges and counters by its own names without the prefix, e.g. num_requests_running."""
        return telemetry.plain_values(metrics_text, "vllm:")

    def steps(self, log: Path, epoch: float) -> "pd.DataFrame":
        """The batch of every step since `epoch` (a time.monotonic() value), from the server's log; none without log_steps."""
        return step_log.vllm_steps(log.read_text(errors="replace"), step_log.wall_clock(epoch))


def describe(url: str, log: str, headers: Mapping[str, str] | None = None) -> Endpoint:
    """Ask a running vLLM what it is and what it resolved its configuration to. log: its output so far, '' when not at hand."""

    def answer(path: str) -> str | None:
        status, text = server.fetch(url + path, timeout=PATIENCE, headers=headers)
        return text if status == 200 else None

    models = json.loads(answer("/v1/models") or "{}").get("data", [])
    if not models:
        raise EngineError(f"vllm at {url}: /v1/models names no model; is this an OpenAI-compatible server?")
    info, metrics = json.loads(answer("/server_info?config_format=json") or "{}"), answer("/metrics")
    shown, logged = limits.from_metrics(metrics or ""), limits.from_log(log)
    sources = {
        "/v1/models": limits.from_models(models),
        "/server_info": limits.from_server_info(info),
        "/metrics": shown,
        "its log": limits.without_rounded(logged, shown, models[0].get("max_model_len")),
    }
    found, unknown = limits.combine({name: said for name, said in sources.items() if said})
    return Endpoint(
        url=url,
        served_model=models[0]["id"],
        system="vllm",
        version=json.loads(answer("/version") or "{}").get("version"),
        limits=found,
        devices=found.tensor_parallel * found.pipeline_parallel * found.data_parallel,
        unknown=unknown,
        details=limits.without_secrets({"vllm_config": info.get("vllm_config")}),
    )


def _several(number: int) -> int | None:
    """A number of parts as an option: none for one part, which is vLLM's default in every version."""
    return number if number > 1 else None


def _flags(options: Mapping[str, Any]) -> list[str]:
    """--name value; True: --name; False: --no-name; None: left out. vLLM's three-valued switches have both forms."""
    argv: list[str] = []
    for name, value in options.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is False:
            argv.append(f"--no-{name}")
        elif value is not None:
            argv += [f"--{name}", str(value)]
    return argv
