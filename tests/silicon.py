"""Rows of the silicon sample, made up: its columns and words, none of its numbers."""

import csv
from pathlib import Path

HEADER = (
    "id",
    "silicon_data_source",
    "backend",
    "backend_version",
    "model_path",
    "system",
    "precision",
    "mode",
    "isl",
    "osl",
    "gemm_quant_mode",
    "moe_quant_mode",
    "batch_size",
    "tp_size",
    "attention_dp_size",
    "moe_tp_size",
    "moe_ep_size",
    "silicon_ttft_ms",
    "silicon_tpot_ms",
)
PLAIN = {
    "id": "a",
    "silicon_data_source": "db-dump/2026-04-27; silicon_concurrency=8",
    "backend": "vllm",
    "backend_version": "0.19.0",
    "model_path": "meta-llama/Llama-3.1-8B-Instruct",
    "system": "h100_sxm",
    "precision": "bf16",
    "mode": "agg",
    "isl": "256",
    "osl": "64",
    "gemm_quant_mode": "",
    "moe_quant_mode": "",
    "batch_size": "8",
    "tp_size": "1.0",
    "attention_dp_size": "1.0",
    "moe_tp_size": "1.0",
    "moe_ep_size": "1.0",
    "silicon_ttft_ms": "60",
    "silicon_tpot_ms": "8",
}


def sample_row(**values: str) -> dict[str, str]:
    """A row of the sample, with these values."""
    assert values.keys() <= {*HEADER}
    return {**PLAIN, **values}


def write_sample(folder: Path, *rows: dict[str, str]) -> Path:
    """The file that holds these rows."""
    path = folder / "sample.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows(rows)
    return path
