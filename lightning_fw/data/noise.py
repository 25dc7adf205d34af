"""Sequences with noise that is drawn when they are read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from lightning_fw.checks import require_number

# torch's CPU generator takes the lowest 32 bits of a seed.
_SEEDS = 2**32
# Far more than a rank reads a sequence, and enough of them for 4,096 ranks.
_READINGS = 2**20


class NoisySequences(Dataset[tuple[Tensor, ...]]):
    """Clean sequences in memory, each given its noise at the moment when it is read.

    A sequence's noise depends on ``seed``, its index and, if ``redrawn``, on the rank that reads it
    and how often that rank read it before: not on the order of the batches. A rank does not know
    what the others read, and their noise is not to come again.

    Args:
        sequences: Of shape (size, …).
        targets: Of shape (size, …).
        noisy: What a sequence becomes, given a generator to draw from.
        seed: Of the noise.
        redrawn: Whether a sequence has other noise at each reading.

    Attributes:
        rank: Which of several ranks reads; 0 at first.

    Example:
        >>> def noisy(x, generator):
        ...     return x + torch.randn(x.shape, generator=generator)
        >>> fixed = NoisySequences(torch.zeros(9, 5, 2), torch.zeros(9), noisy=noisy, seed=0)
        >>> bool((fixed[3][0] == fixed[3][0]).all())
        True
    """

    def __init__(
        self,
        sequences: Tensor,
        targets: Tensor,
        *,
        noisy: Callable[[Tensor, Generator], Tensor],
        seed: int,
        redrawn: bool = False,
    ) -> None:
        self._sequences, self._targets = sequences, targets
        self._noisy = noisy
        self._redrawn = redrawn
        self._seed = seed
        self.rank = 0
        self.start_over()

    def __len__(self) -> int:
        return len(self._sequences)

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        seed = int(self._seeds[index])
        if self._redrawn:
            seed = (seed + self.rank * _READINGS) % _SEEDS
            self._seeds[index] = (self._seeds[index] + 1) % _SEEDS
        generator = torch.Generator().manual_seed(seed)
        return self._noisy(self._sequences[index], generator), self._targets[index]

    def start_over(self) -> None:
        """Count no sequence as read."""
        generator = torch.Generator().manual_seed(self._seed)
        self._seeds = torch.randint(_SEEDS, (len(self),), generator=generator)

    def pass_over(self, indices: list[int]) -> None:
        """Count sequences as read, each as often as it is named."""
        if self._redrawn:
            readings = torch.bincount(torch.tensor(indices), minlength=len(self._seeds))
            self._seeds = (self._seeds + readings) % _SEEDS

    @property
    def time_steps(self) -> int:
        """Steps of a sequence, its noise included, of which none is drawn for it."""
        return len(self._noisy(self._sequences[0], torch.Generator()))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All sequences, read once, and the targets, as a ``TensorDataset`` has them."""
        return torch.stack([self[index][0] for index in range(len(self))]), self._targets


def require_deviation(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number >= 0."""
    require_number(name, value)
    if not 0 <= value < float("inf"):
        raise ValueError(
            f"`{name}` must be a standard deviation, got {value}. Pass a finite {name} >= 0."
        )


def with_noise(sequence: Tensor, generator: Generator, *, deviation: float) -> Tensor:
    """A sequence plus values from N(0, deviation²)."""
    return sequence + deviation * torch.randn(sequence.shape, generator=generator)


def with_noise_after(sequence: Tensor, length: int, generator: Generator) -> Tensor:
    """A sequence of shape (time, input_size), then values from N(0, 1) up to ``length`` steps."""
    noise = torch.randn(length - len(sequence), *sequence.shape[1:], generator=generator)
    return torch.cat([sequence, noise])
