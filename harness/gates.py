"""Gates: when a replay is no measurement. A run that fails one is marked INVALID with the reason; its numbers are not reported as valid."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.replay.client import Replay
from results.record import RequestRecord
from workloads.trace import Request, Trace

Pair = tuple[Request, RequestRecord]


@dataclass(frozen=True, slots=True)
class FailedGate:
    """A limit that a replay did not keep. A passing reason lies in what the machine did meanwhile: the next replay may keep the limit."""

    reason: str
    passing: bool = False


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The limits that a valid replay keeps, and how often a bench replays again by itself when it broke one for a passing reason."""

    max_lag_p99: float  # s between a request's arrival and its sending, at the 99th percentile
    max_rate_error: float  # relative deviation of the achieved from the offered rate
    max_error_share: float  # failed requests / all
    max_client_cpu: float  # CPU seconds per second, as a share of the CPUs that the client may use
    require_usage: bool  # whether an answer must say how many tokens it took and gave
    max_core_wait: float = 1.0  # share of the time for which others may have had the engine's core: such a run is about their work
    retries: int = 0  # further replays of a bench; campaigns and studies make none

    def __post_init__(self) -> None:
        for name in ("max_lag_p99", "max_rate_error", "max_client_cpu", "max_core_wait"):
            if not getattr(self, name) > 0:
                raise ValueError(f"gates.{name} must be > 0, got {getattr(self, name)}")
        if not 0 <= self.max_error_share < 1:
            raise ValueError(f"gates.max_error_share must be in [0, 1), got {self.max_error_share}")
        if self.retries < 0:
            raise ValueError(f"gates.retries must be >= 0, got {self.retries}")

    def check(
        self,
        trace: Trace,
        replay: Replay,
        *,
        window: tuple[float, float],
        cpus: float,
        expect_cold: bool,
        shared_by_all: int = 0,
        core_wait: float | None = None,
    ) -> tuple[FailedGate, ...]:
        """The gates that the replay failed; none: it is valid.

        window: (start, end) in s since the trace's start; only requests that arrive in it (both ends included) are judged. cpus: how many
        the client may use. expect_cold: a cached prompt token is a failure, unless the trace itself shares that prefix, or it is one of
        the `shared_by_all` that the server puts around every prompt (a chat template's). core_wait: share of the time for which others had
        the engine's core; None: not known.
        """
        pairs = [(a, r) for a, r in zip(trace, replay.records, strict=True) if window[0] <= a.arrival <= window[1]]
        if not pairs:
            return (FailedGate(f"no request arrives between {window[0]:g} and {window[1]:g} s"),)
        failed = [*self._errors(pairs), *self._client(pairs, replay, cpus), *self._tokens(pairs), *self._core(core_wait)]
        if expect_cold:
            failed += _warm(trace, replay, shared_by_all)
        return tuple(failed)

    def _errors(self, pairs: Sequence[Pair]) -> Iterator[FailedGate]:
        errors = Counter(record.error for _, record in pairs if record.error is not None)
        if errors.total() > self.max_error_share * len(pairs):
            error, _ = errors.most_common(1)[0]
            yield FailedGate(
                f"{errors.total()} of {len(pairs)} requests failed (limit {self.max_error_share:.1%}), most often with: {error}"
            )

    def _client(self, pairs: Sequence[Pair], replay: Replay, cpus: float) -> Iterator[FailedGate]:
        """What the client itself must keep: each of its processes, where there are several."""
        if not replay.shards:
            yield from self._sending(pairs)
            yield from self._cpu(replay.cpu_s, replay.wall_s, cpus)
        for number, shard in enumerate(replay.shards, start=1):
            own = [(request, record) for request, record in pairs if request.request_id in shard.request_ids]
            for gate in (*self._sending(own), *self._cpu(shard.cpu_s, shard.wall_s, shard.cpus)):
                yield replace(gate, reason=f"client process {number} of {len(replay.shards)}: {gate.reason}")

    def _sending(self, pairs: Sequence[Pair]) -> Iterator[FailedGate]:
        """Lag, earliness and rate, of those that were sent."""
        times = np.array([(request.arrival, record.sent) for request, record in pairs if record.sent is not None])
        if len(times) == 0:
            return
        arrival, sent = times.T
        lag = sent - arrival
        if (lag < 0).any():
            yield FailedGate(f"{(lag < 0).sum()} requests were sent before their arrival, by up to {-lag.min() * 1e3:.3f} ms (limit 0)")
        if (p99 := float(np.percentile(lag, 99))) > self.max_lag_p99:
            late = f"dispatch lag p99 is {p99 * 1e3:.1f} ms (limit {self.max_lag_p99 * 1e3:g} ms): the client was too slow"
            yield FailedGate(late, passing=True)
        span, sent_span = float(np.ptp(arrival)), float(np.ptp(sent))
        if span > 0 and sent_span > 0:
            # Each end may lag by max_lag_p99 without being a slower rate; on a short run that alone can be more than 1 %.
            deviation = span / sent_span - 1
            if abs(deviation) > self.max_rate_error + self.max_lag_p99 / span:
                offered = (len(times) - 1) / span
                yield FailedGate(
                    f"achieved rate is {offered * (1 + deviation):.3f} requests/s for {offered:.3f} offered, "
                    f"off by {deviation:+.1%} (limit {self.max_rate_error:.1%})",
                    passing=True,
                )

    def _tokens(self, pairs: Sequence[Pair]) -> Iterator[FailedGate]:
        """Counts off from the trace. A failed request may well have given fewer tokens than asked."""
        inputs = [(a, r) for a, r in pairs if r.input_tokens not in (None, a.input_tokens)]
        outputs = [(a, r) for a, r in pairs if r.output_tokens not in (None, a.output_tokens)]
        outputs = [(a, r) for a, r in outputs if r.error is None or (r.output_tokens or 0) > a.output_tokens]
        for name, off in (("input_tokens", inputs), ("output_tokens", outputs)):
            if off:
                asked, got = getattr(off[0][0], name), getattr(off[0][1], name)
                yield FailedGate(
                    f"{name} off from the trace in {len(off)} of {len(pairs)} requests (limit 0), "
                    f"e.g. request {off[0][0].request_id}: {got} instead of {asked}"
                )
        silent = sum(r.error is None and (r.input_tokens is None or r.output_tokens is None) for _, r in pairs)
        if self.require_usage and silent:
            yield FailedGate(
                f"the server reported no token counts for {silent} of {len(pairs)} requests (limit 0), so their lengths cannot be checked"
            )

    def _cpu(self, cpu_s: float, wall_s: float, cpus: float) -> Iterator[FailedGate]:
        if wall_s > 0 and (share := cpu_s / wall_s / cpus) > self.max_client_cpu:
            used = f"the client used {share:.0%} of its {cpus:g} CPU (limit {self.max_client_cpu:.0%}): it may have been the bottleneck"
            yield FailedGate(used, passing=True)

    def _core(self, wait: float | None) -> Iterator[FailedGate]:
        if wait is not None and wait > self.max_core_wait:
            had = f"other processes had the engine's core for {wait:.1%} of the time while it needed it (limit {self.max_core_wait:.0%})"
            yield FailedGate(had, passing=True)


def invalid_reason(failed: Sequence[FailedGate]) -> str | None:
    """Why a replay is INVALID: all gates that it failed, joined by '; '. None: it is valid."""
    return "; ".join(gate.reason for gate in failed) or None


def may_pass(failed: Sequence[FailedGate]) -> bool:
    """Whether a replay is INVALID for passing reasons alone, so that another one may be valid."""
    return bool(failed) and all(gate.passing for gate in failed)


class _Blocks(dict[int, "_Blocks"]):
    """A trie of block ids."""


def _warm(trace: Trace, replay: Replay, shared_by_all: int) -> Iterator[FailedGate]:
    """Prompt tokens from the prefix cache beyond what earlier requests of this very trace can have left there."""
    seen = _Blocks()
    surplus = []
    for request, record in zip(trace, replay.records, strict=True):
        shared, node = 0, seen
        for block in request.blocks:
            shared += block in node
            node = node.setdefault(block, _Blocks())
        possible = min(shared * (trace.block_size or 0) + shared_by_all, request.input_tokens)
        if record.cached_tokens is not None and record.cached_tokens > possible:
            surplus.append(record.cached_tokens - possible)
    if surplus:
        yield FailedGate(
            f"the prefix cache was warm, but the study says cold: {sum(surplus)} cached tokens in {len(surplus)} requests "
            "that the trace does not share (limit 0)"
        )
