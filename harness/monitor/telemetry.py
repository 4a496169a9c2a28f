"""A server's own metrics during a run: polled by a small process of its own (metrics_poller.py), parsed after the run.

The client's process does nothing for it while requests are in flight. A server that dies ends the series; what was read stays.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson

from harness.engine import EngineError

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

POLLER = Path(__file__).with_name("metrics_poller.py")
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


class Polling:
    """A context: while it is open, a script of ours writes one JSON line a poll; after it, `lines` holds them.

    script: called with `arguments` and a file's path; it ends when its standard input closes. None: nothing is polled. what: is polled,
    for messages. At its end the context raises EngineError when the script itself failed (a full disk, a malformed url).
    """

    def __init__(self, script: Path | None, arguments: Sequence[str], what: str) -> None:
        self._script, self._arguments, self._what = script, arguments, what
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.lines: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        if self._script is not None:
            self._folder = tempfile.TemporaryDirectory(prefix="plumbline-telemetry-")
            argv = [sys.executable, "-P", str(self._script), *self._arguments, str(self._file)]
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is None or self._folder is None:
            return
        _, said = self._process.communicate()  # closes its standard input: its order to end
        polled = self._file.read_bytes() if self._file.exists() else b""
        self._folder.cleanup()
        if self._process.returncode == 0:
            self.lines = [orjson.loads(line) for line in polled.splitlines()]
        elif kind is None:
            why = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise EngineError(f"telemetry of {self._what}: its poller ended with exit code {self._process.returncode}: {why}")

    @property
    def _file(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "polls.jsonl"


class Telemetry(Polling):
    """A context: while it is open, `url` is polled every `interval` s; after it, `frame` gives what was seen.

    parse: one answer's text to name: value (an engine's `sample`). An interval of 0 or a url of None polls nothing.
    """

    def __init__(self, url: str | None, interval: float, parse: Callable[[str], Mapping[str, float]]) -> None:
        super().__init__(POLLER if url is not None and interval > 0 else None, [str(url), str(interval)], str(url))
        self._parse = parse

    def frame(self, epoch: float) -> "pd.DataFrame":
        """Long form: time (s since `epoch`, a time.monotonic() value; when the answer had been read), name, value."""
        return long_form([(poll["time"] - epoch, self._parse(poll["text"])) for poll in self.lines])


def long_form(polls: Sequence[tuple[float, Mapping[str, float]]]) -> "pd.DataFrame":
    """A telemetry frame (time in s, name, value) from the values seen at each time."""
    import pandas as pd  # here: it takes long to import

    rows = [(time, name, value) for time, values in polls for name, value in values.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"time": float, "value": float})
