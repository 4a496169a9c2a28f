"""SGLang as an engine: its command line from the configuration, and what it made of it read back from the running server.

One class serves the CPU (from PyPI packages) and the GPU; conf/engine/sglang_cpu.yaml and sglang.yaml differ in settings only.

Its limits in the form of EngineLimits, which names them as vLLM does (results/recordings/server_info.py):
- kv_tokens: max_total_num_tokens, what the pool really got. A request that waits is admitted when its prompt and a share of its
  max_tokens (the scheduler's "new token ratio") fit; when decoding then runs out of pool, SGLang retracts requests (vLLM: preempts).
- block_size: page_size. 1 by default: prefixes are shared by the token, where vLLM shares whole blocks.
- max_num_seqs: max_running_requests.
- max_num_batched_tokens: chunked_prefill_size, the new tokens of one prefill step, over all prompts in it; a chunk size of -1 (no
  chunks): max_prefill_tokens. Sequences that decode do not count towards it: SGLang runs prefill first, in steps of its own, and decodes
  in the steps between (mixed steps only with --enable-mixed-chunk). vLLM has both in one step, within one budget.
- max_model_len: max_req_input_len, which is the context length or the pool, whichever is smaller, less 6. SGLang serves prompt and
  output together up to 2 tokens less than that smaller one, and cuts a longer output short without an error.
- chunked_prefill, prefix_caching: a positive chunk size; a radix cache that is on.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import environment
from harness.engine import ComputesOn, Endpoint, EngineError
from harness.engines import limits, server, step_log
from harness.monitor import telemetry
from results.record import EngineLimits
from results.recordings.server_info import sglang_limits

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

PARTS = ("pp_size", "dp_size", "attn_dp_size", "ep_size")  # into how many a model or its requests are divided
POSITIVE = (
    "context_length",
    "max_total_tokens",
    "max_running_requests",
    "page_size",
    "decode_log_interval",
    "tp_size",
    *PARTS,
)
AS_NAMED = (  # settings that are options under their own names; SGLang's defaults where they are None
    "quantization",
    "kv_cache_dtype",
    "speculative_algorithm",
    "speculative_draft_model_path",
    "speculative_num_steps",
    "speculative_eagle_topk",
    "speculative_num_draft_tokens",
)
CORE_TITLES = ("sglang::scheduler",)  # what SGLang calls its processes that compute
FLUSH_WAIT = 5  # s that a flush waits for the last request's end inside the server


@dataclass(frozen=True, kw_only=True)
class Sglang:
    """An SGLang server. Most fields are options of SGLang by its own names; None leaves one to SGLang."""

    system: str = "sglang"  # its name in the database
    environment: str | None = "sglang_cpu"  # its environment under .envs/; None: `python` is given
    python: str | None = None  # an interpreter that has sglang, instead of the environment
    computes_on: ComputesOn = "cpu"  # which build of sglang the interpreter has
    port: int | None = None  # TCP port of 127.0.0.1; None: a free one
    device: str | None = None  # cpu or cuda; None: what SGLang finds
    model_impl: str = "auto"  # whose code computes the model: SGLang's own or transformers'
    attention_backend: str | None = None  # whose kernels compute attention
    sampling_backend: str | None = None  # whose kernels sample
    context_length: int | None = None  # tokens, prompt and output
    max_total_tokens: int | None = None  # tokens of KV pool; None: what mem_fraction_static leaves
    mem_fraction_static: float | None = None  # share of the memory for weights and KV pool
    max_running_requests: int | None = None  # sequences in one step
    chunked_prefill_size: int | None = None  # new tokens in one prefill step; -1: no chunks
    page_size: int | None = None  # tokens in a KV page
    disable_radix_cache: bool = False  # no prefix caching
    disable_overlap_schedule: bool = False  # the scheduler waits for each step's result
    enable_mixed_chunk: bool = False  # prefill and decode in one step
    sleep_on_idle: bool = False  # the scheduler leaves the core alone while there is nothing to do
    decode_log_interval: int = 1  # decode steps to a line of the log
    tp_size: int = 1  # devices that share each layer
    pp_size: int = 1  # stages, each of some of the layers
    dp_size: int = 1  # replicas of the model behind one server, each on devices of its own
    attn_dp_size: int = 1  # groups of the tp_size devices of which each computes the attention of its own requests
    ep_size: int = 1  # groups of the tp_size devices of which each holds whole experts
    dtype: str = "auto"  # of the weights
    quantization: str | None = None  # of the weights, e.g. fp8; None: as the model's config.json says
    kv_cache_dtype: str | None = None  # of the KV pool, e.g. fp8_e4m3; None: that of the model
    speculative_algorithm: str | None = None  # e.g. EAGLE3, NEXTN, NGRAM; None: no speculation
    speculative_draft_model_path: str | None = None  # a folder or a name of the hub
    speculative_num_steps: int | None = None  # steps of the draft model before a verification
    speculative_eagle_topk: int | None = None  # tokens that the draft model branches into at each of them
    speculative_num_draft_tokens: int | None = None  # tokens that one step verifies
    load_format: str = "dummy"  # dummy: weights made up at start; auto: read from the model folder
    random_seed: int = 0  # of made-up weights and of sampling
    extra_args: Sequence[str] = ()  # further options, as on SGLang's command line
    env: Mapping[str, str] = field(default_factory=dict)  # the server's environment variables, on top of this process's
    cpus: Sequence[int] = ()  # cores that the server may use; none: all
    pin_core: bool = False  # the scheduler alone on the first of them
    ready_deadline: float = 600.0  # s from start to the first generated token
    stop_grace: float = 20.0  # s between SIGTERM and SIGKILL

    def __post_init__(self) -> None:
        if (self.environment is None) == (self.python is None):
            raise ValueError("engine sglang: give either environment (a name in conf/envs) or python (an interpreter that has sglang)")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"engine sglang: {name} must be positive, got {value}")
        if self.chunked_prefill_size is not None and self.chunked_prefill_size != -1 and self.chunked_prefill_size <= 0:
            raise ValueError(f"engine sglang: chunked_prefill_size must be positive, or -1 for no chunks, got {self.chunked_prefill_size}")

    @property
    def tensor_parallel(self) -> int:
        """See LocalEngine."""
        return self.tp_size

    @property
    def block_size(self) -> int | None:
        """See LocalEngine. Not set: a page (of one token, by default) is no block that attention kernels work on."""
        return None

    @contextmanager
    def serve(self, model_dir: Path, log: Path) -> Iterator[Endpoint]:
        """Start the server on `model_dir`, yield when it has generated a token, end it. Raises EngineError when it cannot be had."""
        python = environment.interpreter("sglang", self.environment, self.python)
        port = server.free_port() if self.port is None else self.port
        server.require_port(port)
        url = f"http://{server.HOST}:{port}"
        with server.child(
            self.argv(python, model_dir, port),
            name="sglang",
            env=self._environ(),
            log=log,
            ready_url=f"{url}/health_generate",
            deadline=self.ready_deadline,
            grace=self.stop_grace,
            cpus=self.cpus,
        ) as child:
            endpoint = describe(url)
            pinned = server.pin_core(child, CORE_TITLES, self.cpus) if self.pin_core else {}
            computing = {"core_pids": [process.pid for process in server.cores(child, CORE_TITLES)]}
            yield dataclasses.replace(endpoint, details=dict(endpoint.details) | pinned | computing)

    def argv(self, python: Path, model_dir: Path, port: int) -> list[str]:
        """The command. Metrics, cached-token counts and a log line per batch are always on: the run is read from them."""
        options: dict[str, Any] = {
            "model-path": str(model_dir),
            "served-model-name": model_dir.name,
            "host": server.HOST,
            "port": port,
            "device": self.device,
            "model-impl": self.model_impl,
            "attention-backend": self.attention_backend,
            "sampling-backend": self.sampling_backend,
            "load-format": self.load_format,
            "dtype": self.dtype,
            "random-seed": self.random_seed,
            "tp-size": self.tp_size,
            **self._parts(),
            **{name.replace("_", "-"): getattr(self, name) for name in AS_NAMED},
            "context-length": self.context_length,
            "max-total-tokens": self.max_total_tokens,
            "mem-fraction-static": self.mem_fraction_static,
            "max-running-requests": self.max_running_requests,
            "chunked-prefill-size": self.chunked_prefill_size,
            "page-size": self.page_size,
            "disable-radix-cache": self.disable_radix_cache,
            "disable-overlap-schedule": self.disable_overlap_schedule,
            "enable-mixed-chunk": self.enable_mixed_chunk,
            "sleep-on-idle": self.sleep_on_idle,
            "decode-log-interval": self.decode_log_interval,
            "log-level-http": "warning",
            "enable-metrics": True,
            "enable-cache-report": True,
        }
        return [str(python), "-m", "sglang.launch_server", *_flags(options), *self.extra_args]

    def _parts(self) -> dict[str, int]:
        """The divisions that there are, as options; one part is SGLang's default, and not every version has each option."""
        return {name.replace("_", "-"): getattr(self, name) for name in PARTS if getattr(self, name) > 1}

    def _environ(self) -> dict[str, str]:
        """The server's environment variables. Its log's stamps are in UTC, to the millisecond: steps_log reads them."""
        always = {"HF_HUB_OFFLINE": "1", "SGLANG_LOG_MS": "1", "TZ": "UTC", "PYTHONHASHSEED": "0"}
        return server.environ(always | {key: str(value) for key, value in self.env.items()})

    def reset_cache(self, endpoint: Endpoint) -> None:
        """Empty the radix cache. Raises EngineError when the server refuses, as it does with requests in flight."""
        try:
            status, text = server.fetch(f"{endpoint.url}/flush_cache?timeout={FLUSH_WAIT}", method="POST", timeout=2.0 * FLUSH_WAIT)
        except OSError as error:
            raise EngineError(f"sglang at {endpoint.url}: did not answer the flush of its cache ({error}); see its log") from error
        if status != 200:
            raise EngineError(f"sglang at {endpoint.url}: flush of the cache refused (HTTP {status}: {' '.join(text.split())[:200]})")

    def sample(self, metrics_text: str) -> Mapping[str, float]:
        """SGLang's gauges and counters by its own names without the prefix, e.g. num_running_reqs, num_queue_reqs, token_usage."""
        return telemetry.plain_values(metrics_text, "sglang:")

    def steps(self, log: Path, epoch: float) -> "pd.DataFrame":
        """The batch of every step since `epoch` (a time.monotonic() value), from the server's log; see steps_log."""
        return step_log.sglang_steps(log.read_text(errors="replace"), step_log.wall_clock(epoch))


def describe(url: str, headers: Mapping[str, str] | None = None) -> Endpoint:
    """Ask a running SGLang what it is and what it resolved its configuration to."""

    def answer(path: str) -> Any:
        status, text = server.fetch(url + path, headers=headers)
        return json.loads(text) if status == 200 else {}

    models = answer("/v1/models").get("data", [])
    if not models:
        raise EngineError(f"sglang at {url}: /v1/models names no model; is this an OpenAI-compatible server?")
    info = answer("/server_info") or answer("/get_server_info")  # the old name, of versions before 0.5
    said = {"/server_info": sglang_limits(info), "/v1/models": limits.from_models(models)}
    found, unknown = limits.combine(said) if info else (EngineLimits(), ("limits: /server_info does not answer",))
    if info.get("max_req_input_len"):
        found = dataclasses.replace(found, max_model_len=info["max_req_input_len"])
    return Endpoint(
        url=url,
        served_model=models[0]["id"],
        system="sglang",
        version=info.get("version"),
        limits=found,
        devices=found.tensor_parallel * found.pipeline_parallel * (1 if info.get("enable_dp_attention") else info.get("dp_size") or 1),
        unknown=unknown,
        details=limits.without_secrets({"server_info": info}),
    )


def _flags(options: Mapping[str, Any]) -> list[str]:
    """--name value; True: --name; False and None: left out. SGLang's switches have no negative form."""
    argv: list[str] = []
    for name, value in options.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is not None and value is not False:
            argv += [f"--{name}", str(value)]
    return argv
