"""casys-kaist/LLMServingSim: bench/examples in the form that ./plumbline import reads itself; the prompts go beside it."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.recordings.recording import RecordingError


@dataclass(frozen=True, kw_only=True)
class ServingSimExample:
    """One run. folder: of the example, in the repository. name: of the run. prompts: the file of the workload, in the repository."""

    folder: str
    name: str
    prompts: str

    def convert(self, repository: Path, about: Mapping[str, Any], out: Path) -> Iterator[str]:
        """See Converter. `about` is not needed: the form says all of it itself."""
        source = repository / self.folder
        files = [*(source / "vllm" / name for name in ("requests.jsonl", "meta.json", "timeseries.csv")), source / "config.json"]
        target = out / self.name
        target.mkdir()
        try:
            for file in files:
                shutil.copyfile(file, target / file.name)
            shutil.copyfile(repository / self.prompts, target / "prompts.jsonl")
        except OSError as error:
            raise RecordingError(f"{repository}: {error.filename} cannot be read ({error.strerror})") from error
        yield self.name
