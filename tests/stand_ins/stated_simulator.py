"""A simulator that says what it is told to: all is well up to a load, and nothing beyond it."""

from dataclasses import dataclass
from pathlib import Path

from results.profile import Profile
from results.record import RequestRecord, Run, Track
from simulators.simulator import Coverage, simulated_run

NOTHING = Coverage(**{name: "no" for name in Coverage.__dataclass_fields__ if name != "notes"})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class StatedSimulator:
    """knee: the load, requests/s or requests in flight."""

    knee: float
    system: str = "stated"
    environment: None = None

    def tracks(self) -> tuple[Track, ...]:
        return ("matched",)

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        load = measured.rate or measured.concurrency
        assert load is not None
        wait = 0.0 if load <= self.knee else 1e6
        records = [
            RequestRecord(
                request_id=r.request_id,
                arrival=r.arrival,
                sent=r.arrival,
                first_token=r.arrival + wait,
                finished=r.arrival + wait * r.output_tokens,
                output_tokens=r.output_tokens,
            )
            for r in measured.trace
        ]
        about = {"config": {}, "provenance": {}, "coverage": NOTHING}
        return simulated_run(measured, records, system=self.system, version="1", track=track, wall_s=0.0, **about)  # type: ignore[arg-type]
