"""A recurrent network that predicts the next token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric
from typing_extensions import override

from lightning_fw.checks import require_count
from lightning_fw.data.sequences import Kind
from lightning_fw.nn.cells import Cell
from lightning_fw.nn.sequence_model import Batch, SequenceModel, cross_entropy


class _Perplexity(MeanMetric):
    """exp of the mean of cross-entropies, not the mean of their exp."""

    @override
    def compute(self) -> Tensor:
        return torch.exp(super().compute())


class LanguageModel(SequenceModel):
    """The next token at every step, by cross-entropy in nats a token, which is the metric too.

    Reads and answers int64 indices of shape (batch, time), as :class:`~lightning_fw.data.TextData`
    has them. Batches are read as going on with each other: each starts from the state, detached, at
    the end of the one before, and the first of an epoch from zeros, in training and in evaluation.

    Logs ``val_loss`` and ``val_perplexity`` besides ``val_metric``.

    Args:
        cell: As :class:`SequenceModel` has it.
        input_size: Size of the vocabulary.
        output_size: Size of the vocabulary again.
        embedding_size: Numbers a token becomes, learned; None: it is read one-hot.
        **settings: What :class:`SequenceModel` takes besides, but for ``bidirectional``: a network
            that reads backwards has seen the next token.

    Raises:
        TypeError: If a number is of the wrong kind.
        ValueError: If ``bidirectional`` is set, or whatever :class:`SequenceModel` refuses.

    Example:
        >>> model = LanguageModel("gru", input_size=50, output_size=50, embedding_size=8)
        >>> tuple(model(torch.zeros(4, 20, dtype=torch.int64)).shape)
        (4, 20, 50)
    """

    kind: Kind = "language"
    per_step = True
    always_carries = True

    def __init__(
        self,
        cell: Cell = "lstm",
        *,
        input_size: int,
        output_size: int,
        embedding_size: int | None = None,
        **settings: Any,
    ) -> None:
        if settings.get("bidirectional"):
            raise ValueError(
                "`bidirectional` must be False for a language model, got True: a network that "
                "reads backwards has seen the next token. Leave it out."
            )
        require_count("input_size", input_size)
        if embedding_size is not None:
            require_count("embedding_size", embedding_size)
        super().__init__(
            cell, input_size=embedding_size or input_size, output_size=output_size, **settings
        )
        self.input_size = input_size
        self.embedding = nn.Embedding(input_size, embedding_size) if embedding_size else None
        self.reads_symbols = self.embedding is None
        self.perplexity = _Perplexity()

    @override
    def encode(self, x: Tensor) -> Tensor:
        if self.embedding is None:
            return functional.one_hot(x, self.input_size).to(self.head.weight.dtype)
        embedded: Tensor = self.embedding(x)
        return embedded

    @override
    def criterion(self, predictions: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(predictions, y)

    @override
    def score(self, predictions: Tensor, y: Tensor) -> Tensor:
        return self.criterion(predictions, y)

    @override
    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        # Trainer.validate leaves tensors of inference mode, which a fit could not update.
        self.perplexity.reset()

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        metric, tokens = self._evaluated(batch), batch[1].numel()
        self.perplexity.update(metric, weight=tokens)
        values = {"val_metric": metric, "val_loss": metric}
        self.log_dict(values, prog_bar=True, batch_size=tokens, sync_dist=True)
        self.log("val_perplexity", self.perplexity)

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> None:
        metric, tokens = self._evaluated(batch), batch[1].numel()
        self.log("test_metric", metric, batch_size=tokens, sync_dist=True)
