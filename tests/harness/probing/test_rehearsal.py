"""What is found out on a server before anything is measured, against a real server of null tokens and real tokenizers."""

import dataclasses
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from harness.engine import Endpoint, EngineError, TextPrompts
from harness.engines.model import Model
from harness.probing.rehearsal import pinned, rehearse, remarks, usable_words
from harness.replay.protocols.chat import Chat
from harness.replay.protocols.completions import Completions
from harness.replay.protocols.responses import Responses
from harness.replay.protocols.wire_protocol import WireProtocol
from tests.harness.replay.test_client import CLIENT, endpoint
from tests.runs import MODEL_CONFIG
from tests.stand_ins import null_server
from tests.stand_ins.null_stream import OVERHEAD
from workloads.prompts import token_ids
from workloads.trace import Request, Trace

SENTENCES = [f"the quick brown fox {n} jumps over the lazy dog and the {n} hens run away from it all day" for n in range(50)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with null_server.running("--ttft", "0.002", "--itl", "0.001", "--models", "sql") as running:
        yield running.url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose words are tokens."""
    config = {**MODEL_CONFIG, "num_attention_heads": 4, "max_position_embeddings": 512}
    return Model(name="small", config=config).folder(tmp_path_factory.mktemp("models"))


def byte_level() -> Tokenizer:
    """As Llama 3's and Qwen's: bytes, split before spaces, and merged."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    # without the words that begin a line, too, few would be one token there
    lines = [word for sentence in SENTENCES for word in sentence.split()]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(SENTENCES + lines, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=["<s>"]))
    return made


def metaspace() -> Tokenizer:
    """As Llama 2's and Gemma's: spaces are letters, one is put before the text."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<s>"]))
    return made


def forgetful() -> Tokenizer:
    """One that merges words: three equal ones are three tokens, and others become one."""
    made = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2, "ab": 3, "?": 4}, unk_token="?"))
    made.normalizer = normalizers.Replace(Regex("a b"), "ab")
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def kept(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def ready(url: str, protocol: WireProtocol, folder: Path, *, model: str = "none", **settings: Any) -> Endpoint:
    client = dataclasses.replace(CLIENT, protocol=protocol, **settings)
    return rehearse(client, endpoint(url, model), folder=folder, first_id=16)


@pytest.mark.parametrize("protocol", [Completions(prompts="text"), Chat(), Responses()])
def test_what_the_server_counts_beyond_the_words_is_read_back(server: str, folder: Path, protocol: WireProtocol) -> None:
    text = ready(server, protocol, folder).text_prompts
    api = protocol.path.removeprefix("/v1/").removesuffix("/completions")
    assert text is not None and text.overhead == OVERHEAD[api]
    assert len(text.words) == MODEL_CONFIG["vocab_size"]


def test_token_ids_need_no_rehearsal(folder: Path) -> None:
    there = endpoint("http://127.0.0.1:9")  # nobody is
    assert rehearse(CLIENT, there, folder=folder, first_id=16) is there


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "no_usage",
            r"chat/completions: it answers without a usage \(stream_options\.include_usage\), so that text prompts cannot be pinned",
        ),
        ("other_tokenizer", r"counts 27 and 155 tokens in prompts of 8 and 72 words.*it serves another one; name the model that it serves"),
        ("http_500", "a probe failed: HTTP 500"),
        ("needs_key", "a probe failed: HTTP 401"),
    ],
)
def test_servers_that_cannot_be_pinned(server: str, folder: Path, model: str, words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        ready(server, Chat(), folder, model=model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", [Completions(), Chat()])
def test_an_adapter_that_the_server_does_not_have(server: str, folder: Path, protocol: WireProtocol) -> None:
    ready(server, protocol, folder, adapters={"sql": 0.5})
    with pytest.raises(EngineError, match=r"client\.adapters: http.* does not serve the adapter poetry: HTTP 404: .*not exist") as caught:
        ready(server, protocol, folder, adapters={"sql": 0.5, "poetry": 0.1})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_words_are_one_token_each_in_any_text_of_a_real_tokenizer(make: Any, tmp_path: Path) -> None:
    file = kept(make(), tmp_path)
    words = usable_words(file)
    assert {"the", "fox", "dog"} <= set(words)
    tokenizer = Tokenizer.from_file(str(file))
    for pair in combinations(words, 2):
        assert len(tokenizer.encode(" ".join((*pair, *reversed(pair))), add_special_tokens=False).ids) == 4


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_prompts_share_the_tokens_of_the_blocks_that_they_share_and_no_others(make: Any, tmp_path: Path) -> None:
    file = kept(make(), tmp_path)
    text, tokenizer = TextPrompts(words=usable_words(file)), Tokenizer.from_file(str(file))
    of = {"arrival": 0.0, "input_tokens": 20, "output_tokens": 1}
    blocks = [(1, 2), (1, 3), (4,)]
    trace = Trace(name="x", requests=tuple(Request(request_id=i, blocks=b, **of) for i, b in enumerate(blocks)), block_size=8)  # type: ignore[arg-type]
    prompts = token_ids(trace, vocab_size=len(text.words), first_id=0, seed=3)
    ids = [tokenizer.encode(text.text(prompt), add_special_tokens=False).ids for prompt in prompts]
    assert [len(prompt) for prompt in ids] == [20, 20, 20]
    shared = [next(n for n, (a, b) in enumerate(zip(ids[i], ids[j], strict=True)) if a != b) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert shared == [8, 0, 0]


def test_what_cannot_be_as_the_trace_asks_is_said_in_one_line_each() -> None:
    text = TextPrompts(words=("a", "b"), overhead=10)
    short = Request(request_id=0, arrival=0.0, input_tokens=4, output_tokens=1)
    long = Request(request_id=1, arrival=0.0, input_tokens=40, output_tokens=1, blocks=(1,))
    asked = Trace(name="x", requests=(short, long), block_size=16)
    there = dataclasses.replace(endpoint("http://127.0.0.1:9"), text_prompts=text)
    lines = list(remarks(dataclasses.replace(CLIENT, adapters={"sql": 0.5}), there, asked))
    assert lines[0] == "1 of 2 prompts are shorter than any text here: they are sent, and recorded, with 11 tokens"
    assert "share no prefix" in lines[1] and len(lines) == 2
    assert pinned(there, asked) == {"text_prompts": {"overhead": 10, "words": 2, "lengthened": 1}}
    assert list(remarks(CLIENT, endpoint("http://127.0.0.1:9"), asked)) == [] and pinned(endpoint("http://127.0.0.1:9"), asked) == {}


def test_the_overhead_is_left_out_of_a_prompt_and_one_word_always_stays() -> None:
    text = TextPrompts(words=("a", "b", "c"), overhead=2)
    assert [text.text(prompt) for prompt in ([0, 1, 2, 2], [2, 1, 0], [1, 2], [1])] == ["a b", "c", "b", "b"]
    assert text.shortest == 3


def test_tokenizers_that_prompts_cannot_be_pinned_with(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"it does not round-trip: 4 words of one token each are 3 tokens in one text"):
        usable_words(kept(forgetful(), tmp_path))
    bytes_alone = tmp_path / "bytes"
    bytes_alone.mkdir()
    made = byte_level()
    made.model = models.BPE({letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    with pytest.raises(EngineError, match="no words are one token each"):
        usable_words(kept(made, bytes_alone))
    with pytest.raises(EngineError, match=r"nothing/tokenizer\.json: cannot be read .*model=hf model\.id="):
        usable_words(tmp_path / "nothing" / "tokenizer.json")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text(json.dumps({"model": 1}))
    with pytest.raises(EngineError, match="cannot be read") as caught:
        usable_words(tmp_path / "broken" / "tokenizer.json")
    assert "\n" not in str(caught.value)
