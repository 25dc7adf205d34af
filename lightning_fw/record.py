"""What one restart leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan


@dataclass(frozen=True, kw_only=True)
class RestartRecord:
    """Statistics and cost of one closed window.

    Every value is made of plain Python numbers, so a record can be stored and compared without a
    device. A value that does not exist is NaN: the cosine, gap and loss of a first step that
    was skipped, gap and loss of a skipped last one, the slope ratio without
    :class:`~lightning_fw.SlopeRatio`.

    Attributes:
        restart: Index of the window, from 0.
        steps: Inner steps taken; skipped ones do not count.
        skipped: Inner steps tried without a finite gradient.
        early: Whether a restart rule closed the window before its last step.
        radius: δ of the window.
        radii: δ_i by the parameter's name, where :class:`~lightning_fw.SlopeRatio` gives them radii
            of their own; empty else.
        gap_first: Frank-Wolfe gap at the first step, on that step's batch.
        gap_last: Frank-Wolfe gap at the last step, on that step's batch; NaN where the window was
            cut off after it, as by an ``on_train_batch_start`` that returns −1.
        ball_usage: ‖d_K‖ / δ, averaged over the balls of parameters that had a gradient: 1 when
            all atoms agree; when they are noise about 1/√K in an l2 ball with γ = 1/k, more in
            others. Norms of spectral and nuclear balls are estimated, from below.
        cosine: Cosine between −g_1 and d_K, over all parameters.
        loss_first: Loss at the first step, that is at the anchor.
        loss_last: Loss at the last step.
        slope_ratio: r of :class:`~lightning_fw.SlopeRatio`, with the slopes of this window.
        agreement: ‖mean d_K‖₂ / mean ‖d_K‖₂ over ranks with ``sync="restart"``: 1 when their
            windows went the same way, about 1/√ranks when the ways were independent.
        batches: Batches that the window saw and that had a loss.
        gradient_evaluations: Forward and backward passes, in units of one batch: a chunk of a
            split batch counts by its share.
        gradient_seconds: Time in forward and backward passes.
        oracle_seconds: Time in the inner loop itself: atoms, displacement, statistics.
        outer_seconds: Time in the outer optimizer's step.

    Example:
        >>> record = RestartRecord(restart=0, steps=5, loss_first=1.0, loss_last=0.75)
        >>> record.loss_drop
        0.25
    """

    restart: int
    steps: int
    skipped: int = 0
    early: bool = False
    radius: float = nan
    radii: Mapping[str, float] = field(default_factory=dict, hash=False)
    gap_first: float = nan
    gap_last: float = nan
    ball_usage: float = nan
    cosine: float = nan
    loss_first: float = nan
    loss_last: float = nan
    slope_ratio: float = nan
    agreement: float = nan
    batches: int = 0
    gradient_evaluations: float = 0.0
    gradient_seconds: float = 0.0
    oracle_seconds: float = 0.0
    outer_seconds: float = 0.0

    @property
    def loss_drop(self) -> float:
        """Loss at the first step minus loss at the last, which fresh batches make noisy."""
        return self.loss_first - self.loss_last

    @property
    def gap_ratio(self) -> float:
        """Last gap over first gap; NaN when the first is zero."""
        return self.gap_last / self.gap_first if self.gap_first else nan


def radii_by_name(records: Sequence[RestartRecord]) -> dict[str, list[float]]:
    """Every parameter's radius in each of the windows; NaN in those that did not move it."""
    names = dict.fromkeys(name for record in records for name in record.radii)
    return {name: [record.radii.get(name, nan) for record in records] for name in names}
