"""What SGLang's scheduler can be told beyond Limits, under its own names where it has them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangOptions:
    """Defaults are those of sglang 0.5.23 (server_args.py, environ.py, managers/schedule_policy.py).

    At admission, KV memory is reserved for all of a request's output (ignore_eos), else for a share of it, the `new token ratio`. That
    ratio begins at init_new_token_ratio * schedule_conservativeness and falls by equal amounts in each decode step. A retraction
    estimates it anew.
    """

    max_prefill_tokens: int = 16384  # new tokens of one prefill step, over all prompts in it; the first may be longer
    mixed_chunk: bool = False  # decodes go into prefill steps, too
    ignore_eos: bool = True  # requests have said that they will generate all of their output
    schedule_conservativeness: float = 1.0  # factor on where the new token ratio begins
    init_new_token_ratio: float = 0.7  # where the new token ratio begins
    min_new_token_ratio_factor: float = 0.14  # where the ratio ends, as a share of where it begins
    new_token_ratio_decay_steps: int = 600  # decode steps in which it falls from its beginning to its end
    retract_decode_steps: int = 20  # decode steps that a retraction makes room for
    clip_max_new_tokens: int = 4096  # tokens; of one request's output no more is reserved
    refresh_interval: int = 32  # scheduling passes between two looks at the prefixes of waiting requests, so that the cache keeps them
    refresh_requests: int = 128  # requests, from the queue's head, whose prefixes are looked at then
    # attention of a chunk is computed over the cached tokens before it, too (layers/attention/torch_native_backend.py)
    recomputes_prefixes: bool = False

    def __post_init__(self) -> None:
        for name in ("max_prefill_tokens", "new_token_ratio_decay_steps", "clip_max_new_tokens", "refresh_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.schedule_conservativeness < 0:
            raise ValueError(f"schedule_conservativeness must be >= 0, got {self.schedule_conservativeness}")

    @property
    def first_ratio(self) -> float:
        """The new token ratio after a time without requests."""
        return min(self.init_new_token_ratio * self.schedule_conservativeness, 1.0)

    @property
    def least_ratio(self) -> float:
        """What it falls to."""
        return min(self.first_ratio * self.min_new_token_ratio_factor, 1.0)
