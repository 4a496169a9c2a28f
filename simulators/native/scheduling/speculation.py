"""Speculation: how many draft tokens a decode verifies, and how many of them are accepted, as a law of chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["ngram", "eagle", "mtp"]
MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Speculative decoding (Leviathan et al., ICML 2023): a drafter proposes tokens, and the model verifies them in one step.

    A step computes the newest token of a sequence and its drafts; the sequence gets the accepted drafts and one token more. How many are
    accepted is drawn anew for each verification, from one of three statements; the draws of a request depend on `seed` and its place in
    the trace alone. To the scheduler 'eagle' and 'mtp' are one thing: their drafter has a KV cache of its own.
    """

    num_speculative_tokens: int = 0  # drafts that a decode verifies; 0: no speculation
    method: Method = "eagle"  # the drafter
    acceptance_rate: float | None = None  # chance that a draft is accepted when all before it are
    synthetic_acceptance_rates: Sequence[float] | None = None  # by position, chance that this draft and all before it are accepted
    accepted_lengths: Sequence[int] | None = None  # measured: how many drafts were accepted, one number a verification
    draft_step: float = 0.0  # s the drafter takes for one position of all sequences of a step
    seed: int = 0  # of the draws
    speculative_eagle_topk: int = 1  # of SGLang: branches of the drafter's tree; a path is num_speculative_tokens long
    speculative_num_draft_tokens: int | None = None  # of SGLang: tokens that a decode verifies; None: one path and the newest token

    def __post_init__(self) -> None:
        if self.num_speculative_tokens < 0:
            raise ValueError(f"num_speculative_tokens must be >= 0, got {self.num_speculative_tokens}")
        if self.method not in ("ngram", "eagle", "mtp"):
            raise ValueError(f"speculation.method must be ngram, eagle or mtp, got {self.method!r}")
        if not self.draft_step >= 0:
            raise ValueError(f"speculation.draft_step must be >= 0 s, got {self.draft_step}")
        if self.speculative_eagle_topk < 1:
            raise ValueError(f"speculation.speculative_eagle_topk must be >= 1, got {self.speculative_eagle_topk}")
        told = self.speculative_num_draft_tokens
        if told is not None and not 0 < self.num_speculative_tokens < told:
            raise ValueError(
                "speculation.speculative_num_draft_tokens must be above num_speculative_tokens, and that above 0; got "
                f"{told} and {self.num_speculative_tokens}"
            )
        given = [how for how in (self.acceptance_rate, self.synthetic_acceptance_rates, self.accepted_lengths) if how is not None]
        if len(given) != (1 if self.num_speculative_tokens else 0):
            raise ValueError(
                "num_speculative_tokens above 0 needs one of acceptance_rate, synthetic_acceptance_rates and accepted_lengths, and only "
                f"that; got num_speculative_tokens={self.num_speculative_tokens} and {len(given)} of them"
            )
        tokens, rates = self.num_speculative_tokens, self.reached
        if len(rates) != tokens or not all(1 >= a >= b >= 0 for a, b in zip((1.0, *rates), rates, strict=False)):
            raise ValueError(f"chances of acceptance must be {tokens} numbers from 1 down to 0, none above the one before; got {rates}")

    @property
    def reached(self) -> tuple[float, ...]:
        """By position, the chance that this draft and all before it are accepted (what vLLM logs as its rate per position)."""
        places = range(1, self.num_speculative_tokens + 1)
        if self.acceptance_rate is not None:
            return tuple(self.acceptance_rate**place for place in places)
        if self.accepted_lengths is not None:
            return tuple(sum(n >= place for n in self.accepted_lengths) / max(1, len(self.accepted_lengths)) for place in places)
        return tuple(self.synthetic_acceptance_rates or ())

    @property
    def is_tree(self) -> bool:
        """Whether more than one path of drafts is verified."""
        return self.speculative_eagle_topk > 1 or self.verified_tokens > 1 + self.num_speculative_tokens

    @property
    def verified_tokens(self) -> int:
        """Tokens of a sequence that a decode computes."""
        told = self.speculative_num_draft_tokens
        return 1 + self.num_speculative_tokens if told is None else told

    def reserved_tokens(self, page_size: int) -> int:
        """Places behind the committed tokens that SGLang's decodes have (its get_alloc_reserve_per_decode): twice the most that one writes,
        where each branch of a drafter with a KV cache has pages of its own.
        """
        if not self.num_speculative_tokens:
            return 0
        steps, branches = (1, 1) if self.method == "ngram" else (self.num_speculative_tokens, self.speculative_eagle_topk)
        if page_size > 1 and branches > 1:
            steps = (steps + 2 * (page_size - 1)) // page_size * page_size
        return 2 * max(steps * branches, self.verified_tokens)

    @property
    def num_lookahead_tokens(self) -> int:
        """KV slots kept free behind a step's tokens: a drafter with a KV cache writes its drafts there (vLLM, vllm/config/vllm.py)."""
        return 0 if self.method == "ngram" else self.num_speculative_tokens

    @property
    def drops_last_hit(self) -> bool:
        """Whether the last block found in the prefix cache is computed anew, since the drafter needs hidden states before its first draft
        (vLLM's use_eagle_block_drop).
        """
        return self.num_speculative_tokens > 0 and self.method != "ngram"

    def accepted(self, requests: Any, numbers: Any) -> Any:
        """Drafts accepted by verification `numbers` (0, 1, ...) of `requests` (places in the trace); integers, or arrays of them alike.

        One number of chance u tells: draft j is accepted where u is below its chance in `reached`.
        """
        u = _uniform(self.seed, requests, numbers)
        return sum(1 * (u < chance) for chance in self.reached)

    def table(self, requests: Sequence[int] | NDArray[np.int64], verifications: NDArray[np.int64]) -> NDArray[np.int16]:
        """`accepted` of so many verifications of each of the requests, one after the other."""
        count = np.asarray(verifications, np.int64)
        first = np.cumsum(count) - count
        numbers = np.arange(count.sum()) - np.repeat(first, count)
        return np.asarray(self.accepted(np.repeat(np.asarray(requests, np.int64), count), numbers), np.int16)


def _uniform(seed: int, requests: Any, numbers: Any) -> Any:
    """Numbers in [0, 1), the same whenever they are asked for: splitmix64 (Steele et al., OOPSLA 2014) of the three in turn."""
    if isinstance(requests, np.ndarray):
        requests, numbers = requests.astype(np.uint64), numbers.astype(np.uint64)
    x = _mixed(_mixed(seed & MASK) ^ requests)
    return (_mixed(x ^ numbers) >> 11) * 2.0**-53


def _mixed(x: Any) -> Any:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)
