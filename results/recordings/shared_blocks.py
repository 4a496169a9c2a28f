"""Which prompt blocks recorded requests share, found from their prompts' token ids (the inverse of workloads.prompts)."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.recordings.recording import Recording, RecordingError, object_rows, sha256

TOKENS = "input_tok_ids"
BLOCK_SIZE = 16  # tokens, where the engine's own is unknown


def with_blocks(recording: Recording, prompts: Path) -> Recording:
    """The recording with the blocks that its prompts share. prompts: JSONL, one object with input_tok_ids per request of the recording,
    in the order of its lines.

    Raises RecordingError when it is not the file that the recording names (sha256), or does not fit its requests.
    """
    named, digest = recording.workload.get("sha256"), sha256(prompts) if prompts.is_file() else None
    if named is not None and digest is not None and digest != named:
        raise RecordingError(f"{prompts}: not this recording's prompts: sha256 is {digest[:12]}..., the recording names {named[:12]}...")
    lines = list(object_rows(prompts, required=(TOKENS,), known=None))
    by_line = sorted(recording.requests, key=lambda pair: pair[0].line)
    if len(lines) != len(by_line):
        raise RecordingError(f"{prompts}: {len(lines)} prompts, but {recording.path} has {len(by_line)} requests")
    tokens = [_tokens(f"{prompts}:{line}", fields[TOKENS]) for line, fields in lines]
    for (line, _), ids, (row, _) in zip(lines, tokens, by_line, strict=True):
        if len(ids) != row.input_tokens:
            raise RecordingError(
                f"{prompts}:{line}: {len(ids)} tokens, but the request of {recording.path}:{row.line} has {row.input_tokens} input tokens"
            )
    size = recording.limits.block_size or BLOCK_SIZE
    blocks = {row.line: ids for (row, _), ids in zip(by_line, shared_blocks(tokens, size), strict=True)}
    requests = tuple((dataclasses.replace(row, blocks=blocks[row.line], block_size=size), record) for row, record in recording.requests)
    return dataclasses.replace(recording, requests=requests, files={**recording.files, prompts.name: sha256(prompts)})


def shared_blocks(prompts: Sequence[Sequence[int]], size: int) -> list[tuple[int, ...]]:
    """For each prompt, the ids of its leading whole blocks of `size` tokens that another prompt starts with as well; often none."""
    ids: dict[tuple[int, tuple[int, ...]], int] = {}  # (id of the block before, its own tokens) to id: equal only after equal beginnings
    chains: list[list[int]] = []
    for prompt in prompts:
        chain: list[int] = []
        for start in range(0, len(prompt) - size + 1, size):
            key = (chain[-1] if chain else -1, tuple(prompt[start : start + size]))
            chain.append(ids.setdefault(key, len(ids)))
        chains.append(chain)
    uses = Counter(block for chain in chains for block in chain)
    # a block that no other prompt has is followed by none that another has
    return [tuple(block for block in chain if uses[block] > 1) for chain in chains]


def _tokens(where: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(token, int) for token in value):
        raise RecordingError(f"{where}: {TOKENS} must be a list of token ids, got {str(value)[:40]}")
    return value
