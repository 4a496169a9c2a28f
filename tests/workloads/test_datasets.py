"""A Dataset takes what it is told from a file, at the times it is told, and says what it left out."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.datasets import Dataset
from workloads.rows import Row
from workloads.sources import Csv, Mooncake
from workloads.trace import Trace, TraceError

HEADER = "arrival,input_tokens,output_tokens\n"


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """Ten requests: request i at i seconds, 100 + i tokens in, 10 + i out."""
    path = tmp_path / "ten.csv"
    path.write_text(HEADER + "".join(f"{i},{100 + i},{10 + i}\n" for i in range(10)))
    return path


def asked(path: Path, *, rate: float | None = None, n: int | None = None, seed: int = 0, limit: int | None = None, **more: Any) -> Trace:
    return Dataset(name="d", source=Csv(path=path), **more).trace(rate=rate, num_requests=n, seed=seed, max_model_len=limit)


def inputs(trace: Trace) -> list[int]:
    return [r.input_tokens for r in trace]


def times(trace: Trace) -> list[float]:
    return [r.arrival for r in trace]


def test_without_settings_it_is_the_file(ten: Path) -> None:
    trace = asked(ten)
    assert times(trace) == [float(i) for i in range(10)]
    assert inputs(trace) == [100 + i for i in range(10)]
    assert trace.name == "d"


def test_a_slice_is_half_open_and_re_based(ten: Path) -> None:
    trace = asked(ten, start=2.5, length=3.5)
    assert inputs(trace) == [103, 104, 105]
    assert times(trace) == [0.5, 1.5, 2.5]
    assert inputs(asked(ten, start=3.0, length=2.0)) == [103, 104]


def test_own_times_are_stretched_to_the_rate(ten: Path) -> None:
    trace = asked(ten, rate=4.0)
    assert trace.rate == pytest.approx(4.0, rel=1e-12)
    assert times(trace) == pytest.approx([i / 4 for i in range(10)])


def test_a_process_sets_the_times_and_keeps_the_requests_in_order(ten: Path) -> None:
    trace = asked(ten, rate=2.0, arrivals="constant")
    assert times(trace) == [i / 2 for i in range(10)]
    assert inputs(asked(ten, rate=2.0, arrivals="gamma", burstiness=0.3)) == [100 + i for i in range(10)]
    assert times(asked(ten, rate=float("inf"))) == [0.0] * 10


def test_the_seed_decides_and_nothing_else(ten: Path) -> None:
    first, again, other = (asked(ten, rate=2.0, arrivals="poisson", seed=seed).sha256 for seed in (1, 1, 2))
    assert first == again != other


def test_the_first_n_and_never_fewer(ten: Path) -> None:
    assert inputs(asked(ten, n=3)) == [100, 101, 102]
    assert inputs(asked(ten, num_requests=2)) == [100, 101]
    with pytest.raises(TraceError, match="11 requests are asked, but there are 10"):
        asked(ten, n=11)
    with pytest.raises(TraceError, match="no request is left"):
        asked(ten, start=100.0)


def test_a_request_too_long_is_an_error_that_names_its_line(ten: Path) -> None:
    with pytest.raises(TraceError, match=r"ten\.csv:7: 105 \+ 15 tokens exceed max_model_len 119; set workload\.too_long"):
        asked(ten, limit=119)
    assert len(asked(ten, limit=128)) == 10


def test_a_request_too_long_is_dropped_or_scaled_when_told_and_counted(ten: Path, caplog: pytest.LogCaptureFixture) -> None:
    dropped = asked(ten, limit=119, too_long="drop")
    assert inputs(dropped) == [100, 101, 102, 103, 104]
    assert dropped.name == "d, 5 longer than 119 tokens dropped"
    assert "5 longer than 119 tokens dropped" in caplog.text
    scaled = asked(ten, limit=119, too_long="scale")
    assert len(scaled) == 10
    assert all(r.input_tokens + r.output_tokens <= 119 for r in scaled)
    assert all(r.input_tokens + r.output_tokens >= 118 for r in list(scaled)[5:])
    assert inputs(scaled)[:5] == inputs(dropped)
    assert scaled.name == "d, 5 longer than 119 tokens scaled"


def test_a_single_token_of_output_stays_one_when_a_request_is_scaled(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "0,1000,1\n")
    (request,) = asked(path, limit=100, too_long="scale")
    assert (request.input_tokens, request.output_tokens) == (99, 1)


def test_rows_of_no_tokens_are_an_error_or_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "0,5,5\n1,0,5\n2,5,0\n3,6,6\n")
    with pytest.raises(TraceError, match=r"t\.csv:3: input and output tokens must be >= 1, got 0 and 5"):
        asked(path)
    trace = asked(path, empty="drop")
    assert inputs(trace) == [5, 6]
    assert trace.name == "d, 2 without tokens dropped"
    path.write_text(HEADER + "0,5,5\n1,-1,5\n")
    with pytest.raises(TraceError, match=r":3: .* got -1 and 5"):
        asked(path, empty="drop")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("0,5,5\n2,5,5\n1,5,5\n", ":4: arrivals must not decrease"),
        ("-1,5,5\n", ":2: arrivals must not decrease"),
        ("1700000000,5,5\n", ":2: arrival 1700000000.0 s is a wall-clock time"),
    ],
)
def test_bad_times_are_told_even_where_the_slice_leaves_them_out(lines: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + lines)
    with pytest.raises(TraceError, match=said):
        asked(path, start=0.5, length=50.0)


def test_lengths_are_scaled_blocks_included(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [(512 * 3, [0, 1, 2]), (512 * 2 + 1, [0, 1, 3]), (600, [0, 9])]
    path.write_text("\n".join(json.dumps({"timestamp": 0, "input_length": n, "output_length": 7, "hash_ids": h}) for n, h in rows))
    smaller = Dataset(name="m", source=Mooncake(path=path), scale_input=1 / 32, scale_output=0.5)
    trace = smaller.trace(rate=None, num_requests=None, seed=0)
    assert trace.block_size == 16
    assert [(r.input_tokens, r.output_tokens, r.blocks) for r in trace] == [(48, 4, (0, 1, 2)), (32, 4, (0, 1)), (19, 4, (0, 9))]
    with pytest.raises(TraceError, match="choose a factor"):
        Dataset(name="m", source=Mooncake(path=path), scale_input=0.3).trace(rate=None, num_requests=None, seed=0)


def test_ticks_are_kept_unless_told_to_spread(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "".join(f"{3 * (i // 100)},5,5\n" for i in range(1000)))
    assert set(times(asked(path))) == {3.0 * k for k in range(10)}
    spread = np.array(times(asked(path, spread=3.0)))
    assert (np.diff(spread) >= 0).all()
    assert np.histogram(spread, bins=10, range=(0, 30))[0].tolist() == [100] * 10
    assert len(set(spread.tolist())) == 1000


def test_times_that_are_not_there_are_not_made_up(tmp_path: Path, ten: Path) -> None:
    with pytest.raises(TraceError, match="arrivals=poisson needs a rate"):
        asked(ten, arrivals="poisson")
    path = tmp_path / "one.csv"
    path.write_text(HEADER + "0,5,5\n")
    with pytest.raises(TraceError, match="one instant"):
        asked(path, rate=1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"arrivals": "weibull"},
        {"arrivals": "gamma", "burstiness": -1.0},
        {"start": -1.0},
        {"length": 0.0},
        {"scale_input": 0.0},
        {"spread": 0.0},
        {"rate": 0.0},
        {"num_requests": 0},
        {"empty": "keep"},
        {"too_long": "clip"},
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(settings: dict[str, Any], ten: Path) -> None:
    with pytest.raises(ValueError, match=r"workload\.|request rate"):
        Dataset(name="d", source=Csv(path=ten), **settings)


@dataclasses.dataclass(frozen=True)
class Timeless:
    """A source without times, as ShareGPT is."""

    path: str = "timeless.json"

    def rows(self) -> Iterator[Row]:
        """Three rows."""
        return (Row(line=i, arrival=None, input_tokens=i, output_tokens=1) for i in (1, 2, 3))


def test_a_file_without_times_needs_a_process() -> None:
    with pytest.raises(TraceError, match=r"it has no arrival times; set workload\.arrivals"):
        Dataset(name="s", source=Timeless()).trace(rate=1.0, num_requests=None, seed=0)
    with pytest.raises(TraceError, match="no arrival times to slice by"):
        Dataset(name="s", source=Timeless(), arrivals="poisson", length=3.0).trace(rate=1.0, num_requests=None, seed=0)
    trace = Dataset(name="s", source=Timeless(), arrivals="constant").trace(rate=2.0, num_requests=None, seed=0)
    assert times(trace) == [0.0, 0.5, 1.0]
