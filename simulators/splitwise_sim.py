"""Splitwise-sim (Patel et al., ISCA 2024; MIT), unedited, from a pinned commit of its git repository, in an environment of its own.

What its time model can express: the step of a batch of prompts as a function of their tokens in all, and a decode step as a function of
the number of its sequences, both from a table, linear between its rows. What it cannot: the context (a decode step takes as long at 100
cached tokens as at 100,000; the calibrated table holds the times at the requests' mean context), chunks of a prompt (one longer than the
token budget runs whole, alone; the table holds the sum of its chunks), prefix caching, pipeline stages, any cost outside the steps.
A step with both prompts and decodes takes 1.1 times that of prompts of as many tokens, whatever was measured.

Read `SplitwiseSim.simulate` top to bottom. What goes in: splitwise_files.py; what runs: splitwise_driver.py.
"""

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from results.profile import Profile
from results.record import RequestRecord, Run, Track
from simulators.checkout import Repository
from simulators.external import Usage, check_finite, check_rows, clean_environment, describe_log, interpreter, run_program
from simulators.inputs import known_limits, kv_shape, mean_decode_context, needed_profile, sent_trace, tokens_per_request
from simulators.splitwise_files import (
    ENGINE,
    SHIFT,
    Machine,
    Names,
    asked_tokens,
    time_table,
    write_hardware,
    write_model,
    write_trace,
)
from simulators.steps import fit, whole_points, with_context
from simulators.system import Coverage, SimulatorError, simulated_run
from simulators.vidur_calibration import residuals
from simulators.vidur_profile import StepTimes
from workloads.trace import Request, Trace

DRIVER = Path(__file__).with_name("splitwise_driver.py")
SHIPPED = {  # its models and their tensor parallelisms
    "llama2-70b": (4, 8),  # of 2, its rows at 32,768 tokens are corrupt (0.36 s a prompt; 2.4 s at half as many)
    "bloom-176b": (8,),
}
HARDWARE = ("a100-80gb", "h100-80gb", "h100-80gb-pcap")
LOCKED = (
    "it ends so when the KV cache is full of prompts that wait for room for their answers; use a lower load, or "
    "simulators.splitwise_sim.instance=orca, which takes requests in one after the other"
)
NOTHING_FINISHED = "zero-size array to reduction"  # what it stops with when it ends so before any request has finished
TOLERANCE = 1e-6  # s between its results and the token times


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is to be simulated. budget: tokens a step; None for both limits: its own defaults. times: of the calibrated track."""

    trace: Trace
    names: Names
    tensor_parallel: int
    kv_tokens: int | None = None
    batch: int | None = None
    budget: int | None = None
    times: StepTimes | None = None

    @property
    def context(self) -> float:
        """Cached tokens at which the table's decode steps are taken."""
        return mean_decode_context(self.trace)


@dataclass(frozen=True, kw_only=True)
class SplitwiseSim:
    """conf/simulator/splitwise_sim.yaml says what each setting means; the constructor only checks them."""

    repository: str
    commit: str
    instance: Literal["splitwise", "orca"]
    max_preemptions: int
    shipped_model: str
    shipped_hardware: str
    shipped_tensor_parallel: int
    limit: float
    environment: str = "splitwise_sim"

    system: ClassVar[str] = "splitwise_sim"

    def __post_init__(self) -> None:
        if self.instance not in ("splitwise", "orca"):
            raise ValueError(f"simulator splitwise_sim: instance must be splitwise or orca, got {self.instance!r}")
        if self.shipped_tensor_parallel not in SHIPPED.get(self.shipped_model, ()):
            usable = "; ".join(f"{model} at tensor parallelism {' or '.join(map(str, tp))}" for model, tp in SHIPPED.items())
            raise ValueError(
                f"simulator splitwise_sim: shipped_model {self.shipped_model} at tensor parallelism {self.shipped_tensor_parallel} has no "
                f"usable times; it ships {usable}"
            )
        if self.max_preemptions < 0 or not self.limit > 0:
            raise ValueError(
                f"simulator splitwise_sim: max_preemptions must be >= 0 and limit > 0 s, got {self.max_preemptions}, {self.limit}"
            )
        if self.shipped_hardware not in HARDWARE:
            known = ", ".join(HARDWARE)
            raise ValueError(f"simulator splitwise_sim: shipped_hardware must be one of {known}, got {self.shipped_hardware!r}")
        self._source()

    @property
    def coverage(self) -> Coverage:
        """What it models, as configured."""
        orca = self.instance == "orca"
        notes = {
            "chunked_prefill": "a prompt longer than the token budget runs whole, alone",
            "kv_limit": "a request's answer is reserved whole when its first token is there",
            "preemption": "none" if orca else "of decodes by prompts, within the step's budget; never for want of KV cache",
            "tensor_parallel": "as a key of the table of step times",
        }
        return Coverage(
            chunked_prefill="no",
            prefix_caching="no",
            kv_limit="partly",
            preemption="no" if orca else "partly",
            context_dependent_decode="no",
            tensor_parallel="partly",
            pipeline_parallel="no",
            disaggregation="yes",
            frontend_cost="no",
            token_times="yes",
            gqa="yes",
            notes="; ".join(f"{what}: {note}" for what, note in notes.items()),
        )

    def tracks(self) -> tuple[Track, ...]:
        """All three."""
        return ("shipped", "matched", "calibrated")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        scenario = self._scenario(measured, track, profile)
        refuse_too_large(scenario)
        points = with_context(whole_points(profile), scenario.context) if scenario.times and profile else None
        usage, predicted = self._run(measured, scenario, points, scratch)

        log, requests = scratch / "log", scenario.trace.requests
        out = np.load(scratch / "tokens.npz")
        results = read_results(scratch / "detailed" / "0.csv", requests, log)
        records = to_records(requests, results, tokens_per_request(out["request"], out["time"] - SHIFT, len(requests)), log)
        calibration = None
        if scenario.times and profile and points is not None:
            calibration = {
                "profile": profile.profile_id,
                "decode_context": scenario.context,
                "residuals": residuals(points, predicted),
                "points_it_cannot_express": int((profile.points()["prefill_context"] > 0).sum()),
                "steps": int(out["steps"].sum()),
                "steps_outside": _count_outside(scenario, out),
            }
        limits = {"kv_tokens": scenario.kv_tokens, "max_batch_size": scenario.batch, "max_batch_tokens": scenario.budget}
        return simulated_run(
            measured,
            records,
            system=self.system,
            version=self._source().version,
            track=track,
            wall_s=usage.wall_s,
            coverage=self.coverage,
            config={
                "name": self.system,
                **asdict(self),
                "times_from": profile.profile_id if calibration and profile else f"its own data/perf_model.csv: {asdict(scenario.names)}",
                "limits": limits if track != "shipped" else "its own defaults",
                "calibration": calibration,
                "timing": asdict(usage),
            },
            provenance={"repository": self.repository, "commit": self.commit},
        )

    def _source(self) -> Repository:
        return Repository(name=self.system, url=self.repository, commit=self.commit)

    def _scenario(self, measured: Run, track: Track, profile: Profile | None) -> Scenario:
        """What is to be simulated. Raises SimulatorError when the track, the profile or a limit is not to be had."""
        trace = sent_trace(self.system, measured)
        names = ENGINE if track == "calibrated" else Names(model=self.shipped_model, hardware=self.shipped_hardware)
        if track == "shipped":
            return Scenario(trace=trace, names=names, tensor_parallel=self.shipped_tensor_parallel)
        kv_tokens, batch, budget = known_limits(self.system, measured, ("kv_tokens", "max_num_seqs", "max_num_batched_tokens"))
        return Scenario(
            trace=trace,
            names=names,
            tensor_parallel=measured.limits.tensor_parallel if track == "calibrated" else self.shipped_tensor_parallel,
            kv_tokens=kv_tokens,
            batch=batch,
            budget=budget,
            times=fit(self.system, needed_profile(self.system, measured, profile)) if track == "calibrated" else None,
        )

    def _run(self, measured: Run, scenario: Scenario, points: pd.DataFrame | None, scratch: Path) -> tuple[Usage, list[float]]:
        """Write the files, run the driver, return what it used and its own times for the points."""
        checkout, python, log = self._source().checkout(), interpreter(self.environment), scratch / "log"
        write_trace(scenario.trace, scratch / "trace.csv")
        settings: dict[str, Any] = {
            "end_time": 1e12,
            "trace": {"path": str(scratch / "trace.csv")},
            "cluster": {"power_budget": 0, "servers": [{"sku": "machine", "count": 1}], "interconnects": []},
            "start_state": {"instance": {"tensor_parallelism": scenario.tensor_parallel}},
        }
        size = f"{scenario.names.model}-fp16"
        machine = Machine(name=scenario.names.hardware, gpus=scenario.tensor_parallel)
        settings["hardware_repo"] = {"skus": str(write_hardware(machine, scratch / "hardware"))}
        if scenario.kv_tokens is not None:
            kv = kv_shape(self.system, measured.config.get("model") or {})
            machine = Machine(name=machine.name, gpus=machine.gpus, memory=scenario.kv_tokens * kv.bytes_per_token)
            write_hardware(machine, scratch / "hardware")
            settings["hardware_repo"]["processors"] = str(scratch / "hardware" / "processors")
            settings["model_repo"] = write_model(scenario.names.model, size, kv, scratch / "model")
            settings["start_state"]["instance"] |= {"max_batch_size": scenario.batch, "max_batch_tokens": scenario.budget}
            settings["start_state"]["instance"]["max_preemptions"] = self.max_preemptions
        if scenario.times is not None and scenario.budget is not None:
            table = time_table(scenario.times, scenario.trace, scenario.budget, scenario.context, scenario.tensor_parallel)
            table.to_csv(scratch / "times.csv", index=False)
            settings["performance_model"] = {"db_path": str(scratch / "times.csv")}
        job = {
            "checkout": str(checkout),
            "out": str(scratch),
            "start_state": "orca" if self.instance == "orca" else "baseline",
            "application": {"model_architecture": scenario.names.model, "model_size": size, "scheduler": "token_jsq"},
            "settings": settings,
            "probes": _probes(points),
        }
        (scratch / "job.json").write_text(json.dumps(job, indent=1))
        env = clean_environment({"PYTHONPATH": str(checkout)})
        argv = [str(python), "-B", "-P", str(DRIVER), str(scratch / "job.json")]
        try:
            usage = run_program(self.system, argv, cwd=scratch, log=log, limit=self.limit, env=env)
        except SimulatorError as error:
            if NOTHING_FINISHED not in str(error):
                raise
            raise SimulatorError(f"{error}; {LOCKED}") from error
        if not (scratch / "report.json").is_file():
            raise SimulatorError(f"splitwise_sim: it ended without its report; {describe_log(log)}")
        return usage, list(json.loads((scratch / "report.json").read_text())["predicted"])


def refuse_too_large(scenario: Scenario) -> None:
    """Raise SimulatorError naming a request that would never fit: it and all after it would be missing from the output."""
    for request in scenario.trace:
        total = request.input_tokens + asked_tokens(request)
        if scenario.kv_tokens is not None and total > scenario.kv_tokens:
            raise SimulatorError(
                f"splitwise_sim: request {request.request_id} of {request.input_tokens} + {request.output_tokens} tokens does not fit into "
                f"{scenario.kv_tokens} tokens of KV cache; leave it out"
            )


def read_results(path: Path, requests: tuple[Request, ...], log: Path) -> dict[int, dict[str, float]]:
    """detailed/0.csv by the request's place in the trace. Raises SimulatorError for missing rows, NaN and changed token counts."""
    if not path.is_file():
        raise SimulatorError(f"splitwise_sim: it ended without its results; {describe_log(log)}")
    with path.open(newline="") as file:
        rows = [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]
    ids = {index: request.request_id for index, request in enumerate(requests)}
    places = [int(row["request_ids"]) for row in rows]
    try:
        check_rows("splitwise_sim", list(ids.values()), [ids.get(place, place) for place in places], log)
    except SimulatorError as error:
        raise SimulatorError(f"{error}; {LOCKED}") from error
    for place, row in zip(places, rows, strict=True):
        check_finite("splitwise_sim", ids[place], row, log)
        request = requests[place]
        asked, got = (request.input_tokens, asked_tokens(request)), (int(row["prompt_sizes"]), int(row["token_sizes"]))
        if asked != got:
            raise SimulatorError(f"splitwise_sim: request {ids[place]} of {asked} tokens was simulated as {got}; {describe_log(log)}")
    return dict(zip(places, rows, strict=True))


def to_records(
    requests: tuple[Request, ...], results: dict[int, dict[str, float]], tokens: list[list[float]], log: Path
) -> list[RequestRecord]:
    """One record per request. tokens: s since the trace's start. Raises SimulatorError when they and the results contradict each other."""
    records = []
    for place, (request, times) in enumerate(zip(requests, tokens, strict=True)):
        row = results[place]
        e2e, ttft, delay = row["response_times"], row["ttft_times"], row["queue_times"]
        agree = len(times) == asked_tokens(request) and all(
            abs(time - request.arrival - since) < TOLERANCE for time, since in ((times[0], ttft), (times[-1], e2e))
        )
        if not agree or not 0 <= delay <= ttft <= e2e:
            raise SimulatorError(
                f"splitwise_sim: request {request.request_id} has queue time {delay} s, TTFT {ttft} s, E2E {e2e} s and {len(times)} token "
                f"times for {asked_tokens(request)} tokens, which contradict each other; {describe_log(log)}"
            )
        seen = tuple(times[: request.output_tokens])
        records.append(
            RequestRecord(
                request_id=request.request_id,
                arrival=request.arrival,
                sent=request.arrival,
                scheduled=request.arrival + delay,
                first_token=seen[0],
                finished=seen[-1],
                input_tokens=request.input_tokens,
                output_tokens=request.output_tokens,
                token_times=seen,
            )
        )
    return records


def _probes(points: pd.DataFrame | None) -> list[dict[str, int]]:
    if points is None:
        return []
    return [{"tokens": round(new), "batch": round(batch)} for new, batch in zip(points["new_tokens"], points["batch"], strict=True)]


def _count_outside(scenario: Scenario, out: Any) -> int:
    """Steps whose composition the profile did not measure, where the step times are extended along their last slope."""
    assert scenario.times is not None and scenario.budget is not None
    outside = 0
    for prompt, decodes, steps in zip(out["prompt_tokens"].tolist(), out["decodes"].tolist(), out["steps"].tolist(), strict=True):
        chunk = min(int(prompt), scenario.budget)
        beyond = scenario.times.outside(tokens=chunk, prefill_context=int(prompt) - chunk, batch=int(decodes), context=scenario.context)
        outside += int(steps) * beyond
    return outside
