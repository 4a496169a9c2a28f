"""A trace's lengths where a server cannot keep them, or need not: the trace of a replay has those that there were."""

import dataclasses
from collections.abc import Sequence

from results.record import RequestRecord
from workloads.trace import Trace


def at_least(trace: Trace, shortest: int) -> Trace:
    """The trace with no prompt shorter than that."""
    if all(request.input_tokens >= shortest for request in trace):
        return trace
    longer = (dataclasses.replace(request, input_tokens=max(shortest, request.input_tokens)) for request in trace)
    return dataclasses.replace(trace, requests=tuple(longer))


def as_answered(trace: Trace, records: Sequence[RequestRecord]) -> Trace:
    """The trace with the lengths of the answers that came whole; of the others as asked."""
    lengths = [(r.error is None and r.output_tokens) or a.output_tokens for a, r in zip(trace, records, strict=True)]
    answered = (dataclasses.replace(request, output_tokens=n) for request, n in zip(trace, lengths, strict=True))
    return dataclasses.replace(trace, requests=tuple(answered))
