"""The network of the task, trained as an entrant trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from typing_extensions import override

from lightning_fw.data.sequences import Kind
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.mixin import FrankWolfeMixin
from lightning_fw.nn import LanguageModel, SequenceClassifier, SequenceModel, SequenceRegressor
from lightning_fw.race.batch_norm import statistics_of_these_weights
from lightning_fw.race.entrants import Entrant

# Schedule-Free's way and Lookahead's to the weights that they are evaluated with, and back.
_TO_EVALUATE = ("eval", "backup_and_load_cache")
_TO_TRAIN = ("train", "clear_and_load_backup")

_NETWORKS: dict[Kind, type[SequenceModel]] = {
    "regression": SequenceRegressor,
    "classification": SequenceClassifier,
    "classification_per_step": SequenceClassifier,
    "language": LanguageModel,
}


def contestant(
    entrant: Entrant, kind: Kind, *, chunks: int = 1, horizon: int | None = None, **settings: Any
) -> SequenceModel:
    """The network for data of a kind with the entrant's optimizer, and its inner loop if any.

    Args:
        entrant: Who trains.
        kind: The data's.
        chunks: Those that it cuts a batch of sequences into.
        horizon: Steps after which rates that fall are 0; None: they do not fall.
        **settings: What the network takes.
    """
    method, setting = entrant.method, entrant.setting
    loop = None if method.inner_loop is None else method.inner_loop(setting)
    if loop is not None and chunks > 1:
        loop = replace(loop, accumulate_grad_batches=chunks)

    network: Any = _NETWORKS[kind]

    class Contestant(network):  # type: ignore[misc]
        @override
        def configure_optimizers(self) -> Optimizer | OptimizerLRSchedulerConfig:
            if method.optimizer is None:
                assert loop is not None
                return loop.outer(self.parameters())
            optimizer = method.optimizer(self, setting)
            if not method.decays or horizon is None:
                return optimizer
            decay = CosineAnnealingLR(optimizer, T_max=horizon)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": decay, "interval": "step"},
            }

        @override
        def on_train_start(self) -> None:
            super().on_train_start()
            _tell(self, "train")

    class FrankWolfeContestant(FrankWolfeMixin, Contestant):
        @override
        def configure_frank_wolfe(self) -> InnerLoop:
            assert loop is not None
            return loop

    if kind == "classification_per_step":
        settings["per_step"] = True
    chosen: type[SequenceModel] = Contestant if loop is None else FrankWolfeContestant
    return chosen(**settings)


@contextmanager
def measured(model: SequenceModel, inputs: Sequence[Tensor]) -> Iterator[None]:
    """The network as it is to be measured: with an average of its weights, where one is kept.

    Args:
        model: In training.
        inputs: The latest batches, which renew batch norm's statistics beside an average.
    """
    weights = [weight.detach().clone() for weight in model.parameters()]
    moved = _tell(model, *_TO_EVALUATE)
    trainer = model.trainer
    averages = [
        each
        for each in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(each, WeightAveraging)
    ]
    for average in averages:
        average.on_validation_epoch_start(trainer, model)
    is_another = moved or averages
    try:
        with statistics_of_these_weights(model, inputs) if is_another else nullcontext():
            model.eval()
            yield
    finally:
        model.train()
        for average in averages:
            average.on_validation_epoch_end(trainer, model)
        _tell(model, *_TO_TRAIN)
        if moved:
            # Schedule-Free computes its way back, and rounds.
            with torch.no_grad():
                for weight, before in zip(model.parameters(), weights, strict=True):
                    weight.copy_(before)


def _tell(model: SequenceModel, *names: str) -> bool:
    """Call what the optimizer has of these names; most do nothing for evaluation."""
    optimizer = model.optimizers(use_pl_optimizer=False)
    known = [getattr(optimizer, name) for name in names if hasattr(optimizer, name)]
    for call in known:
        call()
    return bool(known)
