"""A tiny database in aiconfigurator-core's form whose times follow power laws, so that every answer can be computed by hand."""

from pathlib import Path

import pandas as pd

PRODUCTS = (1, 8, 64, 512, 4096)  # m, n and k of the matrix products
PROMPTS = (1, 16, 256, 4096)  # tokens
BATCHES = (1, 8, 64)
CONTEXTS = (1, 32, 1024)
MESSAGES = (64, 4096, 1048576)  # elements
TOKENS = (1, 16, 256, 4096)  # that go to the experts
MIXTURE = {"hidden_size": 512, "inter_size": 256, "topk": 2, "num_experts": 8}
SPLITS = ((1, 1), (2, 1), (1, 2), (1, 4))  # of the experts: devices that share each, devices that have their own
GATHERS = {"all_gather": 2e-4, "reduce_scatter": 3e-4}  # ms of an element
FORMATS = {"bfloat16": 1.0, "fp8": 0.5, "fp8_block": 0.6}  # times of products and experts in them


def gemm_ms(m: float, n: float, k: float) -> float:
    return float(1e-5 * m**0.5 * n**0.75 * k**0.75)


def prompt_ms(tokens: float) -> float:
    return float(1e-6 * tokens**1.5)


def decode_ms(batch: float, context: float) -> float:
    return float(1e-4 * batch**0.5 * context**0.25)


def reduce_ms(elements: float) -> float:
    return float(1e-4 * elements**0.5)


def gather_ms(elements: float, operation: str = "all_gather") -> float:
    return float(GATHERS[operation] * elements**0.5)


def experts_ms(tokens: float, tensor: int = 1, expert: int = 1) -> float:
    return float(1e-2 * tokens**0.5 / (tensor * expert**0.75))


def latent_prompt_ms(tokens: float) -> float:
    return float(1e-3 * tokens**1.2)


def latent_decode_ms(batch: float, context: float) -> float:
    return float(5e-2 * batch**0.2 * context**0.1)


def made(data: Path, *, version: str = "0.19.0", scale: float = 1.0, heads: int = 8, kv_heads: int = 4, device: str = "tiny_gpu") -> Path:
    """Write the tables of one device and version of vLLM, all times `scale` times the laws; returns the device's folder."""
    root = data / device
    gemm = [(m, n, k, t, scale * f * gemm_ms(m, n, k)) for m in PRODUCTS for n in PRODUCTS for k in PRODUCTS for t, f in FORMATS.items()]
    save(root, "gemm/vllm", version, "gemm_perf", pd.DataFrame(gemm, columns=["m", "n", "k", "gemm_dtype", "latency"]))
    _attention(root, version, scale, [(heads, kv_heads), (heads // 2, kv_heads // 2)], heads)
    reduce = pd.DataFrame([(2, x, scale * reduce_ms(x)) for x in MESSAGES], columns=["num_gpus", "message_size", "latency"])
    graph, eager = reduce.assign(kernel_source="vLLM_custom_graph"), reduce.assign(kernel_source="vLLM_custom_eager", latency=9.0)
    save(root, "comm/vllm", version, "custom_allreduce_perf", pd.concat([graph, eager]))
    columns = ["num_gpus", "op_name", "message_size", "latency"]
    gathers = [(gpus, name, x, scale * gather_ms(x, name)) for gpus in (2, 4) for name in GATHERS for x in MESSAGES]
    save(root, "comm/nccl", "2.29.2", "nccl_perf", pd.DataFrame(gathers, columns=columns).assign(nccl_dtype="half"))
    _experts(root, version, scale)
    _latent(root, version, scale)
    return root


def _attention(root: Path, version: str, scale: float, heads_of: list[tuple[int, int]], heads: int) -> None:
    prompt = [(1, s, 0, h, kv, scale * prompt_ms(s) * h / heads) for s in PROMPTS for h, kv in heads_of]
    decode = [(b, 1, c, h, kv, scale * decode_ms(b, c) * h / heads) for b in BATCHES for c in CONTEXTS for h, kv in heads_of]
    columns = ["batch_size", "isl", "step", "num_heads", "num_key_value_heads", "latency"]
    for name, rows in (("context_attention_perf", prompt), ("generation_attention_perf", decode)):
        whole = pd.DataFrame(rows, columns=columns).assign(head_dim=64, kv_cache_dtype="bfloat16", window_size=0)
        windowed = whole.assign(window_size=32, latency=whole["latency"] / 4)
        save(root, "attention/vllm", version, name, pd.concat([whole, windowed]))


def _experts(root: Path, version: str, scale: float) -> None:
    columns = ["num_tokens", "moe_tp_size", "moe_ep_size", "moe_dtype", "latency"]
    rows = [(n, tp, ep, t, scale * f * experts_ms(n, tp, ep)) for n in TOKENS for tp, ep in SPLITS for t, f in FORMATS.items()]
    even = pd.DataFrame(rows, columns=columns).assign(distribution="balanced", **MIXTURE)
    uneven = even.assign(distribution="power_law_1.2", latency=2 * even["latency"])
    save(root, "moe/vllm", version, "moe_perf", pd.concat([even, uneven]))


def _latent(root: Path, version: str, scale: float) -> None:
    prompts = pd.DataFrame([(1, s, 0, scale * latent_prompt_ms(s)) for s in PROMPTS], columns=["batch_size", "isl", "step", "latency"])
    decodes = [(b, 1, c, scale * latent_decode_ms(b, c)) for b in BATCHES for c in CONTEXTS]
    rows = {"context": prompts, "generation": pd.DataFrame(decodes, columns=["batch_size", "isl", "step", "latency"])}
    for name, of in rows.items():
        named = of.assign(num_heads=16, gemm_type="bfloat16", kv_cache_dtype="bfloat16", architecture="DeepseekV3ForCausalLM")
        save(root, "mla/vllm", version, f"mla_{name}_module_perf", named)


def save(root: Path, family: str, version: str, name: str, rows: pd.DataFrame) -> None:
    folder = root / family / version
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / f"{name}.parquet", index=False)
