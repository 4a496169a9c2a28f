"""What an arrangement of instances decides: where a request goes, where its output is generated, and which requests move meanwhile."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from simulators.native import sequence
from simulators.native.cluster.instance import Instance


class Place(NamedTuple):
    """Where the prompt is computed; moves: whether the KV goes to another instance after the first token."""

    instance: Instance
    moves: bool = False


class Move(NamedTuple):
    """A running sequence that is to leave `source` for `target`."""

    sequence: sequence.Sequence
    source: Instance
    target: Instance


class Placement(Protocol):
    """Decides where requests go. interval: s between two calls of `rebalance`; None: requests never move."""

    interval: float | None

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """Where a request that has just arrived goes."""
        ...

    def target(self, prefilled: sequence.Sequence, instances: Sequence[Instance]) -> Instance:
        """Where a request goes after its first token (asked only where Place.moves)."""
        ...

    def rebalance(self, instances: Sequence[Instance]) -> Iterable[Move]:
        """The requests that should move now."""
        ...


class NoMigration:
    """What placements share that move no request."""

    interval: float | None = None

    def target(self, prefilled: sequence.Sequence, instances: Sequence[Instance]) -> Instance:
        """See Placement; never asked."""
        raise NotImplementedError("nothing moves after its first token here")

    def rebalance(self, instances: Sequence[Instance]) -> Iterable[Move]:
        """See Placement: nobody moves."""
        return ()
