"""TableFiles: the tables of one device, as they lie in the package, and which engine version's is taken.

Where: <package>/systems/data/<device>/<family>/<framework>/<version>/<file>.parquet (PyPI, Apache-2.0), in one of `PACKAGES`; none of its
code is run.
Latencies are in ms. Columns and units are those of the collectors of ai-dynamo/aiconfigurator (collector/vllm, collector/sglang); how they
are put together there is in its aic-core/rust/aiconfigurator-core/src/operators.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.program import interpreter
from simulators.foreign.versions import by_nearness

PACKAGES = ("aiconfigurator_core", "aisimulate_core")  # of aiconfigurator and older wheels of aisimulate; of its newer ones

Usable = Callable[[pd.DataFrame], bool]
Need = Mapping[str, object]  # column -> the value that a row must have, or a set of them


@dataclass(frozen=True, kw_only=True)
class TableFiles:
    """The tables of one device for one engine."""

    root: Path  # the folder of the device's data
    framework: str  # the engine that they were measured with
    version: str | None  # of the engine; None: unknown, and the newest are taken
    taken: dict[str, str] = field(default_factory=dict)  # the tables that were read so far -> the version that they are of

    def read(
        self,
        family: str,
        file: str,
        need: Need | None = None,
        *,
        of: str | None = None,
        usable: Callable[[pd.DataFrame], bool] | None = None,
    ) -> tuple[pd.DataFrame, str]:
        """The rows that are needed, of the nearest version that has usable ones, and the table's name.

        of: whose table, when not the engine's own: nccl, whose versions are not the engine's, so that the newest is taken. usable: whether
        a version's rows can be taken, when it is not enough that there are some. Raises NotAvailable when no version has such rows.
        """
        need, framework = need or {}, of or self.framework
        folder = self.root / family / framework
        found = {path.parent.name: path for path in folder.glob(f"*/{file}.parquet")}
        for version in by_nearness(found, None if of else self.version):
            rows = _matching(pd.read_parquet(found[version]), need)
            if len(rows) and (usable is None or usable(rows)):
                name = f"{self.root.name}/{family}/{framework}/{version}/{file}"
                self.taken[name] = version
                return rows, name
        wanted = f" with {_text(need)}" if need else ""
        where = Path(*self.root.parts[-4:]) / family / framework
        raise NotAvailable(f"calibration aic: {where} has no {file}{wanted}; take another source of calibration")

    def used(self) -> list[str]:
        """The tables that were read, by name."""
        return sorted(self.taken)

    def of_other_versions(self) -> list[str]:
        """Those of them that are of another version of the engine than was asked for."""
        return [name for name in self.used() if self.taken[name] != self.version and f"/{self.framework}/" in name]


def installed(environment: str) -> Path:
    """The tables of all devices in the packages of an environment. Raises SimulatorError when they are not there."""
    library = interpreter(environment).parent.parent / "lib"
    for package in PACKAGES:
        for found in library.glob(f"python*/site-packages/{package}/systems/data"):
            return found
    raise SimulatorError(f"environment {environment}: none of its packages has operation tables; aisimulate and aic have some")


def _matching(rows: pd.DataFrame, need: Need) -> pd.DataFrame:
    if not set(need) <= set(rows.columns):
        return rows.iloc[:0]
    for column, value in need.items():
        rows = rows[rows[column].isin(value) if isinstance(value, Collection) and not isinstance(value, str) else rows[column] == value]
    return rows


def _text(need: Need) -> str:
    def one(value: object) -> str:
        return "/".join(map(str, sorted(value))) if isinstance(value, Collection) and not isinstance(value, str) else str(value)

    return ", ".join(f"{column} {one(value)}" for column, value in need.items())
