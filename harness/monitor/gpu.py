"""NVIDIA GPUs as NVML shows them: which are here, what they do during a run, and what a bench chooses when it sees one.

Without NVML or a GPU nothing fails: `look` says why there is none.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pynvml

from harness.engine import computes_on
from harness.monitor.telemetry import Polling, long_form

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

POLLER = Path(__file__).with_name("gpu_poller.py")
CHOICES = {"engine": "vllm", "model": "llama_3_1_8b", "workload": "azure_conv_8k", "profile": "gpu", "gates": "gpu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU, as NVML describes it."""

    index: int  # NVML's
    name: str  # e.g. NVIDIA H200
    uuid: str  # by which CUDA_VISIBLE_DEVICES may name it
    memory_gb: float  # GB (1e9 bytes) in all
    driver: str  # version of the NVIDIA driver


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The GPUs that this process may use."""

    gpus: tuple[Gpu, ...]  # in CUDA's order
    why_none: str | None = None  # in words, where there are none


def look() -> Seen:
    """Ask NVML. CUDA_VISIBLE_DEVICES (indices or UUIDs) chooses and orders, as it does for the engine."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Seen(gpus=(), why_none=f"no NVIDIA GPU can be seen: {error}")
    try:
        found = [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return Seen(gpus=(), why_none=f"the NVIDIA driver does not answer: {error}")
    finally:
        pynvml.nvmlShutdown()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        words = [word.strip() for word in visible.split(",") if word.strip()]
        chosen = [next((g for g in found if word == str(g.index) or g.uuid.startswith(word)), None) for word in words]
        found = [gpu for gpu in chosen if gpu is not None]
    return Seen(gpus=tuple(found), why_none=None if found else f"no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES={visible})")


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(
        index=index,
        name=str(pynvml.nvmlDeviceGetName(handle)),
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        memory_gb=round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / 1e9, 1),
        driver=str(pynvml.nvmlSystemGetDriverVersion()),
    )


def facts() -> list[dict[str, Any]]:
    """The GPUs for a run's provenance, JSON-able; [] when there are none. The UUID is left out: it is of no use to others."""
    return [{name: value for name, value in asdict(gpu).items() if name != "uuid"} for gpu in look().gpus]


class Watch(Polling):
    """A context: while it is open, `gpus` are read every `interval` s by a process of their own; after it, `frame` gives what was seen.

    Names: gpu0_power_w, gpu0_sm_clock_mhz, ... (gpu_poller.READINGS), numbered by NVML's index.
    """

    def __init__(self, gpus: Sequence[Gpu], interval: float) -> None:
        indices = ",".join(str(gpu.index) for gpu in gpus)
        super().__init__(POLLER if indices and interval > 0 else None, [indices, str(interval)], f"GPU {indices}")

    def frame(self, epoch: float) -> "pd.DataFrame":
        """Long form: time (s since `epoch`, a time.monotonic() value), name, value."""
        return long_form([(poll["time"] - epoch, poll["values"]) for poll in self.lines])


def choices(seen: Seen, overrides: Sequence[str], hardware: Sequence[str]) -> list[str]:
    """What a bench takes, as Hydra overrides, for the GPU that it sees and where the user chose nothing else.

    [] without a GPU, and for an engine that does not compute on one (`computes_on` in its file of conf/engine). overrides: the user's own
    words. hardware: the names in conf/hardware. Raises ValueError for a GPU that is none of these, and for a server elsewhere whose model
    and hardware the user does not name: a run must not be labelled by a default.
    """
    asked = dict(override.split("=", 1) for override in overrides if re.match(r"\w+=", override))
    engine = asked.get("engine", CHOICES["engine"])
    where = computes_on(engine, _config_folders(overrides))
    if where == "elsewhere" and (missing := [name for name in ("model", "hardware") if name not in asked]):
        wanted = " and ".join(f"{name}=..." for name in missing)
        raise ValueError(
            f"engine={engine}: what that server computes and on what is not asked of it: name {wanted} (conf/model and conf/hardware)"
        )
    if not seen.gpus or where != "gpu":
        return []
    fitting = CHOICES if "hardware" in asked else CHOICES | {"hardware": named(seen.gpus[0].name, hardware)}
    return [f"{group}={choice}" for group, choice in fitting.items() if group not in asked]


def _config_folders(words: Sequence[str]) -> list[Path]:
    """The configuration folders that a command line adds to conf/, by Hydra's --config-dir or -cd."""
    flags = ("--config-dir", "-cd")
    apart = [value for word, value in pairwise(words) if word in flags]
    return [Path(folder) for folder in (*apart, *(word.partition("=")[2] for word in words if word.partition("=")[0] in flags)) if folder]


def mislabelled(seen: Seen, hardware: str, known: Sequence[str]) -> str | None:
    """Why a run must not be labelled with `hardware`: the GPU here is another one of `known`, the names in conf/hardware.

    None where it is that GPU or a variant of it (h200_600w is an h200), or none of `known`.
    """
    try:
        found = named(seen.gpus[0].name, known) if seen.gpus else None
    except ValueError:
        return None
    if found is None or hardware == found or hardware.startswith(f"{found}_"):
        return None
    return (
        f"hardware={hardware}, but the GPU here is an {seen.gpus[0].name!r}: give hardware={found}, "
        f"or a file of your own in conf/hardware whose name begins with {found}_"
    )


def named(name: str, hardware: Sequence[str]) -> str:
    """The name in conf/hardware of a GPU by its own, e.g. 'NVIDIA H200' is h200. Raises ValueError when none fits."""
    words = "_" + re.sub(r"[^a-z0-9]+", "_", name.lower()) + "_"
    fitting = [known for known in hardware if f"_{known}_" in words]
    if not fitting:
        raise ValueError(
            f"the GPU here is an {name!r}, of which conf/hardware/ has no data: add conf/hardware/NAME.yaml and give hardware=NAME, "
            "or measure without it: engine=vllm_cpu"
        )
    return max(fitting, key=len)
