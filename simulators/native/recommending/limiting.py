"""What limits a way to serve: the KV memory, the places in a batch, or the resource whose doubling shortens its steps most."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.step_law import WORK, Row
from simulators.native.planning.deployment import Deployment
from simulators.native.predictor import Prediction
from simulators.native.sequence import prefill_pairs
from workloads.columns import columns_of
from workloads.trace import Trace

FULL = 0.95  # of the KV blocks, held at once
CROWDED = 0.8  # of the places in a batch, taken on average
MEMORY, QUEUE = "memory", "queue"
RATES = ("flops", "fp8_flops", "int8_flops", "fp4_flops")


def limited_by(deployment: Deployment, trace: Trace, outcome: Prediction, in_flight: float) -> str:
    """Of a simulation: memory (of the KV cache), queue (for a place in the batch), compute, bandwidth, links or host.

    in_flight: requests under way on average, those that wait included.
    """
    served, limits = outcome.served, outcome.limits
    if served.preemptions or served.peak_kv_blocks >= FULL * limits.kv_blocks:
        return MEMORY
    if in_flight >= CROWDED * limits.max_num_seqs:
        return QUEUE
    return slowest(deployment, mean_step(trace, served.steps))


def mean_step(trace: Trace, steps: int) -> Row:
    """The work of the mean one of so many steps that serve a trace."""
    asked = columns_of(trace)
    prompts, decodes = asked.input_tokens, asked.output_tokens - 1
    context = float(np.sum(decodes * (prompts + (decodes - 1) / 2)))
    beside = min(1.0, len(prompts) / steps)  # about as many steps compute a prompt
    sums = {
        "new_tokens": prompts.sum() + decodes.sum(),
        "sequences": len(prompts) + decodes.sum(),
        "decodes": decodes.sum(),
        "decode_context": context,
        "prefill_tokens": prompts.sum(),
        "prefill_pairs": np.sum(prefill_pairs(0, prompts)),
        "mixed_context": beside * context,
        "mixed_decodes": beside * decodes.sum(),
        "prompt_steps": beside * steps,
    }
    return tuple(float(sums.get(name, 0.0)) / steps for name in WORK)


def slowest(deployment: Deployment, work: Row) -> str:
    """The resource whose doubling shortens such a step most: compute, bandwidth, links or host."""
    shape, device = deployment.sizes()
    efficiency = deployment.efficiency()
    host = deployment.native.host_beside(deployment.hardware, overlapped=True, engine={})

    def seconds(device: Device, efficiency: Efficiency, *, times: float = 1.0) -> float:
        beside = host and dataclasses.replace(
            host, **{name: getattr(host, name) * times for name in ("step", "sequence", "gap", "launch_piecewise")}
        )
        made = Roofline(shape, device, efficiency, parallel=deployment.parallel, host=beside, routing=deployment.native.routing)
        return made.law.seconds(work)

    faster: Mapping[str, float] = {
        "compute": seconds(_times(device, *RATES), efficiency),
        "bandwidth": seconds(_times(device, "memory_bandwidth"), efficiency),
        "links": seconds(
            _times(device, "link_bandwidth", "network_bandwidth"), dataclasses.replace(efficiency, all_reduce=efficiency.all_reduce / 2)
        ),
        "host": seconds(device, dataclasses.replace(efficiency, step=efficiency.step / 2), times=0.5),
    }
    return min(faster, key=lambda name: faster[name])


def _times(device: Device, *names: str) -> Device:
    """The device with twice of these rates, as far as it has them."""
    return dataclasses.replace(device, **{name: 2 * value for name in names if (value := getattr(device, name)) is not None})
