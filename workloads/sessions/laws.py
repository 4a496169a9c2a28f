"""Sessions from laws: a turn is sent when the one before has ended and its user has thought; its prompt is all that was said, and more."""

from dataclasses import dataclass

import numpy as np

from workloads.arrivals import Process, asked_rate, check_laws, draw, generators
from workloads.lengths import Lengths
from workloads.sessions.growing import GrowingPrompts
from workloads.trace import Request, Trace, TraceError


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Sessions of independent users. The first turns arrive by a process, at the rate over the mean number of turns; others follow.

    One seed gives the same sessions at every rate, and the first n turns of them for every smaller n.
    """

    name: str  # of the workload, as runs carry it
    turns: Lengths  # law of a session's turns
    message: Lengths  # law of the tokens that a turn adds to the prompt: what the user says, or what a tool returned
    output: Lengths  # law of the tokens of an answer; they are part of the next prompt
    think: float  # s between an answer and the next turn, mean of an exponential law; 0: none
    most: int  # tokens of one request, prompt and answer: a session ends before a turn that would pass it
    system_tokens: int = 0  # shared by all prompts; a multiple of block_size
    block_size: int = 16  # tokens of a block that prompts can share
    arrivals: Process = "poisson"  # of sessions
    burstiness: float = 1.0  # of the gamma process
    rate: float | None = None  # requests/s, where a run asks for none
    num_requests: int = 200  # where a run asks for no number

    def __post_init__(self) -> None:
        check_laws(self.arrivals, self.burstiness, self.rate, self.num_requests)
        if not self.think >= 0:
            raise ValueError(f"workload.think must be >= 0 s, got {self.think}")
        GrowingPrompts(self.block_size, self.system_tokens)

    def trace(self, *, rate: float | None, num_requests: int | None, seed: int, max_model_len: int | None = None) -> Trace:
        """The requests. rate: requests/s (None: this workload's own; inf: all sessions begin at 0 s). Raises TraceError without a rate."""
        n = self.num_requests if num_requests is None else num_requests
        rate = asked_rate(self.name, self.rate, rate, n)
        of_times, *of_laws = generators(seed, 5)
        limit = self.most if max_model_len is None else min(self.most, max_model_len)
        turns = self._turns(n, limit, of_laws)
        sessions = turns[-1].session
        assert sessions is not None
        starts = draw(of_times, self.arrivals, rate * (sessions + 1) / n, sessions + 1, self.burstiness).tolist()
        trace = Trace(name=self.name, requests=tuple(turns), block_size=self.block_size)
        return trace.with_arrivals(starts[turn.session] for turn in turns if turn.session is not None)

    def _turns(self, n: int, limit: int, of_laws: list[np.random.Generator]) -> list[Request]:
        """N turns, session by session, all at second 0."""
        of_turns, of_message, of_output, of_think = of_laws
        lengths = zip(self.message.sample(of_message, n).tolist(), self.output.sample(of_output, n).tolist(), strict=True)
        thinks, sizes = (self.think * of_think.exponential(size=n)).tolist(), self.turns.sample(of_turns, n).tolist()
        prompts = GrowingPrompts(self.block_size, self.system_tokens)
        found: list[Request] = []
        session, left, said = -1, 0, 0  # said: tokens of the session so far
        for place, (message, output) in enumerate(lengths):
            follows = left > 0 and said + message + output <= limit
            if not follows:
                session, said = session + 1, self.system_tokens
                left = sizes[session]
            prompt = said + message
            if prompt + output > limit:
                raise TraceError(
                    f"workload {self.name}: a first turn of {prompt} + {output} tokens passes {limit}; bound its laws (`most`)"
                )
            last = found[-1] if follows else None
            blocks = prompts.begun(prompt) if last is None else prompts.after(last.blocks, last.input_tokens, prompt)
            found.append(
                Request(
                    request_id=place,
                    arrival=0.0,
                    input_tokens=prompt,
                    output_tokens=output,
                    blocks=blocks,
                    after=() if last is None else (last.request_id,),
                    delay=0.0 if last is None else thinks[place],
                    session=session,
                )
            )
            said, left = prompt + output, left - 1
        return found
