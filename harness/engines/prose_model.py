"""A model without its weights that has a tokenizer of today's kind: byte-level BPE, a chat template, an end of sequence.

Its answers can be anything that a text can be, JSON that fits a schema among it: what structured output needs, and words of a vocabulary
made up by number (model.py) cannot say. It is trained on the prose that Python brings along (pydoc_data.topics); nothing is downloaded.
"""

from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from harness.engines.model import Model

CHAT_TEMPLATE = (  # ChatML, as Qwen has it
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>")  # ids 0 and 1; the second ends an answer
PROSE = "\n".join(topics.values())


@dataclass(frozen=True, kw_only=True)
class ProseModel(Model):
    """As Model; its vocabulary is trained to the config's size."""

    @property
    def chat_template(self) -> str:
        """See Model."""
        return CHAT_TEMPLATE

    def tokenizer(self) -> Tokenizer:
        """See Model. Raises ValueError for a vocabulary that the prose is too short for."""
        made = tokenizer(self.vocab_size)
        if made.get_vocab_size() != self.vocab_size:
            raise ValueError(f"model {self.name}: vocab_size must be between 258 and {made.get_vocab_size()}, got {self.vocab_size}")
        return made

    def tokenizer_config(self) -> dict[str, Any]:
        """See Model."""
        return super().tokenizer_config() | {"eos_token": SPECIAL[1]}


def tokenizer(vocab_size: int) -> Tokenizer:
    """Byte-level BPE, trained in a second or two."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([PROSE], trainer)
    return made
