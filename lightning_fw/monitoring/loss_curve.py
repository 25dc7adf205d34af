"""Loss against cost, and how two runs compare by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, isfinite, log, nan

# Evaluations over which a loss is averaged before it counts as reached. One batch's loss is too
# noisy to compare by, and a longer average would hide the fast start of a run.
HORIZON = 20.0
_LEVELS = 5


@dataclass
class LossCurve:
    """The loss of the weights that a run had after so much work.

    Attributes:
        evaluations: Gradient evaluations spent before the loss was measured.
        seconds: Seconds spent in training batches before it was measured.
        losses: The loss, on one training batch.

    Example:
        >>> curve = LossCurve()
        >>> curve.add(0, 0.0, 2.0)
        >>> curve.add(1, 0.5, 1.0)
        >>> curve.smoothed().losses[0]
        2.0
    """

    evaluations: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.losses)

    def add(self, evaluations: float, seconds: float, loss: float) -> None:
        """Append a point; one whose loss is not finite is left out."""
        if isfinite(loss):
            self.evaluations.append(evaluations)
            self.seconds.append(seconds)
            self.losses.append(loss)

    def spacing(self) -> float:
        """Mean number of evaluations between two points."""
        return (self.evaluations[-1] - self.evaluations[0]) / max(len(self) - 1, 1)

    def thinned(self, spacing: float) -> LossCurve:
        """The points nearest after every multiple of ``spacing`` evaluations."""
        kept = LossCurve()
        due = self.evaluations[0] if len(self) else 0.0
        for point in zip(self.evaluations, self.seconds, self.losses, strict=True):
            if point[0] >= due:
                kept.add(*point)
                due += spacing
                # After a hole, count anew: points close together must not make up for it.
                due = due if due > point[0] else point[0] + spacing
        return kept

    def smoothed(self) -> LossCurve:
        """The running average, which forgets at the same pace whatever the spacing.

        Over the evaluations e, with HORIZON = 20::

            mean_j = Σ_{i ≤ j} w_ij loss_i / Σ_{i ≤ j} w_ij,   w_ij = exp(−(e_j − e_i) / HORIZON)
        """
        losses = []
        total = weight = 0.0
        before = self.evaluations[0] if len(self) else 0.0
        for evaluations, loss in zip(self.evaluations, self.losses, strict=True):
            kept = exp(-(evaluations - before) / HORIZON)
            total, weight, before = total * kept + loss, weight * kept + 1, evaluations
            losses.append(total / weight)
        return LossCurve(list(self.evaluations), list(self.seconds), losses)

    def cost_to_reach(self, loss: float) -> tuple[float, float]:
        """Evaluations and seconds until the curve first is at or below ``loss``; NaN if never."""
        for evaluations, seconds, value in zip(
            self.evaluations, self.seconds, self.losses, strict=True
        ):
            if value <= loss:
                return evaluations, seconds
        return nan, nan


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What it cost two runs to reach one loss; NaN for a run that did not reach it.

    Attributes:
        loss: The loss, averaged over some evaluations.
        evaluations: Gradient evaluations of this run.
        seconds: Seconds of this run.
        baseline_evaluations: Gradient evaluations of the baseline.
        baseline_seconds: Seconds of the baseline.
    """

    loss: float
    evaluations: float
    seconds: float
    baseline_evaluations: float
    baseline_seconds: float


def compare(run: LossCurve, baseline: LossCurve) -> list[Reached]:
    """What it cost each run to reach losses that the baseline reached.

    Both runs are treated alike. The one with more losses per evaluation is thinned to the spacing
    of the other, since an average over more losses is less noisy, and the noisier one would seem to
    reach a low loss earlier; then both are averaged by :meth:`LossCurve.smoothed`. A loss is
    reached when that average first falls to it.

    Args:
        run: The run to judge.
        baseline: What it is judged by.

    Returns:
        At most five losses, from high to low, evenly spaced in the logarithm between the
        baseline's first and best (evenly in the loss where it falls to zero or below). Empty where
        one of the runs has no losses.

    Example:
        >>> slow = LossCurve([0, 10, 20], [0, 1, 2], [4.0, 2.0, 1.0])
        >>> fast = LossCurve([0, 10, 20], [0, 2, 4], [4.0, 1.0, 0.5])
        >>> best = compare(fast, slow)[-1]
        >>> best.evaluations, best.baseline_evaluations
        (20, 20)
    """
    if not len(run) or not len(baseline):
        return []
    spacing = max(run.spacing(), baseline.spacing())
    ours, theirs = (curve.thinned(spacing).smoothed() for curve in (run, baseline))
    reached = []
    for loss in _levels(theirs.losses[0], min(theirs.losses)):
        evaluations, seconds = ours.cost_to_reach(loss)
        baseline_evaluations, baseline_seconds = theirs.cost_to_reach(loss)
        reached.append(
            Reached(
                loss=loss,
                evaluations=evaluations,
                seconds=seconds,
                baseline_evaluations=baseline_evaluations,
                baseline_seconds=baseline_seconds,
            )
        )
    return reached


def _levels(first: float, best: float) -> list[float]:
    if best == first:
        return [best]
    shares = [(step + 1) / _LEVELS for step in range(_LEVELS - 1)]
    if best > 0:
        levels = [exp((1 - share) * log(first) + share * log(best)) for share in shares]
    else:
        levels = [(1 - share) * first + share * best for share in shares]
    # The best one as it is: a rounding error would make it unreachable.
    return [*levels, best]
