"""A recommendation as a file, plan.json, which the page is drawn from; and how latencies change with the rate, for the page."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from simulators.native.planning import settings
from simulators.native.planning.judge import Judge
from simulators.native.recommending import printed
from simulators.native.recommending.assessing import Assessment
from simulators.native.recommending.recommend import Recommendation
from simulators.native.recommending.sureness import Sureness, seen_of

CURVES = 4  # ways whose latencies are drawn against the rate, the choice among them
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25)  # of the rate that is asked for


def write(found: Recommendation, sure: Sureness | None, folder: Path) -> Path:
    """Write plan.json, and beside it the page (conf/report/plan.yaml); returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plan.json"
    path.write_text(json.dumps(plan(found, sure), indent=1) + "\n", encoding="utf-8")
    page: Path = instantiate(settings.choice("report", "plan")).write(path).path
    return page


def plan(found: Recommendation, sure: Sureness | None) -> dict[str, Any]:
    """JSON-able."""
    choice, demand = found.choice, found.demand
    return {
        "asked": printed.question(found),
        "headline": printed.headline(found),
        "sure": None if sure is None else str(sure),
        "notes": printed.notes(found),
        "starts": [] if choice is None else printed.starts(choice, found),
        "rate": demand.rate,
        "slo": dataclasses.asdict(demand.slo),
        "attainment": demand.wanted,
        "requests": demand.requests,
        "measure": found.measure,
        "told": list(found.told),
        "choice": None if choice is None else choice.way.number,
        "ways": [_way(one, found) for one in found.assessed],
        "curves": [_curve(one, found) for one in _drawn(found)],
    }


def _way(one: Assessment, found: Recommendation) -> dict[str, Any]:
    metrics, seen, choice = one.metrics or {}, seen_of(one, found.seen) if one.replicas else None, found.choice
    return {
        "number": one.way.number,
        "label": one.way.label(found.told) or one.hardware,
        "settings": one.way.chosen,
        "hardware": one.hardware,
        "at_least": one.at_least,
        "replicas": one.replicas,
        "tried": list(one.tried),
        "devices_each": one.devices_each,
        "devices": one.devices,
        "dollars": one.dollars,
        "good": one.attainment.share if one.attainment else None,
        **{f"{metric}_{stat}": metrics.get((metric, stat)) for metric in ("ttft", "tpot") for stat in ("p50", "p99")},
        "tokens_per_device": one.tokens_per_device,
        "tokens_per_user": one.tokens_per_user,
        "limit": one.limit,
        "why_not": one.why_not,
        "front": any(one.way.number == other.way.number for other in found.front),
        "chosen": choice is not None and choice.way.number == one.way.number,
        "seen": None if seen is None else f"{seen.mean:.0%} ({seen.measurements})",
    }


def _drawn(found: Recommendation) -> Sequence[Assessment]:
    """The choice, and some of the front."""
    if found.choice is None:
        return []
    others = [one for one in found.front if one.way.number != found.choice.way.number]
    return [found.choice, *others[: CURVES - 1]]


def _curve(one: Assessment, found: Recommendation) -> dict[str, Any]:
    demand = found.demand
    assert one.replicas is not None
    deployment = settings.deployment(one.way.cfg)
    judge = Judge(deployment, demand.trace_at, demand.slo, wanted=demand.wanted, precision=1.0, lengths=(demand.requests,) * 2)
    points = []
    for share in SHARES:
        attainment = judge.attainment(share * demand.rate / one.replicas, demand.requests)
        assert judge.outcome is not None
        latencies = judge.latencies_of(judge.outcome)
        named = {f"{metric}_{stat}": value for (metric, stat), value in latencies.items()}
        points.append({"rate": share * demand.rate, "good": attainment.share, **named})
    return {"label": f"{one.devices} x {one.way.label(found.told) or one.hardware}", "points": points}
