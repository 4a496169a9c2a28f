"""What SGLang's scheduler can be told beyond Limits, under its own names where it has them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangOptions:
    """Defaults are those of sglang 0.5.23 (server_args.py, environ.py, managers/schedule_policy.py).

    max_prefill_tokens: new tokens of one prefill step, over all prompts in it (the first may be longer). mixed_chunk: decodes go into
    prefill steps, too. ignore_eos: requests have said that they will generate all of their output, so that all of it is reserved at
    admission; else the share `new token ratio` of it, which begins at init_new_token_ratio * schedule_conservativeness, falls by equal
    amounts in new_token_ratio_decay_steps decode steps to min_new_token_ratio_factor of that, and is estimated anew after a retraction.
    retract_decode_steps: decode steps that a retraction makes room for. clip_max_new_tokens: of one request's output no more is reserved.
    refresh_interval: scheduling passes between two looks at the prefixes of the first refresh_requests that wait, so that they are kept.
    recomputes_prefixes: attention of a chunk is computed over the cached tokens before it, too (attention backend torch_native,
    layers/attention/torch_native_backend.py).
    """

    max_prefill_tokens: int = 16384
    mixed_chunk: bool = False
    ignore_eos: bool = True
    schedule_conservativeness: float = 1.0
    init_new_token_ratio: float = 0.7
    min_new_token_ratio_factor: float = 0.14
    new_token_ratio_decay_steps: int = 600
    retract_decode_steps: int = 20
    clip_max_new_tokens: int = 4096
    refresh_interval: int = 32
    refresh_requests: int = 128
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
