"""What every adapter asks of a measured run before it simulates, and how it sorts the tokens that come out into records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from results.profile import Profile
from results.record import RequestRecord, Run
from simulators.errors import NotAvailable, SimulatorError
from workloads.release import ClosedLoop, Release, Slots, Turns
from workloads.trace import Request, Trace

ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def sent_trace(system: str, measured: Run) -> Trace:
    """The requests as really sent. Raises SimulatorError when none was."""
    if all(r.sent is None for r in measured.records):
        raise SimulatorError(f"{system}: run {measured.run_id} sent no request, so there is nothing to simulate")
    return measured.trace_as_sent()


def release_of(measured: Run, sent: Trace) -> Release | None:
    """What makes a run's requests due, over its requests as sent: its closed loop or its sessions; None: an open loop, or a closed one of
    unknown size.

    The slots take their first requests as its load says, and where that is not known, when the first requests were sent.
    """
    if any(request.after for request in measured.trace):
        arrivals = {r.request_id: r.arrival for r in sent}
        turns = (replace(r, arrival=arrivals[r.request_id]) for r in measured.trace if r.request_id in arrivals)
        return Turns(replace(sent, requests=tuple(sorted(turns, key=lambda r: (r.arrival, r.request_id)))))
    if measured.concurrency is None:
        return None
    ramp = measured.config["load"].get("ramp")
    if ramp is not None:
        return ClosedLoop(concurrency=measured.concurrency, ramp=ramp).over(len(sent))
    return Slots([r.arrival for r in sent.requests[: measured.concurrency]], len(sent))


def needed_profile(system: str, measured: Run, profile: Profile | None) -> Profile:
    """The profile of a calibrated track. Raises NotAvailable when there is none."""
    if profile is None:
        raise NotAvailable(
            f"{system}: the calibrated track of run {measured.run_id} needs a profile of its engine; measure one, or take another source "
            f"(calibration=aic, calibration=run, calibration=first_requests)"
        )
    return profile


def known_limits(system: str, measured: Run, names: Sequence[str]) -> list[int]:
    """The engine's limits of these names. Raises NotAvailable naming those that it did not say."""
    unknown = [name for name in names if getattr(measured.limits, name) is None]
    if unknown:
        raise NotAvailable(f"{system}: run {measured.run_id} does not say the engine's {', '.join(unknown)}, so it cannot be set alike")
    return [int(getattr(measured.limits, name)) for name in names]


def one_engine(system: str, measured: Run) -> None:
    """Raise NotAvailable when the run is of several engines behind one front end, or of one with stages: a simulator that is set up for
    one engine would serve the load of all of them on one, or on a device of another size.
    """
    for what, count in (("data-parallel replicas", measured.limits.data_parallel), ("pipeline stages", measured.limits.pipeline_parallel)):
        if count > 1:
            raise NotAvailable(f"{system}: run {measured.run_id} is of an engine with {count} {what}, and it is set up for one")


@dataclass(frozen=True, slots=True, kw_only=True)
class KVShape:
    """One token's keys and values: layers, elements of the keys of a layer (all KV heads, so GQA is in it), bytes of an element."""

    layers: int
    width: int
    element: int

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token in the KV cache of the whole model."""
        return 2 * self.layers * self.width * self.element


def kv_shape(system: str, model: Mapping[str, Any]) -> KVShape:
    """From a Hugging Face config.json. Raises SimulatorError naming what it lacks, or a dtype of unknown size."""
    try:
        heads = model.get("num_key_value_heads") or model["num_attention_heads"]
        head_dim = model.get("head_dim") or model["hidden_size"] // model["num_attention_heads"]
        element = ELEMENT_BYTES[str(model.get("torch_dtype") or model.get("dtype") or "bfloat16")]
        return KVShape(layers=int(model["num_hidden_layers"]), width=int(heads) * int(head_dim), element=element)
    except KeyError as error:
        raise SimulatorError(f"{system}: the size of the KV cache needs {error.args[0]}, not known from the model's config.json") from error


def labelled(name: str, topology: str) -> str:
    """A simulator's name in the database: with prefill and decode apart (pd) it is a system of its own, beside the colocated one."""
    return f"{name}_pd" if topology == "pd" else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Disaggregated prefill and decode: the instances of each, and the bytes/s of a KV cache between two (None: the simulator's own).

    The client reads from the decode instance (see `handed_over`).
    """

    prefill: int
    decode: int
    transfer: float | None


def handed_over(trace: Trace) -> Trace:
    """What to ask of prefill and decode apart: an output token more of each request, the first of which nobody sees.

    As vLLM does it (harness/engines/vllm_pd.py): the prefill instance computes a token and throws it away; the decode instance computes the
    prompt's last token anew when the KV cache has arrived, and that step gives the first token that a client sees.
    """
    return replace(trace, requests=tuple(replace(r, output_tokens=r.output_tokens + 1) for r in trace))


def transfer_rate(system: str, measured: Run) -> float:
    """Bytes/s at which an instance hands a KV cache to another: one direction of the link of each of its devices, all at once.

    Raises NotAvailable when the hardware has no such link.
    """
    link = (measured.config.get("hardware") or {}).get("interconnect_gb_s")
    if not link:
        raise NotAvailable(f"{system}: topology=pd needs the link between devices; set interconnect_gb_s in conf/hardware")
    return float(link) * 1e9 / 2 * measured.limits.tensor_parallel


def mean_decode_context(trace: Trace) -> float:
    """Cached tokens that a decode step of these requests has on average: known before anything runs, from their lengths alone."""
    steps = sum(r.output_tokens - 1 for r in trace)
    if steps == 0:
        return float(np.mean([r.input_tokens for r in trace]))
    return sum((r.output_tokens - 1) * (r.input_tokens + (r.output_tokens - 2) / 2) for r in trace) / steps


def tokens_per_request(places: npt.NDArray[Any], times: npt.NDArray[Any], requests: int) -> list[list[float]]:
    """Each request's token times, ascending. places: which request (0 to requests - 1) each time belongs to."""
    order = np.lexsort((times, places))
    parts = np.split(times[order], np.searchsorted(places[order], np.arange(1, requests)))
    return [[float(t) for t in part] for part in parts]


def answered(request: Request, *, scheduled: float, token_times: Sequence[float]) -> RequestRecord:
    """The record of a request of a trace as sent, answered in full. scheduled, token_times (of all that the client sees): s since the
    trace's start.
    """
    return RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=request.arrival,
        scheduled=scheduled,
        first_token=token_times[0],
        finished=token_times[-1],
        input_tokens=request.input_tokens,
        output_tokens=len(token_times),
        token_times=tuple(token_times),
    )
