"""Runs inside DistServe's simulator's own environment: builds its cluster as its own main() does, and asks it for single step times.

Usage: PYTHONPATH=CHECKOUT python -P driver.py JOB.json

JOB.json: model, tensor_parallel; times (a table in its own format that takes the place of the model's, or null); worker (settings of its
WorkerConfig, laid over its main()'s own); pools (null, or the instances for prefill and for decode, and transfer, the s that a prompt
token's KV cache takes from one to the other); requests (columns arrival in s, prompt, output); probes (steps as {new_tokens, batch,
context}); out (folder). Writes out/tokens.npz: request, time (s) of every token; scheduled (s) of every request; and for every step its
start (s), seconds, prompt_tokens, decodes, context (cached tokens of all decodes). Writes out/report.json: predicted (s per probe), worker,
simulate_s (of the replay).
Nothing of the simulator is edited or replaced but the table.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import simpy  # type: ignore[import-not-found]
from simdistserve.base.request import (  # type: ignore[import-not-found]
    E_DO_DECODE,
    E_DO_PREFILL,
    E_WAIT_DECODE,
    Request,
)
from simdistserve.base.scheduler import put_request_at_time  # type: ignore[import-not-found]
from simdistserve.base.worker import Worker, WorkerConfig  # type: ignore[import-not-found]
from simdistserve.clusters.disagg import DisaggCluster  # type: ignore[import-not-found]
from simdistserve.clusters.vllm import VLLMCluster  # type: ignore[import-not-found]
from simdistserve.constants import ModelTypes  # type: ignore[import-not-found]
from simdistserve.estimators import time_estimator  # type: ignore[import-not-found]
from simdistserve.estimators.memory_estimator import get_max_num_tokens, is_model_runnable  # type: ignore[import-not-found]

MS = 1e3  # its unit of time, per second


def configure(job: Mapping[str, Any]) -> Any:
    """The WorkerConfig of its main() for `--backend vllm` (distserve with pools), with the job's settings laid over it."""
    model, parallel = ModelTypes.model_str_to_object(job["model"]), job["tensor_parallel"]
    config = WorkerConfig(
        model_type=model,
        TP=parallel,
        TP_Prefill=parallel,
        TP_Decode=parallel,
        prefill_max_batch_size=10**7,
        decode_max_batch_size=10**7,
        enable_chunked_prefill=False,
        engine_type="distserve" if job["pools"] else "vllm",
    )
    if job["times"] is not None:
        time_estimator.vllm_profile_data = {job["model"]: {str(parallel): job["times"]}}
        time_estimator.distserve_profile_data = time_estimator.vllm_profile_data
    if "prefill_max_tokens" not in job["worker"]:
        if not is_model_runnable(model, parallel, 1):
            sys.exit(f"it ships no memory size of {job['model']} at tensor parallelism {parallel}")
        config["prefill_max_tokens"] = config["decode_max_tokens"] = int(get_max_num_tokens(model, parallel, 1))
    config.update(job["worker"])
    longest = max(job["requests"]["prompt"])
    if longest > config["prefill_max_tokens"]:
        sys.exit(f"a prompt of {longest} tokens is longer than the {config['prefill_max_tokens']} of a step, and would wait for ever")
    return config


class Transfer:
    """Hands requests on to the decode instances when their KV cache has arrived there; its own scheduler does so at once."""

    def __init__(self, env: Any, scheduler: Any, per_token: float) -> None:
        self.env, self.scheduler, self.per_token = env, scheduler, per_token

    def schedule_decode(self, request: Any) -> None:
        """What a prefill worker calls when it is done with a request."""
        self.env.process(self._deliver(request))

    def _deliver(self, request: Any) -> Any:
        yield self.env.timeout(request.prefill_lens * self.per_token * MS)
        self.scheduler.schedule_decode(request)


def build(env: Any, config: Any, pools: Mapping[str, Any] | None) -> Any:
    """Its cluster: one instance, or some for prefill and some for decode."""
    if pools is None:
        return VLLMCluster(env=env, N_instance=1, PP=1, worker_configs=config)
    cluster = DisaggCluster(env=env, N_prefill_instance=pools["prefill"], N_decode_instance=pools["decode"], worker_configs=config)
    for instance in cluster.prefill_instances:
        instance[-1].global_scheduler = Transfer(env, cluster.scheduler, pools["transfer"])
    return cluster


def replay(job: Mapping[str, Any], config: Any) -> tuple[Any, list[Any]]:
    """(cluster, requests) after all of them have run."""
    env = simpy.Environment()
    cluster = build(env, config, job["pools"])
    cluster.run()
    asked = job["requests"]
    requests = []
    for index, (arrival, prompt, output) in enumerate(zip(asked["arrival"], asked["prompt"], asked["output"], strict=True)):
        # prefill gives the first token, then come as many decode steps as the output length that it is given
        request = Request(env=env, req_id=index, prefill_length=prompt, output_lens=output - 1)
        env.process(put_request_at_time(env, cluster.scheduler, arrival * MS, request))
        requests.append(request)
    env.run()
    return cluster, requests


def token_times(request: Any) -> list[float]:
    """ms of every token, as generated: the first wait for a decode, and the first one after each decode."""
    times, due = [], True
    for moment, event, _ in request.log:
        if event == E_DO_DECODE:
            due = True
        elif event == E_WAIT_DECODE and due:
            times.append(moment)
            due = False
    return times


def steps_of(worker: Any) -> list[tuple[float, float, int, int, int]]:
    """(start, seconds, prompt tokens, decodes, their cached tokens) of each step."""
    found = []
    for (start, event, _, _, decodes, prompts, contexts), (end, *_) in zip(worker.log[:-1], worker.log[1:], strict=True):
        if event in (E_DO_PREFILL, E_DO_DECODE):
            found.append((start / MS, (end - start) / MS, sum(prompts), decodes, sum(contexts)))
    return found


def predict(worker: Any, probe: Mapping[str, float]) -> float:
    """Seconds that the simulator predicts for the prompt (if any) and the decodes (if any), in two steps: it has no mixed steps."""
    new, batch, context = int(probe["new_tokens"]), int(probe["batch"]), int(probe["context"])
    kind: dict[str, Any] = {"model_type": worker.model_type, "engine_type": worker.engine_type}
    total = 0.0
    if new:
        total += time_estimator.get_prefill_time(new, bs=1, pp=1, TP=worker.TP_Prefill, prefill_len_list=[new], **kind)
        total += worker.add_ray_overhead(new)
    if batch:
        total += time_estimator.get_decode_time(batch, pp=1, TP=worker.TP_Decode, token_generated_list=[context + 1] * batch, **kind)
        total += worker.add_ray_overhead(context * batch)
    return total / MS


def main() -> None:
    """Replay, and write what came out."""
    job = json.loads(Path(sys.argv[1]).read_text())
    config = configure(job)
    start = time.monotonic()
    cluster, requests = replay(job, config)
    took = time.monotonic() - start
    tokens = [(request.req_id, ms / MS) for request in requests for ms in token_times(request)]
    scheduled = [next((ms / MS for ms, event, _ in r.log if event == E_DO_PREFILL), float("nan")) for r in requests]
    names = ("start", "seconds", "prompt_tokens", "decodes", "context")
    columns: Any = np.array([step for worker in cluster.get_all_workers() for step in steps_of(worker)], float).reshape(-1, len(names)).T
    steps: dict[str, Any] = dict(zip(names, columns, strict=True))
    out = Path(job["out"])
    np.savez(
        out / "tokens.npz",
        request=np.array([place for place, _ in tokens], int),
        time=np.array([seconds for _, seconds in tokens], float),
        scheduled=np.array(scheduled, float),
        **steps,
    )
    worker: Worker = cluster.get_all_workers()[0]
    report = {"predicted": [predict(worker, probe) for probe in job["probes"]], "worker": dict(config), "simulate_s": took}
    (out / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
