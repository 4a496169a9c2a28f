"""A server's own metrics during a run: polled by a small process of its own (poller.py), parsed after the run.

The client's process does nothing for it while requests are in flight. A server that dies ends the series; what was read stays.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import orjson
import pandas as pd

from harness.system import EngineError

POLLER = Path(__file__).with_name("poller.py")
COLUMNS = ("time", "name", "value")
SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?$")
LABEL = re.compile(r'(?P<key>[a-zA-Z_]\w*)="(?P<value>(?:\\.|[^"\\])*)"')
ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of a Prometheus text: name{labels} value."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_metrics(text: str) -> list[Sample]:
    """The samples of a Prometheus text (exposition format 0.0.4), in its order. Raises ValueError naming the line that is none."""
    samples = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = SAMPLE.match(line.strip())
        if match is None:
            raise ValueError(f"metrics, line {number}: not a Prometheus sample: {line[:80]!r}")
        labels = {m["key"]: re.sub(r'\\[n"\\]', lambda e: ESCAPES[e[0]], m["value"]) for m in LABEL.finditer(match["labels"] or "")}
        samples.append(Sample(name=match["name"], labels=labels, value=float(match["value"])))
    return samples


def plain_values(text: str, prefix: str) -> dict[str, float]:
    """Gauges and counters whose names start with `prefix` (taken off); a histogram gives its _sum and _count only.

    Series of one name that differ in their labels are added up; a share (`_perc`) is averaged.
    """
    values: dict[str, list[float]] = {}
    for sample in parse_metrics(text):
        if sample.name.startswith(prefix) and not sample.name.endswith(("_bucket", "_created", "_info")):
            values.setdefault(sample.name.removeprefix(prefix), []).append(sample.value)
    return {name: sum(found) / (len(found) if name.endswith("_perc") else 1) for name, found in values.items()}


class Telemetry:
    """A context: while it is open, `url` is polled every `interval` s; after it, `frame` gives what was seen.

    parse: one answer's text to name: value (an engine's `sample`). An interval of 0 or a url of None polls nothing. Leaving it raises
    EngineError when the poller itself failed (a full disk, a url that is none).
    """

    def __init__(self, url: str | None, interval: float, parse: Callable[[str], Mapping[str, float]]) -> None:
        self._url, self._interval, self._parse = url, interval, parse
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._polls: list[tuple[float, str]] = []

    def __enter__(self) -> "Telemetry":
        if self._url is not None and self._interval > 0:
            self._folder = tempfile.TemporaryDirectory(prefix="plumbline-telemetry-")
            argv = [sys.executable, "-I", str(POLLER), self._url, str(self._interval), str(self._file)]
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is None or self._folder is None:
            return
        _, said = self._process.communicate()  # closes its standard input: its order to end
        polled = self._file.read_bytes() if self._file.exists() else b""
        self._folder.cleanup()
        if self._process.returncode == 0:
            self._polls = [(poll["time"], poll["text"]) for poll in map(orjson.loads, polled.splitlines())]
        elif kind is None:
            why = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise EngineError(f"telemetry of {self._url}: its poller ended with exit code {self._process.returncode}: {why}")

    @property
    def _file(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "polls.jsonl"

    def frame(self, epoch: float) -> pd.DataFrame:
        """Long form: time (s since `epoch`, a time.monotonic() value; when the answer had been read), name, value."""
        rows = [(time - epoch, name, value) for time, text in self._polls for name, value in self._parse(text).items()]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"time": float, "value": float})
