# mypy: disable-error-code="import-not-found"
"""Drives SGLang's own Scheduler without a model: our clock, our step times, made-up tokens. Run by the engine's interpreter.

    .envs/sglang_cpu/bin/python drive_sglang.py < cases.json > steps.json

It needs nothing of Plumbline. In: a list of cases, each {limits, step_seconds, requests, max_steps}; out: a list of steps per case.
A Scheduler object is made without its constructor (no model, no sockets) and given the parts that scheduling needs, all of them SGLang's
own: KV pool, radix cache, policy, result processor. The loop is the one of event_loop_normal, or with in_flight 2 of event_loop_overlap.
"""

import json
import os
import sys
import tempfile
from array import array
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from sglang.srt.disaggregation.utils import DisaggregationMode
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.scheduler_components.batch_result_processor import SchedulerBatchResultProcessor
from sglang.srt.managers.scheduler_components.new_token_ratio_tracker import NewTokenRatioTracker
from sglang.srt.mem_cache import allocation
from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator
from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.memory_pool import ReqToTokenPool
from sglang.srt.mem_cache.unified_cache.components import ComponentType
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
from sglang.srt.runtime_context import get_context, publish
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

MODEL = json.loads((Path(__file__).parents[1] / "one_layer.json").read_text())  # a config.json


def write_rows(rows: Any, table: Any, start: Any, end: Any, places: Any, size: int) -> None:
    """Enter new KV places in the requests' rows: SGLang does so by a kernel of Triton's, which no CPU runs."""
    done = 0
    for row, first, last in zip(rows.tolist(), start.tolist(), end.tolist(), strict=True):
        if last > first:
            table[row, first:last] = places[done : done + last - first]
            done += last - first


allocation.assign_req_to_token_pool_func = write_rows
torch.set_num_threads(1)  # its tensors are tiny


class Silent:
    """What only reports: metrics, streams. Whatever is asked of it, nothing happens."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: Any) -> None:
        pass

    def __add__(self, other: Any) -> Any:
        return self

    def __mod__(self, other: Any) -> Any:
        return 1


SILENT = Silent()


def publish_config(folder: str) -> None:
    """SGLang's process-wide configuration, as its server has it on a CPU."""
    publish(ServerArgs(model_path=folder, device="cpu", attention_backend="torch_native", sampling_backend="pytorch"), role="scheduler")


def memory(limits: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Rows, KV pool and radix cache."""
    rows = ReqToTokenPool(limits["max_num_seqs"], limits["max_model_len"] + 1024, "cpu", False)
    size, page = limits["num_blocks"] * limits["block_size"], limits["block_size"]
    if page == 1:
        pool = TokenToKVPoolAllocator(size, torch.float32, "cpu", None, False)
    else:
        pool = PagedTokenToKVPoolAllocator(size, page, torch.float32, "cpu", None, False)
    params = CacheInitParams(
        disable=not limits["prefix_caching"],
        req_to_token_pool=rows,
        token_to_kv_pool_allocator=pool,
        page_size=page,
        tree_components=(ComponentType.FULL,),
    )
    return rows, pool, UnifiedRadixCache(params)


class Lean(Scheduler):  # type: ignore[misc]  # it is not installed where types are checked
    """A Scheduler that its constructor has not run for: what it was not given is None."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__ |= parts
        self.retracted: list[Req] = []

    def __getattr__(self, name: str) -> Any:
        return None

    def _add_request_to_queue(self, req: Req, is_retracted: bool = False) -> None:
        if is_retracted:
            self.retracted.append(req)
        self.waiting_queue.append(req)


class Result:
    """What a model hands back: one token for every request, its own (no two requests generate the same text).

    verified: tokens of each request that the step verified, 0: it verified none. accepted: of each request, the drafts that its
    verifications accept.
    """

    def __init__(self, batch: ScheduleBatch, verified: int, accepted: list[deque[int]]) -> None:
        self.next_token_ids = torch.tensor([1_000_000 + int(req.rid) for req in batch.reqs for _ in range(verified or 1)])
        if verified:
            gone = [req.finished() or req.is_retracted for req in batch.reqs]
            drafts = [0 if g else accepted[int(req.rid)].popleft() for req, g in zip(batch.reqs, gone, strict=True)]
            self.accept_lens = torch.tensor([1 + n for n in drafts])
            self.speculative_num_draft_tokens, self.num_non_draft_tokens_per_req = verified, 1

    def __getattr__(self, name: str) -> Any:
        return None

    def get_num_generated_tokens(self, size: int) -> int:
        return size


def make_scheduler(limits: dict[str, Any]) -> Lean:
    """A Scheduler with what scheduling needs of it."""
    chunk = limits["max_num_batched_tokens"] if limits["chunked_prefill"] else None
    algorithm = SpeculativeAlgorithm.from_string(limits["speculative_algorithm"])
    get_context().override(
        "test",
        pp_max_micro_batch_size=limits["max_num_seqs"],
        schedule_conservativeness=limits["schedule_conservativeness"],
        page_size=limits["block_size"],
        **{name: value for name, value in limits.items() if name.startswith("speculative_")},
    )
    rows, pool, cache = memory(limits)
    overlap = limits["in_flight"] == 2
    shared = {
        "req_to_token_pool": rows,
        "token_to_kv_pool_allocator": pool,
        "tree_cache": cache,
        "enable_overlap": overlap,
        "enable_overlap_mlx": False,
        "disaggregation_mode": DisaggregationMode.NULL,
        "model_config": SimpleNamespace(
            vocab_size=1 << 40, is_encoder_decoder=False, is_multimodal=False, self_opened_think_start_ids=None
        ),
        "hisparse_coordinator": None,
        "decode_offload_manager": None,
        "draft_worker": None,
        "metrics_collector": SILENT,
        "metrics_reporter": SILENT,
        "beam_coordinator": SimpleNamespace(
            pending_member_rows=lambda batch: 0, commit_decode=lambda batch: set(), retire_group=lambda req: None
        ),
    }
    processor = SchedulerBatchResultProcessor(
        **shared, is_generation=True, model_worker=SILENT, logprob_result_processor=SILENT, output_streamer=SILENT, abort_request=SILENT
    )
    return Lean(
        **shared,
        batch_result_processor=processor,
        page_size=limits["block_size"],
        policy=SchedulePolicy("fcfs", cache, False, False, False),
        waiting_queue=[],
        running_batch=ScheduleBatch(reqs=[], batch_is_full=False),
        result_queue=deque(),
        enable_skip_finishing_decode=overlap,
        spec_algorithm=algorithm,
        device="cpu",
        chunked_prefill_size=chunk,
        is_mixed_chunk=chunk is not None and limits["mixed_chunk"] and (algorithm.is_none() or algorithm.supports_mixed_chunk()),
        future_map=SILENT,
        max_prefill_tokens=limits["max_prefill_tokens"],
        max_running_requests=limits["max_num_seqs"],
        max_prefill_bs=0,
        processed_tokens_counter=0,
        prefill_decode_interval=0,
        _prefill_decode_interval_remaining=0,
        forward_ct=0,
        new_token_ratio_tracker=NewTokenRatioTracker.from_config(),
        grammar_manager=SimpleNamespace(has_waiting_grammars=lambda: False),
        dp_attn_adapter=SimpleNamespace(
            maybe_prepare_mlp_sync_batch=lambda batch, need_sync=None: batch, maybe_convert_decode_to_extend=lambda batch: batch
        ),
        ngram_embedding_manager=SimpleNamespace(prepare_for_forward=lambda batch, chunked_req=None: batch),
        tp_worker=SimpleNamespace(model_runner=SimpleNamespace(attn_backend=object(), prefill_aware_swa=False)),
        load_inquirer=SimpleNamespace(_get_num_pending_tokens=lambda chunk_deduct=0: 0),
        scheduler_stage_metrics=SILENT,
    )


def make_request(index: int, row: dict[str, Any], ignore_eos: bool) -> Req:
    """Request `index`: its prompt as token ids, as many output tokens as asked, whatever they are."""
    sampling = SamplingParams(max_new_tokens=row["output_tokens"], ignore_eos=ignore_eos, temperature=0.0)
    sampling.normalize(None)
    return Req(str(index), "", array("q", row["prompt"]), sampling, eos_token_ids=set(), vocab_size=1 << 40)


def process(scheduler: Lean, batch: ScheduleBatch, verified: int, accepted: list[deque[int]]) -> None:
    """Hand a step's tokens back."""
    processor = scheduler.batch_result_processor
    if batch.forward_mode.is_extend():
        processor.process_batch_result_prefill(batch, Result(batch, 0, accepted))
    else:
        processor.process_batch_result_decode(batch, Result(batch, verified, accepted))


def described(batch: ScheduleBatch | None, waiting_before: set[str], retracted: list[Req], verified: int) -> dict[str, Any]:
    """Who computes how many tokens on top of how many, who was admitted and what it found, who was retracted."""
    if batch is None:
        tokens, admitted = [], []
    elif batch.forward_mode.is_extend():
        decoding = {id(r) for r in batch.decoding_reqs or []}
        lens = [(r, e, p, id(r) in decoding) for r, e, p in zip(batch.reqs, batch.extend_lens, batch.prefix_lens, strict=True)]
        if verified:  # what it knows of them on the host may be a token behind
            lens = [(r, e, r.kv.kv_committed_len if decodes else p, decodes) for r, e, p, decodes in lens]
        tokens = [[int(r.rid), int(e), int(p)] for r, e, p, _ in lens]
        admitted = [[int(r.rid), int(p)] for r, _, p, decodes in lens if not decodes and r.rid in waiting_before]
    else:
        contexts = [r.kv.kv_committed_len if verified else int(s) - 1 for r, s in zip(batch.reqs, batch.seq_lens_cpu, strict=True)]
        tokens = [[int(r.rid), verified or 1, context] for r, context in zip(batch.reqs, contexts, strict=True)]
        admitted = []
    return {
        "tokens": [[i, n] for i, n, _ in tokens],
        "context": sum(context for _, _, context in tokens),
        "admitted": sorted(admitted),
        "preempted": sorted(int(r.rid) for r in retracted),
    }


def drive(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Replay one case; the steps in which something was scheduled or retracted."""
    limits, seconds = case["limits"], case["step_seconds"]
    scheduler = make_scheduler(limits)
    verified = limits["speculative_num_draft_tokens"] or 0
    accepted = [deque(row["accepted"]) for row in case["requests"]]
    arriving = deque(enumerate(case["requests"]))
    under_way: deque[tuple[float, Any]] = deque()
    now = device_free = 0.0
    steps: list[dict[str, Any]] = []
    while len(steps) < case["max_steps"]:
        while arriving and arriving[0][1]["arrival"] <= now:
            scheduler._add_request_to_queue(make_request(*arriving.popleft(), limits["ignore_eos"]))
        waiting = {r.rid for r in scheduler.waiting_queue}
        scheduler.retracted = []
        plan = scheduler.get_next_batch_to_run(running_batch=scheduler.running_batch, last_batch=scheduler.last_batch)
        scheduler.running_batch, batch = plan.running_batch, plan.batch_to_run
        last, scheduler.last_batch = scheduler.last_batch, batch
        if batch is not None or scheduler.retracted:
            step = described(batch, waiting, scheduler.retracted, verified)
            start = max(now, device_free)
            new = sum(n for _, n in step["tokens"])
            device_free = start + (seconds["fixed"] + seconds["per_token"] * new if new else 0.0)
            steps.append({"scheduled": now, "end": device_free, **step})
        if batch is not None:
            scheduler.forward_ct += 1
            batch.forward_iter = scheduler.forward_ct
            if limits["in_flight"] == 2:
                # tokens of the step under way are promised: the batch that runs is a copy, as in the overlap loop
                under_way.append((device_free, batch.copy()))
                scheduler.result_queue.append((batch.copy(), None))
            else:
                under_way.append((device_free, batch))
        if limits["in_flight"] == 2 and batch is not None and last is None:
            continue  # the next one is decided while this one runs
        if under_way:
            end, done = under_way.popleft()
            now = max(now, end)
            if limits["in_flight"] == 2:
                scheduler.result_queue.popleft()
            process(scheduler, done, verified, accepted)
        elif scheduler.last_batch is None and not last:
            scheduler.new_token_ratio_tracker.reset()
            if not arriving:
                break
            now = arriving[0][1]["arrival"]
    return steps


def main() -> None:
    """Cases on standard input, steps on standard output."""
    cases = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODEL))
        publish_config(folder)
        answers = [drive(case) for case in cases]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
