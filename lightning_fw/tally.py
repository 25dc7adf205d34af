"""What the window in progress has cost so far."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from lightning_fw.cost import CostMeter, Phase
from lightning_fw.record import RestartRecord

_UNTIMED: AbstractContextManager[None] = nullcontext()


class Tally:
    """Counts the batches, evaluations and seconds of a window.

    Args:
        device: Where the fit runs.

    Attributes:
        timed: Whether anybody wants to know the seconds.
        batches: Batches that had a loss.
        evaluations: Gradient evaluations, in units of one batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.timed = True
        self.batches = 0
        self.evaluations = 0.0
        self._meter = CostMeter(device)
        self._seconds: dict[str, float] = {}

    def measure(self, name: str) -> AbstractContextManager[None] | Phase:
        """Times ``"inner"``, ``"gradient"`` inside it, or ``"outer"``."""
        return self._meter.measure(name) if self.timed else _UNTIMED

    def close(self, record: RestartRecord) -> RestartRecord:
        """The record with its cost; the count starts anew."""
        self._read()
        gradient, inner, outer = (
            self._seconds.get(name, 0.0) for name in ("gradient", "inner", "outer")
        )
        record = replace(
            record,
            batches=self.batches,
            gradient_evaluations=self.evaluations,
            gradient_seconds=gradient,
            oracle_seconds=inner - gradient,
            outer_seconds=outer,
        )
        self.drop()
        return record

    def drop(self) -> None:
        """Start anew, without waiting for a time that is still on its way on the device."""
        self.batches, self.evaluations, self._seconds = 0, 0.0, {}

    def _read(self) -> None:
        for name, seconds in self._meter.take().items():
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def state_dict(self) -> dict[str, Any]:
        """Counts and seconds."""
        self._read()
        return {
            "batches": self.batches,
            "evaluations": self.evaluations,
            "seconds": dict(self._seconds),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.batches, self.evaluations = state["batches"], state["evaluations"]
        self._seconds = dict(state["seconds"])
