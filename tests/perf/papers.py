"""What the studies of the papers share: models, devices, lengths, and engines of them in our own simulator.

Lengths are lognormal with the mean and spread that each paper gives of its data set; step times are the roofline's, with the
efficiencies of conf/simulator/native.yaml. So a factor can be compared with a published one in direction and rough size, not in its digits.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from results.project.folder import ROOT
from results.record import RequestRecord
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.reader import decoder_of
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.latency.device import Device
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.step_time import StepTime
from simulators.native.planning.highest_rate import highest_rate
from simulators.native.predictor import Predictor
from simulators.native.scheduling.scheduler import Limits
from simulators.native.served import Frontend, Served
from workloads.lengths import Lognormal
from workloads.trace import Request, Trace

PLOTS = ROOT / ".benchmarks" / "papers"
NATIVE: Predictor = instantiate(OmegaConf.load(ROOT / "conf" / "simulator" / "native.yaml"))

LLAMA_13B = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40, "vocab_size": 32000}
MISTRAL_7B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}


def hardware(name: str, **changes: Any) -> dict[str, Any]:
    """conf/hardware/NAME.yaml, with changes."""
    values: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "hardware" / f"{name}.yaml"))
    return {**values, **changes}


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A model on a device. model: config.json without its architecture (a dense Llama)."""

    model: dict[str, int]
    device: dict[str, Any]
    tensor_parallel: int = 1
    max_model_len: int = 4096
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> Decoder:
        return decoder_of({"architectures": ["LlamaForCausalLM"], **self.model})

    @property
    def limits(self) -> Limits:
        """vLLM's defaults on this device, with `changes`; one step at a time."""
        device = Device.from_hardware(self.device)
        made = NATIVE.shipped.limits(
            self.shape, device, parallel=Parallelism(tensor=self.tensor_parallel), max_model_len=self.max_model_len
        )
        return dataclasses.replace(made, **{"in_flight": 1, "prefix_caching": False, **self.changes})

    def step_time(self) -> StepTime:
        return Roofline(self.shape, Device.from_hardware(self.device), NATIVE.roofline, parallel=Parallelism(tensor=self.tensor_parallel))

    def serve(self, trace: Trace, policy: str = "vllm_v1", arrangement: Arrangement | None = None, **changes: Any) -> Served:
        """The trace on one engine, or on several alike."""
        limits, kv = dataclasses.replace(self.limits, **changes), self.shape.kv_bytes_per_token
        several = arrangement or Arrangement()
        return several.serve(trace, limits, self.step_time(), frontend=Frontend(), policy=policy, kv_bytes_per_token=kv)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Independent requests with Poisson arrivals. The same requests at every rate, only their gaps scale."""

    input: Lognormal
    output: Lognormal
    requests: int
    seed: int = 0

    def trace(self, rate: float) -> Trace:
        rng = np.random.default_rng(self.seed)
        arrivals = np.cumsum(rng.exponential(1.0, self.requests)) / rate
        inputs, outputs = self.input.sample(rng, self.requests), self.output.sample(rng, self.requests)
        rows = zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
        made = tuple(Request(request_id=i, arrival=a, input_tokens=n, output_tokens=m) for i, (a, n, m) in enumerate(rows))
        return Trace(name="paper", requests=made)


SHAREGPT = Workload(  # Kwon et al., SOSP 2023, figure 11: mean 161 tokens in, 338 out
    input=Lognormal(mean=161.3, cv=1.5, most=2000), output=Lognormal(mean=338.0, cv=0.9, most=2000), requests=400
)


def capacity(workload: Workload, serve_at: Callable[[Trace], Served], holds: Callable[[Sequence[RequestRecord]], bool]) -> float:
    """Requests/s up to which it holds, within 4 %."""
    return highest_rate(lambda rate: holds(serve_at(workload.trace(rate)).records), tolerance=0.04).rate


def ttft(records: Sequence[RequestRecord]) -> NDArray[np.float64]:
    """Seconds, one per request; infinite where there was none."""
    return np.array([(r.first_token or np.inf) - r.arrival for r in records])


def tpot(records: Sequence[RequestRecord]) -> NDArray[np.float64]:
    """Seconds, one per request of more than one token."""
    several = [(r, r.output_tokens) for r in records if r.output_tokens and r.output_tokens > 1]
    return np.array([((r.finished or np.inf) - (r.first_token or 0)) / (n - 1) for r, n in several])


def gaps(records: Sequence[RequestRecord]) -> NDArray[np.float64]:
    """Seconds between tokens, of all requests."""
    return np.concatenate([np.diff(r.token_times or ()) for r in records])


def normalized(records: Sequence[RequestRecord]) -> float:
    """Mean seconds from arrival to end, per output token (vLLM's and Orca's measure)."""
    return float(np.mean([((r.finished or np.inf) - r.arrival) / (r.output_tokens or 1) for r in records]))


def plot(name: str, title: str, x: str, y: str, lines: Mapping[str, tuple[Sequence[Any], Sequence[float]]]) -> Path:
    """A figure as an HTML file of its own under .benchmarks/papers; returns it."""
    figure = go.Figure([go.Scatter(x=xs, y=ys, name=label, mode="lines+markers") for label, (xs, ys) in lines.items()])
    figure.update_layout(title=title, xaxis_title=x, yaxis_title=y, template="plotly_white")
    PLOTS.mkdir(parents=True, exist_ok=True)
    path = PLOTS / f"{name}.html"
    figure.write_html(path, include_plotlyjs=True)
    return path


def tell(benchmark: Any, what: str, ours: float, published: str, path: Path) -> None:
    """Print a line, and keep it with the benchmark."""
    benchmark.extra_info.update(ours=ours, published=published)
    print(f"\n{what}: {ours:.2f} (published: {published}); {path.relative_to(ROOT)}")
