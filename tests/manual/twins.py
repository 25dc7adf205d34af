"""The same module under automatic optimization and by Frank-Wolfe, and what happened to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import lightning.pytorch
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw import FrankWolfeMixin, InnerLoop

NAMESPACES = [lightning.pytorch, pytorch_lightning]
Configure = Callable[[Any], Any]


class Parts:
    """What a user writes: a linear model, its logs, and optimizers as a test wants them.

    What it logs does not depend on the weights, so that both twins see the same metrics.

    Args:
        configure: ``configure_optimizers``, of the module; SGD where there is none.
        inner_loop: Heard by the twin with the mixin alone.
    """

    def __init__(
        self, configure: Configure | None = None, inner_loop: InnerLoop | None = None
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)
        self.configure = configure or sgd
        self.inner_loop = inner_loop or InnerLoop(steps=1)

    def configure_optimizers(self) -> Any:
        return self.configure(self)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("at_batch", float(batch_idx % 3 == 0))
        return (self.layer(batch[0]) - 1).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("at_validation", float(self.trainer.fit_loop.total_batch_idx // 5 % 2))


@lru_cache
def twins(parts: type = Parts, namespace: ModuleType = lightning.pytorch) -> tuple[type, type]:
    """A module class under automatic optimization, and the same with the mixin in front."""
    plain = type("Plain", (parts, namespace.LightningModule), {})
    configure = {"configure_frank_wolfe": lambda module: module.inner_loop}
    return plain, type("ByFrankWolfe", (FrankWolfeMixin, plain), configure)


def sgd(module: Any, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(module.parameters(), lr=lr)


def weights(module: Any) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def batches(count: int = 7, nan_in: tuple[int, ...] = ()) -> DataLoader[Any]:
    """As many batches of four samples, NaN in some."""
    x = torch.randn(count, 4, 2, generator=torch.Generator().manual_seed(1))
    for index in nan_in:
        x[index] = float("nan")
    return DataLoader(TensorDataset(x.flatten(0, 1)), batch_size=4)


def trainer(
    callbacks: list[Any] | None = None, namespace: ModuleType = lightning.pytorch, **settings: Any
) -> Any:
    return namespace.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 3,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": callbacks,
            **settings,
        }
    )


def fit(
    module: Any,
    loader: Any = None,
    callbacks: list[Any] | None = None,
    *,
    ckpt_path: Any = None,
    **settings: Any,
) -> Any:
    """The Trainer after a fit, over seven batches an epoch and two of validation."""
    fitted = trainer(callbacks, **settings)
    loader = batches() if loader is None else loader
    fitted.fit(module, loader, batches(2), ckpt_path=ckpt_path)
    return fitted


def rates_recorder(namespace: ModuleType = lightning.pytorch) -> Any:
    """A callback whose ``rates`` are the learning rates at each moment of a fit, named."""

    class Recorder(namespace.Callback):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.rates: list[tuple[str, tuple[float, ...]]] = []

        def after_batches(self) -> list[float]:
            """The first group's, at the end of each batch."""
            return [rates[0] for moment, rates in self.rates if moment == "on_train_batch_end"]

    def record(moment: str) -> Callable[..., None]:
        def hook(self: Any, trainer: Any, *arguments: Any) -> None:
            groups = trainer.optimizers[0].param_groups
            self.rates.append((moment, tuple(float(group["lr"]) for group in groups)))

        return hook

    for moment in (
        "on_train_batch_start",
        "on_train_batch_end",
        "on_validation_end",
        "on_train_epoch_start",
        "on_train_epoch_end",
        "on_train_end",
    ):
        setattr(Recorder, moment, record(moment))
    return Recorder()
