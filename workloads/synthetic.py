"""Workloads from laws: independent requests (Synthetic), and conversations whose turns share prefixes (Conversations)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from workloads.arrivals import Process, Times, asked_rate, check_laws, draw, generators
from workloads.columns import requests_of, tokens_of
from workloads.lengths import Lengths
from workloads.trace import Columns, Request, Trace, TraceError


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Independent requests: an arrival process, and independent laws of input and output lengths; nothing is shared.

    arrivals, burstiness: a process of workloads.arrivals. rate (requests/s), num_requests: what holds when a bench asks for none.
    One seed gives the same requests at every rate, and the first n of them for every smaller n.
    """

    name: str
    input: Lengths
    output: Lengths
    arrivals: Process = "poisson"
    burstiness: float = 1.0
    rate: float | None = None
    num_requests: int = 200

    def __post_init__(self) -> None:
        check_laws(self.arrivals, self.burstiness, self.rate, self.num_requests)

    def trace(self, *, rate: float | None, num_requests: int | None, seed: int, max_model_len: int | None = None) -> Trace:
        """The requests. rate: requests/s (None: this workload's own; inf: all at 0 s). Raises TraceError naming a request too long."""
        n = self.num_requests if num_requests is None else num_requests
        of_times, of_input, of_output = generators(seed, 3)
        times = _times(self, of_times, rate, n)
        columns = Columns(np.arange(n), times, self.input.sample(of_input, n), self.output.sample(of_output, n))
        return _fitting(self.name, requests_of(columns), None, max_model_len)


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Turns of conversations, as a chat service sees them: each prompt is the system prompt, all earlier turns, and a new message.

    Arrivals follow the process whatever the conversations do. Each arrival begins a new conversation with probability 1/turns; else it
    continues one of those begun, each equally likely. A conversation whose next turn would pass `most` tokens ends, and a new one begins in
    its place. Two turns of one conversation share the whole prompt of the earlier one; two conversations share the system prompt.
    """

    name: str  # of the workload, as runs carry it
    message: Lengths  # law of a turn's new tokens
    output: Lengths  # law of the tokens of its answer
    turns: float  # of a conversation, on average
    most: int  # tokens of one request, prompt and answer
    system_tokens: int  # shared by all prompts; a multiple of block_size
    block_size: int = 16  # tokens of a block that prompts can share
    arrivals: Process = "poisson"  # the arrival process
    burstiness: float = 1.0  # of the gamma process
    rate: float | None = None  # requests/s, where a run asks for none
    num_requests: int = 200  # where a run asks for no number

    def __post_init__(self) -> None:
        check_laws(self.arrivals, self.burstiness, self.rate, self.num_requests)
        if self.block_size < 1 or self.system_tokens < 0 or self.system_tokens % self.block_size:
            raise ValueError(f"workload.system_tokens must be a multiple of block_size >= 1, got {self.system_tokens}, {self.block_size}")
        if not self.turns >= 1:
            raise ValueError(f"workload.turns must be >= 1, got {self.turns}")

    def trace(self, *, rate: float | None, num_requests: int | None, seed: int, max_model_len: int | None = None) -> Trace:
        """The requests. rate: requests/s (None: this workload's own; inf: all at 0 s). Raises TraceError naming a request too long."""
        n = self.num_requests if num_requests is None else num_requests
        of_times, of_message, of_output, of_choice = generators(seed, 4)
        times = _times(self, of_times, rate, n)
        messages, outputs = self.message.sample(of_message, n), self.output.sample(of_output, n)
        begins, picks = of_choice.random((n, 2)).T
        block_ids = count(self.system_tokens // self.block_size)
        open_ones: list[_Conversation] = []
        requests = []
        for i in range(n):
            turn = int(messages[i] + outputs[i])
            chosen = None if begins[i] < 1 / self.turns or not open_ones else open_ones[int(picks[i] * len(open_ones))]
            if chosen is not None and chosen.tokens + turn > self.most:
                open_ones.remove(chosen)
                chosen = None
            if chosen is None:
                chosen = _Conversation(tokens=self.system_tokens, blocks=list(range(self.system_tokens // self.block_size)))
                open_ones.append(chosen)
            prompt = chosen.tokens + int(messages[i])
            while len(chosen.blocks) * self.block_size < prompt:
                chosen.blocks.append(next(block_ids))
            requests.append(
                Request(
                    request_id=i,
                    arrival=float(times[i]),
                    input_tokens=prompt,
                    output_tokens=int(outputs[i]),
                    blocks=tuple(chosen.blocks),
                )
            )
            chosen.tokens += turn
        limit = self.most if max_model_len is None else min(self.most, max_model_len)
        return _fitting(self.name, tuple(requests), self.block_size, limit)


@dataclass(eq=False)
class _Conversation:
    """tokens: of all turns so far, answers included. blocks: ids of the prompt's blocks so far."""

    tokens: int
    blocks: list[int] = field(default_factory=list)


def _times(workload: Synthetic | Conversations, rng: np.random.Generator, rate: float | None, n: int) -> Times:
    return draw(rng, workload.arrivals, asked_rate(workload.name, workload.rate, rate, n), n, workload.burstiness)


def _fitting(name: str, requests: Sequence[Request], block_size: int | None, max_model_len: int | None) -> Trace:
    trace = Trace(name=name, requests=requests, block_size=block_size)
    if max_model_len is not None and len(too_long := np.flatnonzero(tokens_of(trace) > max_model_len)):
        r = trace.requests[int(too_long[0])]
        raise TraceError(
            f"workload {name}: request {r.request_id} has {r.input_tokens} + {r.output_tokens} tokens, more than max_model_len "
            f"{max_model_len}; bound its length laws (`most`)"
        )
    return trace
