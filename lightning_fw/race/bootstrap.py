"""How far luck could move a ratio of medians: the bootstrap over seeds (Efron, 1979)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_DRAWS = 10_000
_OUTSIDE = 0.05


class Run(NamedTuple):
    """What one seed's run needed.

    Attributes:
        spent: Evaluations or seconds, to the target or to the end.
        arrives: Whether it reached the target; one that does not comes after all that do.
    """

    spent: float
    arrives: bool

    @property
    def place(self) -> tuple[bool, float]:
        """What runs are sorted by."""
        return not self.arrives, self.spent


def median(runs: Mapping[int, Run]) -> Run:
    """The middle of the runs; of an even number the mean of two, which the later one decides."""
    ordered = sorted(runs.values(), key=lambda run: run.place)
    lower, upper = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return Run((lower.spent + upper.spent) / 2, upper.arrives)


def resampled_ratios(
    ours: Mapping[int, Run], theirs: Mapping[int, Run], name: str
) -> Tensor | None:
    """Ratios of the medians over seeds that are drawn with replacement, as many as there are.

    Both runs of a seed are drawn together, since they share initial weights and batches. Where our
    median does not arrive the ratio is infinite; where theirs does not, an upper bound.

    Args:
        ours: A run for each seed.
        theirs: Those of the other method.
        name: Races of different names are drawn independently, of the same one alike.

    Returns:
        The ratios, in the order of the draws; None with less than two seeds in common.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return None
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    drawn = torch.randint(len(seeds), (_DRAWS, len(seeds)), generator=generator)
    arriving = {
        seed: run if run.arrives else Run(math.inf, arrives=False) for seed, run in ours.items()
    }
    mine, others = (_medians([runs[seed] for seed in seeds], drawn) for runs in (arriving, theirs))
    return mine / others


def _medians(runs: list[Run], drawn: Tensor) -> Tensor:
    """The median of each row of draws."""
    ordered = sorted(range(len(runs)), key=lambda index: runs[index].place)
    spent = torch.tensor([runs[index].spent for index in ordered], dtype=torch.float64)
    places = torch.tensor(ordered).argsort()[drawn].sort(dim=1).values
    count = len(runs)
    return (spent[places[:, (count - 1) // 2]] + spent[places[:, count // 2]]) / 2


def interval(ratios: Tensor | None) -> tuple[float, float] | None:
    """What 95 % of the ratios lie within; None without any."""
    if ratios is None:
        return None
    ordered = ratios.sort().values
    outside = round(len(ordered) * _OUTSIDE / 2)
    return ordered[outside].item(), ordered[-1 - outside].item()
