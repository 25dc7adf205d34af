"""Fits with learning-rate schedulers, and the rates that these set."""

from __future__ import annotations

from typing import Any

import lightning.pytorch
import pytest
from torch.optim import lr_scheduler as torch_schedulers

from lightning_fw import InnerLoop
from tests.manual.twins import Configure, Parts, fit, rates_recorder, sgd, twins

# With ``strict=False``, before the first validation.
asks_too_early = pytest.mark.filterwarnings("ignore:.*ReduceLROnPlateau.*at_:RuntimeWarning")


def halving(optimizer: Any, every: int = 1) -> Any:
    return torch_schedulers.StepLR(optimizer, step_size=every, gamma=0.5)


def plateau(optimizer: Any) -> Any:
    return torch_schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)


def with_scheduler(make: Any = halving, /, **settings: Any) -> Configure:
    """A ``configure_optimizers`` with one scheduler in a dict."""

    def configure(module: Any) -> Any:
        optimizer = sgd(module)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": make(optimizer), **settings},
        }

    return configure


def rates_of_both(
    configure: Configure | None,
    parts: type = Parts,
    namespace: Any = lightning.pytorch,
    callbacks: Any = list,
    **settings: Any,
) -> list[list[Any]]:
    """What the two twins' learning rates were, K = 1, over three epochs of seven batches."""
    found = []
    for twin in twins(parts, namespace):
        recorder = rates_recorder(namespace)
        fit(twin(configure), callbacks=[*callbacks(), recorder], namespace=namespace, **settings)
        found.append(recorder.rates)
    return found


def assert_rates_are_automatics(configure: Configure | None, **settings: Any) -> None:
    automatic, mine = rates_of_both(configure, **settings)
    assert mine == automatic
    assert len({rates for _, rates in automatic}) > 1  # else nothing was scheduled


def rates_after_batches(
    configure: Configure, inner_loop: InnerLoop, loader: Any = None, **settings: Any
) -> list[float]:
    """The learning rate after each batch, with the mixin."""
    recorder = rates_recorder()
    module = twins()[1](configure, inner_loop)
    fit(module, loader, [recorder], **settings)
    return recorder.after_batches()


def halved(*times: int) -> list[float]:
    return [0.1 / 2**n for n in times]
