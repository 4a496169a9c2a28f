"""A stand-in for NVIDIA's NVML library, built from nvml.c: processes started with its environment see two GPUs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def nvml(folder: Path, name: str = "NVIDIA H200") -> dict[str, str]:
    """Environment variables under which two GPUs of this name are seen. Skips where there is no C compiler."""
    if shutil.which("cc") is None:
        pytest.skip("a stand-in for NVML needs a C compiler: install one that is called cc")
    library = folder / "libnvidia-ml.so.1"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-shared", "-fPIC", f'-DNAME="{name}"', "-o", str(library), str(source)], check=True)
    kept = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return kept | {"LD_LIBRARY_PATH": str(folder)}
