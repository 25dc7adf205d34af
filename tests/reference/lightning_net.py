"""The network of `elman` as a LightningModule that trains with Frank-Wolfe, and a quiet Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw import FrankWolfeMixin, InnerLoop

from .elman import Batch, Weights
from .torch_elman import Elman

MakeOptimizer = Callable[[Iterable[dict[str, object]]], torch.optim.Optimizer]

GROUPS = [["w_ih", "w_hh", "b"], ["w_ho", "c"]]


class Net(FrankWolfeMixin, L.LightningModule):
    """An `Elman` network, an inner loop and an outer optimizer with two param groups."""

    def __init__(
        self,
        weights: Weights,
        inner: InnerLoop,
        outer: MakeOptimizer,
        rates: tuple[float, float],
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = Elman(weights)
        self.inner, self.outer, self.rates = inner, outer, rates
        self.loss_scale = loss_scale

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.loss_scale * self.model.mean_squared_error(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        pairs = zip(GROUPS, self.rates, strict=True)
        return self.outer(
            {"params": [getattr(self.model, name) for name in names], "lr": rate}
            for names, rate in pairs
        )

    def weights(self) -> Weights:
        """The parameters by the names of `reference.elman`."""
        return {name: p.detach().numpy().copy() for name, p in self.model.named_parameters()}


def fit(module: L.LightningModule, data: Batch, *, batch_size: int, epochs: int) -> None:
    """Train on the CPU in the data's order, without anything that is not training."""
    dataset = TensorDataset(*(torch.from_numpy(part) for part in data))
    L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, DataLoader(dataset, batch_size=batch_size, shuffle=False))
