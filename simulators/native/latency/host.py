"""The host's share of a step: what a CPU does before, beside and after the device's kernels.

    one step after another:   seconds = gap + host + the longer of device and launches
    asynchronous scheduling:  seconds = gap + the longer of device and (host + launches)
    host = step + per sequence * sequences

A step is scheduled, its inputs are prepared, its kernels launched, its tokens sampled and handed on. An engine that schedules the next step
only when it has the last one's tokens does all that while the device waits. With asynchronous scheduling (vLLM's default since 0.14,
SGLang's overlap schedule) it is done for the next step while the device computes. A gap is left in either case: the sampling kernels, and
the start of the next step. Launches are hidden behind kernels in either case: a captured CUDA graph of the whole step needs one; a step
with prompts needs several a layer, because its attention is outside of the graphs (vLLM's FULL_AND_PIECEWISE, its default since 0.11: the
page CUDA Graphs of its design documents), and so does every step of an engine that runs without graphs (enforce_eager).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from simulators.native.latency.step_law import Row, row


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """conf/simulator/native.yaml says where each number is from."""

    step: float  # s of every step
    sequence: float  # s of every sequence in it
    gap: float  # s between the model's kernels of two steps, whatever is scheduled ahead
    launch_piecewise: float  # s a layer to launch the kernels of a step outside of whole graphs
    launch_eager: float  # s a layer to launch them without any graph
    overlapped: bool = False  # whether the engine schedules asynchronously
    eager: bool = False  # whether it runs without CUDA graphs

    def __post_init__(self) -> None:
        for name in ("step", "sequence", "gap", "launch_piecewise", "launch_eager"):
            if getattr(self, name) < 0:
                raise ValueError(f"host.{name} must be >= 0 s, got {getattr(self, name)}")

    def of(self, *, overlapped: bool, config: Mapping[str, Any]) -> "Host":
        """The same host under an engine of this configuration (the `engine` part of a run's)."""
        return replace(self, overlapped=overlapped, eager=runs_eagerly(config))

    @property
    def serial(self) -> Row:
        """What nothing hides, as a StepLaw has it."""
        return row(self.gap) if self.overlapped else row(self.gap + self.step, sequences=self.sequence)

    def floor(self, layers: int) -> Row:
        """What the device hides where it takes longer."""
        always, beside_prompts = layers * self.launch_eager * self.eager, layers * self.launch_piecewise * (not self.eager)
        if self.overlapped:
            return row(self.step + always, sequences=self.sequence, prompt_steps=beside_prompts)
        return row(always, prompt_steps=beside_prompts)


def runs_eagerly(engine: Mapping[str, Any]) -> bool:
    """Whether an engine said that it runs without CUDA graphs: as a setting, or in its own account of itself."""
    found: Any = engine
    for key in ("details", "vllm_config", "model_config"):
        found = found.get(key) if isinstance(found, Mapping) else None
    told = found.get("enforce_eager") if isinstance(found, Mapping) else None
    return bool(engine.get("enforce_eager") if told is None else told)
