"""NativePoints: the native simulator on measured points. Read `predict` top to bottom.

TTFT and TPOT are means over a loop's requests: TTFT from when a request is sent to its first token at the client, TPOT its later tokens'
time over their number. The sample does not say whether it has means or medians; its TTFT grow with the concurrency as means do, which hold
the first round, when all requests come at once. What a request spends outside the engine (the station of conf/simulator/native.yaml)
is added (front.py); that a place in the loop is empty meanwhile is left out.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from results.silicon.points import MeasuredPoint
from results.silicon.predictions import PointPrediction
from simulators.errors import SimulatorError
from simulators.native.latency.host import Host
from simulators.native.predictor import Predictor
from simulators.silicon.factors import Factors
from simulators.silicon.fitting import fit
from simulators.silicon.front import LoopFront
from simulators.silicon.launches import kernels_a_layer
from simulators.silicon.loops import IN_FLIGHT, LoopKey, LoopProtocol, key_of, schedule_of
from simulators.silicon.prepared import Prepared
from simulators.silicon.schedule import LoopSchedule, mean_shares
from simulators.silicon.servers import PointServer, server_of
from simulators.silicon.sizes import Sizes

KERNEL = 7e-6  # s to launch one kernel: what conf/simulator/native.yaml has, an assumption
SENT_AS = "text"  # prompts are sent as text: InferenceX's --backend vllm posts to /v1/completions
FITTED = ("vllm", "sglang")  # engines that efficiencies are fitted on; another engine's points are predicted as vLLM's


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLoop:
    """A point whose sizes are known: what is left is its schedule."""

    point: MeasuredPoint
    model: str  # its name in conf/model
    server: PointServer
    sizes: Sizes
    key: LoopKey
    kv_tokens: int  # of the longest requests that the KV cache of one engine holds


@dataclass(frozen=True, kw_only=True)
class NativePoints:
    """conf/study/silicon.yaml says what each setting means."""

    predictor: Predictor
    processes: int
    fit_points: int
    fitted: Mapping[str, Sequence[str]]
    protocols: Mapping[str, Mapping[str, Any]]
    sglang_rounds: int
    servers: Sequence[Mapping[str, Any]]

    name = "native"

    def predict(
        self, points: Sequence[MeasuredPoint], models: Mapping[str, str], halves: Mapping[str, Sequence[str]]
    ) -> list[PointPrediction]:
        """Each point with nothing fitted, and with what is fitted on each half. models: of the sample, to names in conf/model."""
        half_of = {model: half for half, members in halves.items() for model in members}
        ready: list[Prepared] = []
        made: list[PointPrediction] = []
        for point, found in zip(points, self._prepared(points, models), strict=True):
            half = half_of.get(models.get(point.model, ""), "")
            if isinstance(found, str):
                made += [_unknown(point, fitted_on, half, found) for fitted_on in ("", *halves)]
            else:
                ready.append(found)
        fitted = {"": dict.fromkeys(FITTED, Factors()), **self._fits(ready, half_of, list(halves))}
        for fitted_on, factors in fitted.items():
            made += [_prediction(p, fitted_on, half_of.get(p.model, ""), factors[_as_engine(p.point)]) for p in ready]
        return made

    def _prepared(self, points: Sequence[MeasuredPoint], models: Mapping[str, str]) -> list[Prepared | str]:
        """Each point ready to be timed, or the reason why it cannot be simulated."""
        planned = [self._planned(point, models) for point in points]
        keys = sorted({p.key for p in planned if isinstance(p, PlannedLoop)}, key=lambda key: -key.cost)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A worker stopped")  # joblib replaces one that has grown; nothing is lost
            made = Parallel(n_jobs=self.processes)(delayed(schedule_of)(key) for key in keys)
        schedules = dict(zip(keys, made, strict=True))
        return [p if isinstance(p, str) else self._with(p, schedules[p.key]) for p in planned]

    def _planned(self, point: MeasuredPoint, models: Mapping[str, str]) -> PlannedLoop | str:
        if (model := models.get(point.model)) is None:
            return f"study.models has no shape of {point.model}"
        try:
            server = server_of(point, model, self.servers)
            sizes = Sizes.of(point, model, server)
            sizes.parallel.check(sizes.decoder, sizes.device)
            limits = sizes.limits(self.predictor, _as_engine(point), server, max_model_len=point.input_tokens + point.output_tokens)
        except SimulatorError as error:
            return str(error).removeprefix("native: ")
        longest = point.input_tokens + point.output_tokens
        return PlannedLoop(
            point=point,
            model=model,
            server=server,
            sizes=sizes,
            key=key_of(point, server, self._protocol(point), limits=limits, reach=sizes.decoder.reach or 0),
            kv_tokens=limits.kv_blocks * longest // limits.blocks_for(longest)
            if limits.kv_groups
            else limits.kv_blocks * limits.block_size,
        )

    def _protocol(self, point: MeasuredPoint) -> LoopProtocol:
        protocol = LoopProtocol(**self.protocols[point.loop])
        return protocol if point.engine != "sglang" else replace(protocol, rounds=min(protocol.rounds, self.sglang_rounds))

    def _with(self, planned: PlannedLoop, schedule: LoopSchedule | str) -> Prepared | str:
        if isinstance(schedule, str):
            return schedule.removeprefix("native: ")
        rounds, asked = planned.key.rounds, int(self.protocols[planned.point.loop]["rounds"])
        weight = np.full(len(schedule.first), (asked - 1) / max(1, rounds - 1))  # each later round stands for as many as were asked
        weight[: schedule.concurrency] = 1.0
        in_flight, held = planned.key.concurrency * planned.key.longest, planned.kv_tokens
        return Prepared(
            point=planned.point,
            model=planned.model,
            sizes=planned.sizes,
            works=schedule.works,
            shares=mean_shares(schedule, weight),
            output_tokens=float(np.mean(schedule.output_tokens)),
            efficiency=self.predictor.efficiency(planned.sizes.hardware),
            host=self._host(planned.sizes),
            front=self._front(planned, schedule),
            receive_interval=planned.server.receive_interval,
            note=None if in_flight <= held else f"the KV cache holds {held:,} tokens, and {in_flight:,} are in flight",
        )

    def _host(self, sizes: Sizes) -> Host | None:
        """Beside such a device. What launches a layer of a step with prompts goes by the layer's kernels (launches.py)."""
        host = self.predictor.host_beside(sizes.hardware, overlapped=IN_FLIGHT > 1, engine={})
        return None if host is None else replace(host, launch_piecewise=KERNEL * kernels_a_layer(sizes.decoder))

    def _front(self, planned: PlannedLoop, schedule: LoopSchedule) -> LoopFront | None:
        station = self.predictor.frontend.station(_as_engine(planned.point), SENT_AS)
        if station is None:
            return None
        return LoopFront(
            station=station,
            prompt_tokens=float(np.mean(schedule.input_tokens)),
            output_tokens=float(np.mean(schedule.output_tokens)),
            in_flight=planned.point.concurrency,
            engines=planned.point.data_parallel,
            stream_interval=planned.server.stream_interval,
        )

    def _fits(self, ready: Sequence[Prepared], half_of: Mapping[str, str], halves: Sequence[str]) -> dict[str, dict[str, Factors]]:
        """half -> engine -> factors that are fitted on a seeded draw of the half's points."""
        jobs = {
            (half, engine): self._drawn([p for p in ready if half_of.get(p.model) == half and p.point.engine == engine])
            for half in halves
            for engine in FITTED
        }
        found = dict(
            zip(
                jobs,
                Parallel(n_jobs=self.processes)(delayed(fit)(drawn, self.fitted[engine]) for (_, engine), drawn in jobs.items()),
                strict=True,
            )
        )
        return {half: {engine: found[half, engine] for engine in FITTED} for half in halves}

    def _drawn(self, points: Sequence[Prepared]) -> list[Prepared]:
        """So many points with a stated concurrency, drawn by the seed; all, where there are no more."""
        stated = [p for p in points if p.point.loop == "closed"] or list(points)
        if len(stated) <= self.fit_points:
            return stated
        chosen = np.random.default_rng(0).choice(len(stated), self.fit_points, replace=False)
        return [stated[i] for i in sorted(chosen.tolist())]


def _as_engine(point: MeasuredPoint) -> str:
    return point.engine if point.engine in FITTED else "vllm"


def _prediction(prepared: Prepared, fitted_on: str, half: str, factors: Factors) -> PointPrediction:
    figures = prepared.figures(factors)
    return PointPrediction(
        point_id=prepared.point.point_id,
        predictor=NativePoints.name,
        fitted_on=fitted_on,
        half=half,
        ttft=figures.ttft,
        tpot=figures.tpot,
        throughput=figures.throughput,
        reason=None,
        note=prepared.note,
    )


def _unknown(point: MeasuredPoint, fitted_on: str, half: str, reason: str) -> PointPrediction:
    return PointPrediction(
        point_id=point.point_id,
        predictor=NativePoints.name,
        fitted_on=fitted_on,
        half=half,
        ttft=None,
        tpot=None,
        throughput=None,
        reason=reason,
    )
