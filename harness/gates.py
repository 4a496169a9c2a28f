"""Gates: when a replay is no measurement. A run that fails one is marked INVALID with the reason; its numbers are not reported as valid."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.replay.client import Replay
from results.record import RequestRecord
from workloads.trace import Request, Trace

Pair = tuple[Request, RequestRecord]


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The limits that a valid replay keeps.

    max_lag_p99: s between a request's arrival and its sending, at the 99th percentile. max_rate_error: relative deviation of the achieved
    from the offered rate. max_error_share: failed requests / all. max_client_cpu: CPU seconds per second, as a share of the CPUs that the
    client may use. require_usage: whether an answer must say how many tokens it took and gave. max_core_wait: share of the time for which
    others may have had the core that the engine needed; such a run tells of the machine's other work, not of the engine.
    """

    max_lag_p99: float
    max_rate_error: float
    max_error_share: float
    max_client_cpu: float
    require_usage: bool
    max_core_wait: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_lag_p99", "max_rate_error", "max_client_cpu", "max_core_wait"):
            if not getattr(self, name) > 0:
                raise ValueError(f"gates.{name} must be > 0, got {getattr(self, name)}")
        if not 0 <= self.max_error_share < 1:
            raise ValueError(f"gates.max_error_share must be in [0, 1), got {self.max_error_share}")

    def check(
        self,
        trace: Trace,
        replay: Replay,
        *,
        window: tuple[float, float],
        cpus: float,
        expect_cold: bool,
        core_wait: float | None = None,
    ) -> str | None:
        """Why the replay is INVALID: all failed gates, joined by '; '. None: it is valid.

        window: (start, end) in s since the trace's start; only requests that arrive in it (both ends included) are judged. cpus: how many
        the client may use. expect_cold: a cached prompt token is a failure, unless the trace itself shares that prefix. core_wait: share of
        the time for which others had the engine's core; None: not known.
        """
        pairs = [(a, r) for a, r in zip(trace, replay.records, strict=True) if window[0] <= a.arrival <= window[1]]
        if not pairs:
            return f"no request arrives between {window[0]:g} and {window[1]:g} s"
        failed = [*self._errors(pairs), *self._sending(pairs), *self._tokens(pairs), *self._cpu(replay, cpus), *self._core(core_wait)]
        if expect_cold:
            failed += _warm(trace, replay)
        return "; ".join(failed) or None

    def _errors(self, pairs: Sequence[Pair]) -> Iterator[str]:
        errors = Counter(record.error for _, record in pairs if record.error is not None)
        if errors.total() > self.max_error_share * len(pairs):
            error, _ = errors.most_common(1)[0]
            yield (f"{errors.total()} of {len(pairs)} requests failed (limit {self.max_error_share:.1%}), most often with: {error}")

    def _sending(self, pairs: Sequence[Pair]) -> Iterator[str]:
        """Lag, earliness and rate, of those that were sent."""
        times = np.array([(request.arrival, record.sent) for request, record in pairs if record.sent is not None])
        if len(times) == 0:
            return
        arrival, sent = times.T
        lag = sent - arrival
        if (lag < 0).any():
            yield f"{(lag < 0).sum()} requests were sent before their arrival, by up to {-lag.min() * 1e3:.3f} ms (limit 0)"
        if (p99 := float(np.percentile(lag, 99))) > self.max_lag_p99:
            yield f"dispatch lag p99 is {p99 * 1e3:.1f} ms (limit {self.max_lag_p99 * 1e3:g} ms): the client was too slow"
        span, sent_span = float(np.ptp(arrival)), float(np.ptp(sent))
        if span > 0 and sent_span > 0:
            # Each end may lag by max_lag_p99 without being a slower rate; on a short run that alone can be more than 1 %.
            deviation = span / sent_span - 1
            if abs(deviation) > self.max_rate_error + self.max_lag_p99 / span:
                offered = (len(times) - 1) / span
                yield (
                    f"achieved rate is {offered * (1 + deviation):.3f} requests/s for {offered:.3f} offered, "
                    f"off by {deviation:+.1%} (limit {self.max_rate_error:.1%})"
                )

    def _tokens(self, pairs: Sequence[Pair]) -> Iterator[str]:
        """Counts off from the trace. A failed request may well have given fewer tokens than asked."""
        inputs = [(a, r) for a, r in pairs if r.input_tokens not in (None, a.input_tokens)]
        outputs = [(a, r) for a, r in pairs if r.output_tokens not in (None, a.output_tokens)]
        outputs = [(a, r) for a, r in outputs if r.error is None or (r.output_tokens or 0) > a.output_tokens]
        for name, off in (("input_tokens", inputs), ("output_tokens", outputs)):
            if off:
                asked, got = getattr(off[0][0], name), getattr(off[0][1], name)
                yield (
                    f"{name} off from the trace in {len(off)} of {len(pairs)} requests (limit 0), "
                    f"e.g. request {off[0][0].request_id}: {got} instead of {asked}"
                )
        silent = sum(r.error is None and (r.input_tokens is None or r.output_tokens is None) for _, r in pairs)
        if self.require_usage and silent:
            yield f"the server reported no token counts for {silent} of {len(pairs)} requests (limit 0), so their lengths cannot be checked"

    def _cpu(self, replay: Replay, cpus: float) -> Iterator[str]:
        if replay.wall_s > 0 and (share := replay.cpu_s / replay.wall_s / cpus) > self.max_client_cpu:
            yield f"the client used {share:.0%} of its {cpus:g} CPU (limit {self.max_client_cpu:.0%}): it may have been the bottleneck"

    def _core(self, wait: float | None) -> Iterator[str]:
        if wait is not None and wait > self.max_core_wait:
            yield f"other processes had the engine's core for {wait:.1%} of the time while it needed it (limit {self.max_core_wait:.0%})"


class _Blocks(dict[int, "_Blocks"]):
    """A trie of block ids."""


def _warm(trace: Trace, replay: Replay) -> Iterator[str]:
    """Prompt tokens from the prefix cache beyond what earlier requests of this very trace can have left there."""
    seen = _Blocks()
    surplus = []
    for request, record in zip(trace, replay.records, strict=True):
        shared, node = 0, seen
        for block in request.blocks:
            shared += block in node
            node = node.setdefault(block, _Blocks())
        possible = min(shared * (trace.block_size or 0), request.input_tokens)
        if record.cached_tokens is not None and record.cached_tokens > possible:
            surplus.append(record.cached_tokens - possible)
    if surplus:
        yield (
            f"the prefix cache was warm, but the study says cold: {sum(surplus)} cached tokens in {len(surplus)} requests "
            "that the trace does not share (limit 0)"
        )
