"""An engine that somebody else runs: any OpenAI-compatible server at a URL. It is asked what it is; what it does not say is listed."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.engine import ComputesOn, Endpoint, EngineError
from harness.engines import limits, llama_cpp, server, sglang, step_log, vllm
from harness.monitor import telemetry

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

RESETS = {"vllm": ["/reset_prefix_cache"], "sglang": ["/flush_cache"]}  # paths to post to
PREFIXES = ("vllm:", "sglang:", llama_cpp.METRICS)  # of the metrics that they export
HINT = (
    "vLLM needs VLLM_SERVER_DEV_MODE=1, llama-server --slot-save-path DIR (and --cache-ram 0, or what it kept elsewhere comes back); "
    "engine.require_reset=false measures with a cache that may be warm"
)


@dataclass(frozen=True, kw_only=True)
class Attached:
    """A server that is not ours to start or stop."""

    url: str  # its base, without /v1
    model: str | None = None  # the name to ask for; None: the only one that it serves
    api_key_env: str | None = None  # the environment variable with its API key; None: it needs none
    require_reset: bool = False  # raise where the prefix cache cannot be emptied; else that is listed as unknown, and the run goes on
    system: str = "openai"  # until it says what it is
    environment: str | None = None  # none: nothing of it runs here
    computes_on: ComputesOn = "elsewhere"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"engine attached: url must look like http://host:port, got {self.url!r}; give engine.url=...")
        if self.api_key_env is not None and self.api_key_env not in os.environ:
            raise ValueError(
                f"engine attached: the environment variable {self.api_key_env} is not set; export it, or leave api_key_env out"
            )

    @contextmanager
    def serve(self, model_dir: Path, log: Path) -> Iterator[Endpoint]:
        """Ask the server what it is and yield it. Nothing is started or stopped; `model_dir` is not used. Raises EngineError."""
        url = self.url.rstrip("/").removesuffix("/v1")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"attached to {url}; its log is with whoever runs it\n")
        try:
            endpoint = self._recognise(url)
        except OSError as error:
            raise EngineError(f"engine attached: nobody answers at {url} ({error}); start the server, or check engine.url") from error
        except json.JSONDecodeError as error:
            raise EngineError(f"engine attached: {url} answers, but not in JSON ({error}); check engine.url") from error
        if not _resets(endpoint):
            endpoint = replace(endpoint, unknown=(*endpoint.unknown, "prefix cache: no known way to empty it; it may be warm"))
        yield endpoint

    def reset_cache(self, endpoint: Endpoint) -> None:
        """Empty the prefix cache where the server has a way. Raises EngineError where it has none and require_reset is set."""
        paths = _resets(endpoint)
        refusal = next(filter(None, (self._refusal(endpoint.url + path) for path in paths)), None) if paths else "no known way to do so"
        if refusal is not None and self.require_reset:
            raise EngineError(f"engine attached: the prefix cache of {endpoint.url} cannot be emptied ({refusal}); {HINT}")

    def sample(self, metrics_text: str) -> Mapping[str, float]:
        """The gauges and counters of a vLLM, SGLang or llama.cpp, by their own names without the prefix; {} for others."""
        if not any(prefix in metrics_text for prefix in PREFIXES):
            return {}
        return {name: value for prefix in PREFIXES for name, value in telemetry.plain_values(metrics_text, prefix).items()}

    def steps(self, log: Path, epoch: float) -> "pd.DataFrame":
        """None: its log is with whoever runs it."""
        return step_log.nothing()

    def _refusal(self, url: str) -> str | None:
        """Post to it; what the server says where it does not do as asked."""
        try:
            status, text = server.fetch(url, method="POST", headers=self._headers())
        except OSError as error:
            raise EngineError(f"engine attached: {url} does not answer ({error}); is the server still up?") from error
        return None if status == 200 else f"{urlsplit(url).path}: HTTP {status} {text[:100].strip()}"

    def _headers(self) -> dict[str, str]:
        return {} if self.api_key_env is None else {"Authorization": f"Bearer {os.environ[self.api_key_env]}"}

    def _recognise(self, url: str) -> Endpoint:
        status, text = server.fetch(f"{url}/v1/models", headers=self._headers())
        if status != 200:
            raise EngineError(f"engine attached: {url}/v1/models answers HTTP {status}; check engine.url and engine.api_key_env")
        models = json.loads(text).get("data") or []
        served = self._served([str(model["id"]) for model in models], url)
        owner = next(model.get("owned_by") for model in models if model["id"] == served)
        if owner == "vllm":
            return replace(vllm.describe(url, "", self._headers()), served_model=served)
        if owner == "sglang":
            return replace(sglang.describe(url, self._headers()), served_model=served)
        if owner == llama_cpp.OWNER:
            return llama_cpp.describe(url, served, self._headers())
        found, unknown = limits.combine({"/v1/models": limits.from_models(models)})
        unknown = ("system: neither a vLLM nor an SGLang nor a llama.cpp", "version: no standard place tells it", *unknown)
        return Endpoint(url=url, served_model=served, system="openai", version=None, limits=found, unknown=unknown)

    def _served(self, names: list[str], url: str) -> str:
        if self.model is None and len(names) == 1:
            return names[0]
        if self.model in names:
            return str(self.model)
        wish = "one of them with engine.model=..." if names else "a model to the server"
        raise EngineError(f"engine attached: {url} serves {', '.join(names) or 'no model'}, asked for {self.model}; name {wish}")


def _resets(endpoint: Endpoint) -> Sequence[str]:
    """Paths that empty its prefix cache when they are posted to, one after the other; none where no way is known."""
    return llama_cpp.resets(endpoint) if endpoint.system == llama_cpp.SYSTEM else RESETS.get(endpoint.system, ())
