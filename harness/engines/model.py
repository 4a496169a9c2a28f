"""A model without its weights: config.json and a local tokenizer, from which an engine serves dummy weights.

The scheduler, the KV pool and the cost of a step depend on a model's shape alone, so a benchmark with pinned output lengths needs no
download. `conf/model/*.yaml` hold one shape each.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from workloads.prompts import RESERVED

NEEDED = ("architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings")
# What a served model's chat template puts around what is said: as real ones do, a few tokens before, behind, and where the answer begins
CHAT_TEMPLATE = (
    "{% for message in messages %}t1 t3 t4 {{ message['content'] }} t5 {% endfor %}{% if add_generation_prompt %}t1 t6 t4 {% endif %}"
)
NESTED = "text_config"  # where a model that sees or hears keeps the settings of its language model


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model's shape. `config` is the content of its Hugging Face config.json; `name` is what results call it."""

    name: str
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        missing = [key for key in NEEDED if key not in self.config and key not in self.text]
        if missing:
            raise ValueError(f"model {self.name}: its config lacks {', '.join(missing)}; add them to conf/model/{self.name}.yaml")
        if self.vocab_size < 8:
            raise ValueError(f"model {self.name}: vocab_size must be >= 8, got {self.vocab_size}")

    @property
    def text(self) -> Mapping[str, Any]:
        """The settings of its language model."""
        nested = self.config.get(NESTED)
        return nested if isinstance(nested, Mapping) else self.config

    @property
    def vocab_size(self) -> int:
        """Number of token ids; valid ids are 0 to vocab_size - 1."""
        return int(self.text["vocab_size"])

    @property
    def longest(self) -> int:
        """Tokens of its longest request."""
        return int(self.text["max_position_embeddings"])

    @property
    def first_id(self) -> int:
        """See ServedModel."""
        return RESERVED

    @property
    def chat_template(self) -> str:
        """Jinja, as tokenizer_config.json has it."""
        return CHAT_TEMPLATE

    def tokenizer(self) -> Tokenizer:
        """One word per token id ('t7 t8 t9') and no special tokens: every generated token shows as text, so in an event of its own."""
        made = Tokenizer(WordLevel({f"t{i}": i for i in range(self.vocab_size)}, unk_token="t0"))
        made.pre_tokenizer = WhitespaceSplit()
        return made

    def tokenizer_config(self) -> dict[str, Any]:
        """The content of tokenizer_config.json."""
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.longest,
            "clean_up_tokenization_spaces": False,
            "chat_template": self.chat_template,
        }

    def folder(self, root: Path) -> Path:
        """Write config.json and the tokenizer into root/<name>-<hash of both>, once, and return that folder (absolute).

        Made under a temporary name and renamed when whole; a changed config gets a folder of its own, so a server that runs on the old
        one is not disturbed.
        """
        text = json.dumps(dict(self.config), indent=1, sort_keys=True) + "\n"
        folder = root.resolve() / f"{self.name}-{hashlib.sha256((text + self.chat_template).encode()).hexdigest()[:8]}"
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{self.name}-", dir=folder.parent))
        try:
            (scratch / "config.json").write_text(text)
            self.tokenizer().save(str(scratch / "tokenizer.json"))
            (scratch / "tokenizer_config.json").write_text(json.dumps(self.tokenizer_config(), indent=1) + "\n")
            scratch.chmod(0o755)
            _rename(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return folder


def from_config_json(path: str, name: str | None = None) -> Model:
    """The model of a Hugging Face config.json, or of the folder that has one. name: what results call it; None: as the folder.

    Raises ValueError when the file is not there or holds no JSON object.
    """
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"model.path={path}: {error}; give a Hugging Face config.json") from error
    if not isinstance(config, dict):
        raise ValueError(f"model.path={path}: it holds no JSON object; give a Hugging Face config.json")
    return Model(name=name or file.resolve().parent.name, config=config)


def _rename(scratch: Path, folder: Path) -> None:
    """Put the finished folder in place; when another process was first, theirs holds the same content and stays."""
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
