"""The adding problem: remember two numbers out of a long sequence."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fw.checks import require_count
from lightning_fw.data.sequences import Kind, SequenceData, Split, require_sizes


class AddingProblem(SequenceData):
    """Two channels, values from U[0, 1] and marks; the target is the sum of the marked values.

    One mark stands in each half of the sequence. Predicting 1 always has the mean squared error
    1/6, the variance of the sum of two uniform numbers.

    Source: Hochreiter, Schmidhuber (1997), "Long Short-Term Memory".

    Args:
        sequence_length: Time steps T.
        train_size: Sequences to train on.
        val_size: Sequences to validate on.
        test_size: Sequences to test on.
        batch_size: Sequences a batch.
        seed: Of the sequences and of the order of the batches.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If ``sequence_length`` < 2, or a size is below 1.

    Example:
        >>> x, y = next(iter(AddingProblem(sequence_length=20, train_size=100).train_dataloader()))
        >>> tuple(x.shape), tuple(y.shape)
        ((50, 20, 2), (50, 1))
        >>> bool(((x[..., 0] * x[..., 1]).sum(1, keepdim=True) == y).all())
        True
    """

    kind: ClassVar[Kind] = "regression"

    def __init__(
        self,
        sequence_length: int = 100,
        *,
        train_size: int = 50_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        batch_size: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        require_count("sequence_length", sequence_length, least=2)
        self.sequence_length = sequence_length
        self.sizes = require_sizes(train_size, val_size, test_size)
        self.input_size, self.output_size = 2, 1

    @override
    def make_split(self, split: Split) -> tuple[Tensor, Tensor]:
        size, length = self.sizes[split], self.sequence_length
        generator = torch.Generator().manual_seed(self.seed_of(split))
        values = torch.rand(size, length, generator=generator)
        marks = torch.zeros(size, length)
        for start, end in ((0, length // 2), (length // 2, length)):
            places = torch.randint(start, end, (size, 1), generator=generator)
            marks.scatter_(1, places, 1.0)
        return torch.stack([values, marks], dim=-1), (values * marks).sum(1, keepdim=True)
