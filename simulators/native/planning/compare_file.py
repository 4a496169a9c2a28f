"""A comparison of settings as a file, compare.json, which its page is drawn from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from simulators.native.planning import settings
from simulators.native.planning.compare import SHOWN, Candidate, front, ranked


def write(found: Sequence[Candidate], asked: str, folder: Path) -> Path:
    """Write compare.json, and beside it the page (conf/report/compare.yaml); returns the page's path. asked: the question, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "compare.json"
    told = {"headline": _headline(found), "asked": asked, "settings": _rows(found)}
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    page: Path = instantiate(settings.choice("report", "compare")).write(path).path
    return page


def _headline(found: Sequence[Candidate]) -> str:
    best = ranked(found)[0]
    if best.rate_per_device is None:
        return f"None of {len(found)} settings serves any rate within the limits."
    return f"{best.label}: {best.rate_per_device:.3g} requests/s a device within the limits, the most of {len(found)} settings."


def _rows(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    best = front(found)
    return [
        {
            "label": one.label,
            "devices": one.devices,
            "rate": one.capacity.rate if one.capacity else None,
            "low": one.capacity.low if one.capacity else None,
            "high": one.capacity.high if one.capacity else None,
            "rate_per_device": one.rate_per_device,
            **{f"{metric}_{stat}": (one.latencies or {}).get((metric, stat)) for metric, stat in SHOWN},
            "front": one in best,
            "why_not": one.why_not,
        }
        for one in ranked(found)
    ]
