"""A made-up model that talks: its tokenizer gives a text back, can say JSON, and knows its end."""

import json
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tokenizers import Tokenizer

from harness.engines.prose_model import PROSE, ProseModel
from results.project.folder import CONF
from tests.harness.engines.test_model import CONFIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = instantiate(OmegaConf.load(CONF / "model" / "tiny_prose.yaml"))
    assert isinstance(model, ProseModel)
    return model.folder(tmp_path_factory.mktemp("models"))


def test_its_tokenizer_tells_prose_apart_and_gives_it_back(folder: Path) -> None:
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = words.encode(PROSE[:4000])
    assert words.decode(found.ids) == PROSE[:4000] and 3 < 4000 / len(found.ids) < 6
    said = '{"é": [1.5, null], "ok": true}'
    assert words.decode(words.encode(said).ids) == said


def test_the_folder_says_how_a_chat_is_written_and_ends(folder: Path) -> None:
    config, settings = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert words.get_vocab_size() == config["vocab_size"]
    assert words.token_to_id(settings["eos_token"]) == config["eos_token_id"]
    assert "<|im_start|>assistant" in settings["chat_template"]


def test_a_vocabulary_that_the_prose_is_too_short_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model big: vocab_size must be between 258 and \d+, got 500000"):
        ProseModel(name="big", config=CONFIG | {"vocab_size": 500_000}).folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
