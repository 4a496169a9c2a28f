"""A clone of LLMServingSim: whether it is one, whether it was built, and whether it has a profile of a run's model and GPU."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.errors import NotAvailable
from simulators.foreign.clone import named_clone

SYSTEM = "llmservingsim"
ADDRESS = "https://github.com/casys-kaist/LLMServingSim"
MAIN = Path("serving/__main__.py")
VARIANT = "bf16"  # of its profiles: the types of weights and of the KV cache; it has no others
CHAKRA = Path("astra-sim/extern/graph_frontend/chakra")
SOURCES = {  # of its submodules
    "astra-sim": Path("astra-sim/inputs/system/system.json"),
    "astra-sim/extern/graph_frontend/chakra": CHAKRA / "src/converter/converter.py",
}
BUILT = {  # by its scripts/compile.sh
    "ASTRA-Sim": Path("astra-sim/build/astra_analytical/build/AnalyticalAstra/bin/AnalyticalAstra"),
    "Chakra's protobuf module": CHAKRA / "schema/protobuf/et_def_pb2.py",
}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size", "num_experts")


@dataclass(frozen=True, kw_only=True)
class Clone:
    """One that is there, and was built."""

    folder: Path

    @classmethod
    def at(cls, checkout: str | None) -> "Clone":
        """checkout: absolute, or from the project's folder. Raises NotAvailable saying which part is missing."""
        folder = named_clone(
            checkout,
            system=SYSTEM,
            variable="PLUMBLINE_LLMSERVINGSIM",
            address=f"{ADDRESS} with --recurse-submodules",
            what="LLMServingSim with its files",
            marker=MAIN,
        )
        if empty := [name for name, file in SOURCES.items() if not (folder / file).is_file()]:
            raise NotAvailable(
                f"{SYSTEM}: {folder} lacks its submodules {', '.join(empty)}; `git submodule update --init --recursive` brings them"
            )
        if unbuilt := [f"{name} ({file})" for name, file in BUILT.items() if not (folder / file).is_file()]:
            raise NotAvailable(f"{SYSTEM}: {folder} was never built: no {', no '.join(unbuilt)}; its scripts/compile.sh makes them")
        return cls(folder=folder)

    @property
    def chakra(self) -> Path:
        """The folder of its converter of graphs."""
        return self.folder / CHAKRA

    def profiled(self, hardware: str, device: str, model: Mapping[str, Any], tensor_parallel: int) -> str:
        """Its name of a model of these sizes that it has layer times of. Raises NotAvailable saying which part is missing.

        hardware: for the message. device: its folder of the GPU.
        """
        if model.get("quantization_config"):
            raise NotAvailable(f"{SYSTEM}: its layer times are of weights in 16 bits, and the run's model has fewer")
        names = sorted(name for name in self._models() if _alike(self.model(name), model))
        if not names:
            sizes = ", ".join(f"{model.get(size)} {size}" for size in SIZES[:3])
            raise NotAvailable(f"{SYSTEM}: its clone (configs/model) has no model of these sizes ({sizes})")
        gpu = self.folder / "profiler" / "perf" / device
        for name in names:
            if (gpu / name / VARIANT / f"tp{tensor_parallel}").is_dir():
                return name
        there = sorted(str(path.relative_to(gpu)) for path in gpu.glob("*/*/*/tp*"))
        raise NotAvailable(
            f"{SYSTEM}: its clone has no layer times of {' or '.join(names)} on {hardware} as {VARIANT}/tp{tensor_parallel}; "
            f"profiler/perf/{device} has {', '.join(there) or 'nothing'}"
        )

    def model(self, name: str) -> Mapping[str, Any]:
        """Its config.json of a model."""
        found: Mapping[str, Any] = json.loads((self.folder / "configs" / "model" / f"{name}.json").read_text(encoding="utf-8"))
        return found

    def _models(self) -> list[str]:
        folder = self.folder / "configs" / "model"
        return [str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.json")]


def _alike(theirs: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    return all(theirs.get(size) == model.get(size) for size in SIZES)
