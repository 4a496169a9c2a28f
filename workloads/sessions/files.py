"""Files of sessions into rows: whole ShareGPT conversations, agents' sessions as LLMServingSim writes them, OpenTelemetry's GenAI spans.

No file says which prompts share a prefix: each turn is taken to repeat the prompt that it follows (growing.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from workloads.rows import Row, integer, opened
from workloads.sessions.growing import GrowingPrompts, seconds
from workloads.sources import ShareGpt, json_object, turns_of
from workloads.trace import TraceError

NANOSECONDS = 10**9
INPUT, OUTPUT, CONVERSATION = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.conversation.id"


@dataclass(frozen=True, kw_only=True)
class ShareGptSessions(ShareGpt):
    """All questions and answers of each conversation: a prompt is all that was said before and the question.

    The file has no times: think is the s between an answer and the next question.
    """

    think: float = 0.0
    block_size: int = 16

    def rows(self) -> Iterator[Row]:
        """See Source. A conversation without a question and an answer is one row of 0 tokens."""
        prompts, tokenizer, number = GrowingPrompts(self.block_size), self.read_tokenizer(), 0
        think = seconds(str(self.path), "workload.source.think (s)", self.think)
        for session, conversation in enumerate(self.conversations()):
            turns = turns_of(f"{self.path}:{session + 1}", conversation)
            asked = [pair for pair in pairwise(turns) if pair[0][0] in self.ASKERS and pair[1][0] in self.ANSWERERS]
            texts = [text for (_, question), (_, answer) in asked for text in (question, answer)]
            counts = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)] or [0, 0]
            said, before, blocks = 0, 0, prompts.first
            for turn in range(len(counts) // 2):
                tokens = said + counts[2 * turn]
                blocks = prompts.after(blocks, before, tokens)
                yield Row(
                    line=session + 1,
                    arrival=None,
                    input_tokens=tokens,
                    output_tokens=counts[2 * turn + 1],
                    request_id=number,
                    blocks=blocks,
                    block_size=self.block_size,
                    after=(number - 1,) if turn else (),
                    delay=think if turn else 0.0,
                    session=session,
                )
                said, before, number = tokens + counts[2 * turn + 1], tokens, number + 1


@dataclass(frozen=True, kw_only=True)
class AgentSessions:
    """LLMServingSim's agentic JSONL: a session a line, with arrival_time_ns and sub_requests of input_toks (the whole prompt), output_toks
    and tool_duration_ns, which passes between its answer and the next. A line without sub_requests is a session of one.
    """

    path: Path | str
    block_size: int = 16

    def rows(self) -> Iterator[Row]:
        """See Source."""
        prompts, number, first = GrowingPrompts(self.block_size), 0, None
        with opened(Path(self.path), obtain="set workload.source.path to a file of sessions (LLMServingSim's workloads/)") as stream:
            for session, text in enumerate(stream):
                where = f"{self.path}:{session + 1}"
                fields = json_object(where, text)
                time = integer(where, fields, "arrival_time_ns")
                first = time if first is None else first
                calls = fields.get("sub_requests", [fields])
                if not isinstance(calls, list) or not calls or not all(isinstance(call, dict) for call in calls):
                    raise TraceError(f"{where}: sub_requests must be a list of at least one object, got {str(calls)[:40]!r}")
                blocks, before, delay = prompts.first, 0, 0.0
                for turn, call in enumerate(calls):
                    tokens = integer(where, call, "input_toks")
                    blocks = prompts.after(blocks, before, tokens)
                    yield Row(
                        line=session + 1,
                        arrival=(time - first) / NANOSECONDS,
                        input_tokens=tokens,
                        output_tokens=integer(where, call, "output_toks"),
                        request_id=number,
                        blocks=blocks,
                        block_size=self.block_size,
                        after=(number - 1,) if turn else (),
                        delay=delay,
                        session=session,
                    )
                    tool = integer(where, call, "tool_duration_ns") if "tool_duration_ns" in call else 0
                    before, number, delay = tokens, number + 1, seconds(where, "tool_duration_ns", tool) / NANOSECONDS


@dataclass(frozen=True, kw_only=True)
class Spans:
    """OpenTelemetry's spans of calls of a model, as the collector's file exporter writes them: a line of OTLP/JSON, resourceSpans, each.

    A span counts that has gen_ai.usage.input_tokens and gen_ai.usage.output_tokens. Its session is gen_ai.conversation.id, or else its
    trace. It waits for the calls of its session that had ended when it began and that no other such call waited for; the time since the
    last of these ends is its delay (tools, thinking). Calls that overlap ran side by side.
    """

    path: Path | str
    block_size: int = 16

    def rows(self) -> Iterator[Row]:
        """See Source, in the order in which the calls began."""
        spans = sorted(self._spans(), key=lambda span: (span.start, span.end))
        if not spans:
            raise TraceError(f"{self.path}: no span has {INPUT} and {OUTPUT}; give the spans of a client of models, with their usage")
        prompts = GrowingPrompts(self.block_size)
        sessions: dict[str, list[tuple[int, _Call]]] = {}
        numbers: dict[str, int] = {}
        for number, span in enumerate(spans):
            mine = sessions.setdefault(span.session, [])
            ended = [(place, other) for place, other in mine if other.end <= span.start]
            last = [(place, one) for place, one in ended if not any(other.start >= one.end for _, other in ended if other is not one)]
            latest = max((one.end for _, one in last), default=span.start)
            repeated = next((one for _, one in last if one.end == latest), None)
            blocks = prompts.begun(span.input) if repeated is None else prompts.after(repeated.blocks, repeated.input, span.input)
            span.blocks = blocks
            mine.append((number, span))
            yield Row(
                line=span.line,
                arrival=(span.start - spans[0].start) / NANOSECONDS,
                input_tokens=span.input,
                output_tokens=span.output,
                request_id=number,
                blocks=blocks,
                block_size=self.block_size,
                after=tuple(place for place, _ in last),
                delay=(span.start - latest) / NANOSECONDS,
                session=numbers.setdefault(span.session, len(numbers)),
            )

    def _spans(self) -> Iterator["_Call"]:
        with opened(Path(self.path), obtain="set workload.source.path to a file of OTLP/JSON lines") as stream:
            for line, text in enumerate(stream, start=1):
                where = f"{self.path}:{line}"
                fields = json_object(where, text)
                if not isinstance(fields.get("resourceSpans"), list):
                    raise TraceError(f"{where}: it has no resourceSpans: this is no line of OTLP/JSON spans; export traces as JSON")
                try:
                    told = [(span, _said(span)) for span in _spans_of(fields)]
                except (AttributeError, TypeError) as error:
                    raise TraceError(f"{where}: not OTLP/JSON: a span or an attribute is no object ({error})") from error
                yield from (_Call(where, line, span, said) for span, said in told if INPUT in said and OUTPUT in said)


class _Call:
    """A span that counts. Times in ns since 1970."""

    def __init__(self, where: str, line: int, span: dict[str, Any], said: dict[str, Any]) -> None:
        self.line, self.session = line, str(said.get(CONVERSATION) or span.get("traceId"))
        self.start, self.end = (integer(where, span, name) for name in ("startTimeUnixNano", "endTimeUnixNano"))
        self.input, self.output = (integer(where, said, name) for name in (INPUT, OUTPUT))
        self.blocks: tuple[int, ...] = ()
        if self.end < self.start:
            raise TraceError(f"{where}: span {span.get('spanId')} ends before it begins; correct its times")


def _spans_of(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in fields["resourceSpans"]:
        for scope in resource.get("scopeSpans", []):
            yield from scope.get("spans", [])


def _said(span: dict[str, Any]) -> dict[str, Any]:
    """A span's attributes: {key: {stringValue | intValue | ...: value}} in OTLP."""
    found = {}
    for attribute in span.get("attributes", []):
        value = attribute.get("value") or {}
        found[attribute.get("key")] = next(iter(value.values()), None)
    return found
