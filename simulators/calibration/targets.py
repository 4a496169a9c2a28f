"""Targets: the TTFT and TPOT of a run's requests, and how far simulated ones are from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.record import RequestRecord, Run
from results.record_table import RecordTable
from simulators.calibration.bases import Floats
from workloads.arrow import numpy

TOGETHER = 10  # requests of like prompts whose TTFT is averaged: which step a single one just caught says nothing


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Of the requests that have all their times, in the order of their ids."""

    ids: NDArray[np.int64]  # ascending
    prompts: Floats  # tokens
    seconds: Floats  # TTFT, TPOT: columns; s; NaN: it has no TPOT
    end: float  # s since the run's start: when the last of them was finished

    @classmethod
    def of(cls, run: Run, requests: int) -> "Targets":
        """Of the first `requests` of the run's window."""
        order = sorted(run.records, key=lambda r: (r.arrival, r.request_id))
        scored = [r for r in order if run.window is None or run.window[0] <= r.arrival <= run.window[1]][:requests]
        whole = sorted((r for r in scored if _whole(r)), key=lambda r: r.request_id)
        table = RecordTable.of(whole)
        return cls(
            ids=table.request_ids,
            prompts=numpy(table.columns["input_tokens"]).astype(np.float64),
            seconds=_seconds(table),
            end=max((r.finished for r in whole if r.finished is not None), default=0.0),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def of_records(self, records: Sequence[RequestRecord]) -> Floats:
        """TTFT and TPOT of the same requests in other records; NaN where they have none."""
        table = RecordTable.of(records)
        found = np.full((len(self), 2), np.nan)
        places = np.minimum(np.searchsorted(self.ids, table.request_ids), len(self) - 1)
        mine = self.ids[places] == table.request_ids
        found[places[mine]] = _seconds(table)[mine]
        return found

    def errors(self, simulated: Floats) -> tuple[Floats, Floats]:
        """log(simulated / measured): of the mean TTFT of TOGETHER requests each, and of each TPOT. simulated: as `of_records` has it."""
        order = np.argsort(self.prompts, kind="stable")
        order = order[~np.isnan(simulated[order, 0])]
        groups = [group for group in np.array_split(order, max(1, len(order) // TOGETHER)) if len(group)]
        ttft = np.array([np.log(simulated[group, 0].mean() / self.seconds[group, 0].mean()) for group in groups])
        tpot = np.log(simulated[:, 1] / self.seconds[:, 1])
        return ttft, tpot[np.isfinite(tpot)]


def _whole(record: RequestRecord) -> bool:
    known = (record.sent, record.first_token, record.finished, record.input_tokens, record.output_tokens)
    return record.error is None and None not in known and record.first_token != record.sent


def _seconds(table: RecordTable) -> Floats:
    """TTFT and TPOT from when each was sent; NaN: unknown."""
    sent, first, last, tokens = (
        numpy(table.columns[name].cast("float64").fill_null(np.nan)) for name in ("sent", "first_token", "finished", "output_tokens")
    )
    others = np.where(tokens > 1, tokens - 1, np.nan)
    return np.stack([first - sent, (last - first) / others], axis=1)
