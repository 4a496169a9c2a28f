"""Sessions of agents from laws: a turn may send sub-agents off that work side by side; the next turn waits for all of them."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from workloads.arrivals import Process, asked_rate, check_laws, draw, generators
from workloads.lengths import Lengths
from workloads.sessions.growing import GrowingPrompts
from workloads.trace import Request, Trace, TraceError

_DRAWN = 1024  # draws made at once; their number must not depend on how many requests are asked, or the sessions would


@dataclass(frozen=True, kw_only=True)
class SubAgents:
    """Sessions of independent agents, each a row of turns, whose first turns arrive by a process.

    After a turn that another follows, with probability `branching`, several sub-agents begin at once. Each is a row of calls with a prompt
    of its own, which grows as a session's does. The next turn waits for the last call of each: it joins them, and has their answers in its
    prompt. One seed gives the same sessions at every rate, and the first n requests of them for every smaller n.
    """

    name: str  # of the workload, as runs carry it
    turns: Lengths  # law of the turns of a session, sub-agents' calls not counted
    branching: float  # probability that sub-agents are sent off after a turn that another follows
    branches: Lengths  # law of their number
    calls: Lengths  # law of the calls of one
    message: Lengths  # law of the tokens that a turn or a call adds to its prompt: a task, what a tool returned
    output: Lengths  # law of the tokens of an answer; they are part of the next prompt
    tool: float  # s between an answer and the call that waits for it, mean of an exponential law; a sub-agent's first call comes at once
    most: int  # tokens of one request, prompt and answer: a session, or a sub-agent, ends before a call that would pass it
    system_tokens: int = 0  # shared by the prompts of all sessions' turns; a multiple of block_size
    agent_tokens: int = 0  # shared by the prompts of all sub-agents; a multiple of block_size
    block_size: int = 16  # tokens of a block that prompts can share
    arrivals: Process = "poisson"  # of sessions
    burstiness: float = 1.0  # of the gamma process
    rate: float | None = None  # requests/s, where a run asks for none
    num_requests: int = 200  # where a run asks for no number

    def __post_init__(self) -> None:
        check_laws(self.arrivals, self.burstiness, self.rate, self.num_requests)
        if not 0 <= self.branching <= 1:
            raise ValueError(f"workload.branching must be between 0 and 1, got {self.branching}")
        if not self.tool >= 0:
            raise ValueError(f"workload.tool must be >= 0 s, got {self.tool}")
        for tokens in (self.system_tokens, self.agent_tokens):
            GrowingPrompts(self.block_size, tokens)

    def trace(self, *, rate: float | None, num_requests: int | None, seed: int, max_model_len: int | None = None) -> Trace:
        """The requests. rate: requests/s (None: this workload's own; inf: all sessions begin at 0 s). Raises TraceError without a rate."""
        n = self.num_requests if num_requests is None else num_requests
        rate = asked_rate(self.name, self.rate, rate, n)
        of_times, *of_laws = generators(seed, 8)
        limit = self.most if max_model_len is None else min(self.most, max_model_len)
        requests = list(islice(_Sessions(self, limit, of_laws), n))
        sessions = 1 + max(request.session or 0 for request in requests)
        starts = draw(of_times, self.arrivals, rate * sessions / n, sessions, self.burstiness).tolist()
        trace = Trace(name=self.name, requests=tuple(requests), block_size=self.block_size)
        return trace.with_arrivals(starts[request.session or 0] for request in requests)


@dataclass(eq=False)
class _Agent:
    """Who calls: its last prompt, and the tokens said so far, with the answer to that."""

    blocks: tuple[int, ...]
    tokens: int
    said: int


class _Sessions:
    """All requests, session after session, each at second 0; without end. Raises TraceError when an agent's first call is too long."""

    def __init__(self, laws: SubAgents, limit: int, streams: list[np.random.Generator]) -> None:
        turns, branches, calls, message, output, tools, chances = streams
        self._laws, self._limit = laws, limit
        self._prompts = GrowingPrompts(laws.block_size, laws.system_tokens)
        self._agents_blocks = self._prompts.after((), 0, laws.agent_tokens)
        self._turns, self._branches, self._calls = _drawn(laws.turns, turns), _drawn(laws.branches, branches), _drawn(laws.calls, calls)
        self._message, self._output = _drawn(laws.message, message), _drawn(laws.output, output)
        self._tools = (laws.tool * tool for _ in count() for tool in tools.exponential(size=_DRAWN).tolist())
        self._chances = (chance for _ in count() for chance in chances.random(_DRAWN).tolist())
        self._ids = count()

    def __iter__(self) -> Iterator[Request]:
        for session in count():
            yield from self._session(session)

    def _session(self, session: int) -> Iterator[Request]:
        agent = _Agent(self._prompts.first, self._laws.system_tokens, self._laws.system_tokens)
        after: list[Request] = []
        heard = 0  # tokens that sub-agents answered
        for following in reversed(range(next(self._turns))):
            turn = self._call(agent, session, after, delay=next(self._tools), heard=heard)
            if turn is None:
                return
            yield turn
            after, heard = [turn], 0
            if next(self._chances) < self._laws.branching and following:
                after = yield from self._sub_agents(turn)
                heard = sum(last.output_tokens for last in after)

    def _sub_agents(self, turn: Request) -> Generator[Request, None, list[Request]]:
        """Their calls; returns the last one of each."""
        lasts = []
        for _ in range(next(self._branches)):
            agent, last = _Agent(self._agents_blocks, self._laws.agent_tokens, self._laws.agent_tokens), turn
            for number in range(next(self._calls)):
                call = self._call(agent, turn.session, [last], delay=next(self._tools) if number else 0.0)
                if call is None:
                    break
                yield call
                last = call
            lasts.append(last)
        return lasts

    def _call(self, agent: _Agent, session: int | None, after: list[Request], *, delay: float, heard: int = 0) -> Request | None:
        """The agent's next request; None: it would pass the limit."""
        tokens, output = agent.said + heard + next(self._message), next(self._output)
        if tokens + output > self._limit:
            if agent.said > agent.tokens:
                return None
            raise TraceError(
                f"workload {self._laws.name}: a first call of {tokens} + {output} tokens passes {self._limit}; bound its laws (`most`)"
            )
        agent.blocks = self._prompts.after(agent.blocks, agent.tokens, tokens)
        agent.tokens, agent.said = tokens, tokens + output
        return Request(
            request_id=next(self._ids),
            arrival=0.0,
            input_tokens=tokens,
            output_tokens=output,
            blocks=agent.blocks,
            after=tuple(request.request_id for request in after),
            delay=delay if after else 0.0,
            session=session,
        )


def _drawn(law: Lengths, rng: np.random.Generator) -> Iterator[int]:
    """Draws without end."""
    return (length for _ in count() for length in law.sample(rng, _DRAWN).tolist())
