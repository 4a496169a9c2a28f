"""Whether the machine repeats itself: a few points of a profile, timed at its beginning and once more at its end.

A simulator that is calibrated from a profile cannot be nearer to the engine than the machine is to itself. What is seen here is no sample
of the profile.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from harness.probing.probe_requests import ProbeSender
from harness.probing.probes import DecodeProbe, MixedProbe, PrefillProbe, Probe, look
from harness.probing.samples import FrontendCost, Sighting, quiet, samples
from results.profile import REPEATABILITY, Profile

T = TypeVar("T")
ROUNDS = 3  # of all points, one after another, at either end: a burst of noise then meets one sample of each


def fixed_points(plan: Sequence[Probe]) -> list[Probe]:
    """A prefill, a decode and a mixed probe of one point each, in the middle of the plan's own; fewer where the plan has none of a kind."""
    prompts = sorted((p for p in plan if isinstance(p, PrefillProbe) and not p.context and not p.held_out), key=lambda p: p.new)
    decodes = sorted((p for p in plan if isinstance(p, DecodeProbe)), key=lambda p: p.prompt)
    mixes = sorted((p for p in plan if isinstance(p, MixedProbe)), key=lambda p: p.batch)
    found: list[Probe] = []
    if prompts:
        found.append(_middle(prompts))
    if decodes:
        found.append(dataclasses.replace(decodes[0], batches=[_middle(decodes[0].batches)], held_out=frozenset(), contexts={}))
    if mixes:
        mixed = _middle(mixes)
        found.append(dataclasses.replace(mixed, prompts=[_middle(mixed.prompts)], held_out=frozenset(), contexts={}))
    return found


def timed(points: Sequence[Probe], sender: ProbeSender) -> list[Sighting]:
    """Look at the points now, all of them in turn, `ROUNDS` times."""
    return [look(number, probe, repeat, sender) for repeat in range(ROUNDS) for number, probe in enumerate(points)]


def repeatability(beginning: Sequence[Sighting], end: Sequence[Sighting], frontend: FrontendCost, limit: float) -> dict[str, Any] | None:
    """What a profile's provenance says of it; None where no point was seen at both ends.

    limit: as set. seconds: the median of the beginning and that of the end, by kind of step. change: by how much of the shorter one the
    two differ. worst: the largest of these.
    """
    medians = [samples(quiet(seen), frontend).groupby("kind")["time"].median() for seen in (beginning, end)]
    kinds = [kind for kind in medians[0].index if kind in medians[1].index and min(m[kind] for m in medians) > 0]
    if not kinds:
        return None
    seconds = {str(kind): [float(m[kind]) for m in medians] for kind in kinds}
    change = {kind: max(times) / min(times) - 1 for kind, times in seconds.items()}
    return {"limit": limit, "worst": max(change.values()), "change": change, "seconds": seconds}


def unsteady(profile: Profile) -> str | None:
    """A line for people where the machine did not repeat itself to the limit that was set, else None."""
    told = profile.provenance.get(REPEATABILITY)
    if not told or told["worst"] <= told["limit"]:
        return None
    changes = ", ".join(f"{kind} {change:.0%}" for kind, change in told["change"].items())
    return f"the same steps took other times at the profile's end than at its beginning, by {changes}: no error below that can be told"


def _middle(values: Sequence[T]) -> T:
    return values[len(values) // 2]
