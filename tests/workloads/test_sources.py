"""Each public format into rows: its units, its times, and what is said of a bad line. The files are made here, in the formats' form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from workloads.rows import Row
from workloads.sources import Azure, BurstGpt, Csv, Mooncake, ShareGpt, Source
from workloads.trace import TraceError

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def summary(rows: list[Row]) -> list[tuple[float | None, int, int]]:
    return [(r.arrival, r.input_tokens, r.output_tokens) for r in rows]


def test_azure_2023_times_are_exact_to_their_last_digit(tmp_path: Path) -> None:
    text = AZURE + "2023-11-16 23:59:59.9799600,374,44\n2023-11-16 23:59:59.9799601,396,109\n2023-11-17 00:00:01,5,6\n"
    rows = list(Azure(path=written(tmp_path / "a.csv", text)).rows())
    assert summary(rows) == [(0.0, 374, 44), (1e-7, 396, 109), (1.02004, 5, 6)]


def test_azure_2024_times_have_a_zone_and_may_lack_a_fraction(tmp_path: Path) -> None:
    text = AZURE + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n2024-05-10 02:00:02.5+02:00,76,15\n"
    rows = list(Azure(path=written(tmp_path / "a.csv", text)).rows())
    assert summary(rows) == [(0.0, 2162, 5), (0.99007, 2399, 6), (2.49007, 76, 15)]


def test_burstgpt_counts_from_its_first_row_and_filters(tmp_path: Path) -> None:
    lines = "5,ChatGPT,472,18,490,Conversation log\n9,GPT-4,3,4,7,API log\n12,ChatGPT,0,0,0,Conversation log\n"
    path = written(tmp_path / "b.csv", BURST + lines)
    assert summary(list(BurstGpt(path=path).rows())) == [(0.0, 472, 18), (4.0, 3, 4), (7.0, 0, 0)]
    assert summary(list(BurstGpt(path=path, model="GPT-4").rows())) == [(4.0, 3, 4)]
    assert summary(list(BurstGpt(path=path, log_type="Conversation log").rows())) == [(0.0, 472, 18), (7.0, 0, 0)]


def test_burstgpt_of_a_later_release_has_more_columns(tmp_path: Path) -> None:
    text = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n5.5,s,1.0,GPT-4,3,4,7,API log\n"
    assert summary(list(BurstGpt(path=written(tmp_path / "b.csv", text)).rows())) == [(0.0, 3, 4)]


def test_mooncake_milliseconds_and_blocks(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]},
        {"timestamp": 5999, "input_length": 500, "output_length": 6, "hash_ids": [0]},
    ]
    path = written(tmp_path / "m.jsonl", "\n".join(map(json.dumps, lines)))
    rows = list(Mooncake(path=path).rows())
    assert summary(rows) == [(0.0, 600, 5), (2.999, 500, 6)]
    assert [(r.blocks, r.block_size) for r in rows] == [((0, 7), 512), ((0,), 512)]
    assert next(Mooncake(path=path, block_size=16).rows()).block_size == 16


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer of words."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def sharegpt(path: Path, *conversations: list[tuple[str, str]]) -> Path:
    content = [{"id": str(i), "conversations": [{"from": a, "value": v} for a, v in turns]} for i, turns in enumerate(conversations)]
    return written(path, json.dumps(content))


def test_sharegpt_takes_the_first_question_and_its_answer(tmp_path: Path, tokenizer: Path) -> None:
    path = sharegpt(
        tmp_path / "s.json",
        [("human", "one two three"), ("gpt", "a b"), ("human", "more"), ("gpt", "still more")],
        [("gpt", "hello"), ("human", "one"), ("gpt", "a b c d")],
        [("human", "nobody answers")],
        [("human", ""), ("gpt", "to nothing")],
    )
    for chunk in (1, 3, 256):
        rows = list(ShareGpt(path=path, tokenizer=tokenizer, chunk=chunk).rows())
        assert summary(rows) == [(None, 3, 2), (None, 1, 4), (None, 0, 0), (None, 0, 2)]
        assert [r.line for r in rows] == [1, 2, 3, 4]


Make = Callable[[Path], Source]


@pytest.mark.parametrize(
    ("make", "text", "said"),
    [
        (lambda p: Azure(path=p), AZURE + "yesterday,1,2\n", ":2: TIMESTAMP must be like"),
        (lambda p: Azure(path=p), AZURE + "2023-13-16 18:17:03,1,2\n", ":2: TIMESTAMP must be like"),
        (lambda p: Azure(path=p), AZURE + "2023-11-16 18:17:03,1,2\n2023-11-16 18:17:04,x,2\n", ":3: ContextTokens must be a"),
        (lambda p: Azure(path=p), BURST, ":1: the columns ['TIMESTAMP'"),
        (lambda p: BurstGpt(path=p), BURST + "soon,m,1,2,3,l\n", ":2: Timestamp must be a number"),
        (lambda p: BurstGpt(path=p), BURST + "1,m,1,2,3\n", ":2: 5 cells"),
        (lambda p: Mooncake(path=p), '{"timestamp": 0,\n', ":1: not a line of JSON"),
        (lambda p: Mooncake(path=p), "[1]\n", ":1: it must be a JSON object"),
        (lambda p: Mooncake(path=p), '{"timestamp": 0, "output_length": 1}\n', ":1: input_length must be"),
        (lambda p: Mooncake(path=p), '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 3}\n', ":1: hash_ids must be"),
        (lambda p: Mooncake(path=p), '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}\n', ":1: hash_ids must"),
        (lambda p: Csv(path=p), "arrival,input_tokens,output_tokens\n0,1\n", ":2: 2 cells"),
    ],
)
def test_a_bad_line_is_told_by_file_and_line(make: Make, text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path / "bad", text)
    with pytest.raises(TraceError) as caught:
        list(make(path).rows())
    assert str(caught.value).startswith(f"{path}{said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [("[{]", ":1: not JSON"), ("{}", ": it must be a list"), ('[{"id": 1}]', ":1: it must have")])
def test_a_bad_sharegpt_file_is_told(content: str, said: str, tmp_path: Path, tokenizer: Path) -> None:
    path = written(tmp_path / "s.json", content)
    with pytest.raises(TraceError) as caught:
        list(ShareGpt(path=path, tokenizer=tokenizer).rows())
    assert str(caught.value).startswith(f"{path}{said}")


@pytest.mark.parametrize("name", ["absent.json", "s.json"])
def test_a_file_that_is_no_tokenizer_is_told(name: str, tmp_path: Path) -> None:
    path = sharegpt(tmp_path / "s.json", [("human", "a"), ("gpt", "b")])
    with pytest.raises(TraceError) as caught:
        list(ShareGpt(path=path, tokenizer=tmp_path / name).rows())
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Azure(path=p),
        lambda p: BurstGpt(path=p),
        lambda p: Mooncake(path=p),
        lambda p: ShareGpt(path=p, tokenizer=p),
    ],
)
def test_a_missing_file_says_where_to_get_it(make: Make, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        list(make(tmp_path / "absent").rows())
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'absent'}: cannot be read (No such file or directory); get ")
    assert "https://" in message
    assert "workload.source.path" in message


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", AZURE + "2023-11-16 18:17:03,1,2\nbroken\n")
    rows: Any = Azure(path=path).rows()
    assert next(rows).input_tokens == 1
    with pytest.raises(TraceError, match=":3: 1 cells"):
        next(rows)
