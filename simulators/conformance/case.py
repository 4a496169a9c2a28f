"""A case: scenes with a known answer, and the row of Coverage that they show something of."""

from collections.abc import Callable
from dataclasses import dataclass

from simulators.conformance.answer import Bounded
from simulators.conformance.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Case:
    """shows: a sentence. measure: makes a figure with its bounds of the scenes' answers, in their order.

    control: it holds as well where nothing of the row is modelled. A row is modelled only where its controls hold too.
    """

    name: str
    row: str | None  # a field of Coverage; None: it must hold of any simulator
    shows: str
    scenes: tuple[Scene, ...]
    measure: Callable[..., Bounded]
    control: bool = False
