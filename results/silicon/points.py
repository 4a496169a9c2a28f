"""Points of AISimulate's silicon sample (systems/silicon_sample.csv in its wheel, Apache-2.0): one row a measured configuration.

A row has a server, its load, and one TTFT and one TPOT. The file repeats itself and misstates some sizes; what is mended here follows
from the file alone:

- A measurement is in it up to four times, once per export, with the same times, some of them rounded. They are one point; `rows` counts
  them.
- Where experts are split both ways (moe_tp_size = moe_ep_size = k), tp_size is k times too large: the same measurement stands beside it
  with tp_size / k, and no server of its source has so many GPUs.
- Where attention is data parallel (attention_dp_size = k), tp_size is the number of GPUs, as the row's own id says; every GPU then
  computes the attention of its own requests. TensorRT-LLM's rows have a tp_size of 1 there, and k as above.
- One export names DeepSeek-R1's runs after DeepSeek-V3, which has the same shape; their ids begin with dsr1, and the other export has the
  same times under R1.

Nothing of the file is part of Plumbline: it is read where the wheel is installed.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

MS = 1e-3  # s
DIGITS = 3  # of two times that are one measurement: some exports round to a hundredth of a millisecond
SYSTEMS = re.compile(r"_sxm$")  # h100_sxm is conf/hardware's h100
CONCURRENCY = re.compile(r"silicon_concurrency=(\d+)")
PRECISIONS = {"nvfp4": "fp4", "fp8": "fp8", "fp8_block": "fp8", "int4_wo": "int4", "": "bf16"}
NAMED_BY_ID = {"dsr1_": "deepseek-ai/DeepSeek-R1"}  # how an id begins: the model that it was
NEEDED = ("id", "silicon_data_source", "backend", "model_path", "system", "mode", "isl", "osl", "batch_size", "silicon_ttft_ms")

Loop = Literal["closed", "batch"]


class PointError(ValueError):
    """A file that is not the silicon sample; the message says where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """A server under a load, and what was measured of it. Sizes in tokens, times in s."""

    point_id: str  # of the first of its rows
    rows: int  # of the file that are this measurement
    engine: str  # vllm, sglang, trtllm
    version: str | None  # of the engine; None: not told
    model: str  # its name on Hugging Face
    gpu: str  # as in conf/hardware
    weights: str  # format of the dense layers' weights: bf16, fp8, fp8_block, nvfp4, int4_wo
    experts: str  # of the experts' weights, the same words
    loop: Loop  # closed: so many requests were kept in flight; batch: from somebody's own file, which states a batch size
    concurrency: int  # requests in flight
    input_tokens: int  # of a prompt: the longest
    output_tokens: int  # of an answer: the longest
    devices: int  # GPUs
    tensor_parallel: int  # GPUs that share the attention of one request
    data_parallel: int  # groups of GPUs that each compute the attention of their own requests
    expert_parallel: int  # groups of GPUs over which the experts are spread
    ttft: float  # s
    tpot: float  # s

    @property
    def precision(self) -> str:
        """Of the most weights, in a word: bf16, fp8, fp4, int4."""
        return PRECISIONS.get(self.experts, self.experts)

    @property
    def parallelism(self) -> str:
        """In a word: TP4, TP4 EP4, DP4 EP4."""
        attention = f"DP{self.data_parallel}" if self.data_parallel > 1 else f"TP{self.tensor_parallel}"
        return attention + (f" EP{self.expert_parallel}" if self.expert_parallel > 1 else "")


def read_points(path: Path) -> list[MeasuredPoint]:
    """The points of all servers that are one engine (`agg`), each once, in the file's order. Raises PointError."""
    if not path.is_file():
        raise PointError(
            f"silicon sample: {path} is missing; it is in AISimulate's wheel: ./plumbline bench simulator=[aisimulate] installs it"
        )
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise PointError(f"silicon sample: {path} lacks the columns {', '.join(missing)}; it is another file")
        return list(_once(_points(path, reader)))


def _points(path: Path, rows: Iterable[Mapping[str, str]]) -> Iterator[MeasuredPoint]:
    for line, row in enumerate(rows, start=2):
        if row["mode"] != "agg":
            continue
        try:
            yield _point(row)
        except ValueError as error:
            raise PointError(f"silicon sample: {path}:{line}: {error}; it is another file, or a newer one") from error


def _point(row: Mapping[str, str]) -> MeasuredPoint:
    source = row["silicon_data_source"]
    stated = CONCURRENCY.search(source)
    devices, data_parallel, expert_parallel = _layout(row)
    return MeasuredPoint(
        point_id=row["id"],
        rows=1,
        engine=row["backend"],
        version=row["backend_version"] or None,
        model=next((model for start, model in NAMED_BY_ID.items() if row["id"].startswith(start)), row["model_path"]),
        gpu=SYSTEMS.sub("", row["system"]),
        weights=row["gemm_quant_mode"] or "bf16",
        experts=row["moe_quant_mode"] or "bf16",
        loop="batch" if source.startswith("source_file=/") or stated is None else "closed",
        concurrency=int(stated[1]) if stated else _number(row, "batch_size"),
        input_tokens=_number(row, "isl"),
        output_tokens=_number(row, "osl"),
        devices=devices,
        tensor_parallel=devices // data_parallel,
        data_parallel=data_parallel,
        expert_parallel=expert_parallel,
        ttft=MS * _time(row, "silicon_ttft_ms"),
        tpot=MS * _time(row, "silicon_tpot_ms"),
    )


def _layout(row: Mapping[str, str]) -> tuple[int, int, int]:
    """(GPUs, data parallel, expert parallel), mended as the module says."""
    tensor, data = _number(row, "tp_size"), _number(row, "attention_dp_size")
    ways, experts = _number(row, "moe_tp_size"), _number(row, "moe_ep_size")
    if data > 1:
        devices = tensor if tensor > 1 else max(ways, experts)
        return devices, devices, devices if experts > 1 else 1
    if ways == experts > 1:
        return tensor // experts, 1, experts
    return tensor, 1, min(experts, tensor)


def _number(row: Mapping[str, str], name: str) -> int:
    """A size; 1 where the row has none, or 0."""
    return int(float(row.get(name) or 0)) or 1


def _time(row: Mapping[str, str], name: str) -> float:
    value = float(row[name])
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value}")
    return value


def _once(points: Iterable[MeasuredPoint]) -> Iterator[MeasuredPoint]:
    """Each measurement once: the first of its rows, and how many there are. A stated concurrency counts over a batch size."""
    found: dict[tuple[object, ...], MeasuredPoint] = {}
    for point in points:
        load = (point.engine, point.model, point.gpu, point.concurrency, point.input_tokens, point.output_tokens, point.devices)
        key = (*load, _rounded(point.ttft), _rounded(point.tpot))
        known = found.get(key)
        if known is None:
            found[key] = point
        else:
            kept = known if known.loop == "closed" or point.loop == "batch" else point
            found[key] = replace(kept, rows=known.rows + 1, version=kept.version or point.version)
    yield from found.values()


def _rounded(seconds: float) -> str:
    return f"{seconds:.{DIGITS - 1}e}"
