"""Models with weights: from a folder or the hub, their vocabulary without special ids, and what is wrong with them in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tokenizers import Tokenizer

from harness.engine import EngineError
from harness.engines.hf_model import HfModel, ordinary_ids
from results.project.folder import CONF, ROOT
from tests.stand_ins import hf_folder, hub

MODEL = "org/counting-1"
FETCH = """
import json, sys
from pathlib import Path
from harness.engines.hf_model import HfModel
from harness.engine import EngineError
model = HfModel(id=sys.argv[1], load_format=sys.argv[2])
try:
    folder = model.folder(Path(sys.argv[3]))
except EngineError as error:
    sys.exit(str(error))
print(json.dumps([model.name, model.config, str(folder), sorted(path.name for path in folder.iterdir())]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_folder.write_folder(tmp_path_factory.mktemp("hub") / "counting-1")


def described(folder: Path, **files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_folder_is_served_as_it_is(folder: Path, tmp_path: Path) -> None:
    model = instantiate(OmegaConf.merge(OmegaConf.load(CONF / "model" / "hf.yaml"), {"path": str(folder)}))
    assert isinstance(model, HfModel)
    assert (model.name, model.load_format, model.folder(tmp_path)) == ("counting-1", "auto", folder)
    assert model.config == hf_folder.CONFIG and model.longest == 4096
    assert list(tmp_path.iterdir()) == []


def test_prompts_are_made_of_ordinary_words_only(folder: Path) -> None:
    """Two special ids at the front, one at the end, and ids without a word behind it."""
    model = HfModel(path=str(folder))
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert (model.first_id, model.vocab_size) == (2, 4002)
    assert not set(words.get_added_tokens_decoder()) & set(range(2, 4002)) and words.id_to_token(4001) is not None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config": {"bos_token_id": 1, "eos_token_id": [2, 99], "pad_token_id": None}}, range(3, 99)),  # no tokenizer's file at all
        ({"tokenizer_config": {"added_tokens_decoder": {"0": {}, "1": {}, "40": {}}}}, range(41, 100)),
        ({"generation_config": {"eos_token_id": 100}}, range(100)),  # beyond the ids that are
        ({"config": {"text_config": {"eos_token_id": 60}}}, range(60)),
    ],
)
def test_special_ids_are_where_a_folder_says(files: dict[str, Any], expected: range, tmp_path: Path) -> None:
    assert ordinary_ids(described(tmp_path, **files), 100) == expected


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "has no config.json; model.path is a model's folder as the hub has it"),
        ({"config": {"model_type": "clip"}}, "the config.json has no vocab_size"),
        ({"config": {"vocab_size": 100}}, r"has no weights \(\*\.safetensors, \*\.bin\); model\.load_format=dummy"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_a_line(files: dict[str, Any], words: str, tmp_path: Path) -> None:
    model = HfModel(path=str(described(tmp_path, **files)))
    with pytest.raises(EngineError, match=words) as caught:
        assert model.vocab_size
        model.folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"config\.json: cannot be read as JSON"):
        assert HfModel(path=str(tmp_path)).config


@pytest.mark.parametrize("where", [{}, {"id": "a/b", "path": "c"}])
def test_one_place_is_given(where: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"give either model\.id=ORGANISATION/NAME .* or model\.path=FOLDER"):
        HfModel(**where)


def fetched(url: str, home: Path, model: str, load_format: str) -> "subprocess.CompletedProcess[str]":
    environ = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(home / "hub"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", "no_proxy": "*"}
    environ.pop("HF_HUB_OFFLINE", None)
    argv = [sys.executable, "-c", FETCH, model, load_format, str(home / "models")]
    return subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_the_hub_gives_what_is_needed_once(folder: Path, tmp_path: Path) -> None:
    with hub.served(MODEL, folder) as (url, asked):
        dummy = fetched(url, tmp_path, MODEL, "dummy")
        assert dummy.returncode == 0, dummy.stderr
        assert sorted(asked) == ["config.json", "tokenizer.json", "tokenizer_config.json"]
        done = fetched(url, tmp_path, MODEL, "auto")
        assert sorted(asked) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    name, config, place, files = json.loads(done.stdout)
    assert (name, place) == ("counting-1", str(tmp_path / "models" / "counting-1-c0ffee00"))
    assert config == {**hf_folder.CONFIG, "_name_or_path": MODEL, "_commit_hash": hub.COMMIT}
    assert files == sorted(path.name for path in folder.iterdir())
    assert (Path(place) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_model_that_the_hub_has_not_is_named(folder: Path, tmp_path: Path) -> None:
    with hub.served(MODEL, folder) as (url, _):
        done = fetched(url, tmp_path, "org/other", "auto")
    assert done.returncode == 1
    assert "model.id=org/other: the Hugging Face hub does not give it" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("engine", "part"), [("vllm_cpu", None), ("sglang", None), ("vllm_cpu_pd", "prefill")])
def test_engines_read_weights_where_the_model_has_some(engine: str, part: str | None) -> None:
    def load_format(*words: str) -> str:
        settings = compose(config_name="bench", overrides=[f"engine={engine}", *words]).engine
        return str((settings[part] if part else settings).load_format)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert load_format("model=tiny") == "dummy"
        assert load_format("model=hf", "model.path=x") == "auto"
        assert load_format("model=hf", "model.path=x", "model.load_format=dummy") == "dummy"
