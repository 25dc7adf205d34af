"""A recurrent network that reads a sequence and answers at its end, or at every step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_fw.checks import require_count
from lightning_fw.data.sequences import Kind, require_choice
from lightning_fw.inner_loop import InnerLoop, Sync
from lightning_fw.mixin import FrankWolfeMixin
from lightning_fw.nn.cells import NEW_CELLS, NewCell

Cell = Literal["rnn", "lstm", "gru"]
Preset = Literal["spectral", "paper", "authors"]
Batch = tuple[Tensor, Tensor]

_CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU, **NEW_CELLS}


class SequenceModel(L.LightningModule):
    """One recurrent layer and a linear head on its last state, or on all, trained by Adam.

    Args:
        cell: ``"rnn"`` (tanh), ``"lstm"`` or ``"gru"``, as torch has them; ``"irnn"``, a ReLU
            network initialized by :func:`irnn_`; ``"indrnn"``, ``"indrnn-stack"``, ``"fastrnn"``,
            ``"fastgrnn"``, ``"sbo-rnn"`` or ``"equilibrium"``, the layers of this folder with
            their default settings.
        input_size: Channels of a sequence.
        output_size: Numbers or classes to predict.
        kind: ``"regression"``: mean squared error; ``"classification"``: cross-entropy;
            ``"classification_per_step"``: the same with an answer at every step.
        hidden_size: Units of the layer.
        lr: Learning rate of Adam.

    Raises:
        ValueError: If ``cell`` or ``kind`` is unknown.

    Example:
        >>> model = SequenceModel("gru", input_size=2, output_size=1)
        >>> tuple(model(torch.zeros(50, 100, 2)).shape)
        (50, 1)
    """

    def __init__(
        self,
        cell: Cell | NewCell = "lstm",
        *,
        input_size: int,
        output_size: int,
        kind: Kind = "regression",
        hidden_size: int = 128,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        require_choice("cell", cell, get_args(Cell) + get_args(NewCell))
        require_choice("kind", kind, get_args(Kind))
        self.kind = kind
        self.lr = lr
        self.rnn = _CELLS[cell](input_size, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, output_size)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Predictions for sequences of shape (batch, time, input_size).

        They have the shape (batch, output_size); with an answer at every step
        (batch, time, output_size).
        """
        states: Tensor = self.rnn(x)[0]
        per_step = self.kind == "classification_per_step"
        predictions: Tensor = self.head(states if per_step else states[:, -1])
        return predictions

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared error or cross-entropy of a batch."""
        x, y = batch
        if self.kind == "regression":
            return functional.mse_loss(self(x), y)
        return functional.cross_entropy(self(x).flatten(0, -2), y.flatten())

    @torch.no_grad()
    def metric(self, batch: Batch) -> float:
        """Accuracy of a classification, mean squared error of a regression."""
        x, y = batch
        if self.kind == "regression":
            return float(functional.mse_loss(self(x), y))
        return float((self(x).argmax(-1) == y).float().mean())

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_metric", self.metric(batch), prog_bar=True, batch_size=len(batch[0]))

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("test_metric", self.metric(batch), batch_size=len(batch[0]))

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class FrankWolfeSequenceModel(FrankWolfeMixin, SequenceModel):
    """The same network, trained by Frank-Wolfe.

    Args:
        cell: As :class:`SequenceModel` has it.
        preset: ``"spectral"``: :meth:`InnerLoop.spectral`; ``"paper"``: :meth:`InnerLoop.paper`;
            ``"authors"``: :meth:`InnerLoop.authors` with ``lr``.
        sync: When ranks talk, as :class:`InnerLoop` has it.
        steps: K, where it is not to be the preset's. With one step ``"spectral"`` keeps its
            radius: the rule that moves it compares two slopes.
        **settings: What :class:`SequenceModel` takes besides; only ``"authors"`` uses ``lr``.

    Raises:
        TypeError: If ``steps`` is not an int.
        ValueError: If ``preset`` or ``sync`` is unknown, or ``steps`` < 1.

    Example:
        >>> model = FrankWolfeSequenceModel("lstm", input_size=2, output_size=1)
        >>> model.configure_frank_wolfe().steps
        3
    """

    def __init__(
        self,
        cell: Cell | NewCell = "lstm",
        *,
        preset: Preset = "spectral",
        sync: Sync = "step",
        steps: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(cell, **settings)
        require_choice("preset", preset, get_args(Preset))
        require_choice("sync", sync, get_args(Sync))
        if steps is not None:
            require_count("steps", steps)
        self.preset = preset
        self.sync = sync
        self.steps = steps

    @override
    def configure_frank_wolfe(self) -> InnerLoop:
        loop = replace(self._preset(), sync=self.sync)
        if self.steps is None:
            return loop
        rule = None if self.steps == 1 else loop.radius_rule
        return replace(loop, steps=self.steps, radius_rule=rule)

    def _preset(self) -> InnerLoop:
        if self.preset == "authors":
            return InnerLoop.authors(self.lr)
        return InnerLoop.spectral() if self.preset == "spectral" else InnerLoop.paper()

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.configure_frank_wolfe().outer(self.parameters())
