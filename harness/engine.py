"""What the harness asks of an engine: start it, say where it listens and what it resolved its configuration to, stop it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from results.project.folder import CONF
from results.record import EngineLimits

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

ComputesOn = Literal["cpu", "gpu", "elsewhere"]  # elsewhere: somebody else runs the server, perhaps on another machine


class EngineError(RuntimeError):
    """An engine that could not be installed, started, reached or stopped; the message says what, where (log), and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrompts:
    """How prompts are written as text for a server that tokenises them itself, and counts as many tokens as the trace asks for.

    A prompt's number i stands for words[i], which is a token wherever it stands; prompts that share numbers share words, and so tokens. The
    server puts `overhead` tokens of its own around all words (a chat template, a beginning of sequence), which count as the prompt's.
    """

    words: Sequence[str]
    overhead: int = 0

    @property
    def shortest(self) -> int:
        """Tokens of the shortest prompt that there is."""
        return self.overhead + 1

    def text(self, prompt: Sequence[int]) -> str:
        """A prompt of so many tokens, at least `shortest`: what the overhead takes is left out at its end."""
        return " ".join(self.words[number] for number in prompt[: max(1, len(prompt) - self.overhead)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running OpenAI-compatible server, ready for requests."""

    url: str  # its base, e.g. http://127.0.0.1:8123 (no trailing slash)
    served_model: str  # the `model` field of a request
    system: str  # its name in the database
    version: str | None  # as it says it
    limits: EngineLimits  # its configuration, as it resolved it
    unknown: tuple[str, ...] = ()  # what could not be found out about it, in words
    details: Mapping[str, Any] = field(default_factory=dict)  # everything else that it said, JSON-able
    devices: int = 1  # on which it computes
    instance_url: str | None = None  # of one engine, where `url` is a proxy before several: step times are measured there
    text_prompts: TextPrompts | None = None  # how prompts are written; None: they are token ids
    keeps_connections: bool = True  # whether one may wait idle for a request, and carry several; False: each request opens its own
    counting: Mapping[str, Any] = field(default_factory=dict)  # fields of a request that have each event tell how many tokens there were

    @property
    def core_pids(self) -> Sequence[int]:
        """The processes that compute, where the server is ours."""
        return self.details.get("core_pids") or ()


class Engine(Protocol):
    """One narrow seam: a context that holds a ready server. Hydra's `conf/engine/*.yaml` name the classes."""

    @property
    def system(self) -> str:
        """Its name in the database."""
        ...

    @property
    def environment(self) -> str | None:
        """Name of its environment under .envs/, or None when it needs none."""
        ...

    @property
    def computes_on(self) -> ComputesOn:
        """Where it computes. It is a setting: `computes_on` below reads it from the engine's file before an engine is made."""
        ...

    def serve(self, model_dir: Path, log: Path) -> AbstractContextManager[Endpoint]:
        """Start the server with its output in `log`, yield when it is ready, end its whole process group on exit."""
        ...

    def reset_cache(self, endpoint: Endpoint) -> None:
        """Empty the prefix cache. Raises EngineError when the server cannot."""
        ...

    def sample(self, metrics_text: str) -> Mapping[str, float]:
        """The telemetry of one /metrics answer: name to value; {} when it has none."""
        ...

    def steps(self, log: Path, epoch: float) -> "pd.DataFrame":
        """The batch of every step since `epoch` (a time.monotonic() value), from the log of the ended server, in telemetry's long form."""
        ...


@runtime_checkable
class LocalEngine(Protocol):
    """An engine whose interpreter can run another program of ours: with its packages, its variables and its cores."""

    @property
    def system(self) -> str:
        """Its name in the database."""
        ...

    @property
    def environment(self) -> str | None:
        """Name of its environment under .envs/; None: `python` is given."""
        ...

    @property
    def python(self) -> str | None:
        """Its interpreter; None: that of `environment`."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """Environment variables on top of this process's."""
        ...

    @property
    def cpus(self) -> Sequence[int]:
        """The cores that it may use; none: all."""
        ...

    @property
    def tensor_parallel(self) -> int:
        """Devices that share a layer."""
        ...

    @property
    def block_size(self) -> int | None:
        """Tokens of a KV block that its kernels work on; None: not set."""
        ...


def computes_on(choice: str, folders: Sequence[Path] = ()) -> ComputesOn | None:
    """Where the engine of conf/engine/<choice>.yaml computes, as that file says; None where it does not say or is not there.

    folders: configuration folders beside conf/, which comes first. Raises ValueError for a word that is none of ComputesOn. What else is
    wrong with the file is for Hydra to say.
    """
    file = next((path for folder in (CONF, *folders) if (path := folder / "engine" / f"{choice}.yaml").is_file()), None)
    if file is None:
        return None
    try:
        settings: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError):
        return None
    said: ComputesOn | None = settings.get("computes_on") if isinstance(settings, dict) else None
    if said is not None and said not in get_args(ComputesOn):
        raise ValueError(f"{file}: computes_on must be one of {', '.join(get_args(ComputesOn))}, got {said!r}")
    return said
