"""Model folders: what an engine reads from them, made once, whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tokenizers import Tokenizer

from harness.engines.model import Model, from_config_json
from results.project.folder import CONF

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
SHAPES = sorted(path for path in (CONF / "model").glob("*.yaml") if path.stem != "config")


def test_folder_holds_the_config_and_a_tokenizer_of_its_vocabulary(tmp_path: Path) -> None:
    folder = Model(name="toy", config=CONFIG).folder(tmp_path)
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 100
    assert tokenizer.encode("t7 t99 t0").ids == [7, 99, 0]


def test_every_token_id_decodes_to_text_of_its_own(tmp_path: Path) -> None:
    """A token without text makes no event with content, and its time would be lost."""
    tokenizer = Tokenizer.from_file(str(Model(name="toy", config=CONFIG).folder(tmp_path) / "tokenizer.json"))
    words = [tokenizer.decode([i], skip_special_tokens=True) for i in range(100)]
    assert all(words) and len(set(words)) == 100


def test_made_once(tmp_path: Path) -> None:
    model = Model(name="toy", config=CONFIG)
    folder = model.folder(tmp_path)
    (folder / "mark").touch()
    assert model.folder(tmp_path) == folder and (folder / "mark").exists()
    assert folder.is_absolute()


def test_another_config_gets_another_folder(tmp_path: Path) -> None:
    small, large = (Model(name="toy", config=CONFIG | {"hidden_size": size}).folder(tmp_path) for size in (64, 128))
    assert small != large
    assert json.loads((large / "config.json").read_text())["hidden_size"] == 128


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    model = Model(name="toy", config=CONFIG | {"max_position_embeddings": "many"})
    with pytest.raises(ValueError, match="many"):
        model.folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_keys_are_named() -> None:
    with pytest.raises(ValueError, match=r"model toy: its config lacks hidden_size, vocab_size; add them to conf/model/toy\.yaml"):
        Model(name="toy", config={key: value for key, value in CONFIG.items() if key not in ("hidden_size", "vocab_size")})


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_shapes_in_conf_are_whole(path: Path) -> None:
    model = instantiate(OmegaConf.load(path))
    assert isinstance(model, Model) and model.name == path.stem
    heads, kv_heads = model.text["num_attention_heads"], model.text["num_key_value_heads"]
    assert heads % kv_heads == 0 and model.longest >= 4096
    assert isinstance(model.text.get("rms_norm_eps", 1e-6), float)


def test_any_config_json_is_a_model_nested_or_not(tmp_path: Path) -> None:
    """The choice model=config; the name is the folder's."""
    choice = OmegaConf.load(CONF / "model" / "config.yaml")
    inner = {key: value for key, value in CONFIG.items() if key != "architectures"}
    for folder, config in (("flat", CONFIG), ("seeing", {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
        for path in (tmp_path / folder, tmp_path / folder / "config.json"):
            model = instantiate(choice, path=str(path))
            assert (model.name, model.vocab_size, model.longest, model.config) == (folder, 100, 512, config)


@pytest.mark.parametrize("content", [None, "[1]", "{"])
def test_a_file_that_is_no_config_json_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"model\.path=.*/config\.json: .*give a Hugging Face config\.json"):
        from_config_json(str(path))
