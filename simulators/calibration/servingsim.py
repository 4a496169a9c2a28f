"""`calibration=servingsim`: a profile of an engine that is not at hand, from LLMServingSim's layer times of a real vLLM on its GPU."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from results.profile import Profile
from results.record import Run
from simulators.calibration.aic import Aic
from simulators.calibration.layer_tables import LayerTables
from simulators.calibration.operation_tables.collectives import Collective
from simulators.calibration.points import StepSeconds, compose
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.architecture.uniform import Uniform, uniform

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
IN_A_LAYER = {  # how often each is in a layer of a dense decoder: `sequence` of profiler/models/{llama,qwen3}.yaml there
    "layernorm": 2,
    "qkv_proj": 1,
    "qk_norm": 1,  # of Qwen3 only
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
OPTIONAL = ("qk_norm",)
ONCE = ("embedding", "final_layernorm")
HEAD = ("lm_head", "sampler")


@dataclass(frozen=True, kw_only=True)
class ServingSim:
    """conf/calibration/servingsim.yaml says what each setting means.

    What such a profile cannot know: the front-end's cost, the host's work that the device waits for (`step`), and what a batch of unequal
    contexts costs more than one of equal contexts (their skew.csv): a profile's point has one context.
    """

    clone: str | None
    devices: Mapping[str, str]
    variant: str
    step: float
    collectives: Aic | None = None

    source: ClassVar[str] = "servingsim"
    spread: ClassVar[float] = 0.05

    def __post_init__(self) -> None:
        if not self.clone:
            raise ValueError("calibration servingsim: calibration.clone must name a clone of github.com/casys-kaist/LLMServingSim")
        if self.step < 0:
            raise ValueError(f"calibration servingsim: step must be >= 0 s, got {self.step}")

    @property
    def environment(self) -> str | None:
        """See Calibration; that of the collectives."""
        return None if self.collectives is None else self.collectives.environment

    def seconds(self, measured: Run) -> StepSeconds:
        """See simulators.calibration.bases.Base."""
        return self.layers(measured).seconds

    def bends(self, measured: Run) -> tuple[int, ...]:
        """See simulators.calibration.bases.Base: the tokens that its matrix products were measured at are too many to tell."""
        return ()

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """See Calibration."""
        layers = self.layers(measured)
        meta = layers.tables.meta
        return compose(
            measured,
            layers.seconds,
            profile_id=f"servingsim-{measured.hardware}-{measured.model}-tp{measured.limits.tensor_parallel}",
            source=f"composed from LLMServingSim's layer times of {meta.get('model')} ({meta.get('gpu')}, vLLM {meta.get('vllm_version')})",
            provenance={
                "from": str(layers.tables.folder),
                "step": self.step,
                "profiled_at": meta.get("profiled_at"),
                "collectives": self.environment,
            },
        )

    def layers(self, measured: Run) -> "LayerSteps":
        """The step times of the run's model on its GPU. Raises NotAvailable when that profile has no such GPU, model or parallelism."""
        if measured.hardware not in self.devices or measured.system != "vllm":
            raise NotAvailable(
                f"calibration servingsim: it has no tables for {measured.system} on {measured.hardware}; it has vllm on "
                f"{', '.join(self.devices)}"
            )
        assert self.clone is not None
        if not (Path(self.clone) / "profiler" / "perf").is_dir():
            raise SimulatorError(
                f"calibration servingsim: {self.clone} has no profiler/perf; set calibration.clone to a clone of "
                f"github.com/casys-kaist/LLMServingSim"
            )
        tp = measured.limits.tensor_parallel
        gpu = Path(self.clone) / "profiler" / "perf" / self.devices[measured.hardware]
        folder = self._model_folder(gpu, measured.config["model"]) / self.variant / f"tp{tp}"
        if tp > 1 and self.collectives is None:
            raise NotAvailable(
                f"calibration servingsim: its tables have no all-reduces, and the engine of run {measured.run_id} has {tp} devices; "
                f"add calibration/collectives=aic"
            )
        return LayerSteps(
            tables=LayerTables.read(folder),
            shape=uniform(decoder_of(measured.config["model"]), "calibration servingsim"),
            step=self.step,
            reduce=self.collectives.steps(measured).tables.sums if self.collectives is not None and tp > 1 else None,
        )

    def _model_folder(self, gpu: Path, model: Mapping[str, Any]) -> Path:
        """The folder of the profiled model that has the same sizes: configs/model/<name>.json there is its config.json."""
        assert self.clone is not None
        configs = Path(self.clone) / "configs" / "model"
        found = [path.relative_to(configs).with_suffix("") for path in sorted(configs.rglob("*.json")) if _alike(path, model)]
        there = [gpu / name for name in found if (gpu / name).is_dir()]
        if not there:
            profiled = sorted(str(path.parent.parent.relative_to(gpu)) for path in gpu.rglob("meta.yaml"))
            raise NotAvailable(f"calibration servingsim: {gpu} has no model of these sizes; it has {', '.join(profiled) or 'nothing'}")
        return there[0]


def _alike(path: Path, model: Mapping[str, Any]) -> bool:
    theirs = json.loads(path.read_text(encoding="utf-8"))
    return theirs.get("architectures") == model.get("architectures") and all(theirs.get(size) == model.get(size) for size in SIZES)


@dataclass(frozen=True, kw_only=True)
class LayerSteps:
    """Step times as sums of layer times. step: s of every step beside them. reduce: all-reduces by their elements; None: there are none."""

    tables: LayerTables
    shape: Uniform
    step: float
    reduce: Collective | None = None

    def __post_init__(self) -> None:
        known = self.tables.dense.keys() | self.tables.per_sequence.keys()
        missing = [layer for layer in (*IN_A_LAYER, *ONCE, *HEAD) if layer not in known and layer not in OPTIONAL]
        if missing:
            raise SimulatorError(
                f"calibration servingsim: {self.tables.folder} has no times of {', '.join(missing)}; it is no dense decoder's"
            )

    def seconds(self, *, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> float:
        """s of a step, as StepSeconds has it. Raises OutsideTables where a layer was not measured."""
        return sum(self.parts(new=new, cached=cached, batch=batch, context=context).values())

    def parts(self, *, new: int = 0, cached: int = 0, batch: int = 0, context: int = 0) -> dict[str, float]:
        """The step's s by layer, over all layers of a kind."""
        dense, tokens, rows = self.tables.dense, new + batch, batch + (new > 0)
        parts = {name: self.shape.layers * n * dense[name].at(tokens=tokens) for name, n in IN_A_LAYER.items() if name in dense}
        attention = self.tables.attention.at(n_decode=batch, prefill_chunk=new, kv_prefill=cached, kv_decode=context if batch else 0)
        parts["attention"] = self.shape.layers * attention
        parts |= {name: dense[name].at(tokens=tokens) for name in ONCE}
        parts |= {name: self.tables.per_sequence[name].at(sequences=rows) for name in HEAD}
        if self.reduce is not None:
            parts["all-reduce"] = (2 * self.shape.layers + 1) * self.reduce.seconds(tokens * self.shape.hidden)
        parts["step"] = self.step
        return parts
