"""The answer of a search, for people and programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.search.bracket import CONFIDENCE, Bracket
from harness.search.share import GoodShare
from harness.search.trials import Trial
from results.record import SLO

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

UNITS = {"rate": "requests/s", "concurrency": "requests in flight"}
NOTE = "Good: meets the SLO. Between: bounds of the true share, right in all rows together in {confidence:.0%} of searches."


@dataclass(frozen=True, kw_only=True)
class SearchAnswer:
    """What a search came to."""

    name: str  # of the search
    over: str  # rate or concurrency
    slo: SLO  # limits of a good request
    bracket: Bracket  # what the runs say together
    trials: Sequence[Trial]  # in the order in which they were made
    expected: float | None  # load that the simulator named
    why: str  # it stopped
    settled: bool  # the interval is as narrow as was asked

    @property
    def load(self) -> float | None:
        """The highest load that meets the SLO, as far as it is known: of whole numbers the highest that does beyond doubt."""
        low, _ = self.bracket.ends
        return low if self.over == "concurrency" else self.bracket.crossing() or low

    @property
    def nothing(self) -> GoodShare | None:
        """Of the least load, one request at a time, where that fails beyond doubt; None: it does not, or was not tried."""
        least = 0.0 if self.over == "rate" else 1.0
        shares = [trial.share for trial in self.trials if trial.load == least and trial.share is not None]
        return GoodShare.pooled(shares) if shares and self.bracket.judge(GoodShare.pooled(shares)) == "fails" else None

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        (low, high), unit = self.bracket.ends, UNITS[self.over]
        if self.nothing is not None:
            share, wanted = self.nothing, self.bracket.wanted
            return (
                f"no load meets the SLO: one at a time {share.value:.0%} of the requests meet {in_words(self.slo)}, asked for {wanted:.0%}"
            )
        asked = f"{self.bracket.wanted:.0%} of the requests meet {in_words(self.slo)}"
        if low is None and high is None:
            return f"No load is known at which {asked}, and none at which they do not: raise search.budget or search.duration."
        if low is None:
            return f"At {high:.4g} {unit} and above it is not so that {asked}; no load is known at which it is. Raise search.budget."
        if high is None:
            return f"At {low:.4g} {unit} {asked}; no load is known at which they do not."
        if self.over == "concurrency":
            return f"{asked} with up to {low:g} {unit}; {CONFIDENCE:.0%} interval {low:g} to {max(low, high - 1):g}."
        at = low if self.load is None else self.load
        return f"{asked} up to {at:.4g} {unit}; {CONFIDENCE:.0%} interval {low:.4g} to {high:.4g}."

    @property
    def notes(self) -> list[str]:
        """What to know before the answer is believed."""
        lines = [f"It stopped as {self.why}."]
        for fails, meets in self.bracket.contradictions:
            lines.append(
                f"{fails:.4g} fails and {meets:.4g} meets, both beyond doubt: the share does not fall with the load, or the machine "
                "changed; the interval holds both. Stop what else runs, and search again."
            )
        lines += [f"{trial.run.run_id} does not count: INVALID: {trial.run.invalid_reason}" for trial in self.trials if trial.share is None]
        return lines

    def table(self) -> "pd.DataFrame":
        """A row for each load, ascending, as text."""
        import pandas as pd  # here: it takes long to import

        rows = []
        for load, share in self.bracket.seen.items():
            counts = self.bracket.shares.get(load)
            judged = f"{self.bracket.judge(counts)}" if counts else "scout"
            share = counts or share
            low, high = share.bounds(self.bracket.chance)
            runs = len(self.bracket.runs.get(load) or self.bracket.scouts[load])
            told = (str(runs), str(share.requests), f"{share.independent:.0f}", f"{share.value:.1%}", f"{low:.1%} to {high:.1%}")
            rows.append((f"{load:.4g}", *told, judged))
        heads = (UNITS[self.over], "runs", "requests", "independent", "good", "between", "judgement")
        return pd.DataFrame(rows, columns=list(heads), dtype=object)

    def as_json(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Everything, at full precision; None is unknown. settings: those of the search."""
        low, high = self.bracket.ends
        return {
            "search": self.name,
            "over": self.over,
            "unit": UNITS[self.over],
            "slo": {"ttft": self.slo.ttft, "tpot": self.slo.tpot, "e2e": self.slo.e2e},
            "attainment": self.bracket.wanted,
            "load": self.load,
            "low": low,
            "high": high,
            "confidence": CONFIDENCE,
            "settled": self.settled,
            "verdict": self.verdict,
            "notes": self.notes,
            "expected": self.expected,
            "loads": [self._row(load) for load in self.bracket.shares],
            "runs": [{"run_id": trial.run.run_id, "load": trial.load, "valid": trial.run.valid} for trial in self.trials],
            "settings": dict(settings),
        }

    def _row(self, load: float) -> dict[str, Any]:
        share = self.bracket.shares[load]
        low, high = share.bounds(self.bracket.chance)
        told = {"good": share.good, "requests": share.requests, "independent": share.independent, "low": low, "high": high}
        return {"load": load, **told, "judgement": self.bracket.judge(share)}


def in_words(slo: SLO) -> str:
    """E.g. 'ttft <= 0.5 s and tpot <= 0.03 s'."""
    limits = {"ttft": slo.ttft, "tpot": slo.tpot, "e2e": slo.e2e}
    return " and ".join(f"{name} <= {limit:g} s" for name, limit in limits.items() if limit is not None)
