"""Links: how KV caches get from one instance to another, each port carrying one transfer at a time."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Link:
    """seconds_per_token: bytes of a token's KV over the bytes/s of one direction of a port. latency: s a transfer.

    A transfer begins when the sender's outgoing and the receiver's incoming port are both free: first come first served, so transfers
    that share a port wait for each other. visible: share of it that is left when the prompt is computed, where layers are sent while
    later ones are computed (Splitwise, ISCA 2024, section IV.C).
    """

    seconds_per_token: float
    latency: float = 0.0
    visible: float = 1.0
    transfers: int = 0
    seconds: float = 0.0  # s in which ports were busy
    _out: dict[int, float] = field(default_factory=dict)
    _in: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seconds_per_token < 0 or self.latency < 0 or not 0 < self.visible <= 1:
            raise ValueError(f"link: seconds_per_token and latency must be >= 0 and visible in (0, 1], got {self}")

    def send(self, now: float, tokens: int, source: int, target: int) -> float:
        """When the KV of so many tokens, sent at `now` or as soon as the ports are free, has arrived."""
        start = max(now, self._out.get(source, 0.0), self._in.get(target, 0.0))
        length = self.latency + self.visible * tokens * self.seconds_per_token
        self._out[source] = self._in[target] = start + length
        self.transfers += 1
        self.seconds += length
        return start + length
