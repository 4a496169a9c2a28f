"""What the harness asks of an engine: start it, say where it listens and what it resolved its configuration to, stop it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from results.record import EngineLimits


class EngineError(RuntimeError):
    """An engine that could not be installed, started, reached or stopped; the message says what, where (log), and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running OpenAI-compatible server, ready for requests.

    url: its base, e.g. http://127.0.0.1:8123 (no trailing slash). served_model: the `model` field of a request.
    system, version: what it is. limits: its resolved configuration. unknown: what could not be found out about it, in words.
    details: everything else it told, JSON-able. instance_url: of one engine by itself, where `url` is a door before several: what is
    asked of one engine alone (its step times) is asked there.
    """

    url: str
    served_model: str
    system: str
    version: str | None
    limits: EngineLimits
    unknown: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    instance_url: str | None = None

    @property
    def core_pids(self) -> Sequence[int]:
        """The processes that compute, where the server is ours."""
        return self.details.get("core_pids") or ()


class Engine(Protocol):
    """One narrow seam: a context that holds a ready server. Hydra's `conf/engine/*.yaml` name the classes."""

    system: str
    environment: str | None  # name of its environment under .envs/, or None when it needs none

    def serve(self, model_dir: Path, log: Path) -> AbstractContextManager[Endpoint]:
        """Start the server with its output in `log`, yield when it is ready, end its whole process group on exit."""
        ...

    def reset_cache(self, endpoint: Endpoint) -> None:
        """Empty the prefix cache. Raises EngineError when the server cannot."""
        ...

    def sample(self, metrics_text: str) -> Mapping[str, float]:
        """The telemetry of one /metrics answer: name to value; {} when it has none."""
        ...

    def steps(self, log: Path, epoch: float) -> pd.DataFrame:
        """The batch of every step since `epoch` (a time.monotonic() value) as the ended server's log tells, in telemetry's long form."""
        ...
