"""A model's folder as the Hugging Face hub has them: config.json, a byte-level BPE tokenizer, safetensors. Its weights make it count.

What attention and MLP add to the residual stream is zero, and the output row of each token is the embedding of the one before it: the
token with the highest score is the id after the last one. An engine that says so has read these weights, and no others. All matrices are
full-sized, so a step takes as long as with any weights. Special ids stand at the front and at the end of the vocabulary, which is padded
behind that.
"""

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harness.engine import Endpoint
from harness.engines.prose_model import tokenizer

ORDINARY = 4000  # ids behind the specials at the front
CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 4096,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 4002,
    "eos_token_id": 4002,
    "torch_dtype": "bfloat16",
}


def write_folder(folder: Path) -> Path:
    """Write all of it; returns the folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dict(CONFIG)))
    words = tokenizer(ORDINARY + 2)
    words.add_special_tokens(["<|end|>"])
    words.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}))
    write_safetensors(folder / "model.safetensors", weights())
    return folder


def counts(endpoint: Endpoint, folder: Path, *, start: int) -> bool:
    """Whether the engine continues token ids that end in `start` with the text of the ids after it."""
    body = {"model": endpoint.served_model, "prompt": [start - 2, start - 1, start], "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(f"{endpoint.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = json.load(answer)["choices"][0]["text"]
    return bool(text == Tokenizer.from_file(str(folder / "tokenizer.json")).decode(list(range(start + 1, start + 9))))


def weights() -> dict[str, NDArray[np.float32]]:
    """By the names and shapes (outputs, inputs) of transformers' LlamaForCausalLM."""
    rng, hidden, mlp = np.random.default_rng(0), CONFIG["hidden_size"], CONFIG["intermediate_size"]
    width = CONFIG["num_attention_heads"] * CONFIG["head_dim"]

    def random(outputs: int, inputs: int) -> NDArray[np.float32]:
        return rng.standard_normal((outputs, inputs), dtype=np.float32)

    embeddings, ones = random(CONFIG["vocab_size"], hidden), np.ones(hidden, dtype=np.float32)
    made = {
        "model.embed_tokens.weight": embeddings,
        "model.norm.weight": ones,
        "lm_head.weight": np.roll(embeddings, 1, axis=0),
    }
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        made |= {f"{at}.self_attn.{name}_proj.weight": 0.02 * random(width, hidden) for name in "qkv"}
        made |= {f"{at}.mlp.{name}_proj.weight": 0.02 * random(mlp, hidden) for name in ("gate", "up")}
        made[f"{at}.self_attn.o_proj.weight"] = np.zeros((hidden, width), dtype=np.float32)
        made[f"{at}.mlp.down_proj.weight"] = np.zeros((hidden, mlp), dtype=np.float32)
        made[f"{at}.input_layernorm.weight"] = made[f"{at}.post_attention_layernorm.weight"] = ones
    return made


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """In bfloat16 (the upper half of a float32), in the form of github.com/huggingface/safetensors: header's length, header, data."""
    header, data = {}, b""
    for name, values in tensors.items():
        piece = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
