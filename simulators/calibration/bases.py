"""Laws of step times to start from: a calibration by requests scales one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from results.profile import Profile
from results.record import Run
from simulators.calibration.points import StepSeconds
from simulators.native.architecture.reader import decoder_of
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.step_law import StepLaw
from simulators.native.sequence import Batch, prefill_pairs

Floats = npt.NDArray[np.float64]

SHORT = 128  # tokens


class Base(Protocol):
    """A law of step times to start from; `simulators.calibration.aic.Aic` is one too."""

    source: ClassVar[str]
    spread: ClassVar[float]  # how far its times may be off, as a share of them

    def seconds(self, measured: Run) -> StepSeconds:
        """The step times of the run's model on its hardware."""
        ...

    def bends(self, measured: Run) -> Sequence[int]:
        """Tokens of a step between which these are smooth, as `compose` takes them."""
        ...


@dataclass(frozen=True, kw_only=True)
class RooflineBase:
    """The roofline of simulators/native: from config.json and the hardware's numbers alone."""

    efficiency: Efficiency

    source: ClassVar[str] = "roofline"
    spread: ClassVar[float] = 0.3

    def seconds(self, measured: Run) -> StepSeconds:
        """See Base."""
        decoder, device = decoder_of(measured.config["model"]), Device.from_hardware(measured.config["hardware"])
        return seconds_of(Roofline(decoder, device, self.efficiency, parallel=Parallelism(tensor=measured.limits.tensor_parallel)).law)

    def bends(self, measured: Run) -> Sequence[int]:
        """See Base: where memory gives way to arithmetic is not known beforehand."""
        return ()


def seconds_of(law: StepLaw) -> StepSeconds:
    """The step times that a law gives."""

    def step(*, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> float:
        work = Batch(
            sequences=[None] * (batch + (new > 0)),  # type: ignore[list-item]  # only their number is asked for
            prefill_tokens=new,
            prefill_context=cached,
            prefill_pairs=prefill_pairs(cached, new),
            decodes=batch,
            decode_context=batch * context,
        )
        return law.of(work)

    return step


def decode_parts(base: Profile, seconds: StepSeconds, *, alone: int = 0) -> Floats:
    """Of each sample, the s of its decoding sequences alone.

    alone: how many sequences of SHORT tokens each a step of a prompt alone is taken to decode; with none its part is 0.
    """
    rows = base.samples[["batch", "context"]].astype(int).itertuples(index=False)
    least = seconds(batch=alone, context=SHORT) if alone else 0.0
    return np.array([seconds(batch=b, context=c) if b else least for b, c in rows])
