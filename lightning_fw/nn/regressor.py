"""A recurrent network that predicts numbers at the end of a sequence."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from lightning_fw.data.sequences import Kind
from lightning_fw.nn.sequence_model import SequenceModel, require_shape
from lightning_fw.tensors.foreach import working_dtype


class SequenceRegressor(SequenceModel):
    """Numbers at the end of a sequence, by mean squared error, which is the metric too.

    The arguments are those of :class:`SequenceModel`; targets have the shape (batch, output_size).

    Example:
        >>> import torch
        >>> model = SequenceRegressor("gru", input_size=2, output_size=1)
        >>> tuple(model(torch.zeros(50, 100, 2)).shape)
        (50, 1)
    """

    kind: Kind = "regression"

    @override
    def criterion(self, predictions: Tensor, y: Tensor) -> Tensor:
        return _mean_squared_error(predictions, y)

    @override
    def score(self, predictions: Tensor, y: Tensor) -> Tensor:
        return _mean_squared_error(predictions, y)


def _mean_squared_error(predictions: Tensor, y: Tensor) -> Tensor:
    """In float32 under half precision, of which torch 2.5 has none on a CPU."""
    require_shape(y, predictions.shape)
    predictions, y = (x.to(working_dtype(x.dtype)) for x in (predictions, y))
    return functional.mse_loss(predictions, y)
