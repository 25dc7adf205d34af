"""One network twice: trained by Frank-Wolfe, and by Lightning's automatic optimization.

With K = 1 and l2 balls per tensor the direction is the gradient of every tensor over its norm. The
plain network normalizes its gradients itself, so that both take the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball
from tests.mixin.conftest import make_loader

ONE_STEP = InnerLoop(ball=L2Ball(radius=0.05), steps=1)
THREE_STEPS = InnerLoop(ball=L2Ball(radius=0.05), steps=3)
STATEFUL = InnerLoop(ball=L2Ball(radius=0.05), steps=2, momentum=0.5, accumulate_grad_batches=2)


class Network(L.LightningModule):
    """Predicts the mean of a sequence, logs its losses, and notes what it sees."""

    def __init__(
        self,
        *,
        lr: float = 0.05,
        batch_norm: bool = False,
        scheduler: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.RNN(2, 4, batch_first=True)
        self.norm = nn.BatchNorm1d(4) if batch_norm else nn.Identity()
        self.head = nn.Linear(4, 1)
        self.lr = lr
        self.batch_size = 4
        self.scheduler = scheduler
        self.seen: list[Tensor] = []
        self.lrs: list[float] = []
        self.validated: list[tuple[int, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.rnn(x)[0][:, -1]))

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(self.weights())
        self.lrs.append(self.optimizers().param_groups[0]["lr"])
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.validated.append((self.trainer.global_step, self.weights()))
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0])

    def train_dataloader(self) -> Any:
        return make_loader(batch_size=self.batch_size)

    def val_dataloader(self) -> Any:
        return make_loader(samples=8)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return ([optimizer], [self.scheduler(optimizer)]) if self.scheduler else optimizer

    def weights(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()


class Plain(Network):
    """Under automatic optimization."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for p in self.parameters():
            if p.grad is not None:
                p.grad /= p.grad.norm()


class ByFrankWolfe(FrankWolfeMixin, Network):
    """With the mixin."""

    def __init__(self, inner_loop: InnerLoop = THREE_STEPS, **settings: Any) -> None:
        super().__init__(**settings)
        self.inner_loop = inner_loop
        self.records: list[Any] = []

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner_loop

    def on_restart(self, record: Any) -> None:
        self.records.append(record)


def windows(module: Any) -> list[int]:
    """The steps of each window of a module's fits."""
    return [record.steps for record in module.records]


def decay(optimizer: Any, interval: str) -> dict[str, Any]:
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    return {"scheduler": scheduler, "interval": interval, "name": "rate"}


class MemoryLogger(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def values(self, name: str) -> list[tuple[int | None, float]]:
        """Steps and values of one name."""
        return [(step, row[name]) for step, row in self.rows if name in row]


class Anchors(L.Callback):
    """Notes the weights at starts of epochs and after every batch."""

    def __init__(self) -> None:
        self.at_epoch_starts: list[Tensor] = []
        self.after_batches: list[tuple[int, Tensor]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.at_epoch_starts.append(pl_module.weights())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        self.after_batches.append((trainer.global_step, pl_module.weights()))

    def after_restart(self, restart: int) -> Tensor:
        """The anchor after so many restarts."""
        return next(weights for step, weights in self.after_batches if step == restart)
