"""Pools: prefill and decode on instances of their own (DistServe), and with a mixed pool between them (Splitwise)."""

from collections.abc import Iterable, Sequence

from simulators.native import sequence
from simulators.native.cluster.instance import Instance
from simulators.native.cluster.placement import Move, Place
from simulators.native.cluster.routers import least


class Disaggregated:
    """DistServe (Zhong et al., OSDI 2024): the first `prefill` instances compute prompts, the others decode.

    A prompt goes to the shortest queue (prompt tokens), and after its first token to the least loaded decode instance.
    """

    interval: float | None = None

    def __init__(self, prefill: int) -> None:
        if prefill < 1:
            raise ValueError(f"prefill instances must be >= 1, got {prefill}")
        self.prefill = prefill

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        return Place(shortest(instances[: self.prefill]), moves=True)

    def target(self, prefilled: sequence.Sequence, instances: Sequence[Instance]) -> Instance:
        """See Placement."""
        return least(instances[self.prefill :])

    def rebalance(self, instances: Sequence[Instance]) -> Iterable[Move]:
        """See Placement: nobody moves later."""
        return ()


class Splitwise(Disaggregated):
    """Splitwise (Patel et al., ISCA 2024, section IV.A): as above, joining the shortest queue, with one exception. When the chosen
    prompt instance has more than `most_pending` prompt tokens before it, the decode instance with the fewest takes the prompt and keeps the
    request. That instance is then in the paper's mixed pool, until such prompts have left it.
    """

    def __init__(self, prefill: int, most_pending: int = 8192) -> None:
        super().__init__(prefill)
        self.most_pending = most_pending

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        prompt = shortest(instances[: self.prefill])
        if prompt.outstanding_prompt_tokens > self.most_pending:
            mixed = shortest(instances[self.prefill :])
            if mixed.outstanding_prompt_tokens < prompt.outstanding_prompt_tokens:
                return Place(mixed)
        return Place(prompt, moves=True)


def shortest(instances: Sequence[Instance]) -> Instance:
    """The instance with the fewest prompt tokens to compute; of equal ones the first."""
    return min(instances, key=lambda instance: (instance.outstanding_prompt_tokens, instance.index))
