"""Public trace files into rows, one class per format. Second 0 of a foreign file is its first row (plain CSV keeps its own seconds).

`rows()` reads as it goes, so a slice of a file of gigabytes costs only its own rows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol

import orjson
from tokenizers import Tokenizer

from workloads.files import plain_rows
from workloads.rows import Row, csv_rows, integer, number, opened
from workloads.trace import TraceError

TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")
NANOSECONDS = 10**9


class Source(Protocol):
    """A file of requests."""

    @property
    def path(self) -> Path | str:
        """Where it is."""
        ...

    def rows(self) -> Iterator[Row]:
        """Its rows, in the file's order. Raises TraceError naming the file and the line."""
        ...


@dataclass(frozen=True, kw_only=True)
class Csv:
    """Plain CSV; `workloads.files.plain_rows` says which columns."""

    path: Path | str

    def rows(self) -> Iterator[Row]:
        """See Source."""
        return plain_rows(Path(self.path))


@dataclass(frozen=True, kw_only=True)
class Azure:
    """Azure's LLM inference traces of 2023 and 2024: TIMESTAMP,ContextTokens,GeneratedTokens.

    2023 writes '2023-11-16 18:17:03.9799600', 2024 '2024-05-10 00:00:00.009930+00:00'; a time without a zone is taken as UTC.
    """

    path: Path | str

    def rows(self) -> Iterator[Row]:
        """See Source."""
        obtain = "get it from https://github.com/Azure/AzurePublicDataset (LLM inference traces) or set workload.source.path"
        first: int | None = None
        for line, cells in csv_rows(Path(self.path), required=("TIMESTAMP", "ContextTokens", "GeneratedTokens"), obtain=obtain):
            where = f"{self.path}:{line}"
            time = _nanoseconds(where, cells["TIMESTAMP"])
            first = time if first is None else first
            yield Row(
                line=line,
                arrival=(time - first) / NANOSECONDS,
                input_tokens=integer(where, cells, "ContextTokens"),
                output_tokens=integer(where, cells, "GeneratedTokens"),
            )


@dataclass(frozen=True, kw_only=True)
class BurstGpt:
    """BurstGPT: Timestamp (s),Model,Request tokens,Response tokens,Total tokens,Log Type; newer releases have more columns.

    A failed request has 0 response tokens, and mostly 0 request tokens (1.8 % of BurstGPT_1.csv): Dataset's `empty` says what
    becomes of it. model, log_type: take only rows with that cell, e.g. 'GPT-4', 'API log' (None: all).
    """

    path: Path | str
    model: str | None = None
    log_type: str | None = None

    def rows(self) -> Iterator[Row]:
        """See Source."""
        obtain = "get BurstGPT_1.csv from https://github.com/HPMLL/BurstGPT/releases or set workload.source.path"
        required = ("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type")
        first: float | None = None
        for line, cells in csv_rows(Path(self.path), required=required, obtain=obtain):
            where = f"{self.path}:{line}"
            time = number(where, cells, "Timestamp")
            first = time if first is None else first
            if self.model in (None, cells["Model"]) and self.log_type in (None, cells["Log Type"]):
                yield Row(
                    line=line,
                    arrival=time - first,
                    input_tokens=integer(where, cells, "Request tokens"),
                    output_tokens=integer(where, cells, "Response tokens"),
                )


@dataclass(frozen=True, kw_only=True)
class Mooncake:
    """Mooncake's JSONL: timestamp (ms), input_length, output_length, hash_ids (one per block of `block_size` prompt tokens).

    A line with a session_id may have a delay (ms) in the place of its timestamp: it waits for the line of its session before it, and for
    so long after its end. input_length and hash_ids are of the whole prompt there too.
    """

    path: Path | str
    block_size: int = 512

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError(f"workload.source.block_size must be >= 1 token, got {self.block_size}")

    def rows(self) -> Iterator[Row]:
        """See Source."""
        obtain = "get it from https://github.com/kvcache-ai/Mooncake (FAST25-release/traces) or set workload.source.path"
        first: float | None = None
        time, sessions = 0.0, _SessionLines()
        with opened(Path(self.path), obtain=obtain) as stream:
            for line, text in enumerate(stream, start=1):
                where = f"{self.path}:{line}"
                fields = json_object(where, text)
                waits = sessions.of(where, fields, line)
                time = time if waits.get("after") else number(where, fields, "timestamp")
                first = time if first is None else first
                ids = fields.get("hash_ids", [])
                if not isinstance(ids, list):
                    raise TraceError(f"{where}: hash_ids must be a list of block ids, got {ids!r}")
                yield Row(
                    line=line,
                    arrival=(time - first) / 1000,
                    input_tokens=integer(where, fields, "input_length"),
                    output_tokens=integer(where, fields, "output_length"),
                    blocks=tuple(integer(where, {"hash_ids": i}, "hash_ids") for i in ids),
                    block_size=self.block_size,
                    **waits,
                )


class _SessionLines:
    """The sessions of a file of lines, by the number of the line that was the last of each so far."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def of(self, where: str, fields: dict[str, Any], line: int) -> dict[str, Any]:
        """What a line says of its session, as fields of Row; {}: the file has no sessions."""
        if ("session_id" in fields) != bool(self._last) and line > 1:
            raise TraceError(f"{where}: either every line of a file has a session_id, or none")
        if "session_id" not in fields:
            if "delay" in fields and "timestamp" not in fields:
                raise TraceError(f"{where}: a delay without a session_id waits for nothing; give it the session's, or a timestamp")
            return {}
        session = str(fields["session_id"])
        before, self._last[session] = self._last.get(session), line
        told = {"request_id": line, "session": self._numbers.setdefault(session, len(self._numbers))}
        if "delay" not in fields:
            return told
        if before is None:
            if "timestamp" in fields and number(where, fields, "delay") == 0:
                return told
            raise TraceError(
                f"{where}: session {session} begins with a delay, so no turn is there to wait for; give its first line a timestamp"
            )
        delay = number(where, fields, "delay")
        if delay < 0:
            raise TraceError(f"{where}: delay must be >= 0 ms, got {delay:g}")
        return told | {"after": (before,), "delay": delay / 1000}


@dataclass(frozen=True, kw_only=True)
class ShareGpt:
    """ShareGPT's JSON: a list of {conversations: [{from, value}, ...]}; each gives its first human turn and the gpt turn after it.

    Lengths are counted by the tokenizer file (tokenizer.json) without special tokens. The file has no times. A conversation without
    such a pair of turns counts as one of 0 tokens: Dataset's `empty` says what becomes of it. A row's line is its place in the
    list, from 1.
    """

    path: Path | str
    tokenizer: Path | str
    chunk: int = 256  # conversations tokenised at a time
    ASKERS: ClassVar = ("human", "user")
    ANSWERERS: ClassVar = ("gpt", "assistant", "chatgpt")

    def rows(self) -> Iterator[Row]:
        """See Source."""
        conversations = self.conversations()
        tokenizer = self.read_tokenizer()
        for start in range(0, len(conversations), self.chunk):
            turns = [_first_turns(f"{self.path}:{i}", c) for i, c in enumerate(conversations[start : start + self.chunk], start + 1)]
            texts = [text for pair in turns for text in pair]
            counts = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
            for i in range(len(turns)):
                yield Row(line=start + i + 1, arrival=None, input_tokens=counts[2 * i], output_tokens=counts[2 * i + 1])

    def read_tokenizer(self) -> Any:
        """The tokenizer of the file. Raises TraceError."""
        return _tokenizer(Path(self.tokenizer))

    def conversations(self) -> list[Any]:
        """The file's list. Raises TraceError."""
        obtain = (
            "get ShareGPT_V3_unfiltered_cleaned_split.json from https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered"
        )
        with opened(Path(self.path), "rb", obtain=f"{obtain} or set workload.source.path") as stream:
            try:
                conversations = orjson.loads(stream.read())
            except orjson.JSONDecodeError as error:
                raise TraceError(f"{self.path}:{error.lineno}: not JSON ({error.msg})") from error
        if not isinstance(conversations, list):
            raise TraceError(f"{self.path}: it must be a list of conversations, got {type(conversations).__name__}")
        return conversations


def _tokenizer(path: Path) -> Any:
    with opened(path, "rb", obtain="set workload.source.tokenizer to a tokenizer.json") as stream:
        try:
            return Tokenizer.from_buffer(stream.read())
        except Exception as error:  # the library raises bare Exception
            raise TraceError(f"{path}: not a tokenizer.json ({error})") from error


def turns_of(where: str, conversation: Any) -> list[tuple[str, str]]:
    """Who said what in a conversation. Raises TraceError."""
    try:
        return [(str(turn["from"]), str(turn["value"])) for turn in conversation["conversations"]]
    except (KeyError, TypeError) as error:
        raise TraceError(f"{where}: it must have conversations, a list of turns with from and value") from error


def _first_turns(where: str, conversation: Any) -> tuple[str, str]:
    """The first human turn and the answer right after it; empty texts when there are none."""
    for (asker, question), (answerer, answer) in pairwise(turns_of(where, conversation)):
        if asker in ShareGpt.ASKERS and answerer in ShareGpt.ANSWERERS:
            return question, answer
    return "", ""


def json_object(where: str, text: str) -> dict[str, Any]:
    """A line as a JSON object. Raises TraceError."""
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise TraceError(f"{where}: not a line of JSON ({error.msg})") from error
    if not isinstance(fields, dict):
        raise TraceError(f"{where}: it must be a JSON object, got {text.strip()[:40]!r}")
    return fields


def _nanoseconds(where: str, text: str) -> int:
    """Nanoseconds since 1970 of '2023-11-16 18:17:03.9799600' or '2024-05-10 00:00:00.009930+00:00', exactly."""
    match = TIMESTAMP.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        second, fraction, zone = match.groups()
        moment = datetime.fromisoformat(second + (zone or "+00:00"))
    except ValueError as error:
        raise TraceError(f"{where}: TIMESTAMP must be like '2023-11-16 18:17:03.97' (a zone may follow), got {text!r}") from error
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * NANOSECONDS + int((fraction or "0").ljust(9, "0"))
