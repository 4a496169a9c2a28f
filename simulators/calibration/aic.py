"""`calibration=aic`: a profile of an engine that is not at hand, from the operation times that aiconfigurator-core has of its device."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from results.profile import Profile
from results.record import Run
from simulators.calibration.operation_tables.files import TableFiles, installed
from simulators.calibration.operation_tables.formats import TableFormats
from simulators.calibration.operation_tables.model import ModelTables
from simulators.calibration.operations import Kernels, Overheads, Steps
from simulators.calibration.points import StepSeconds, compose
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.latency.parallelism import Parallelism

FRAMEWORKS = ("vllm", "sglang")  # engines that it has tables of


@dataclass(frozen=True, kw_only=True)
class Aic:
    """conf/calibration/aic.yaml says what each setting means. The engine's own profile, where there is one, is put aside.

    What such a profile cannot know: the front-end's cost (it has none), the clocks and the links of the very machine, kernels that were not
    timed, and the host's work that is not hidden behind the device's (`overheads.step`).
    """

    devices: Mapping[str, str]  # its system for a GPU of conf/hardware
    all_reduce: str  # graph or eager
    overheads: Overheads  # what the tables have no times for
    query_tiles: Mapping[str, int]  # rows of queries, by GPU
    experts: str  # the law of the tokens that an expert gets
    experts_of: Mapping[str, str]  # the same for a model_type
    environment: str | None  # whose package has the tables
    data: str | None = None  # else their folder

    source: ClassVar[str] = "aic"
    spread: ClassVar[float] = 0.05  # medians of measured kernels

    def __post_init__(self) -> None:
        if (self.environment is None) == (self.data is None):
            raise ValueError("calibration aic: give either an environment or a folder of data, and null for the other")

    def seconds(self, measured: Run) -> StepSeconds:
        """See simulators.calibration.bases.Base."""
        return self.steps(measured).seconds

    def bends(self, measured: Run) -> Sequence[int]:
        """See simulators.calibration.bases.Base: the sizes that its tables of products and of experts have."""
        return self.steps(measured).bends()

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """See Calibration."""
        steps = self.steps(measured)
        composed = compose(
            measured,
            steps.seconds,
            profile_id=f"aic-{measured.hardware}-{measured.model}-tp{steps.tables.parallel.tensor}",
            source=f"composed from the operation times of aiconfigurator-core for {self.devices[measured.hardware]}",
            provenance={
                "from": self.data or self.environment,
                "overheads": asdict(self.overheads),
                "kernels": asdict(steps.kernels),
                "all_reduce": self.all_reduce,
                "experts": steps.tables.distribution,
            },
            bends=steps.bends(),
        )
        tables = {"tables": steps.tables.files.used(), "tables_of_other_versions": steps.tables.files.of_other_versions()}
        return replace(composed, provenance={**composed.provenance, **tables})

    def steps(self, measured: Run) -> Steps:
        """The step times of the run's model, parallelism and device. Raises NotAvailable when there are no tables for them."""
        hardware = measured.config.get("hardware") or {}
        if measured.hardware not in self.devices or measured.system not in FRAMEWORKS:
            raise NotAvailable(
                f"calibration aic: it has no tables for {measured.system} on {measured.hardware}; it has {', '.join(FRAMEWORKS)} on "
                f"{', '.join(self.devices)}; calibration=first_requests takes the run itself"
            )
        bandwidth = hardware.get("memory_bandwidth_gb_s")
        if not bandwidth:
            raise NotAvailable(f"calibration aic: run {measured.run_id} does not say its hardware's memory_bandwidth_gb_s")
        config, limits = measured.config["model"], measured.limits
        tables = ModelTables(
            decoder=decoder_of(config),
            files=TableFiles(root=self.folder() / self.devices[measured.hardware], framework=measured.system, version=measured.version),
            parallel=Parallelism(
                tensor=limits.tensor_parallel, data=limits.data_parallel, pipeline=limits.pipeline_parallel, expert=limits.expert_parallel
            ),
            formats=TableFormats.of(config),
            all_reduce=self.all_reduce,
            distribution=self.experts_of.get(config.get("model_type", ""), self.experts),
        )
        return Steps(
            tables=tables,
            overheads=self.overheads,
            memory_bandwidth=1e9 * bandwidth,
            kernels=self.kernels(measured.system, measured.hardware, hardware),
        )

    def kernels(self, engine: str, device: str, hardware: Mapping[str, Any]) -> Kernels:
        """What is known of the kernels of an engine on a device. SGLang computes prompts and decodes in steps of their own."""
        size, speed = hardware.get("l2_mb"), hardware.get("l2_gb_s")
        return Kernels(
            query_tile=self.query_tiles.get(device) if engine == "vllm" else None,
            l2=1e6 * size if size else None,
            l2_bandwidth=1e9 * speed if speed else None,
        )

    def folder(self) -> Path:
        """Where the tables are: `data`, or the package in its environment. Raises SimulatorError when they are not there."""
        if self.environment is not None:
            return installed(self.environment)
        found = Path(self.data or "")
        if not found.is_dir():
            raise SimulatorError(f"calibration aic: no tables in {found}; give calibration.data a folder that has them")
        return found
