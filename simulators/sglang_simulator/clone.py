"""A clone of SGLang's repository: whether it is one, and whether its simulator is of the form that the driver drives."""

from pathlib import Path

from simulators.errors import NotAvailable
from simulators.foreign.clone import named_clone

SYSTEM = "sglang_simulator"
ADDRESS = "https://github.com/sgl-project/sglang"
SOURCE = Path("tools/sglang-simulator/src")
NEEDED = tuple(  # of its modules, those that the driver imports
    SOURCE / "sglang_simulator" / name for name in ("compat.py", "simulation/sglang/engine.py", "time_predictor/ml.py")
)


def simulator_of(checkout: str | None) -> Path:
    """The folder of a clone that its modules are imported from. Raises NotAvailable saying what is missing."""
    folder = named_clone(
        checkout,
        system=SYSTEM,
        variable="PLUMBLINE_SGLANG",
        address=ADDRESS,
        what="SGLang with its simulator",
        marker=SOURCE,
    )
    if missing := [str(file) for file in NEEDED if not (folder / file).is_file()]:
        raise NotAvailable(
            f"{SYSTEM}: the simulator of {folder} is of another form than this adapter drives (no {', no '.join(missing)}); "
            "check out a commit that has them, as of SGLang 0.5.21"
        )
    return folder / SOURCE
