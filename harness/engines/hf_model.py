"""A model as the Hugging Face hub has it: config.json, its own tokenizer and its weights, in a folder or by a name on the hub.

The hub's own client fetches it, into the hub's own cache (HF_HOME), so what another program fetched before is there. The engine itself
never asks the hub. Prompts stay token ids, drawn from those that the tokenizer has not set apart (`ordinary_ids`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from harness.engine import EngineError

SMALL = ("*.json", "*.txt", "*.model", "*.jinja", "*.py")  # all but the weights
WEIGHTS = ("*.safetensors", "*.bin")  # of the first kind that there is
ELSEWHERE = ("*/*", "consolidated*")  # the same weights in their makers' own formats, beside those of the hub
DUMMY = "dummy"


@dataclass(frozen=True, kw_only=True)
class HfModel:
    """conf/model/hf.yaml says what each setting means. Either id or path is given."""

    name: str = ""
    id: str | None = None
    revision: str | None = None
    path: str | None = None
    load_format: str = "auto"

    def __post_init__(self) -> None:
        if (self.id is None) == (self.path is None):
            raise ValueError("model hf: give either model.id=ORGANISATION/NAME (on the Hugging Face hub) or model.path=FOLDER")
        object.__setattr__(self, "name", self.name or Path(self.id or Path(str(self.path)).resolve()).name)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The content of config.json; of a model from the hub also `_name_or_path` and `_commit_hash`, as transformers names them."""
        found = _read(self._described, "config.json")
        if not found:
            raise EngineError(f"model {self.name}: {self._described} has no config.json; model.path is a model's folder as the hub has it")
        return found if self.id is None else found | {"_name_or_path": self.id, "_commit_hash": self._described.name}

    @property
    def first_id(self) -> int:
        """See ServedModel."""
        return self._ids.start

    @property
    def vocab_size(self) -> int:
        """See ServedModel. Where special ids stand behind the ordinary ones it is less than the config.json's."""
        return self._ids.stop

    @property
    def longest(self) -> int | None:
        """See ServedModel."""
        said = _text(self.config).get("max_position_embeddings")
        return None if said is None else int(said)

    def folder(self, root: Path) -> Path:
        """The folder itself; of a model from the hub, a link to it under `root` that has the model's name.

        Raises EngineError where weights are to be read and there are none.
        """
        place = self._described
        if self.load_format != DUMMY and not self._has_weights():
            raise EngineError(
                f"model {self.name}: {place} has no weights ({', '.join(WEIGHTS)}); model.load_format=dummy serves it with made-up ones"
            )
        if self.id is None:
            return place
        link = root.resolve() / f"{self.name}-{place.name[:8]}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(place)
        return link

    def _has_weights(self) -> bool:
        """Whether the folder has weights, after those of a model on the hub were fetched into it."""
        for pattern in WEIGHTS:
            place = self._described if self.id is None else self._fetched([pattern])
            if any(place.glob(pattern)):
                return True
        return False

    @cached_property
    def _described(self) -> Path:
        """The folder with its config.json and its tokenizer; weights may be missing."""
        return Path(str(self.path)).resolve() if self.id is None else self._fetched(SMALL)

    @cached_property
    def _ids(self) -> range:
        said = _text(self.config).get("vocab_size")
        if not isinstance(said, int):
            raise EngineError(f"model {self.name}: the config.json has no vocab_size; give a text model's folder as the hub has it")
        return ordinary_ids(self._described, said)

    def _fetched(self, patterns: Sequence[str]) -> Path:
        """The model's folder in the hub's cache, with the files that match. Raises EngineError where the hub does not give them."""
        from huggingface_hub import snapshot_download  # here: it takes long to import, and a measuring machine may lack it
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            found = snapshot_download(str(self.id), revision=self.revision, allow_patterns=list(patterns), ignore_patterns=list(ELSEWHERE))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise EngineError(
                f"model.id={self.id}: the Hugging Face hub does not give it ({said[:200]}); a gated model needs HF_TOKEN; without a "
                "network give model.path=FOLDER"
            ) from error
        return Path(found).resolve()


def ordinary_ids(folder: Path, size: int) -> range:
    """The longest run of ids below `size` in which no id is special or added, as a folder's tokenizer and configuration say.

    Their ids stand at the front (Llama 2), at the end (Llama 3, Qwen) or in both places (Gemma, Mistral's Tekken); vocabularies are padded
    behind that.
    """
    apart: set[int] = set()
    if (folder / "tokenizer.json").is_file():
        words = Tokenizer.from_file(str(folder / "tokenizer.json"))
        apart |= set(words.get_added_tokens_decoder())
        size = min(size, 1 + max(words.get_vocab(with_added_tokens=False).values(), default=size - 1))
    apart |= {int(number) for number in _read(folder, "tokenizer_config.json").get("added_tokens_decoder") or ()}
    for file in ("config.json", "generation_config.json"):
        apart |= set(_numbers(_text(_read(folder, file)).get(f"{name}_token_id") for name in ("bos", "eos", "pad")))
    edges = [-1, *sorted(number for number in apart if 0 <= number < size), size]
    runs = [range(before + 1, after) for before, after in pairwise(edges)]
    return max(runs, key=len)


def _numbers(values: Iterable[Any]) -> Iterable[int]:
    """Ids, as a configuration gives one, several or none."""
    for value in values:
        yield from value if isinstance(value, list) else () if value is None else (value,)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a configuration says of the language model; one that also sees or hears has it in a part of its own."""
    return {**config, **(config.get("text_config") or {})}


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A file of the folder; {} when it is not there. Raises EngineError when it is no JSON object."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise EngineError(f"{folder / name}: cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise EngineError(f"{folder / name}: must be a JSON object")
    return found
