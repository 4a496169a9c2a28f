"""What is found out on a ready server before anything is measured: how prompts are written as text, and whether it has the LoRA adapters.

Text prompts are made of words that the served model's own tokenizer takes for one token each, wherever they stand. Two probes are sent, and
what the server counts beyond their words (its chat template, its special tokens) is left out of each prompt from then on: so the server
counts what the trace asks for. Where it counts otherwise all the same, each request of that kind fails, and the gates make the run INVALID.
"""

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from harness.engine import Endpoint, EngineError, TextPrompts
from harness.replay.client import Client
from results.record import RequestRecord
from workloads.trace import Request, Trace

LENGTHS = (8, 72)  # words of the two probes
NOBODY = "-as-nobody-calls-it"  # ends the name of an adapter that there is not
MOST_WORDS = 1 << 15  # more than traces need to tell their prompts apart; a vocabulary has up to ten times as many


def rehearse(client: Client, endpoint: Endpoint, *, folder: Path, first_id: int) -> Endpoint:
    """The endpoint, and how prompts are written for it where the client's protocol takes text.

    folder: of the model, with its tokenizer.json. first_id: the ids of ordinary tokens begin there. Raises EngineError, in one line, when
    the tokenizer is none to pin prompts with, the server counts by another one or not at all, or it does not have one of the adapters.
    """
    if client.protocol.takes_text:
        words = TextPrompts(words=usable_words(folder / "tokenizer.json"))
        overhead = _overhead(dataclasses.replace(client, adapters=None), dataclasses.replace(endpoint, text_prompts=words), folder)
        endpoint = dataclasses.replace(endpoint, text_prompts=dataclasses.replace(words, overhead=overhead))
    for name in client.adapters or ():
        if (error := _refusal(client, endpoint, name, first_id)) is not None:
            raise EngineError(f"client.adapters: {endpoint.url} does not serve the adapter {name}: {error}")
        if _refusal(client, endpoint, name + NOBODY, first_id) is None:
            raise EngineError(
                f"client.adapters: {endpoint.url} answers whatever model a request names ({name + NOBODY} too): it has no adapters by name"
            )
    return endpoint


def remarks(client: Client, endpoint: Endpoint, asked: Trace) -> Iterator[str]:
    """Lines about what cannot be as the trace asks."""
    text = endpoint.text_prompts
    if text is not None and (shorter := _shorter(text, asked)):
        yield f"{shorter} of {len(asked)} prompts are shorter than any text here: they are sent, and recorded, with {text.shortest} tokens"
    if client.adapters and any(request.blocks for request in asked):
        yield "engines keep the KV of each adapter apart: requests of different adapters share no prefix, whatever the trace says"


def pinned(endpoint: Endpoint, asked: Trace) -> dict[str, Any]:
    """What a run keeps of how the lengths of its text prompts were pinned; {} where prompts are token ids."""
    text = endpoint.text_prompts
    if text is None:
        return {}
    return {"text_prompts": {"overhead": text.overhead, "words": len(text.words), "lengthened": _shorter(text, asked)}}


def _shorter(text: TextPrompts, asked: Trace) -> int:
    return sum(request.input_tokens < text.shortest for request in asked)


def _overhead(client: Client, endpoint: Endpoint, folder: Path) -> int:
    """Tokens that the server counts beyond a prompt's words."""
    what = f"{endpoint.system} at {endpoint.url}{client.protocol.path}"
    assert endpoint.text_prompts is not None
    numbers = [[n % len(endpoint.text_prompts.words) for n in range(length)] for length in LENGTHS]
    counts = []
    for record in _asked(client, endpoint, numbers):
        if record.input_tokens is None:
            why = f"a probe failed: {record.error}" if record.error else "it answers without a usage (stream_options.include_usage)"
            raise EngineError(f"{what}: {why}, so that text prompts cannot be pinned to the trace's lengths")
        counts.append(record.input_tokens)
    found = [count - length for count, length in zip(counts, LENGTHS, strict=True)]
    if found[0] != found[1] or found[0] < 0:
        raise EngineError(
            f"{what} counts {counts[0]} and {counts[1]} tokens in prompts of {LENGTHS[0]} and {LENGTHS[1]} words, each a token of the "
            f"tokenizer in {folder}: it serves another one; name the model that it serves (model=hf model.id=... or model.path=...)"
        )
    return found[0]


def _refusal(client: Client, endpoint: Endpoint, adapter: str, first_id: int) -> str | None:
    """Why a request for this adapter failed; None: it was answered."""
    (record,) = _asked(dataclasses.replace(client, adapters={adapter: 1.0}), endpoint, [[first_id] * 64])
    return record.error


def _asked(client: Client, endpoint: Endpoint, prompts: list[list[int]]) -> tuple[RequestRecord, ...]:
    """The records of these prompts, one output token each."""
    requests = [Request(request_id=i, arrival=0.0, input_tokens=len(prompt), output_tokens=1) for i, prompt in enumerate(prompts)]
    return dataclasses.replace(client, processes=1).replay(endpoint, Trace(name="rehearsal", requests=tuple(requests)), prompts).records


@lru_cache(maxsize=2)
def usable_words(file: Path) -> tuple[str, ...]:
    """Words of letters and digits that a tokenizer takes for one token each: at the beginning, behind another, and all in one text.

    In the order of their ids, MOST_WORDS at the most. Raises EngineError when there is no such file, or there are no such words.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        hint = "text prompts need the served model's: model=hf model.id=... (model.load_format=dummy takes it without the weights)"
        raise EngineError(f"{file}: cannot be read ({' '.join(str(error).split())}); {hint}") from error
    special = tokenizer.get_added_tokens_decoder()
    ids = sorted(number for number in tokenizer.get_vocab(with_added_tokens=False).values() if number not in special)
    named = dict.fromkeys(text.strip() for text in tokenizer.decode_batch([[number] for number in ids], skip_special_tokens=False))
    candidates = [word for word in named if word.isascii() and word.isalnum()][: 2 * MOST_WORDS]
    thrice = tokenizer.encode_batch([f"{word} {word} {word}" for word in candidates], add_special_tokens=False)
    words = tuple(word for word, found in zip(candidates, thrice, strict=True) if len(found.ids) == 3)[:MOST_WORDS]
    if len(words) < 2:
        raise EngineError(f"{file}: no words are one token each wherever they stand, so that text prompts cannot be pinned to lengths")
    if (together := len(tokenizer.encode(" ".join(words), add_special_tokens=False).ids)) != len(words):
        raise EngineError(
            f"{file}: it does not round-trip: {len(words)} words of one token each are {together} tokens in one text, so that text prompts "
            "cannot be pinned to lengths"
        )
    return words
