"""A recurrent network that tells the class of a sequence, or of each of its steps."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_fw.checks import require_flag
from lightning_fw.nn.cells import Cell
from lightning_fw.nn.sequence_model import SequenceModel, cross_entropy, require_shape


class SequenceClassifier(SequenceModel):
    """Classes at the end of a sequence or at every step, by cross-entropy; accuracy is the metric.

    Args:
        cell: As :class:`SequenceModel` has it.
        per_step: Whether it answers at every step: targets of shape (batch, time) instead of
            (batch,).
        **settings: What :class:`SequenceModel` takes besides.

    Example:
        >>> import torch
        >>> model = SequenceClassifier("rnn", input_size=8, output_size=10)
        >>> tuple(model(torch.zeros(32, 8, 8)).shape)
        (32, 10)
    """

    def __init__(self, cell: Cell = "lstm", *, per_step: bool = False, **settings: Any) -> None:
        super().__init__(cell, **settings)
        require_flag("per_step", per_step)
        self.per_step = per_step
        self.kind = "classification_per_step" if per_step else "classification"

    @override
    def criterion(self, predictions: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(predictions, y)

    @override
    def score(self, predictions: Tensor, y: Tensor) -> Tensor:
        require_shape(y, predictions.shape[:-1])
        return (predictions.argmax(-1) == y).float().mean()
