"""The copy memory problem: repeat ten symbols after a long silence."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from lightning_fw.checks import require_count
from lightning_fw.data.sequences import Kind, SequenceData, Split, require_sizes

_SYMBOLS, _LENGTH = 8, 10
_BLANK, _DELIMITER = 8, 9


class CopyMemory(SequenceData):
    """Ten of eight symbols, T steps of silence, then the ten symbols again; one class a step.

    Read, one-hot over ten channels (symbols 0 … 7, blank 8, delimiter 9), and to be answered,
    T + 20 steps each::

        input   a₁ … a₁₀   blank × (T − 1)   delimiter   blank × 10
        target  blank × (T + 10)                         a₁ … a₁₀

    Without a memory the best that can be done is the cross-entropy 10 log 8 / (T + 20), the mean
    over the steps; its accuracy is (T + 11.25) / (T + 20).

    Source: Hochreiter, Schmidhuber (1997), "Long Short-Term Memory", in the form of Arjovsky, Shah,
    Bengio (2016), arXiv:1511.06464.

    Args:
        delay: T, the steps between the last symbol and its repetition.
        train_size: Sequences to train on.
        val_size: Sequences to validate on.
        test_size: Sequences to test on.
        batch_size: Sequences a batch.
        seed: Of the sequences and of the order of the batches.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If one is below 1.

    Example:
        >>> x, y = next(iter(CopyMemory(delay=30, train_size=100).train_dataloader()))
        >>> tuple(x.shape), tuple(y.shape)
        ((50, 50, 10), (50, 50))
        >>> bool((y[:, -10:] == x[:, :10].argmax(-1)).all())
        True
    """

    kind: ClassVar[Kind] = "classification_per_step"
    reads_symbols: ClassVar[bool] = True

    def __init__(
        self,
        delay: int = 120,
        *,
        train_size: int = 10_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        batch_size: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        require_count("delay", delay)
        self.delay = delay
        self.sizes = require_sizes(train_size, val_size, test_size)
        # A delimiter is read, never answered.
        self.input_size, self.output_size = _SYMBOLS + 2, _SYMBOLS + 1

    @override
    def make_split(self, split: Split) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed_of(split))
        symbols = torch.randint(_SYMBOLS, (self.sizes[split], _LENGTH), generator=generator)
        silence = torch.full((len(symbols), self.delay + _LENGTH), _BLANK)
        read = torch.cat([symbols, silence], dim=1)
        read[:, -_LENGTH - 1] = _DELIMITER
        return functional.one_hot(read, self.input_size).float(), torch.cat([silence, symbols], 1)
