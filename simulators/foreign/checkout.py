"""Pinned commits of public git repositories, in a cache folder: simulators that are on no package index.

`python -m simulators.foreign.checkout` (`make simulators`) puts all of them there; an adapter does it for its own when first used.
Where the repository comes from is a setting, so a local clone or a bare repository serves as well as the public address.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from results.project import git
from results.project.folder import ROOT
from simulators.errors import NotAvailable, SimulatorError

CACHE = ROOT / ".cache" / "simulators"
CONFIGS = ROOT / "conf" / "simulator"
BYTECODE = ".bytecode"  # beside the checkouts


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A commit of a git repository. name: of its simulator. url: anything that git can fetch from. commit: all 40 digits.

    paths: in gitignore's form, the only files that are wanted; none: all. spare: of these, the ones that a copy may lack, and without which
    some of the simulator runs all the same.
    """

    name: str
    url: str
    commit: str
    paths: Sequence[str] = ()
    spare: Sequence[str] = ()

    def __post_init__(self) -> None:
        git.check_commit(self.commit, f"simulator {self.name}")
        if not self.url:
            raise ValueError(f"simulator {self.name}: repository is empty; give a git address, a folder or a bare clone")

    @property
    def version(self) -> str:
        """git-1234567, what a run of it names as its version."""
        return f"git-{self.commit[:7]}"

    @property
    def provenance(self) -> dict[str, str]:
        """Where a run's simulator is from."""
        return {"repository": self.url, "commit": self.commit}

    @property
    def variable(self) -> str:
        """The environment variable that conf/simulator/<name>.yaml takes another url from."""
        return f"PLUMBLINE_{self.name.removesuffix('_sim').upper()}_GIT"

    def checkout(self, cache: Path = CACHE) -> Path:
        """The folder with this commit's files, fetched first when it is not there (whole, or not at all).

        Raises NotAvailable when it cannot be fetched (which says how to get it), SimulatorError when someone has edited the files.
        """
        folder = cache / f"{self.name}@{self.commit}"
        if not folder.is_dir():
            self._fetch(folder)
        if (what := git.edited(folder)) is not None:
            raise SimulatorError(f"{self.name}: {folder} is not commit {self.commit[:7]} as it was fetched ({what}); delete that folder")
        return folder

    def _fetch(self, folder: Path) -> None:
        """With the spare files where they can be had. Raises NotAvailable."""
        without = [f"!{pattern}" for pattern in self.spare]
        for paths in ([*self.paths], [*self.paths, *without])[: 2 if without else 1]:
            try:
                return git.fetch(self.url, self.commit, folder, paths)
            except git.GitError as error:
                failed = error
        raise self._not_available(str(failed)) from failed

    def _not_available(self, why: str) -> NotAvailable:
        return NotAvailable(
            f"{self.name}: no copy of commit {self.commit[:7]} of {self.url} ({why}); set {self.variable} to a clone or bare repository "
            f"that has it (or simulators.{self.name}.repository), then `make simulators`"
        )


def importing(checkout: Path) -> dict[str, str]:
    """The environment variables with which a Python imports a checkout's modules and keeps what it compiles, those of its own packages too.

    Uv installs packages uncompiled, and compiling them anew takes longer than a simulation. It is kept beside the checkout, which stays
    as it was fetched.
    """
    return {"PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(checkout.parent / BYTECODE)}


def configured(configs: Path = CONFIGS) -> list[Repository]:
    """The repositories that conf/simulator/*.yaml name, by name."""
    found: list[Repository] = []
    for path in sorted(configs.glob("*.yaml")):
        settings: Any = OmegaConf.load(path)
        if "repository" in settings and "commit" in settings:
            parts = {name: tuple(settings.get(name, ())) for name in ("paths", "spare")}
            found.append(Repository(name=path.stem, url=settings["repository"], commit=settings["commit"], **parts))
    return found


def main() -> int:
    """Fetch all that are configured; a line for each, exit code 1 when one could not be had."""
    failed = 0
    for repository in configured():
        try:
            print(f"{repository.name}: {repository.checkout()}")
        except SimulatorError as error:
            failed = 1
            print(error, file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
