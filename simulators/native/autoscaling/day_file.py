"""A day as a file, day.json, which its page is drawn from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate

from simulators.native.autoscaling import printed
from simulators.native.autoscaling.classes import NAMES
from simulators.native.autoscaling.day import Day, FleetDay
from simulators.native.planning import settings

MOMENTS = 288  # of the day, at which replicas are counted for the page


def write(day: Day, folder: Path) -> Path:
    """Write day.json, and beside it the page (conf/report/day.yaml); returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "day.json"
    path.write_text(json.dumps(told(day), indent=1) + "\n", encoding="utf-8")
    page: Path = instantiate(settings.choice("report", "day")).write(path).path
    return page


def told(day: Day) -> dict[str, Any]:
    """JSON-able. Times of the day in hours."""
    moments = (np.arange(MOMENTS) + 0.5) * (day.rates.seconds / MOMENTS)
    pieces = (moments / day.rates.seconds * len(day.rates.rates)).astype(np.int64)
    return {
        "asked": printed.question(day),
        "headline": printed.headline(day),
        "met": not printed.below(day, day.scaled),
        "notes": printed.notes(day),
        "hardware": day.cfg.hardware,
        "requests": len(day.requests.second),
        "seconds": day.rates.seconds,
        "attainment": day.cfg.attainment,
        "sustained": dataclasses.asdict(day.sustained),
        "slo": {NAMES[number]: dataclasses.asdict(day.classes.slos[number]) for number in day.classes.present},
        "hours": [float(hour) for hour in moments / day.rates.seconds * 24],
        "rate": [float(rate) for rate in day.rates.rates[pieces]],
        "rate_by_hour": day.rate_by_hour(),
        "fleets": {name: _fleet(day, one, moments) for name, one in day.fleets.items()},
    }


def _fleet(day: Day, one: FleetDay, moments: Any) -> dict[str, Any]:
    return {
        "gpu_hours": day.gpu_hours(one),
        "dollars": None if day.price is None else day.gpu_hours(one) * day.price,
        "devices_each": day.devices_each,
        "replicas": one.served.alive(moments).tolist(),
        "replicas_by_hour": one.replicas_by_hour(),
        "started": len(one.served.replicas),
        "classes": {NAMES[number]: _class(one, number) for number in day.classes.present},
    }


def _class(one: FleetDay, number: int) -> dict[str, Any]:
    return {
        "requests": len(one.classes[number].good),
        "good": one.share(number),
        "good_by_hour": one.by_hour(number),
        **{f"{metric}_{name}": one.quantile(number, metric, q) for metric in ("ttft", "tpot") for name, q in (("p50", 0.5), ("p99", 0.99))},
    }
