"""What the networks share: a recurrent layer, a linear head, and the steps of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer
from typing_extensions import override

from lightning_fw.checks import require_count, require_flag
from lightning_fw.data.chunk_loader import Chunk
from lightning_fw.data.sequences import Kind
from lightning_fw.nn.carried_state import CarriesState
from lightning_fw.nn.cells import Cell, drops_out_at_its_end, make_cell

Batch = tuple[Tensor, Tensor] | Chunk
# As Lightning's CLI has it, where jsonargparse is a must.
OptimizerCallable = Callable[[Iterable[Any]], Optimizer]

_FOR_KIND: dict[Kind, str] = {
    "regression": "SequenceRegressor or FrankWolfeRegressor",
    "classification": "SequenceClassifier or FrankWolfeClassifier",
    "classification_per_step": "SequenceClassifier or FrankWolfeClassifier with per_step=True",
    "language": "LanguageModel or FrankWolfeLanguageModel",
}


class SequenceModel(CarriesState, ABC):
    """A recurrent network and a linear head, on the last state or on all.

    In front of the head stand layer norm and dropout, each where asked for. In both directions the
    last state is that of the forward one at the last step and that of the backward one at the
    first, side by side.

    Trained on the chunks of :class:`~lightning_fw.data.InChunks`, it starts each where the one
    before it ended.

    Logs ``train_loss``, ``val_metric`` and ``test_metric``, the latter two of all ranks.

    Args:
        cell: The recurrent layer, as :func:`~lightning_fw.nn.make_cell` has it.
        input_size: Channels of a sequence.
        output_size: Numbers or classes to predict.
        hidden_size: Units of a layer and direction.
        num_layers: Layers, where the cell takes them; None: the cell's own number, which is 1 but
            for ``"indrnn-stack"``.
        bidirectional: Whether the cell reads in both directions, where it can.
        dropout: Probability that a unit is dropped, between layers and in front of the head.
        layer_norm: Whether layer norm stands in front of the head.
        chrono: Time steps over which gates begin to remember, as
            :func:`~lightning_fw.nn.make_cell` has it; None: as torch initializes them.
        optimizer: What makes the optimizer from the parameters.

    Attributes:
        kind: Of the data that it fits.
        reads_symbols: Whether it reads symbols, each a one-hot vector; training on data that says
            so of itself sets it, in time for the ball.

    Raises:
        TypeError: If a number is of the wrong kind, or a bool is none.
        ValueError: If ``cell`` is unknown or does not take a setting, or a number is out of range;
            before training, if the data is of another kind.
    """

    kind: Kind
    per_step: bool = False
    reads_symbols: bool = False

    def __init__(
        self,
        cell: Cell = "lstm",
        *,
        input_size: int,
        output_size: int,
        hidden_size: int = 128,
        num_layers: int | None = None,
        bidirectional: bool = False,
        dropout: float = 0.0,
        layer_norm: bool = False,
        chrono: int | None = None,
        optimizer: OptimizerCallable = Adam,
    ) -> None:
        super().__init__()
        require_count("output_size", output_size)
        self.input_size, self.output_size = input_size, output_size
        self.rnn = make_cell(
            cell,
            input_size,
            hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            chrono=chrono,
        )
        self.bidirectional = bidirectional
        self.optimizer = optimizer
        width = 2 * hidden_size if bidirectional else hidden_size
        require_flag("layer_norm", layer_norm)
        self.norm = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.dropout = nn.Dropout(0.0 if drops_out_at_its_end(cell) else dropout)
        self.head = nn.Linear(width, output_size)

    @abstractmethod
    def criterion(self, predictions: Tensor, y: Tensor) -> Tensor:
        """The loss of predictions for targets, their mean."""

    @abstractmethod
    def score(self, predictions: Tensor, y: Tensor) -> Tensor:
        """The metric of predictions for targets, their mean."""

    def encode(self, x: Tensor) -> Tensor:
        """What the recurrent layer reads: (batch, time, channels)."""
        return x

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Predictions for sequences of shape (batch, time, input_size).

        They have the shape (batch, output_size); with an answer at every step
        (batch, time, output_size).
        """
        return self.answer(self.read(self.rnn, self.encode(x)))

    def answer(self, states: Tensor) -> Tensor:
        """Predictions from the states of all steps, (batch, time, width)."""
        if not self.per_step:
            states = self._last(states)
        predictions: Tensor = self.head(self.dropout(self.norm(states)))
        return predictions

    def _last(self, states: Tensor) -> Tensor:
        if not self.bidirectional:
            return states[:, -1]
        forwards, backwards = states.chunk(2, dim=-1)
        return torch.cat([forwards[:, -1], backwards[:, 0]], dim=-1)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, which may be a Chunk."""
        return self.criterion(self(batch[0]), batch[1])

    @torch.no_grad()
    def metric(self, batch: Batch) -> float:
        """The metric of a batch."""
        return float(self.score(self(batch[0]), batch[1]))

    def require_kind(self, data: object) -> None:
        """Raise unless the data are what the network answers; data of one's own may be anything.

        Raises:
            ValueError: If they are of another kind.
        """
        found: Any = getattr(data, "kind", None)
        if found in get_args(Kind) and found != self.kind:
            raise ValueError(
                f'`datamodule` must be of the kind "{self.kind}" for {type(self).__name__}, got '
                f'{type(data).__name__} of the kind "{found}". Pass it to a {_FOR_KIND[found]}.'
            )

    def _require_sizes(self, data: object) -> None:
        """Raise where the data have more symbols or classes than the network knows."""
        if getattr(data, "kind", None) not in get_args(Kind):
            return
        for name in ("input_size", "output_size"):
            mine, found = getattr(self, name), getattr(data, name)
            if mine < found:
                raise ValueError(
                    f"`{name}` must be at least {found}, that of {type(data).__name__}, got "
                    f"{mine}. Pass {name}={found}."
                )

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        self.require_kind(data)
        self._require_sizes(data)
        self.reads_symbols = self.reads_symbols or getattr(data, "reads_symbols", False)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with self.carrying(self._in_training):
            loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        metric, size = self._evaluated(batch), len(batch[0])
        self.log("val_metric", metric, prog_bar=True, batch_size=size, sync_dist=True)

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> None:
        metric, size = self._evaluated(batch), len(batch[0])
        self.log("test_metric", metric, batch_size=size, sync_dist=True)

    @override
    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Predictions for x, alone or with targets beside it."""
        with self.carrying(self._in_evaluation):
            predictions: Tensor = self(batch if isinstance(batch, Tensor) else batch[0])
        return predictions

    def _evaluated(self, batch: Batch) -> float:
        with self.carrying(self._in_evaluation):
            return self.metric(batch)

    @override
    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.parameters())


def cross_entropy(predictions: Tensor, y: Tensor) -> Tensor:
    """The mean over all targets, which have the shape of predictions without the classes."""
    require_shape(y, predictions.shape[:-1])
    return functional.cross_entropy(predictions.flatten(0, -2), y.flatten())


def require_shape(y: Tensor, shape: torch.Size) -> None:
    """Raise unless targets have the shape that predictions ask for: others would broadcast.

    Raises:
        ValueError: If they have another.
    """
    if y.shape != shape:
        raise ValueError(
            f"`y` must have the shape {tuple(shape)}, as the network answers, got "
            f"{tuple(y.shape)}. Reshape the targets, or pass the classifier's per_step that fits."
        )
