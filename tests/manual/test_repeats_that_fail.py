"""A batch's second evaluation that raises leaves metrics and logs as they were before it."""

from __future__ import annotations

import pytest
from torchmetrics import SumMetric

from lightning_fw import InnerLoop
from tests.mixin.conftest import Recurrent


class Failing(Recurrent):
    """Counts and logs its batches, and fails once, in the second evaluation of the second one."""

    def __init__(self):
        super().__init__(InnerLoop(steps=2, batches="same"))
        self.batches = SumMetric()

    def training_step(self, batch, batch_idx):
        self.batches.update(1.0)
        self.log("batches", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
        loss = super().training_step(batch, batch_idx)
        if len(self.seen) == 4:
            raise ConnectionError("lost connection")
        return loss


def test_metrics_have_counted_the_batch_once_and_the_next_fit_logs_again(loader, make_trainer):
    module, trainer = Failing(), make_trainer()
    with pytest.raises(ConnectionError):
        trainer.fit(module, loader)
    assert module.batches.compute() == 2
    trainer.fit(module, loader)
    assert trainer.callback_metrics["batches"] == 7
