"""What a Frank-Wolfe fit leaves behind: its restarts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import isnan
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_fw.cost import Stopwatch
from lightning_fw.monitoring.loss_curve import LossCurve
from lightning_fw.monitoring.metrics import MEANS, RestartStatistics, moments, summarize
from lightning_fw.record import RestartRecord, radii_by_name

_NUMBERS = tuple(field.name for field in fields(RestartRecord) if field.name != "radii")


class FrankWolfeRun:
    """Restarts of a fit, and the seconds that its training batches took.

    Args:
        device: Where the fit runs.
        ranks: Processes of the fit; with more than one the statistics are averaged over them.
    """

    method: ClassVar[str] = "frank_wolfe"
    title: ClassVar[str] = "Frank-Wolfe"

    def __init__(self, device: torch.device | str = "cpu", *, ranks: int = 1) -> None:
        self.records: list[RestartRecord] = []
        self.watch = Stopwatch(device)
        self._seconds: list[float] = []
        # On one rank it stays on the CPU: records are plain numbers, and some devices lack float64.
        self._statistics = RestartStatistics(ranks=ranks).to(device if ranks > 1 else "cpu")
        self._total = moments([])
        self._pending = 0

    def add(self, record: RestartRecord) -> int:
        """Keep a record.

        Returns:
            How many came since :meth:`gather`.
        """
        self.records.append(record)
        self._seconds.append(self.watch.read())
        self._pending += 1
        return self._pending

    def gather(self) -> dict[str, float]:
        """Average what came since the last call over all ranks: a collective.

        Returns:
            By logged name: statistics of the windows since the last call, totals and costs of the
            whole run. Empty where nothing came.
        """
        if not self._pending:
            return {}
        self._statistics.update(self._since_gather())
        recent: Tensor = self._statistics.compute().cpu()
        self._statistics.reset()
        self._total += recent
        self._pending = 0
        means = summarize(recent)
        return summarize(self._total) | {name: means[name] for name in MEANS}

    def _since_gather(self) -> Sequence[RestartRecord]:
        return self.records[len(self.records) - self._pending :]

    def summary(self) -> dict[str, float]:
        """Statistics, totals and costs of the whole run; no collective."""
        return summarize(self._total + moments(self._since_gather())) if self.records else {}

    def curve(self) -> LossCurve:
        """Loss at the anchor against the work spent before its window."""
        curve = LossCurve()
        evaluations = seconds = 0.0
        for record, read in zip(self.records, self._seconds, strict=True):
            curve.add(evaluations, seconds, record.loss_first)
            evaluations, seconds = evaluations + record.gradient_evaluations, read
        return curve

    def state_dict(self) -> dict[str, Any]:
        """Records by column, in plain numbers."""
        return {
            "method": self.method,
            "records": {name: [getattr(r, name) for r in self.records] for name in _NUMBERS},
            "radii": radii_by_name(self.records),
            "seconds": list(self._seconds),
            "watch": self.watch.read(),
            "total": self._total.tolist(),
            "pending": self._pending,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        columns = state["records"]
        rows = zip(*(columns[name] for name in _NUMBERS), strict=True)
        self.records[:] = [
            RestartRecord(radii=radii, **dict(zip(_NUMBERS, row, strict=True)))
            for radii, row in zip(_radii(state["radii"], len(columns["steps"])), rows, strict=True)
        ]
        self._seconds = list(state["seconds"])
        self._total = torch.tensor(state["total"], dtype=torch.float64)
        self._pending = state["pending"]
        self.watch.reset(state["watch"])


def _radii(by_name: dict[str, list[float]], records: int) -> list[dict[str, float]]:
    """Each record's radii: :func:`radii_by_name` undone."""
    return [
        {name: radii[index] for name, radii in by_name.items() if not isnan(radii[index])}
        for index in range(records)
    ]
