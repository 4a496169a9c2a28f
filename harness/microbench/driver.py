"""Runs in the engine's environment: times the operations of one transformer layer with its torch, at the points of a job.

Usage: python -m harness.microbench.driver JOB.json
JOB.json: model (config.json), tensor_parallel, block_size, kv_tokens (of the layer's cache), points ({linear: [tokens], prefill:
[[chunk, context]], decode: [[batch, context]]}, in the order in which they are wanted), always (how many of each kind's first points do
without a deadline), deadlines (s from the start, of each kind), warmup, active, out. The result: {device, torch, dtype, kernels, seconds,
times: [[kind, point, operation, median, min, max, mean, std] (s)]}.

On a GPU the time is that between two CUDA events around the operation, while the host is kept ahead of the device (a spin kernel holds the
stream until a pass is queued): what one kernel takes behind another, without the launch from Python. On a CPU it is perf_counter's. The
operations run in the order of a layer, so that each finds the caches as its forerunners leave them.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]
import torch.nn.functional as nn  # type: ignore[import-not-found]

from harness.microbench.kernels import EngineKernels, Flash, PagedFlash, PlainKernels, Sdpa, agree

Operation = tuple[str, Callable[[], Any]]
LEAD = 1.5  # times the host's time to queue a pass for which the device is held back


class Stopwatch:
    """Seconds that operations take, each on its own, in passes over all of them."""

    def __init__(self, device: str) -> None:
        self.gpu = device == "cuda"
        if self.gpu:
            torch.cuda._sleep(1000)  # loads the spin kernel
            self._sync()
            self.rate = 1e7 / self._timed([("spin", lambda: torch.cuda._sleep(10_000_000))], lead=0.0)["spin"]

    def passes(self, operations: Sequence[Operation], warmup: int, active: int) -> dict[str, list[float]]:
        """Each operation's times in `active` passes, after `warmup` that do not count."""
        queued = 0.0
        for _ in range(warmup):
            start = time.perf_counter()
            for _, work in operations:
                work()
            queued = time.perf_counter() - start
            self._sync()
        times: dict[str, list[float]] = {name: [] for name, _ in operations}
        for _ in range(active):
            for name, seconds in self._timed(operations, lead=LEAD * queued).items():
                times[name].append(seconds)
        return times

    def _timed(self, operations: Sequence[Operation], lead: float) -> dict[str, float]:
        if not self.gpu:
            found = {}
            for name, work in operations:
                start = time.perf_counter()
                work()
                found[name] = time.perf_counter() - start
            return found
        marks = {name: (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for name, _ in operations}
        if lead:
            torch.cuda._sleep(int((lead + 1e-4) * self.rate))
        for name, work in operations:
            marks[name][0].record()
            work()
            marks[name][1].record()
        self._sync()
        return {name: begin.elapsed_time(end) / 1e3 for name, (begin, end) in marks.items()}

    def _sync(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


class LayerShape:
    """One layer of the model on one of its devices; sizes in elements."""

    def __init__(self, model: Mapping[str, Any], tensor_parallel: int) -> None:
        heads, kv_heads = int(model["num_attention_heads"]), int(model.get("num_key_value_heads") or model["num_attention_heads"])
        self.hidden = int(model["hidden_size"])
        self.head_dim = int(model.get("head_dim") or self.hidden // heads)
        self.heads, self.kv_heads = heads // tensor_parallel, max(1, kv_heads // tensor_parallel)
        self.wide = int(model["intermediate_size"]) // tensor_parallel
        self.vocabulary = int(model["vocab_size"]) // tensor_parallel
        self.theta, self.epsilon = float(model.get("rope_theta") or 1e4), float(model.get("rms_norm_eps") or 1e-5)


class Layer:
    """Weights, cache and kernels of one layer, and what of it is timed."""

    def __init__(self, shape: LayerShape, job: Mapping[str, Any], device: str, dtype: Any) -> None:
        self.shape, self.block, self.device, self.dtype = shape, int(job["block_size"]), device, dtype
        torch.manual_seed(0)
        width, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_width, self.kv_width = width, kv
        self.qkv, self.out = self._weight(width + 2 * kv, shape.hidden), self._weight(shape.hidden, width)
        self.up, self.down = self._weight(2 * shape.wide, shape.hidden), self._weight(shape.hidden, shape.wide)
        self.scale, self.embedding = torch.ones(shape.hidden, dtype=dtype, device=device), self._weight(shape.vocabulary, shape.hidden)
        angles = torch.outer(torch.arange(1 << 17), shape.theta ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim))
        self.rotation = torch.cat((angles.cos(), angles.sin()), dim=-1).to(dtype).to(device)
        slots = -(-int(job["kv_tokens"]) // self.block) * self.block
        self.cache = torch.randn((2, slots, shape.kv_heads, shape.head_dim), dtype=dtype, device=device)
        self.kernels: PlainKernels = PlainKernels()
        self.attention: PagedFlash = Sdpa()

    def linear(self, tokens: int) -> list[Operation]:
        """What depends on the number of tokens of a step alone."""
        s, kernels = self.shape, self.kernels
        ids = torch.randint(0, s.vocabulary, (tokens,), device=self.device)
        positions = torch.arange(tokens, device=self.device)
        hidden, attended = self._state(tokens, s.hidden), self._state(tokens, self.q_width)
        wide, narrow = self._state(tokens, 2 * s.wide), self._state(tokens, s.wide)
        q, k = self._state(tokens, self.q_width), self._state(tokens, self.kv_width)
        return [
            ("emb", lambda: nn.embedding(ids, self.embedding)),
            ("input_layernorm", lambda: kernels.norm(hidden, self.scale, s.epsilon)),
            ("attn_pre_proj", lambda: nn.linear(hidden, self.qkv)),
            ("attn_rope", lambda: kernels.rotate(positions, q, k, s.head_dim, self.rotation)),
            ("attn_post_proj", lambda: nn.linear(attended, self.out)),
            ("post_attention_layernorm", lambda: kernels.norm(hidden, self.scale, s.epsilon)),
            ("mlp_up_proj", lambda: nn.linear(hidden, self.up)),
            ("mlp_act", lambda: kernels.gate(wide)),
            ("mlp_down_proj", lambda: nn.linear(narrow, self.down)),
            ("add", lambda: hidden + hidden),
        ]

    def attend(self, batch: int, new: int, context: int, name: str) -> list[Operation]:
        """The attention of a batch, and the saving of its new keys and values."""
        s, tokens = self.shape, batch * new
        q = self._state(tokens, self.q_width).view(tokens, s.heads, s.head_dim)
        k, v = (self._state(tokens, self.kv_width).view(tokens, s.kv_heads, s.head_dim) for _ in range(2))
        slots = torch.randperm(self.cache.shape[1], device=self.device)[:tokens]
        work = self.attention.work(q, self.cache, self.block, batch, new, context)
        return [("attn_kv_cache_save", lambda: self.kernels.save(k, v, self.cache, slots)), (name, work)]

    def choose(self) -> dict[str, str]:
        """Take the best kernels that run here and agree with plain torch; say which, and why not the others."""
        told = self._tried("small operations", EngineKernels)
        for attention in (PagedFlash, Flash) if self.device == "cuda" else ():
            if "attention" not in told:
                told |= self._tried("attention", attention)
        return {"small operations": self.kernels.name, "attention": self.attention.name, "linear": "torch", **told}

    def _tried(self, what: str, kind: type[PlainKernels] | type[PagedFlash]) -> dict[str, str]:
        try:
            candidate = kind()
            if isinstance(candidate, PagedFlash):
                self._attention_agrees(candidate)
                self.attention = candidate
            else:
                self._small_agree(candidate)
                self.kernels = candidate
        except Exception as error:  # whatever a foreign kernel does, plain torch remains
            return {f"not {kind.__name__}": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        return {what: candidate.name}

    def _small_agree(self, kernels: PlainKernels) -> None:
        x, wide = self._state(5, self.shape.hidden), self._state(5, 2 * self.shape.wide)
        q, k = self._state(5, self.q_width), self._state(5, self.kv_width)
        positions, plain = torch.arange(7, 12, device=self.device), PlainKernels()
        for mine, theirs in (
            (kernels.norm(x, self.scale, 1e-5), plain.norm(x, self.scale, 1e-5)),
            (kernels.gate(wide), plain.gate(wide)),
            *zip(
                kernels.rotate(positions, q.clone(), k.clone(), self.shape.head_dim, self.rotation),
                plain.rotate(positions, q, k, self.shape.head_dim, self.rotation),
                strict=True,
            ),
        ):
            agree(mine, theirs)

    def _attention_agrees(self, attention: PagedFlash) -> None:
        """Sequences whose cache is the same everywhere: every page layout then has one answer."""
        kept, self.cache = self.cache, self.cache[:, :1].expand_as(self.cache).contiguous()
        try:
            for batch, new, context in ((1, 48, 0), (1, 32, 64), (3, 1, 40)):
                q = self._state(batch * new, self.q_width).view(batch * new, self.shape.heads, self.shape.head_dim)
                arguments = (q, self.cache, self.block, batch, new, context)
                agree(attention.work(*arguments)(), Sdpa().work(*arguments)())
        finally:
            self.cache = kept

    def _weight(self, rows: int, columns: int) -> Any:
        return torch.randn((rows, columns), dtype=torch.float32, device=self.device).mul_(columns**-0.5).to(self.dtype)

    def _state(self, tokens: int, width: int) -> Any:
        return torch.randn((tokens, width), dtype=self.dtype, device=self.device)


def _rows(kind: str, point: Sequence[int], times: Mapping[str, Sequence[float]]) -> list[list[Any]]:
    return [
        [kind, list(point), name, statistics.median(t), min(t), max(t), statistics.fmean(t), statistics.pstdev(t)]
        for name, t in times.items()
    ]


def main() -> None:
    """Time what the job asks for, in its order, each kind until its deadline."""
    begin = time.monotonic()
    job = json.loads(Path(sys.argv[1]).read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"float16": torch.float16, "float32": torch.float32}.get(str(job["model"].get("torch_dtype")), torch.bfloat16)
    layer, clock = Layer(LayerShape(job["model"], int(job["tensor_parallel"])), job, device, dtype), Stopwatch(device)
    kernels = layer.choose()
    ready = time.monotonic()
    plans: dict[str, Callable[[Sequence[int]], list[Operation]]] = {
        "linear": lambda point: layer.linear(point[0]),
        "prefill": lambda point: layer.attend(1, point[0], point[1], "attn_prefill"),
        "decode": lambda point: layer.attend(point[0], 1, point[1], "attn_decode"),
    }
    rows: list[list[Any]] = []
    for kind, plan in plans.items():
        for number, point in enumerate(job["points"][kind]):
            if number >= job["always"][kind] and time.monotonic() - ready > job["deadlines"][kind]:
                break
            rows += _rows(kind, point, clock.passes(plan(point), job["warmup"], job["active"]))
    told = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "threads": None if device == "cuda" else torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "kernels": kernels,
        "seconds": time.monotonic() - begin,
        "times": rows,
    }
    Path(job["out"]).write_text(json.dumps(told))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
