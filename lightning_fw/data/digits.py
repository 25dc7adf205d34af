"""Handwritten digits as sequences: real data that scikit-learn ships."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fw.checks import require_choice
from lightning_fw.data.sequences import Kind, SequenceData, Split, drawn

By = Literal["row", "pixel"]

# Of 1,797 images: the rest trains.
_VALIDATION_SIZE, _TEST_SIZE = 200, 400


class SequentialDigits(SequenceData):
    """8 × 8 images of handwritten digits, read as 8 rows or as 64 pixels; ten classes.

    1,197 images to train on, 200 to validate, 400 to test, drawn with a fixed seed, so that the
    splits are the same whatever ``seed`` is. Values lie in [0, 1].

    Source: Alpaydin, Kaynak (1998), "Optical Recognition of Handwritten Digits".

    Args:
        by: ``"row"``: 8 steps of 8 values; ``"pixel"``: 64 steps of one value.
        batch_size: Sequences a batch.
        seed: Of the order of the batches.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If ``by`` is unknown, ``batch_size`` < 1 or ``seed`` < 0.
        ModuleNotFoundError: If scikit-learn is missing.

    Example:
        >>> x, y = next(iter(SequentialDigits(by="row").train_dataloader()))
        >>> tuple(x.shape), tuple(y.shape), y.dtype
        ((32, 8, 8), (32,), torch.int64)
    """

    kind: ClassVar[Kind] = "classification"

    def __init__(self, by: By = "row", *, batch_size: int = 32, seed: int = 0) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        require_choice("by", by, get_args(By))
        self.by = by
        self.input_size, self.output_size = (8 if by == "row" else 1), 10

    @override
    def make_split(self, split: Split) -> tuple[Tensor, Tensor]:
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "SequentialDigits needs scikit-learn. Run pip install 'lightning-fw[data]'."
            ) from error
        digits = load_digits()
        chosen = drawn(len(digits.target), split, val=_VALIDATION_SIZE, test=_TEST_SIZE)
        images = torch.tensor(digits.images / 16.0, dtype=torch.float32)[chosen]
        return images.reshape(len(chosen), -1, self.input_size), torch.tensor(digits.target)[chosen]
