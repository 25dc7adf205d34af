"""Restart statistics, averaged over windows and over ranks."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan, nan
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fw.record import RestartRecord

# Logged name: attribute of the record, averaged over the windows where it is not NaN.
MEANS = {
    "fw/steps": "steps",
    "fw/radius": "radius",
    "fw/gap": "gap_last",
    "fw/gap_ratio": "gap_ratio",
    "fw/ball_usage": "ball_usage",
    "fw/cosine": "cosine",
    "fw/loss_drop": "loss_drop",
    "fw/slope_ratio": "slope_ratio",
    "fw/agreement": "agreement",
}
TOTALS = {
    "fw/early_restarts": "early",
    "fw/skipped": "skipped",
    "fw/gradient_evaluations": "gradient_evaluations",
}
COSTS = ("batches", "gradient_seconds", "oracle_seconds", "outer_seconds")
_ATTRIBUTES = (*MEANS.values(), *TOTALS.values(), *COSTS)
# A window all of whose steps were skipped makes no outer step, and must not cheapen the others'.
_COLUMNS = (*_ATTRIBUTES, "outer_steps")


def moments(records: Iterable[RestartRecord]) -> Tensor:
    """Sums and counts of what records hold, NaN left out, a slope ratio as one in [−1, 1].

    Args:
        records: Any number of records.

    Returns:
        Shape (2, n), float64: the sum and the count of each of n quantities. Moments of several
        sets of records add up.
    """
    sums, counts = [0.0] * len(_COLUMNS), [0] * len(_COLUMNS)
    for record in records:
        values = [_bounded(name, float(getattr(record, name))) for name in _ATTRIBUTES]
        for index, value in enumerate([*values, float(record.steps > 0)]):
            if not isnan(value):
                sums[index] += value
                counts[index] += 1
    return torch.tensor([sums, counts], dtype=torch.float64)


def _bounded(name: str, value: float) -> float:
    # r = −B / ∣A∣ is huge where A is about to change its sign: one such window would be the mean.
    is_ratio = name == "slope_ratio" and not isnan(value)
    return min(max(value, -1.0), 1.0) if is_ratio else value


def summarize(moments: Tensor) -> dict[str, float]:
    """What moments say, by logged name; NaN for what no record knows.

    With G, O and U the seconds in gradient evaluations, in the oracle and in the outer optimizer::

        fw/seconds_per_batch      = (G + O + U) / batches
        fw/bptt_seconds_per_batch = G / gradient evaluations + U / outer steps
        fw/cost_ratio             = the former / the latter

    The latter two are NaN where ranks run windows apart: back-propagation would average gradients
    over ranks at every batch, and nothing here tells how long that takes.

    Args:
        moments: Shape (2, n), from :func:`moments`.

    Returns:
        Means of the statistics, totals of the counts, seconds and their ratio.

    Example:
        >>> record = RestartRecord(
        ...     restart=0, steps=2, batches=2, gradient_evaluations=2,
        ...     gradient_seconds=8.0, oracle_seconds=1.0, outer_seconds=1.0,
        ... )
        >>> costs = summarize(moments([record]))
        >>> costs["fw/seconds_per_batch"], costs["fw/bptt_seconds_per_batch"]
        (5.0, 5.0)
    """
    rows = moments.tolist()
    sums, counts = (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
    values = {"fw/restarts": counts["steps"]}
    values |= {name: sums[attribute] for name, attribute in TOTALS.items()}
    values |= {name: _ratio(sums[column], counts[column]) for name, column in MEANS.items()}
    ours, bptt = (sum(cost) for cost in batch_costs(moments))
    values["fw/seconds_per_batch"] = ours
    values["fw/bptt_seconds_per_batch"] = bptt
    values["fw/cost_ratio"] = _ratio(ours, bptt)
    return values


class BatchCost(NamedTuple):
    """Seconds of a batch, by what they are spent in."""

    gradient: float
    oracle: float
    outer: float


def batch_costs(moments: Tensor) -> tuple[BatchCost, BatchCost]:
    """What a batch cost, and what it would have under back-propagation, as in :func:`summarize`.

    Args:
        moments: Shape (2, n), from :func:`moments`.
    """
    sums, counts = (dict(zip(_COLUMNS, row, strict=True)) for row in moments.tolist())
    seconds = [sums[f"{part}_seconds"] for part in BatchCost._fields]
    ours = BatchCost(*(_ratio(spent, sums["batches"]) for spent in seconds))
    ran_apart = counts["agreement"] > 0
    if ran_apart:
        return ours, BatchCost(nan, nan, nan)
    evaluation = _ratio(sums["gradient_seconds"], sums["gradient_evaluations"])
    return ours, BatchCost(evaluation, 0.0, _ratio(sums["outer_seconds"], sums["outer_steps"]))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else nan


class RestartStatistics(Metric):
    """Moments of restart records, averaged over ranks.

    A mean over ranks makes counts those of one rank, as ``trainer.global_step`` is, and leaves
    every ratio of sums the one over all ranks' records.

    Args:
        ranks: Processes of the fit; one alone asks nobody.

    Example:
        >>> statistics = RestartStatistics()
        >>> statistics.update([RestartRecord(restart=index, steps=5 - index) for index in (0, 1)])
        >>> summarize(statistics.compute())["fw/steps"]
        4.5
    """

    full_state_update = False
    moments: Tensor

    def __init__(self, *, ranks: int = 1) -> None:
        # A process group that is there may be of others than this Trainer.
        super().__init__(dist_sync_fn=_gather, sync_on_compute=ranks > 1)
        self.add_state("moments", moments([]), dist_reduce_fx="mean")

    def update(self, records: Iterable[RestartRecord]) -> None:
        """Take in records."""
        self.moments += moments(records).to(self.moments.device)

    def compute(self) -> Tensor:
        """Moments, of shape (2, n), averaged over ranks: a collective where there are several."""
        return self.moments.clone()


def _gather(tensor: Tensor, group: object = None) -> list[Tensor]:
    """Every rank's tensor by one collective: torchmetrics' own asks for the shapes first."""
    ranks = torch.distributed.get_world_size(group)  # type: ignore[arg-type]
    gathered = [torch.empty_like(tensor) for _ in range(ranks)]
    torch.distributed.all_gather(gathered, tensor, group=group)
    return gathered
