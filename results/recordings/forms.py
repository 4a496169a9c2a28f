"""The forms of a recording, and which of them a file has: told by its content, never by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from results.recordings import plain, servingsim
from results.recordings.about import Given
from results.recordings.recording import Recording, RecordingError
from results.recordings.tools import aiperf, blis, guidellm, inference_perf, sglang_bench, vllm_bench

PLAIN = ("requests.csv", "requests.jsonl")


class Form(NamedTuple):
    """One form of a recording."""

    name: str  # in words
    fits: Callable[[Path], bool]  # whether the content of a file is of this form
    read: Callable[[Path, Given], Recording]
    several: bool = False  # whether a file of it can hold several results (--benchmark)


FORMS = (
    Form(servingsim.NAME, servingsim.is_servingsim, servingsim.read_servingsim),
    Form(vllm_bench.NAME, vllm_bench.is_vllm_bench, vllm_bench.read_vllm_bench, several=True),
    Form(sglang_bench.NAME, sglang_bench.is_sglang_bench, sglang_bench.read_sglang_bench, several=True),
    Form(aiperf.NAME, aiperf.is_aiperf, aiperf.read_aiperf),
    Form(guidellm.NAME, guidellm.is_guidellm, guidellm.read_guidellm, several=True),
    Form(inference_perf.NAME, inference_perf.is_inference_perf, inference_perf.read_inference_perf),
    Form(blis.NAME, blis.is_blis, blis.read_blis),
    Form(plain.NAME, plain.is_plain, plain.read_plain),
)


def read_recording(path: Path, given: Given) -> Recording:
    """The recording in a file or a folder. Raises RecordingError, TraceError: one line, with file, what is wrong, what to do."""
    if not path.exists():
        raise RecordingError(f"{path}: no such file or folder")
    file = _requests_in(path) if path.is_dir() else path
    form = _form_of(file)
    if form is None:
        raise RecordingError(f"{file}: no form of a recording that is known; known: {'; '.join(form.name for form in FORMS)}")
    if given.benchmark is not None and not form.several:
        raise RecordingError(f"{file}: {form.name} has one result; leave out --benchmark")
    return form.read(file, given)


def _form_of(file: Path) -> Form | None:
    return next((form for form in FORMS if form.fits(file)), None)


def _requests_in(folder: Path) -> Path:
    """The file of a folder that has the requests: by its name in the plain form, else the only one that a tool wrote."""
    found = [folder / name for name in PLAIN if (folder / name).is_file()]
    if not found:
        files = (file for file in sorted(folder.iterdir()) if file.suffix in (".json", ".jsonl", ".csv"))
        found = [file for file in files if _form_of(file) is not None]
    if len(found) != 1:
        what = (
            f"both {' and '.join(f.name for f in found)}; give one of them"
            if found
            else f"no {' or '.join(PLAIN)} in it, nor a tool's file"
        )
        raise RecordingError(f"{folder}: {what} (docs/importing.md says what a recording is)")
    return found[0]
