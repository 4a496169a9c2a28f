"""GivenStepTime: a law of step times that a profile brings along, as numbers; nothing is fitted to its samples then.

A source that knows a law composes the samples from it for simulators that cannot take it (simulators/calibration). A fit to the samples
would lose the law's jumps: a step of 17 sequences may be shorter than one of 16.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from results.profile import Profile
from simulators.native.latency.profile_work import ProfiledStepTime, RangeSeen, works_of
from simulators.native.latency.step_law import StepLaw

STEP_LAW = "step_law"  # in a profile's provenance: the fields of its StepLaw
HELD_OUT = "steps_held_out"  # there, too: errors on measured steps that the law was not fitted to, as profile_work.residuals_of has them
FEATURES = ("new_tokens", "sequences", "decode_context", "mixed_context", "prefill_context", "prefill_pairs")


class GivenStepTime(ProfiledStepTime):
    """A StepTime that is the profile's own law."""

    def __init__(self, profile: Profile) -> None:
        steps = profile.samples[profile.samples["kind"] != "frontend"]
        self.law = law_of(profile.provenance[STEP_LAW])
        self._profile_id, self._residuals = profile.profile_id, {"held_out": profile.provenance.get(HELD_OUT)}
        self._seen = RangeSeen(works_of(steps, False), FEATURES, mixed=bool((steps["kind"] == "mixed").any()))

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {"step_time": "given", "profile": self._profile_id, "residuals": self._residuals, **self._seen.describe()}


def law_of(fields: Mapping[str, Any]) -> StepLaw:
    """A StepLaw from its fields as they are after a way through JSON."""
    return StepLaw(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, Sequence) else value
