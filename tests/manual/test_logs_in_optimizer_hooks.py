"""Logs in the hooks around the optimizer: as in automatic optimization, once a restart."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_fw import FWRestartMonitor, InnerLoop
from tests.manual.twins import Parts, fit, twins


class Logs(Parts):
    """Logs in every hook that may."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("training_step", float(batch_idx), on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.log("on_before_zero_grad", 1.0, on_step=True, on_epoch=True)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        self.log("optimizer_zero_grad", float(batch_idx), on_epoch=True)
        super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def on_before_backward(self, loss: Tensor) -> None:
        self.log("on_before_backward", 2.0)

    def backward(self, loss: Tensor, *arguments: Any, **settings: Any) -> None:
        self.log("backward", 3.0)
        super().backward(loss, *arguments, **settings)

    def on_after_backward(self) -> None:
        self.log("on_after_backward", 4.0, on_step=False, on_epoch=True)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.log("on_before_optimizer_step", float(self.trainer.fit_loop.batch_idx), on_epoch=True)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.log("optimizer_step", float(batch_idx), on_epoch=True)


def test_what_hooks_log_is_as_in_automatic():
    automatic, mine = (fit(twin(), max_epochs=2).callback_metrics for twin in twins(Logs))
    assert mine == automatic
    assert mine["on_before_optimizer_step_epoch"] == 3.0
    assert {"on_before_zero_grad_step", "backward", "optimizer_step_step"} <= mine.keys()


@pytest.mark.parametrize(("kind", "mean"), [("successive", (2 + 5 + 6) / 3), ("same", 3.0)])
def test_what_optimizer_hooks_log_counts_once_a_restart(kind, mean):
    module = twins(Logs)[1](None, InnerLoop(steps=3, batches=kind))
    logged = fit(module, max_epochs=1).callback_metrics
    for name in ("on_before_optimizer_step_epoch", "optimizer_step_epoch"):
        torch.testing.assert_close(logged[name], torch.tensor(mean))
    opened = (0 + 3 + 6) / 3
    torch.testing.assert_close(logged["optimizer_zero_grad_epoch"], torch.tensor(opened))


class Reports(L.Callback):
    """A callback that logs every window."""

    def on_restart(self, trainer: Any, module: Any, record: Any) -> None:
        module.log("fw/mine", record.gap_last)


@pytest.mark.parametrize("listener", [Reports, partial(FWRestartMonitor, table=False)])
@pytest.mark.parametrize("kind", ["successive", "same", "split"])
def test_who_logs_windows_leaves_what_training_step_logged(listener, kind):
    plain, by_frank_wolfe = twins(Logs)
    loop = InnerLoop(steps=1 if kind == "successive" else 2, batches=kind)
    for epochs in (1, 2):
        mine = fit(by_frank_wolfe(None, loop), callbacks=[listener()], max_epochs=epochs)
        logged = {k: v for k, v in mine.callback_metrics.items() if not k.startswith("fw/")}
        assert logged == fit(plain(), max_epochs=epochs).callback_metrics
        assert logged["training_step_epoch"] == 3.0
        assert len(mine.callback_metrics) > len(logged)
