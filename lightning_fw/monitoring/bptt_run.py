"""What a fit by back-propagation leaves behind: its losses."""

from __future__ import annotations

from dataclasses import asdict
from math import nan
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_fw.cost import Stopwatch
from lightning_fw.monitoring.loss_curve import LossCurve

# A loss stays on its device until so many are read at once: each reading waits for the device.
_BATCHES_PER_READING = 50


class BPTTRun:
    """Losses of a fit by back-propagation, against gradient evaluations and seconds.

    Args:
        device: Where the fit runs.
    """

    method: ClassVar[str] = "bptt"
    title: ClassVar[str] = "BPTT baseline"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.watch = Stopwatch(device)
        self._curve = LossCurve()
        self._batches = 0
        self._evaluations = 0.0
        self._seconds = 0.0
        self._unread: list[tuple[float, Tensor | None]] = []

    def add(self, evaluations: int, loss: Tensor | None) -> None:
        """Keep a training batch.

        Args:
            evaluations: Its backward passes.
            loss: Its loss, detached; None, or not a single number, where it is not known.
        """
        if loss is not None and loss.numel() != 1:
            loss = None
        self._unread.append((self._evaluations, loss))
        self._evaluations += evaluations
        self._batches += 1
        if len(self._unread) >= _BATCHES_PER_READING:
            self._read()

    def _read(self) -> None:
        """Read the clock and the losses; batches read together share their seconds evenly."""
        now = self.watch.read()
        share = (now - self._seconds) / max(len(self._unread), 1)
        known = [loss.reshape(()) for _, loss in self._unread if loss is not None]
        losses = iter(torch.stack(known).tolist() if known else [])
        for index, (evaluations, loss) in enumerate(self._unread):
            value = nan if loss is None else next(losses)
            self._curve.add(evaluations, self._seconds + index * share, value)
        self._unread = []
        self._seconds = now

    def summary(self) -> dict[str, float]:
        """Evaluations, seconds per batch and the loss at the end, averaged as for comparisons."""
        if not self._batches:
            return {}
        losses = self.curve().smoothed().losses
        return {
            "bptt/gradient_evaluations": self._evaluations,
            "bptt/seconds_per_batch": self._seconds / self._batches,
            "bptt/loss": losses[-1] if losses else nan,
        }

    def curve(self) -> LossCurve:
        """Loss against the work spent before its batch."""
        self._read()
        return self._curve

    def state_dict(self) -> dict[str, Any]:
        """The curve and its totals, in plain numbers."""
        curve = asdict(self.curve())
        return {
            "method": self.method,
            "curve": curve,
            "batches": self._batches,
            "gradient_evaluations": self._evaluations,
            "seconds": self._seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._curve = LossCurve(**{name: list(values) for name, values in state["curve"].items()})
        self._batches = state["batches"]
        self._evaluations = state["gradient_evaluations"]
        self._seconds = state["seconds"]
        self._unread = []
        self.watch.reset(self._seconds)
