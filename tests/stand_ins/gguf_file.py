"""The model of hf_folder.py as llama.cpp reads it: one GGUF file with shape, tokenizer and weights, beside the folder's own files.

The form is that of ggml's docs/gguf.md, version 3: counts, key-value pairs, the tensors' names and places, then their data.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.engines.prose_model import CHAT_TEMPLATE
from tests.stand_ins.hf_folder import CONFIG, weights, write_folder

U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9  # types of values
TENSOR_F32, TENSOR_BF16 = 0, 30
ALIGNMENT = 32  # bytes
NORMAL, CONTROL, UNUSED = 1, 3, 5  # kinds of tokens
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.": "blk.",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
}


def write_gguf(folder: Path) -> Path:
    """Write the whole folder, with model.gguf in it; returns that file."""
    write_folder(folder)
    path = folder / "model.gguf"
    pairs = [_shape(), _tokenizer(json.loads((folder / "tokenizer.json").read_text()))]
    told = [pair for group in pairs for pair in group]
    places, data = b"", b""
    for name, values in weights().items():
        kind = TENSOR_F32 if values.ndim == 1 else TENSOR_BF16
        shape = values.shape[::-1]  # ggml has the fastest dimension first
        places += _string(_renamed(name)) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += _padded(_bytes(values, kind))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(weights()), len(told)) + b"".join(told) + places
    path.write_bytes(_padded(head) + data)
    return path


def _shape() -> Iterable[bytes]:
    yield _pair("general.architecture", "llama")
    yield _pair("general.name", "counting")
    numbers: Mapping[str, int] = {
        "context_length": CONFIG["max_position_embeddings"],
        "embedding_length": CONFIG["hidden_size"],
        "block_count": CONFIG["num_hidden_layers"],
        "feed_forward_length": CONFIG["intermediate_size"],
        "attention.head_count": CONFIG["num_attention_heads"],
        "attention.head_count_kv": CONFIG["num_key_value_heads"],
        "rope.dimension_count": CONFIG["head_dim"],
        "vocab_size": CONFIG["vocab_size"],
    }
    for name, number in numbers.items():
        yield _pair(f"llama.{name}", number)
    yield _pair("llama.attention.layer_norm_rms_epsilon", float(CONFIG["rms_norm_eps"]))
    yield _pair("llama.rope.freq_base", float(CONFIG["rope_theta"]))


def _tokenizer(said: Mapping[str, Any]) -> Iterable[bytes]:
    special = {token["id"]: token["content"] for token in said["added_tokens"]}
    ids = {number: word for word, number in said["model"]["vocab"].items()} | special
    size = CONFIG["vocab_size"]
    kinds = [CONTROL if number in special else NORMAL if number in ids else UNUSED for number in range(size)]
    yield _pair("tokenizer.ggml.model", "gpt2")
    yield _pair("tokenizer.ggml.pre", "gpt-2")
    yield _pair("tokenizer.ggml.tokens", [ids.get(number, f"[PAD{number}]") for number in range(size)])
    yield _pair("tokenizer.ggml.token_type", kinds)
    yield _pair("tokenizer.ggml.merges", [" ".join(merge) for merge in said["model"]["merges"]])
    yield _pair("tokenizer.ggml.bos_token_id", CONFIG["bos_token_id"])
    yield _pair("tokenizer.ggml.eos_token_id", CONFIG["eos_token_id"])
    yield _pair("tokenizer.chat_template", CHAT_TEMPLATE)


def _pair(key: str, value: str | int | float | list[str] | list[int]) -> bytes:
    if isinstance(value, list):
        kind = STRING if isinstance(value[0], str) else I32
        items = b"".join(_string(item) if isinstance(item, str) else struct.pack("<i", item) for item in value)
        return _string(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + items
    if isinstance(value, str):
        return _string(key) + struct.pack("<I", STRING) + _string(value)
    return _string(key) + (struct.pack("<II", U32, value) if isinstance(value, int) else struct.pack("<If", F32, value))


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _bytes(values: NDArray[np.float32], kind: int) -> bytes:
    return values.tobytes() if kind == TENSOR_F32 else (values.view(np.uint32) >> 16).astype("<u2").tobytes()


def _padded(piece: bytes) -> bytes:
    return piece + b"\0" * (-len(piece) % ALIGNMENT)
