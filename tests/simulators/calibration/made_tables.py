"""A tiny database in aiconfigurator-core's form whose times follow power laws, so that every answer can be computed by hand."""

from pathlib import Path

import pandas as pd

PRODUCTS = (1, 8, 64, 512, 4096)  # m, n and k of the matrix products
PROMPTS = (1, 16, 256, 4096)  # tokens
BATCHES = (1, 8, 64)
CONTEXTS = (1, 32, 1024)
MESSAGES = (64, 4096, 1048576)  # elements


def gemm_ms(m: float, n: float, k: float) -> float:
    return float(1e-5 * m**0.5 * n**0.75 * k**0.75)


def prompt_ms(tokens: float) -> float:
    return float(1e-6 * tokens**1.5)


def decode_ms(batch: float, context: float) -> float:
    return float(1e-4 * batch**0.5 * context**0.25)


def reduce_ms(elements: float) -> float:
    return float(1e-4 * elements**0.5)


def gather_ms(elements: float) -> float:
    return float(2e-4 * elements**0.5)


def made(data: Path, *, version: str = "0.19.0", scale: float = 1.0, heads: int = 8, kv_heads: int = 4, device: str = "tiny_gpu") -> Path:
    """Write the tables of one device and version of vLLM, all times `scale` times the laws; returns the device's folder."""
    root = data / device
    gemm = [(m, n, k, scale * gemm_ms(m, n, k)) for m in PRODUCTS for n in PRODUCTS for k in PRODUCTS]
    save(root, "gemm/vllm", version, "gemm_perf", pd.DataFrame(gemm, columns=["m", "n", "k", "latency"]).assign(gemm_dtype="bfloat16"))
    heads_of = [(heads, kv_heads), (heads // 2, kv_heads // 2)]
    prompt = [(1, s, 0, h, kv, scale * prompt_ms(s) * h / heads) for s in PROMPTS for h, kv in heads_of]
    decode = [(b, 1, c, h, kv, scale * decode_ms(b, c) * h / heads) for b in BATCHES for c in CONTEXTS for h, kv in heads_of]
    columns = ["batch_size", "isl", "step", "num_heads", "num_key_value_heads", "latency"]
    save(
        root,
        "attention/vllm",
        version,
        "context_attention_perf",
        pd.DataFrame(prompt, columns=columns).assign(head_dim=64, kv_cache_dtype="bfloat16"),
    )
    save(
        root,
        "attention/vllm",
        version,
        "generation_attention_perf",
        pd.DataFrame(decode, columns=columns).assign(head_dim=64, kv_cache_dtype="bfloat16"),
    )
    reduce = pd.DataFrame([(2, x, scale * reduce_ms(x)) for x in MESSAGES], columns=["num_gpus", "message_size", "latency"])
    graph, eager = reduce.assign(kernel_source="vLLM_custom_graph"), reduce.assign(kernel_source="vLLM_custom_eager", latency=9.0)
    save(root, "comm/vllm", version, "custom_allreduce_perf", pd.concat([graph, eager]))
    gather = pd.DataFrame([(2, x, scale * gather_ms(x)) for x in MESSAGES], columns=["num_gpus", "message_size", "latency"])
    save(root, "comm/nccl", "2.29.2", "nccl_perf", gather.assign(op_name="all_gather", nccl_dtype="half"))
    return root


def save(root: Path, family: str, version: str, name: str, rows: pd.DataFrame) -> None:
    folder = root / family / version
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / f"{name}.parquet", index=False)
