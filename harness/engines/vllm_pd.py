"""vLLM with prefill and decode apart: two servers of its own, its NIXL connector between them, and a small proxy in front (pd_proxy.py).

Works with the CPU build: NIXL moves the KV cache from process to process through shared memory or loopback TCP. Read `VllmPd.serve`.
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import environment
from harness.engine import ComputesOn, Endpoint, EngineError
from harness.engines import server, step_log
from harness.engines.pd_proxy import marker
from harness.engines.vllm import Vllm
from results.project.folder import ROOT

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

INSTANCES = ("prefill", "decode")
ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}  # in vLLM's words


@dataclass(frozen=True, kw_only=True)
class VllmPd:
    """Two instances of vLLM, the KV cache handed from the first to the second."""

    prefill: Vllm  # the instance that computes prompts
    decode: Vllm  # the instance that computes answers
    connector_environment: str | None  # an environment under .envs/ with NIXL alone, laid over theirs; None: theirs has it
    kv_buffer_device: str  # where the KV cache lies, in NIXL's words: cpu or cuda
    stop_grace: float = 15.0  # s between SIGTERM and SIGKILL, of the proxy
    system: str = "vllm_pd"  # its name in the database
    computes_on: ComputesOn = "cpu"  # both instances

    def __post_init__(self) -> None:
        if self.kv_buffer_device not in ("cpu", "cuda"):
            raise ValueError(f"engine vllm_pd: kv_buffer_device must be cpu or cuda, got {self.kv_buffer_device!r}")
        if self.prefill.environment != self.decode.environment:
            raise ValueError("engine vllm_pd: both instances must be of one environment, or their KV caches may not fit each other")

    @property
    def environment(self) -> str | None:
        """See Engine."""
        return self.prefill.environment

    @contextmanager
    def serve(self, model_dir: Path, log: Path) -> Iterator[Endpoint]:
        """Start both instances and the proxy, yield the proxy. Afterwards `log` holds all three logs, each behind its `marker`.

        Raises EngineError when one of them cannot be had; its own log then stays beside `log`.
        """
        logs = {name: log.with_name(f"{log.stem}.{name}.log") for name in (*INSTANCES, "proxy")}
        with ExitStack() as stack:
            with ThreadPoolExecutor(len(INSTANCES)) as pool:  # both at once: a start is mostly imports and waiting
                starting = pool.map(lambda name: stack.enter_context(self._instance(name).serve(model_dir, logs[name])), INSTANCES)
                found = dict(zip(INSTANCES, starting, strict=True))
            for endpoint in found.values():
                hush(endpoint.core_pids)
            port = server.free_port()
            url = f"http://{server.HOST}:{port}"
            stack.enter_context(
                server.child(
                    [sys.executable, "-P", "-m", "harness.engines.pd_proxy", str(port), *(found[name].url for name in INSTANCES)],
                    name="vllm_pd's proxy",
                    env=server.environ({"PYTHONPATH": str(ROOT)}),
                    log=logs["proxy"],
                    ready_url=f"{url}/health",
                    deadline=60.0,
                    grace=self.stop_grace,
                )
            )
            yield self._endpoint(url, found)
        log.write_text("".join(f"{marker(name)}\n{path.read_text(errors='replace')}\n" for name, path in logs.items()))
        for path in logs.values():
            path.unlink()

    def _instance(self, name: str) -> Vllm:
        """The instance's server with the connector."""
        given: Vllm = getattr(self, name)
        transfer = {"kv_connector": "NixlConnector", "kv_role": ROLES[name], "kv_buffer_device": self.kv_buffer_device}
        env = {**given.env, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(server.free_port())}
        if self.connector_environment is not None:
            env["PYTHONPATH"] = str(packages(self.connector_environment))
        return dataclasses.replace(given, env=env, extra_args=[*given.extra_args, "--kv-transfer-config", json.dumps(transfer)])

    def _endpoint(self, url: str, found: Mapping[str, Endpoint]) -> Endpoint:
        """The proxy's endpoint: the limits that both instances share, and the details of each."""
        one, other = (found[name] for name in INSTANCES)
        differing = [f.name for f in dataclasses.fields(one.limits) if getattr(one.limits, f.name) != getattr(other.limits, f.name)]
        nothing: dict[str, Any] = dict.fromkeys(differing)
        limits = dataclasses.replace(one.limits, **nothing)
        unknown = [f"{name}: the prefill and the decode instance differ in it" for name in differing]
        return Endpoint(
            url=url,
            served_model=one.served_model,
            system=self.system,
            version=one.version,
            limits=limits,
            unknown=(*one.unknown, *unknown),
            details={
                **{name: {"url": e.url, **e.details} for name, e in found.items()},
                "core_pids": [pid for e in found.values() for pid in e.core_pids],
            },
            devices=max(e.devices for e in found.values()),  # both are on the same
            instance_url=other.url,
        )

    def reset_cache(self, endpoint: Endpoint) -> None:
        """Empty both prefix caches. Raises EngineError when one refuses."""
        for name in INSTANCES:
            getattr(self, name).reset_cache(dataclasses.replace(endpoint, url=endpoint.details[name]["url"]))

    def sample(self, metrics_text: str) -> Mapping[str, float]:
        """vLLM's gauges and counters of both, e.g. prefill_num_requests_running, and added up under their own names."""
        apart = {f"{name}_{key}": value for name, text in parts(metrics_text).items() for key, value in self.prefill.sample(text).items()}
        return {**self.prefill.sample(metrics_text), **apart}

    def steps(self, log: Path, epoch: float) -> "pd.DataFrame":
        """The steps of both, their names after the instance's: prefill_step_prefill_sequences, decode_step_decode_batch, ..."""
        import pandas as pd  # here: it takes long to import

        frames = []
        for name, text in parts(log.read_text(errors="replace")).items():
            steps = step_log.vllm_steps(text, step_log.wall_clock(epoch))
            frames.append(steps.assign(name=f"{name}_" + steps["name"]))
        return pd.concat(frames, ignore_index=True) if frames else step_log.nothing()


def hush(pids: Sequence[int], look: float = 0.5) -> int:
    """Let every thread of these processes that never sleeps run on idle cores only; return the number of such threads.

    NIXL's progress thread polls without a pause (pthrDelay = 0 in its _api.py) and yields in between. On few cores the threads that have
    work wait behind it, for 30 s at a time on Linux 6.18. A process's first thread computes and is left alone. look: s to watch.
    """
    busy: dict[str, float] = {}
    for seconds in (look, 0.0):
        for task in (task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*") if task.name != str(pid)):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                ran, ready, _ = (int(word) for word in (task / "schedstat").read_text().split())
                busy[task.name] = (ran + ready) / 1e9 - busy.get(task.name, 0.0)
        time.sleep(seconds)
    spinning = [int(thread) for thread, seconds in busy.items() if seconds > 0.8 * look]
    for thread in spinning:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    return len(spinning)


def packages(name: str) -> Path:
    """site-packages of environment `name`, made where it is missing. Raises EngineError."""
    python = environment.ensure(name)
    found = sorted((python.parent.parent / "lib").glob("python*/site-packages"))
    if not found:
        raise EngineError(f"environment {name}: {python.parent.parent} has no site-packages")
    return found[0]


def parts(text: str) -> dict[str, str]:
    """The part of each instance of a text that holds both, behind their markers."""
    found = {}
    for name in INSTANCES:
        _, seen, rest = f"\n{text}".partition(f"\n{marker(name)}\n")
        if seen:
            found[name] = rest.partition("\n# instance ")[0]
    return found
