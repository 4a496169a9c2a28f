"""Random cases for the differential test of the sglang policy: those of `cases`, with SGLang's own limits and options."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from simulators.native.engine import run
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.scheduling.policies import adapted
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.sglang import SglangScheduler
from simulators.native.scheduling.sglang_options import SglangOptions
from simulators.native.scheduling.speculation import Speculation
from tests.simulators.native.cases import MAX_STEPS, Case, random_case
from workloads.prompts import token_ids

ALGORITHMS = {"eagle": "EAGLE", "ngram": "NGRAM"}
VOCABULARY = 1 << 19  # tokens: so many that hardly two prompts begin with the same one by chance


def sglang_case(seed: int) -> Case:
    """The same case for the same seed. Every feature is on in some and off in others."""
    rng = np.random.default_rng([seed, 808])
    case = random_case(seed)
    page = int(rng.choice([1, 1, 4, 16]))
    model_len = case.limits.max_model_len
    pages = -(-model_len // page) + 3  # what a request that is alone needs, and what its admission asks beside that
    chunk = int(rng.integers(2, 12)) * 16
    limits = Limits(
        kv_blocks=int(pages * rng.choice([1.0, 1.3, 1.7, 2.0, 2.5])),
        block_size=page,
        max_num_seqs=int(rng.choice([1, 4, 8, 16, 32])),
        max_num_batched_tokens=chunk,
        max_model_len=model_len,
        chunked_prefill=bool(rng.random() < 0.75),
        prefix_caching=bool(rng.random() < 0.75),
        in_flight=int(rng.choice([1, 2])),
        sglang=SglangOptions(
            max_prefill_tokens=int(rng.choice([64, 200, 16384])),
            mixed_chunk=bool(rng.random() < 0.3),
            ignore_eos=bool(rng.random() < 0.3),
            schedule_conservativeness=float(rng.choice([0.0, 0.0, 0.3, 1.0])),
        ),
    )
    return dataclasses.replace(case, limits=limits)


def speculative_sglang_case(seed: int) -> Case:
    """The case of this seed, with speculation: chains and trees of drafts, accepted never, sometimes and always."""
    case = sglang_case(seed)
    rng = np.random.default_rng([seed, 809])
    steps, ngram = int(rng.integers(1, 6)), bool(rng.random() < 0.3)
    topk = 1 if ngram or rng.random() < 0.5 else int(rng.integers(2, 4))
    drafts = Speculation(
        num_speculative_tokens=steps,
        method="ngram" if ngram else "eagle",
        synthetic_acceptance_rates=tuple(np.sort(rng.choice([0.0, 1.0, *rng.random(3)], steps))[::-1].tolist()),
        seed=seed,
        speculative_eagle_topk=topk,
        speculative_num_draft_tokens=steps + 1 + (int(rng.integers(0, 8)) if topk > 1 or ngram else 0),
    )
    page = case.limits.block_size
    alone = -(-(case.limits.max_model_len + drafts.reserved_tokens(page) + steps) // page) + 3
    blocks = int(alone * rng.choice([1.0, 1.3, 1.7, 2.5]))
    return dataclasses.replace(case, limits=dataclasses.replace(case.limits, speculation=drafts, kv_blocks=blocks))


def for_sglang(case: Case) -> dict[str, Any]:
    """The case as drive_sglang.py reads it, prompts as the bench would send them but of so many kinds of tokens that none is the same by
    chance."""
    limits, options, drafts = adapted("sglang", case.limits), case.limits.sglang, case.limits.speculation
    prompts = token_ids(case.trace, vocab_size=VOCABULARY, seed=0)
    return {
        "limits": {
            "num_blocks": limits.kv_blocks,
            "block_size": limits.block_size,
            "max_num_seqs": limits.max_num_seqs,
            "max_num_batched_tokens": limits.max_num_batched_tokens,
            "max_model_len": limits.max_model_len,
            "chunked_prefill": limits.chunked_prefill,
            "prefix_caching": limits.prefix_caching,
            "in_flight": limits.in_flight,
            "max_prefill_tokens": options.max_prefill_tokens,
            "mixed_chunk": options.mixed_chunk,
            "ignore_eos": options.ignore_eos,
            "schedule_conservativeness": options.schedule_conservativeness,
            "speculative_algorithm": ALGORITHMS[drafts.method] if drafts.num_speculative_tokens else None,
            "speculative_num_steps": drafts.num_speculative_tokens if drafts.num_speculative_tokens and drafts.method != "ngram" else None,
            "speculative_eagle_topk": drafts.speculative_eagle_topk if drafts.num_speculative_tokens else None,
            "speculative_num_draft_tokens": drafts.verified_tokens if drafts.num_speculative_tokens else None,
        },
        "max_steps": MAX_STEPS,
        "step_seconds": {"fixed": case.step_time.fixed, "per_token": case.step_time.per_token},
        "requests": [
            {
                "prompt": prompt,
                "output_tokens": r.output_tokens,
                "arrival": r.arrival,
                "accepted": [int(drafts.accepted(i, n)) for n in range(r.output_tokens)],
            }
            for i, (r, prompt) in enumerate(zip(case.trace, prompts, strict=True))
        ],
    }


def our_steps(case: Case) -> list[dict[str, Any]]:
    """The case on our own engine; steps in the form in which drive_sglang.py gives them."""
    limits = adapted("sglang", case.limits)
    sequences = list(make_sequences(case.trace, block_size=limits.block_size))
    found = []
    for step in itertools.islice(run(sequences, SglangScheduler(limits), case.step_time, in_flight=limits.in_flight), MAX_STEPS):
        batch = step.batch
        found.append(
            {
                "scheduled": step.scheduled,
                "end": step.end,
                "tokens": [[s.index, n] for s, n in zip(batch.sequences, batch.tokens, strict=True)],
                "context": batch.prefill_context + batch.decode_context,
                "admitted": sorted([s.index, n] for s, n in batch.admitted),
                "preempted": sorted(s.index for s in batch.preempted),
            }
        )
    return found
