"""Stages: pipeline parallelism, as the time of a step: each stage computes its share of the layers, one batch after the other."""

from dataclasses import dataclass, field


@dataclass(eq=False, slots=True, kw_only=True)
class Stages:
    """`count` stages, each with as many layers. A batch enters a stage when it has left the one before and the batch before has left this
    (Huang et al., GPipe, NeurIPS 2019). What travels between two stages is part of a step's seconds.
    """

    count: int = 1  # 1: the whole model is one stage
    _free: list[float] = field(default_factory=list)  # s; when each has computed all that has entered it

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"stages must be >= 1, got {self.count}")
        self._free = [0.0] * self.count

    @property
    def last_end(self) -> float:
        """When all batches have left the last stage, s."""
        return self._free[-1]

    def next_start(self, ready: float) -> float:
        """When a batch that is decided at `ready` enters the first stage, s."""
        return max(ready, self._free[0])

    def compute(self, ready: float, seconds: float) -> float:
        """Let a batch pass that takes `seconds` in all stages together; returns when it leaves the last."""
        for stage, busy_until in enumerate(self._free):
            ready = self._free[stage] = max(ready, busy_until) + seconds / self.count
        return ready
