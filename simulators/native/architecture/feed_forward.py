"""The kinds of feed-forward layers: one MLP, or experts of which a token takes some. All sizes in elements."""

from dataclasses import dataclass

from simulators.native.architecture.matrix import Matrix, by_inputs, by_outputs, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """An MLP that every token passes: gate and up in one product, down."""

    intermediate: int

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Of the products."""
        return by_outputs(hidden, 2 * self.intermediate), by_inputs(self.intermediate, hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts (arXiv 2006.16668): a router sends each token to `top_k` of `count` gated MLPs."""

    count: int  # experts
    top_k: int  # of these that a token takes
    intermediate: int  # of one expert
    shared: int = 0  # intermediate size of what every token passes beside them (all shared experts together); 0: nothing

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.count:
            raise ValueError(f"a token takes {self.top_k} of {self.count} experts; it must be 1 to all")

    def router(self, hidden: int) -> Matrix:
        """It stays in 16 bits; every device has it."""
        return whole(hidden, self.count)

    def shared_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Of what every token passes."""
        return Dense(intermediate=self.shared).matrices(hidden) if self.shared else ()

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Of one expert."""
        return Dense(intermediate=self.intermediate).matrices(hidden)


FeedForward = Dense | Experts
