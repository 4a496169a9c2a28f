"""A clone of SGLang's repository: whether it is one, and whether its simulator is of the form that the driver drives."""

from dataclasses import dataclass
from pathlib import Path

from results.project.folder import ROOT
from simulators.errors import NotAvailable

SYSTEM = "sglang_simulator"
ADDRESS = "https://github.com/sgl-project/sglang"
SOURCE = Path("tools/sglang-simulator/src")
NEEDED = tuple(  # of its modules, those that the driver imports
    SOURCE / "sglang_simulator" / name for name in ("compat.py", "simulation/sglang/engine.py", "time_predictor/ml.py")
)


@dataclass(frozen=True, kw_only=True)
class SglangClone:
    """One that is there."""

    folder: Path

    @classmethod
    def at(cls, checkout: str | None) -> "SglangClone":
        """checkout: absolute, or from the project's folder. Raises NotAvailable saying what is missing."""
        how = f"clone {ADDRESS} and set simulators.{SYSTEM}.checkout, or PLUMBLINE_SGLANG, to its folder"
        if checkout is None:
            raise NotAvailable(f"{SYSTEM}: no clone is named; {how}")
        folder = (ROOT / checkout).resolve()
        if not folder.is_dir():
            raise NotAvailable(f"{SYSTEM}: no folder {folder}; {how}")
        if not (folder / SOURCE).is_dir():
            raise NotAvailable(f"{SYSTEM}: {folder} is no clone of SGLang with its simulator ({SOURCE} is missing); {how}")
        if missing := [str(file) for file in NEEDED if not (folder / file).is_file()]:
            raise NotAvailable(
                f"{SYSTEM}: the simulator of {folder} is of another form than this adapter drives (no {', no '.join(missing)}); "
                "check out a commit that has them, as of SGLang 0.5.21"
            )
        return cls(folder=folder)

    @property
    def source(self) -> Path:
        """The folder that its modules are imported from."""
        return self.folder / SOURCE
